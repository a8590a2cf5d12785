"""Dropout as NNX modules: rates that are traced or learned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

from jaxreg import nnx

ONES = np.ones((16, 32), np.float32)
RATES = np.array([0, 0.5, 1], np.float32)
ERROR = 5 * 0.5 / np.sqrt(ONES.size)


def test_the_rate_of_a_module_that_is_built_under_vmap():
    def fraction(rate):
        return jnp.mean(nnx.Dropout(rate, rngs=flax_nnx.Rngs(0))(ONES) == 0)

    np.testing.assert_allclose(jax.jit(jax.vmap(fraction))(RATES), RATES, atol=ERROR)


def test_a_rate_that_is_set_anew():
    layer = nnx.Dropout(jnp.asarray(RATES[1]), rngs=flax_nnx.Rngs(0))
    run = flax_nnx.jit(lambda layer: jnp.mean(layer(ONES) == 0))
    for rate in RATES:
        layer.rate = jnp.asarray(rate)
        np.testing.assert_allclose(run(layer), rate, atol=ERROR)


@pytest.mark.parametrize("init_rate", [1e-3, 0.1, 0.9])
def test_concrete_dropout_starts_at_its_rate(init_rate):
    layer = nnx.ConcreteDropout(init_rate)
    logit = np.float64(layer.logit[...])
    np.testing.assert_allclose(1 / (1 + np.exp(-logit)), init_rate, rtol=1e-5)
    assert list(flax_nnx.to_pure_dict(flax_nnx.state(layer, flax_nnx.Param))) == ["logit"]


def test_concrete_dropout_has_the_defaults_of_the_paper():
    layer = nnx.ConcreteDropout()
    assert layer.init_rate == 0.1
    assert layer.temperature == 0.1


@pytest.mark.parametrize("init_rate", [0.0, 1.0, 0, 1, 1.5, -0.5, float("nan")])
def test_a_wrong_rate_to_start_from_is_named(init_rate):
    with pytest.raises(ValueError, match=r"`init_rate` must be a probability in \(0, 1\), got"):
        nnx.ConcreteDropout(init_rate)
