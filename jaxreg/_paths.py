"""Names of the leaves of parameter trees."""

from typing import Any


def path_names(path: tuple[Any, ...]) -> tuple[str, ...]:
    """Names along a path that JAX gives, from the root to the parameter's own.

    Boxes of NNX and of partition metadata add a ``value`` below the parameter's own name, which is
    left out; and wrappers of Flax write several names as one, ``Dense_0/kernel/scale``.
    """
    names = "/".join(str(_name(key)) for key in path).split("/")
    while names and names[-1] == "value":
        names.pop()
    return tuple(names)


def _name(key: Any) -> Any:
    """Name inside a pytree path entry, which has one of three spellings."""
    return getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))
