"""What tests of random functions share: bounds, chosen bits, and what the backward pass keeps."""

import math

import jax
import jax.numpy as jnp

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
