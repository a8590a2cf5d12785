"""Noise as Linen modules: strengths may be arrays."""

import jax
import numpy as np
import pytest

from jaxreg import linen, noise

KEY = jax.random.key(5)
X = np.zeros((64, 3), np.float32)
STRENGTHS = np.float32([0, 0.5, 2])
MODULES = [
    (linen.GaussianNoise, noise.gaussian_noise, "stddev"),
    (linen.UniformNoise, noise.uniform_noise, "limit"),
]


@pytest.mark.parametrize(("module", "function", "name"), MODULES)
def test_a_strength_may_differ_by_channel(module, function, name):
    @jax.jit
    def run(key):
        y = module(STRENGTHS, deterministic=False).apply({}, X, rng=key)
        return y, function(key, X, **{name: STRENGTHS})

    y, expected = run(KEY)
    np.testing.assert_array_equal(y, expected)
    assert not np.any(y[:, 0])
    assert np.all(np.any(y[:, 1:], axis=0))
