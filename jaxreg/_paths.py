"""Names of the leaves of parameter trees."""

from typing import Any

import jax


def path_names(path: tuple[Any, ...]) -> tuple[str, ...]:
    """Returns the names along a JAX key path, from the root to the parameter's own name.

    Boxes of NNX and of partition metadata add a ``value`` below the parameter's own name, which is
    left out. Flax's wrappers join several names into one, such as ``Dense_0/kernel/scale``.
    """
    names = "/".join(str(_name(key)) for key in path).split("/")
    while names and names[-1] == "value":
        names.pop()
    return tuple(names)


def plain_keys(path: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """Splits a JAX key path into container keys and attribute names of boxes around the leaf."""
    attributes = [key for key in path if isinstance(key, jax.tree_util.GetAttrKey)]
    keys = tuple(_name(key) for key in path if key not in attributes)
    return keys, tuple(key.name for key in attributes)


def _name(key: Any) -> Any:
    """Returns the key, name or index in an entry of a JAX key path."""
    return getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))
