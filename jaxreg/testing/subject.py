"""Functions under test with their inputs, and comparisons of their results."""

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._checks import is_floating
from jaxreg._numerics import wide_dtype

# A few roundings of each dtype, relative to the largest element.
_TOLERANCE = {"float64": 1e-12, "float32": 2e-6, "bfloat16": 1.6e-2, "float16": 2e-3}


def is_key(leaf: Any) -> bool:
    """Returns whether an array contains typed PRNG keys."""
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """Function to check, with its inputs and strengths."""

    function: Callable[..., Any]
    inputs: tuple[Any, ...]
    strengths: dict[str, Any]
    off: dict[str, float]

    def at(self, dtype: str) -> "Subject":
        """Returns the subject with its data cast to ``dtype``; all other inputs are unchanged."""
        inputs = list(self.inputs)
        inputs[self.data_position] = self.data.astype(dtype)
        return dataclasses.replace(self, inputs=tuple(inputs))

    def wide(self) -> "Subject":
        """Returns the subject with all floats in float64; needs ``jax.enable_x64``."""

        def leaf(a: Any) -> Any:
            return jnp.asarray(a, jnp.float64) if is_floating(a) else a

        return dataclasses.replace(self, inputs=jax.tree.map(leaf, self.inputs))

    @property
    def is_random(self) -> bool:
        """True if the first input is a key."""
        first = self.inputs[0]
        return isinstance(first, jax.Array) and is_key(first)

    @property
    def data_position(self) -> int:
        """Index of the first floating-point array among the inputs."""
        for position, argument in enumerate(self.inputs):
            if hasattr(argument, "dtype") and is_floating(argument):
                return position
        raise ValueError("`inputs` must contain an array of floats, got none; pass float32 data.")

    @property
    def data(self) -> jax.Array:
        """First floating-point array among the inputs."""
        return self.inputs[self.data_position]

    def __call__(self, *inputs: Any) -> Any:
        return self.function(*inputs, **self.strengths)

    @property
    def program(self) -> Callable[..., Any]:
        """The jitted function with the strengths bound, shared between checks."""
        return _programs(self)[0]

    @property
    def with_pullback(self) -> Callable[..., Any]:
        """The jitted :meth:`value_and_pullback`, shared between checks."""
        return _programs(self)[1]

    def value_and_pullback(self, *inputs: Any) -> Any:
        """Returns the function's output, and the gradient of its sum with respect to the data."""
        position = self.data_position

        def of_data(data: jax.Array) -> Any:
            return self(*inputs[:position], data, *inputs[position + 1 :])

        result, pullback = jax.vjp(of_data, inputs[position])
        return result, pullback(jax.tree.map(jnp.ones_like, result))[0]

    def of_data(self, data: jax.Array) -> Any:
        """Calls the function with ``data`` in place of its own data."""
        inputs = list(self.inputs)
        inputs[self.data_position] = data
        return self(*inputs)

    def scalar_of_data(self, data: jax.Array) -> jax.Array:
        """Returns a weighted sum of all outputs, with a different weight for each element."""
        return weighted_sum(self.of_data(data))

    def variants(self, number: int) -> tuple[Any, ...]:
        """Stacks ``number`` copies of the inputs with different keys and data along a new axis."""
        stacked = jax.tree.map(lambda a: jnp.stack([a] * number), self.inputs)
        inputs = list(stacked)
        factors = jnp.linspace(1.0, 1.5, number).astype(self.data.dtype)
        factors = factors.reshape((number,) + (1,) * self.data.ndim)
        inputs[self.data_position] = inputs[self.data_position] * factors
        if self.is_random:
            inputs[0] = jax.random.split(self.inputs[0], number)
        return tuple(inputs)


# Keeps the programs of a few subjects only, since each takes megabytes.
@lru_cache(maxsize=4)
def _programs(subject: Subject) -> tuple[Callable[..., Any], ...]:
    return (
        jax.jit(subject.__call__),
        jax.jit(subject.value_and_pullback),
    )


def stacked_trees(trees: list[Any]) -> Any:
    """Stacks the leaves of trees of the same structure along a new first axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def weighted_sum(tree: Any) -> jax.Array:
    """Sums all floating-point leaves of a tree, with a fixed weight for each element."""
    total = jnp.zeros(())
    for leaf in jax.tree.leaves(tree):
        if is_floating(leaf):
            dtype = wide_dtype(leaf.dtype)
            weights = jnp.cos(jnp.arange(leaf.size, dtype=dtype)).reshape(leaf.shape)
            term = jnp.sum(weights * leaf.astype(dtype))
            total = total.astype(dtype) + term
    return total


def assert_close(actual: Any, expected: Any, *, dtype: str) -> None:
    """Checks structure, shapes, dtypes, and values within the rounding error of ``dtype``."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == e.dtype, f"dtype {a.dtype} is not {e.dtype}"
        got = np.asarray(a).astype(np.float64)
        want = np.asarray(e).astype(np.float64)
        assert np.isfinite(want).all(), "the expected values are not finite"
        scale = max(1.0, float(np.abs(want).max(initial=0.0)))
        np.testing.assert_allclose(got, want, rtol=0, atol=_TOLERANCE[dtype] * scale)


def assert_same_bits(actual: jax.Array, expected: jax.Array) -> None:
    """Raises unless two arrays are equal bit for bit, including signed zeros and NaN."""
    assert actual.dtype == expected.dtype, f"dtype {actual.dtype} is not {expected.dtype}"
    assert np.asarray(actual).tobytes() == np.asarray(expected).tobytes(), "bits differ"


def check_key_use(subject: Subject) -> None:
    """Raises ``KeyReuseError`` if the function uses a key twice; only traces it."""
    with jax.debug_key_reuse(True):
        # The check runs only while tracing, so the function must not have been traced before.
        jax.eval_shape(jax.jit(lambda *inputs: subject(*inputs)), *subject.inputs)
