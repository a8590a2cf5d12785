"""Finds the batch norms of a model, and replaces modules or their classes."""

import functools
import types
from collections.abc import Mapping
from typing import Any

from flax import nnx

from jaxreg.nnx.normalization import BatchNorm

_CALLS = (nnx.BatchNorm.__call__, BatchNorm.__call__)


def is_batch_norm(module: nnx.Module) -> bool:
    """Returns whether a module is a batch norm of Flax or jaxreg.

    Subclasses that override ``__call__`` are excluded, since their behavior is unknown.
    """
    return isinstance(module, nnx.BatchNorm | BatchNorm) and type(module).__call__ in _CALLS


def named_modules(model: nnx.Module) -> dict[str, Any]:
    """Returns a dict from paths, such as ``"blocks/0/norm"``, to the modules of a model."""
    return {"/".join(map(str, path)): module for path, module in nnx.iter_modules(model)}


def put_before(module: nnx.Module, mixin: type[nnx.Module]) -> None:
    """Changes the class of a module in place to a subclass of ``mixin`` and its current class.

    Calls then go to ``mixin``, which reaches the module's own class with ``super()``. NNX has no
    equivalent of Linen's ``nn.intercept_methods``.
    """
    # A wrapper instead would move the variables to other paths, split modules that are shared, and
    # hide the attributes that parents read. `setattr` would make NNX list `__class__` among the
    # attributes of the module.
    object.__setattr__(module, "__class__", _make_subclass(mixin, type(module)))


@functools.cache  # JAX keeps every module class forever, so calls must not make new ones.
def _make_subclass(mixin: type, kind: type) -> type:
    return types.new_class(kind.__name__, (mixin, kind))


def replace(model: nnx.Module, new: Mapping[str, nnx.Module]) -> None:
    """Replaces the modules at the given paths, in every module that has them as attributes.

    Raises:
      ValueError: A module to replace is not an attribute of any module.
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
            "`model` must have its batch norms as attributes or in an nnx.List or nnx.Dict, got "
            f"{missing[0]!r} in another container; move it to one of these."
        )
