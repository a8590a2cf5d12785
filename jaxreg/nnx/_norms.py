"""What is a batch norm, in which mode a call of one is, and another module in its place."""

from collections.abc import Mapping
from typing import Any

from flax import nnx

from jaxreg.nnx.normalization import BatchNorm

_CALLS = (nnx.BatchNorm.__call__, BatchNorm.__call__)


def is_batch_norm(module: nnx.Module) -> bool:
    """Tells whether a module does what the batch norm of Flax or jaxreg does.

    A subclass with a call of its own does not: nobody knows what else happens in it.
    """
    return isinstance(module, nnx.BatchNorm | BatchNorm) and type(module).__call__ in _CALLS


def evaluates(norm: Any, use_running_average: bool | None) -> bool:  # noqa: FBT001
    """Tells whether a call of a batch norm with this argument uses the running statistics."""
    given = norm.use_running_average if use_running_average is None else use_running_average
    return bool(given)


def named_modules(model: nnx.Module) -> dict[str, Any]:
    """All modules of a model by their paths, such as ``"blocks/0/norm"``."""
    return {"/".join(map(str, path)): module for path, module in nnx.iter_modules(model)}


def replace(model: nnx.Module, new: Mapping[str, nnx.Module]) -> None:
    """Puts other modules in the place of those with the given paths, wherever these stand."""
    modules = named_modules(model)
    by_id = {id(modules[path]): module for path, module in new.items()}
    for parent in modules.values():
        for name, child in list(vars(parent).items()):
            if id(child) in by_id:
                setattr(parent, name, by_id[id(child)])
