"""What a check looks at: a function, its inputs at one dtype, and comparisons."""

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._checks import is_floating
from jaxreg._numerics import wide_dtype

# Relative to the largest element: some roundings of each dtype.
_TOLERANCE = {"float64": 1e-12, "float32": 2e-6, "bfloat16": 1.6e-2, "float16": 2e-3}


def is_key(leaf: Any) -> bool:
    """Tells whether a leaf is an array of typed keys."""
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A function under contract with inputs for it."""

    function: Callable[..., Any]
    inputs: tuple[Any, ...]
    strengths: dict[str, Any]
    off: dict[str, float]

    def at(self, dtype: str) -> "Subject":
        """The same subject with its data in another dtype; statistics and masks stay."""
        inputs = list(self.inputs)
        inputs[self.data_position] = self.data.astype(dtype)
        return dataclasses.replace(self, inputs=tuple(inputs))

    def wide(self) -> "Subject":
        """The same subject in float64, for finite differences; needs ``jax.enable_x64``."""

        def leaf(a: Any) -> Any:
            return jnp.asarray(a, jnp.float64) if is_floating(a) else a

        return dataclasses.replace(self, inputs=jax.tree.map(leaf, self.inputs))

    @property
    def is_random(self) -> bool:
        """Whether the first input is a key."""
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
        """The first array of floats among the inputs."""
        return self.inputs[self.data_position]

    def __call__(self, *inputs: Any) -> Any:
        return self.function(*inputs, **self.strengths)

    @property
    def compiled(self) -> Callable[..., Any]:
        """The same as one program, compiled once for several checks."""
        return _programs(self)[0]

    @property
    def with_pullback(self) -> Callable[..., Any]:
        """The compiled :meth:`value_and_pullback`."""
        return _programs(self)[1]

    def value_and_pullback(self, *inputs: Any) -> Any:
        """The result, and the gradient of the sum of all outputs by the data."""
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
        """A sum of all outputs with weights that tell elements apart."""
        return weighted_sum(self.of_data(data))

    def variants(self, number: int) -> tuple[Any, ...]:
        """Inputs stacked along a new first axis: other keys, other data, the same of the rest."""
        stacked = jax.tree.map(lambda a: jnp.stack([a] * number), self.inputs)
        inputs = list(stacked)
        factors = jnp.linspace(1.0, 1.5, number).astype(self.data.dtype)
        factors = factors.reshape((number,) + (1,) * self.data.ndim)
        inputs[self.data_position] = inputs[self.data_position] * factors
        if self.is_random:
            inputs[0] = jax.random.split(self.inputs[0], number)
        return tuple(inputs)


# Of a few subjects alone, since a program takes megabytes.
@lru_cache(maxsize=4)
def _programs(subject: Subject) -> tuple[Callable[..., Any], ...]:
    return (
        jax.jit(subject.__call__),
        jax.jit(subject.value_and_pullback),
    )


def stacked_trees(trees: list[Any]) -> Any:
    """Stacks the leaves of trees of one structure along a new first axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def weighted_sum(tree: Any) -> jax.Array:
    """Sum of all floats in a tree, each with a weight of its own."""
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
        got, want = (np.asarray(v).astype(np.float64) for v in (a, e))
        assert np.isfinite(want).all(), "the expected values are not finite"
        scale = max(1.0, float(np.abs(want).max(initial=0.0)))
        np.testing.assert_allclose(got, want, rtol=0, atol=_TOLERANCE[dtype] * scale)


def assert_same_bits(actual: jax.Array, expected: jax.Array) -> None:
    """Compares two arrays to the bit, signs of zeros and NaN included."""
    assert actual.dtype == expected.dtype, f"dtype {actual.dtype} is not {expected.dtype}"
    assert np.asarray(actual).tobytes() == np.asarray(expected).tobytes(), "bits differ"


def check_key_use(subject: Subject) -> None:
    """Raises ``KeyReuseError`` where the function uses a key twice; runs nothing."""
    with jax.debug_key_reuse(True):
        # A function that was not traced before, since only tracing checks.
        jax.eval_shape(jax.jit(lambda *inputs: subject(*inputs)), *subject.inputs)
