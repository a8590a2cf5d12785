"""Flax's results for weights that ours normalizes: the peers' side of tests/reparam."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from tests.reparam.helpers import kernel

KEY = jax.random.key(4)


def test_float16_kernels_of_200_vanish_in_the_weight_norm_of_flax():
    """The norm overflows in float16, and the output is 0 in place of 2."""
    flax = nn.WeightNorm(nn.Dense(3, use_bias=False, param_dtype="float16"), param_dtype="float16")
    x = jnp.ones((1, 400), jnp.float16)
    variables = flax.init(KEY, x)
    variables["params"]["layer_instance"]["kernel"] = jnp.full((400, 3), 200, jnp.float16)
    np.testing.assert_array_equal(flax.apply(variables, x), 0)


def test_after_a_weight_of_zeros_flax_normalizes_nothing():
    """``u`` becomes 0 for ever."""
    flax = nn.SpectralNorm(nn.Dense(5, use_bias=False))
    w = kernel(6, 5)
    x = jnp.eye(6)
    variables = flax.init(KEY, x, update_stats=False)
    apply = jax.jit(partial(flax.apply, update_stats=True, mutable=["batch_stats"]))
    for weights in (jnp.zeros((6, 5)), *[7 * w] * 60):
        variables["params"]["layer_instance"]["kernel"] = weights
        y, updated = apply(variables, x)
        variables = {**variables, **updated}
    np.testing.assert_array_equal(y, 7 * w)
