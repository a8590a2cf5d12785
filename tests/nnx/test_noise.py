"""Noise as NNX modules: strengths may be arrays."""

import jax
import numpy as np
import pytest

from jaxreg import nnx, noise

KEY = jax.random.key(5)
X = np.zeros((64, 3), np.float32)
STRENGTHS = np.float32([0, 0.5, 2])


@pytest.mark.parametrize(
    ("module", "function", "name"),
    [
        (nnx.GaussianNoise, noise.gaussian_noise, "stddev"),
        (nnx.UniformNoise, noise.uniform_noise, "limit"),
    ],
)
def test_a_strength_may_differ_by_channel(module, function, name):
    @jax.jit
    def run(key):
        return module(STRENGTHS)(X, rngs=key), function(key, X, **{name: STRENGTHS})

    y, expected = run(KEY)
    np.testing.assert_array_equal(y, expected)
    assert not np.any(y[:, 0])
    assert np.all(np.any(y[:, 1:], axis=0))
