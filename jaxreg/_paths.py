"""Names of the leaves of parameter trees."""

from typing import Any

import jax


def path_names(path: tuple[Any, ...]) -> tuple[str, ...]:
    """Names along a path that JAX gives, from the root to the parameter's own.

    Boxes of NNX and of partition metadata add a ``value`` below the parameter's own name, which is
    left out; and wrappers of Flax write several names as one, ``Dense_0/kernel/scale``.
    """
    names = "/".join(str(_name(key)) for key in path).split("/")
    while names and names[-1] == "value":
        names.pop()
    return tuple(names)


def plain_keys(path: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """Keys along a path that JAX gives, without and with the names of boxes around the leaf.

    Returns:
      The keys of containers, and the attributes of boxes.
    """
    attributes = [key for key in path if isinstance(key, jax.tree_util.GetAttrKey)]
    keys = tuple(_name(key) for key in path if key not in attributes)
    return keys, tuple(key.name for key in attributes)


def _name(key: Any) -> Any:
    """Name inside a pytree path entry, which has one of three spellings."""
    return getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))
