"""What is a batch norm, and another module in its place."""

import functools
import types
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


def named_modules(model: nnx.Module) -> dict[str, Any]:
    """All modules of a model by their paths, such as ``"blocks/0/norm"``."""
    return {"/".join(map(str, path)): module for path, module in nnx.iter_modules(model)}


def put_before(module: nnx.Module, mark: type[nnx.Module]) -> None:
    """Makes a class come before that of a module, which keeps its place and its variables."""
    object.__setattr__(module, "__class__", _marked(mark, type(module)))


@functools.cache  # JAX keeps every class of modules for good: there may not be one per call.
def _marked(mark: type, kind: type) -> type:
    return types.new_class(kind.__name__, (mark, kind))


def replace(model: nnx.Module, new: Mapping[str, nnx.Module]) -> None:
    """Puts other modules in the place of those with the given paths, wherever these stand.

    Raises:
      ValueError: One of them is no attribute of a module.
    """
    modules = named_modules(model)
    by_id = {id(modules[path]): path for path in new}
    replaced = set()
    for parent in modules.values():
        for name, child in list(vars(parent).items()):
            if path := by_id.get(id(child)):
                setattr(parent, name, new[path])
                replaced.add(path)
    if missing := sorted(set(new) - replaced):
        raise ValueError(
            f"`model` must hold norms as attributes or in nnx.List or nnx.Dict, got {missing[0]!r} "
            "in another container; put it into one of these."
        )
