"""Test parameters in two tiers, bounds for random functions, bytes kept for the backward pass."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import pytest


def few(names: str | Sequence[str], values: Iterable[Any], **options: Any) -> Callable[[Any], Any]:
    """Parametrizes a test; the default suite runs the first case and one other.

    A hash of the test's name chooses the other one among the combinations of all its ``few``.
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
    """Parametrizes a test that takes seconds: the default suite runs only its first case."""
    thin = few(names, values, **options)
    return lambda function: pytest.mark.first(thin(function))


# Probability of a sample outside 5 standard errors, for tests that state one.
FIVE_SIGMA = math.erfc(5 / math.sqrt(2))


def assert_rate(measured, rate, samples):
    """Checks that the fraction of independent events is ``rate`` within 5 standard errors."""
    assert abs(measured - rate) <= 5 * math.sqrt(rate * (1 - rate) / samples)


def always(word):
    """Returns a source of bits that draws the same word everywhere."""
    return lambda key, shape, dtype: jnp.full(shape, word, dtype)


def residual_bytes(pull):
    """Returns the number of bytes that a function from ``jax.vjp`` keeps."""
    keys = jax.dtypes.prng_key
    leaves = [
        jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, keys) else leaf
        for leaf in jax.tree.leaves(pull)
    ]
    return sum(leaf.nbytes for leaf in leaves)
