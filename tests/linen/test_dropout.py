"""Dropout as Linen modules: rates that are traced or learned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxreg import linen

KEY = jax.random.key(11)
ONES = np.ones((16, 32), np.float32)


def test_a_traced_rate_is_a_field():
    def fraction(rate):
        y = linen.Dropout(rate, deterministic=False).apply({}, ONES, rng=KEY)
        return jnp.mean(y == 0)

    fractions = jax.jit(jax.vmap(fraction))(np.float32([0, 0.5, 1]))
    np.testing.assert_allclose(fractions, [0, 0.5, 1], atol=5 * 0.5 / np.sqrt(ONES.size))


class Learned(nn.Module):
    """A dropout whose rate is a parameter."""

    @nn.compact
    def __call__(self, x):
        rate = self.param("rate", nn.initializers.constant(0.3), ())
        return linen.Dropout(rate, deterministic=False)(x)


def test_a_rate_that_a_module_learns():
    def total(variables):
        return jnp.sum(Learned().apply(variables, ONES, rngs={"dropout": KEY}))

    value, slope = jax.jit(jax.value_and_grad(total))({"params": {"rate": np.float32(0.3)}})
    np.testing.assert_allclose(slope["params"]["rate"], value / 0.7, rtol=1e-4)


@pytest.mark.parametrize("init_rate", [0.2, 0.9])
def test_concrete_dropout_starts_at_its_rate(init_rate):
    module = linen.ConcreteDropout(init_rate, deterministic=False)
    variables = jax.jit(module.init)({"params": KEY, "dropout": KEY}, ONES)
    logit = variables["params"]["logit"]
    np.testing.assert_allclose(1 / (1 + np.exp(-np.float64(logit))), init_rate, rtol=1e-6)


def test_concrete_dropout_has_the_defaults_of_the_paper():
    module = linen.ConcreteDropout()
    assert module.init_rate == 0.1
    assert module.temperature == 0.1


@pytest.mark.parametrize("init_rate", [0, 1, 0.0, 1.5, -0.5, float("nan")])
def test_a_wrong_rate_to_start_from_is_named(init_rate):
    with pytest.raises(ValueError, match=rf"`init_rate` must be .*\(0, 1\), got {init_rate}"):
        linen.ConcreteDropout(init_rate)
