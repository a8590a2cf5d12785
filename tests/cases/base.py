"""Rows of the contract, and data and errors that rows of several packages share."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxreg.testing.subject import Subject


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A pure function and inputs at a point where it is differentiable."""

    function: Callable[..., Any]
    inputs: tuple[Any, ...]
    strengths: dict[str, float] = dataclasses.field(default_factory=dict)
    off: dict[str, float] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    call: Callable[..., Any] | None = None  # where keyword arrays have to be sharded with the data
    errors: tuple[tuple[type[Exception], str, dict[str, Any]], ...] = ()
    narrows: bool = True  # results with another shape than the data are float32 for narrow data

    @property
    def bound(self) -> Callable[..., Any]:
        """The function of its inputs and strengths."""
        if self.call is not None:
            return self.call
        return partial(self.function, **self.options) if self.options else self.function

    @property
    def name(self) -> str:
        """Name for the ids of tests, made from the function and its options."""
        module = self.function.__module__.removeprefix("jaxreg.")
        variant = [self.call.__name__.strip("_")] if self.call else [*self.options]
        return "-".join([f"{module}.{self.function.__name__}", *variant])

    def but(self, **changes: Any) -> "Case":
        """Returns the row with other fields."""
        return dataclasses.replace(self, **changes)

    @property
    def subject(self) -> Subject:
        """The subject of the contract's checks."""
        return Subject(self.bound, self.inputs, dict(self.strengths), dict(self.off))

    @property
    def draws_strengths(self) -> bool:
        """Returns whether it draws the strengths of an augmentation that has its own row."""
        drawn = self.function.__name__.startswith("random_") and self.name.startswith("augment.")
        return drawn or self.name.startswith("augment.policies.")


@dataclasses.dataclass(frozen=True)
class Transformation:
    """A factory of Optax transformations, as a function of its strengths."""

    factory: Callable[..., Any]
    build: Callable[..., optax.GradientTransformationExtraArgs]
    strengths: dict[str, float]
    off: dict[str, float]

    @property
    def name(self) -> str:
        """Name for the ids of tests."""
        return self.factory.__name__


def array(values: Any) -> jax.Array:
    """Makes an array of 32 bits, or of booleans, from NumPy's values without compiling."""
    values = np.asarray(values)
    narrow = {"f": np.float32, "i": np.int32}.get(values.dtype.kind, values.dtype)
    return jax.device_put(values.astype(narrow))


KEY = jax.random.key(0)
X = array(np.sin(np.arange(1.0, 16 * 8 + 1)).reshape(16, 8))
SERIES = array(np.sin(np.arange(1.0, 16 * 4 * 8 + 1)).reshape(16, 4, 8))
MAPS = array(np.sin(np.arange(1.0, 16 * 6 * 5 * 8 + 1)).reshape(16, 6, 5, 8))
KERNEL = array(np.cos(np.arange(8.0 * 8)).reshape(8, 8))
MASK = array((np.arange(16) % 3 != 0)[:, None])
# Unlike X, it has full rank and distinct singular values.
MATRIX = array(np.sin(np.arange(1.0, 16 * 8 + 1) ** 2).reshape(16, 8))
LABELS = array(np.arange(16) % 7 - 1)


def _floats(_key: jax.Array, shape: tuple[int, ...], _dtype: Any) -> jax.Array:
    return jnp.zeros(shape, jnp.float32)


WRONG_BITS = (TypeError, r"`bits` must return uint32 of shape .* got float32", {"bits": _floats})

WRONG_RATES = (
    (ValueError, r"`rate`.*\[0, 1\].*1\.5", {"rate": 1.5}),
    (ValueError, r"`rate` must be a single number, got shape \(8,\)", {"rate": X[0]}),
)

WRONG_ENDS = (
    (ValueError, r"`low` must be negative, got 0\.0", {"low": 0.0}),
    (ValueError, r"`low` must be a single number.*\(8,\)", {"low": X[0]}),
    (ValueError, r"`high` must be greater than 1, got 1\.0", {"high": 1.0}),
    (ValueError, r"`high` must be a single number.*\(8,\)", {"high": X[0]}),
)

WRONG_GATES = (
    (ValueError, r"`temperature` must be positive, got 0\.0", {"temperature": 0.0}),
    (ValueError, r"`temperature` must be a single number.*\(8,\)", {"temperature": X[0]}),
    *WRONG_ENDS,
)


def row(
    function: Callable[..., Any], *inputs: Any, errors: Any = (), off: Any = None, **strengths: Any
) -> Case:
    """Returns a row ``function(*inputs, **strengths)``."""
    return Case(function, inputs, strengths, off or {}, errors=tuple(errors))


def negative(name: str) -> Any:
    """Returns the error about a negative argument."""
    return (ValueError, rf"`{name}` must be zero or positive, got -1\.0", {name: -1.0})


def outside(name: str, value: float = 1.5) -> Any:
    """Returns the error about an argument outside its interval."""
    return (ValueError, rf"`{name}` must be .* in \[0.*, .*\], got {value}", {name: value})


def misfit(name: str) -> Any:
    """The error about an argument that is neither a single number nor one per example."""
    wrong = {name: jnp.ones(3)}
    return (ValueError, rf"`{name}` must (broadcast to shape \(16,\)|be a single number)", wrong)
