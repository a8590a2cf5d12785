"""Detects batch norms of Flax and jaxreg, and calls of them in evaluation mode."""

from collections.abc import Mapping, Sequence
from typing import Any

from flax import linen as nn

from jaxreg.linen.normalization import BatchNorm

_CALLS = (nn.BatchNorm.__call__, BatchNorm.__call__)


def is_batch_norm(module: nn.Module) -> bool:
    """Returns whether a module is a batch norm of Flax or jaxreg.

    Subclasses that override ``__call__`` are excluded, since their behavior is unknown.
    """
    return isinstance(module, nn.BatchNorm | BatchNorm) and type(module).__call__ in _CALLS


def evaluates(module: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Returns whether a batch norm called with these arguments uses its running statistics."""
    given = args[1] if len(args) > 1 else kwargs.get("use_running_average")
    return bool(module.use_running_average if given is None else given)
