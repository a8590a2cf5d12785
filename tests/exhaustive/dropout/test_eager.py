"""Dropout that is called outside of ``jax.jit``: what it returns, and what its gradient holds."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import dropout, noise
from tests.helpers import residual_bytes

KEY = jax.random.key(21)
RANDOM = {
    "alpha_dropout": dropout.alpha_dropout,
    "classical_dropout": dropout.classical_dropout,
    "drop_block": partial(dropout.drop_block, block_size=3),
    "drop_connect": dropout.drop_connect,
    "drop_path": dropout.drop_path,
    "dropout": dropout.dropout,
    "embedding_dropout": dropout.embedding_dropout,
    "feature_alpha_dropout": dropout.feature_alpha_dropout,
    "gaussian_dropout": dropout.gaussian_dropout,
    "locked_dropout": dropout.locked_dropout,
    "salt_and_pepper": noise.salt_and_pepper,
    "spatial_dropout": dropout.spatial_dropout,
}
SIZED = {
    "gaussian_noise": lambda key, x, rate: noise.gaussian_noise(key, x, stddev=rate),
    "perturb": lambda key, x, rate: noise.perturb(key, x, stddev=rate),
    "uniform_noise": lambda key, x, rate: noise.uniform_noise(key, x, limit=rate),
    "concrete_dropout": lambda key, x, rate: dropout.concrete_dropout(
        key, x, logit=rate, temperature=0.1
    ),
    "variational_dropout": lambda key, x, rate: dropout.variational_dropout(key, x, log_alpha=rate),
}
FUNCTIONS = {**RANDOM, **SIZED}


@pytest.mark.parametrize("name", RANDOM)
def test_the_backward_pass_holds_the_key_only(name):
    x = jnp.ones((16, 8, 8, 16))
    pull = jax.vjp(lambda x: RANDOM[name](KEY, x, rate=0.5), x)[1]
    assert residual_bytes(pull) <= 8 + 3 * 4


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_eager_values_are_those_of_a_program(name, dtype):
    def call(x, rate):
        return FUNCTIONS[name](KEY, x, rate=rate)

    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6, 6, 3)), dtype)
    for rate in (jnp.float32(0.3), jnp.float32(0)):
        eager = np.asarray(call(x, rate), np.float32)
        compiled = np.asarray(jax.jit(call)(x, rate), np.float32)
        tolerance = max(1e-5, 2 * float(jnp.finfo(dtype).eps))
        np.testing.assert_allclose(eager, compiled, rtol=tolerance, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("rate", [0, jnp.float32(0)], ids=["static", "array"])
@pytest.mark.parametrize("name", RANDOM)
def test_a_rate_of_zero_is_the_identity_to_the_bit(name, rate, dtype):
    tiny = float(jnp.finfo(dtype).smallest_subnormal)
    edges = [tiny, -tiny, 3 * tiny, 0.0, -0.0, np.inf, -np.inf, np.nan, 1.5, 1 / 3]
    x = np.resize(np.array(edges).astype(dtype), (2, 4, 4, 5))
    y = RANDOM[name](KEY, jnp.asarray(x), rate=rate)
    assert np.asarray(y).tobytes() == x.tobytes()
