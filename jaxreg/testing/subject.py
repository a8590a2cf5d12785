"""Subject of a check: a function and its inputs at one dtype; and comparisons of results."""

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
    """Tells whether a leaf is an array of typed keys."""
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """Function under contract, with inputs for it."""

    function: Callable[..., Any]
    inputs: tuple[Any, ...]
    strengths: dict[str, Any]
    off: dict[str, float]

    def at(self, dtype: str) -> "Subject":
        """Returns the subject with its data in another dtype; statistics and masks keep theirs."""
        inputs = list(self.inputs)
        inputs[self.data_position] = self.data.astype(dtype)
        return dataclasses.replace(self, inputs=tuple(inputs))

    def wide(self) -> "Subject":
        """Returns the subject in float64, for finite differences; needs ``jax.enable_x64``."""

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
        """Position of the first array of floats among the inputs."""
        for position, argument in enumerate(self.inputs):
            if hasattr(argument, "dtype") and is_floating(argument):
                return position
        raise ValueError("`inputs` must hold an array of floats, got none; pass float32 data.")

    @property
    def data(self) -> jax.Array:
        """First array of floats among the inputs."""
        return self.inputs[self.data_position]

    def __call__(self, *inputs: Any) -> Any:
        return self.function(*inputs, **self.strengths)

    @property
    def program(self) -> Callable[..., Any]:
        """The function as one program, compiled once for several checks."""
        return _programs(self)[0]

    @property
    def with_pullback(self) -> Callable[..., Any]:
        """The compiled :meth:`value_and_pullback`."""
        return _programs(self)[1]

    def value_and_pullback(self, *inputs: Any) -> Any:
        """Returns the result, and the gradient of the sum of all outputs by the data."""
        position = self.data_position

        def of_data(data: jax.Array) -> Any:
            return self(*inputs[:position], data, *inputs[position + 1 :])

        result, pullback = jax.vjp(of_data, inputs[position])
        return result, pullback(jax.tree.map(jnp.ones_like, result))[0]

    def of_data(self, data: jax.Array) -> Any:
        """Calls the function on other data."""
        inputs = list(self.inputs)
        inputs[self.data_position] = data
        return self(*inputs)

    def scalar_of_data(self, data: jax.Array) -> jax.Array:
        """Sums all outputs with weights that differ between elements."""
        return weighted_sum(self.of_data(data))

    def variants(self, number: int) -> tuple[Any, ...]:
        """Stacks inputs along a new axis, with fresh keys and data; the rest is repeated."""
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
    """Stacks the leaves of trees with the same structure along a new first axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def weighted_sum(tree: Any) -> jax.Array:
    """Sums all floats in a tree, with different weights."""
    total = jnp.zeros(())
    for leaf in jax.tree.leaves(tree):
        if is_floating(leaf):
            dtype = wide_dtype(leaf.dtype)
            weights = jnp.cos(jnp.arange(leaf.size, dtype=dtype)).reshape(leaf.shape)
            term = jnp.sum(weights * leaf.astype(dtype))
            total = total.astype(dtype) + term
    return total


def assert_close(actual: Any, expected: Any, *, dtype: str) -> None:
    """Compares two trees: structure, shapes, dtypes, and values within roundings of ``dtype``."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == e.dtype, f"dtype {a.dtype} is not {e.dtype}"
        got = np.asarray(a).astype(np.float64)
        want = np.asarray(e).astype(np.float64)
        assert np.isfinite(want).all(), "the expected values are not finite"
        scale = max(1.0, float(np.abs(want).max(initial=0.0)))
        np.testing.assert_allclose(got, want, rtol=0, atol=_TOLERANCE[dtype] * scale)


def assert_same_bits(actual: jax.Array, expected: jax.Array) -> None:
    """Compares two arrays bit for bit, including signs of zeros and NaN."""
    assert actual.dtype == expected.dtype, f"dtype {actual.dtype} is not {expected.dtype}"
    assert np.asarray(actual).tobytes() == np.asarray(expected).tobytes(), "bits differ"


def check_key_use(subject: Subject) -> None:
    """Raises ``KeyReuseError`` if the function uses a key twice; runs nothing."""
    with jax.debug_key_reuse(True):
        # The check runs only while tracing, so the function must not have been traced before.
        jax.eval_shape(jax.jit(lambda *inputs: subject(*inputs)), *subject.inputs)
