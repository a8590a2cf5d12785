"""Parameters in two tiers, bounds of random functions, bytes kept for the backward pass."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import pytest


def few(names: str | Sequence[str], values: Iterable[Any], **options: Any) -> Callable[[Any], Any]:
    """Parametrizes a test; the default suite runs the first case and one other.

    A hash of its name chooses the other one among the combinations of all ``few`` of the test.
    ``pytest --exhaustive`` runs the remaining ones. Use ``pytest.mark.parametrize`` if every value
    is a different test, such as a wrong argument with its message.
    """
    parametrize = pytest.mark.parametrize(names, list(values), **options)
    listed = names.split(",") if isinstance(names, str) else names
    thinned = pytest.mark.few(*[name.strip() for name in listed])
    return lambda function: thinned(parametrize(function))


def first_of(
    names: str | Sequence[str], values: Iterable[Any], **options: Any
) -> Callable[[Any], Any]:
    """Parametrizes a test that takes seconds: the default suite runs its first case alone."""
    thin = few(names, values, **options)
    return lambda function: pytest.mark.first(thin(function))


# Probability of a sample outside 5 standard errors, for tests that state one.
FIVE_SIGMA = math.erfc(5 / math.sqrt(2))


def assert_rate(measured, rate, samples):
    """The fraction of independent events is their probability within 5 standard errors."""
    assert abs(measured - rate) <= 5 * math.sqrt(rate * (1 - rate) / samples)


def always(word):
    """A source of bits that draws the same word everywhere."""
    return lambda key, shape, dtype: jnp.full(shape, word, dtype)


def residual_bytes(pull):
    """Bytes that a function from ``jax.vjp`` holds."""
    keys = jax.dtypes.prng_key
    leaves = [
        jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, keys) else leaf
        for leaf in jax.tree.leaves(pull)
    ]
    return sum(leaf.nbytes for leaf in leaves)
