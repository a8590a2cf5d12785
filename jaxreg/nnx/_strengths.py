"""Base class of the NNX modules, which makes strengths that are arrays part of the state."""

import inspect
import numbers
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_args

import jax
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from jaxreg._checks import is_floating

Shared = TypeVar("Shared", bound=nnx.Module)


class Module(nnx.Module):
    """Base class that marks strengths as data if they are arrays, NumPy scalars or tracers.

    The strengths are the attributes annotated with ``ArrayLike``. A Python number is static, as in
    Flax, until an array takes its place; from then on the attribute is data. Flax itself rejects an
    array in place of a number, and on Python 3.11 treats a tracer as static.
    """

    _strengths: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        inherited = frozenset[str]().union(*(getattr(b, "_strengths", ()) for b in cls.__bases__))
        hints = inspect.get_annotations(cls)
        own = {name for name, hint in hints.items() if _is_array_like(hint)}
        cls._strengths = inherited - hints.keys() | own

    if not TYPE_CHECKING:  # Otherwise every attribute would count as declared.

        def __setattr__(self, name: str, value: Any) -> None:
            if name in self._strengths:
                value = _as_strength(value, vars(self).get(name))
            super().__setattr__(name, value)


def shallow_copy(module: Shared, **attributes: Any) -> Shared:
    """Returns a copy with the given attributes that shares layers and variables with ``module``.

    Nothing is split or cloned, so streams advance and variables change in both.
    """
    copy = object.__new__(type(module))
    # NNX stores the trace level at which a module was made; the copy needs the current one.
    vars(copy).update(vars(module), _pytree__state=vars(nnx.Module())["_pytree__state"])
    for name, value in attributes.items():
        setattr(copy, name, value)
    return copy


def _is_array_like(hint: Any) -> bool:
    if isinstance(hint, str):  # The file has postponed annotations.
        return "ArrayLike" in hint
    return all(kind in get_args(hint) for kind in get_args(ArrayLike))


def _as_strength(value: Any, old: Any) -> Any:
    """Returns a strength, marked as data if it is an array or replaces a floating-point array."""
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if isinstance(value, numbers.Real) and isinstance(old, jax.Array | np.ndarray):
        value = np.asarray(value, old.dtype) if is_floating(old) else value
    return nnx.data(value) if isinstance(value, jax.Array | np.ndarray) else value
