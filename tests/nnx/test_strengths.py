"""Strengths of NNX modules: arrays are state, Python numbers are structure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as fnx
from jax.typing import ArrayLike

from jaxreg import nnx

ONES = np.ones((16, 32), np.float32)
RATES = np.float32([0, 0.5, 1])
ERROR = 5 * 0.5 / np.sqrt(ONES.size)


def leaves(module):
    return {"/".join(map(str, path)) for path, _ in fnx.to_flat_state(fnx.state(module))}


def test_arrays_are_state_and_numbers_are_not():
    for rate in (jnp.asarray(0.5), np.asarray(0.5), np.float32(0.5), np.float64(0.5)):
        assert leaves(nnx.Dropout(rate)) == {"rate"}
        assert leaves(fnx.eval_shape(lambda rate=rate: nnx.Dropout(rate))) == {"rate"}
    for rate in (0.5, 0, 1):
        assert not leaves(nnx.Dropout(rate))


def test_modules_built_by_vmap_have_rates_of_their_own():
    @fnx.jit
    def run(rates, key):
        def build(rate, key):
            return nnx.Dropout(rate, rngs=fnx.Rngs(key))

        layers = fnx.vmap(build)(rates, jax.random.split(key, 3))
        call = fnx.vmap(lambda layer, x: jnp.mean(layer(x) == 0), in_axes=(0, None))
        return layers.rate, call(layers, jnp.asarray(ONES))

    rates, zeros = run(RATES, jax.random.key(3))
    np.testing.assert_array_equal(rates, RATES)
    np.testing.assert_allclose(zeros, RATES, atol=ERROR)


def test_a_module_built_inside_jit_keeps_its_rate():
    build = fnx.jit(lambda rate, key: nnx.Dropout(rate, rngs=fnx.Rngs(key)))
    run = fnx.jit(lambda layer: layer(ONES))
    for rate in RATES[[0, 2]]:
        layer = build(rate, jax.random.key(3))
        np.testing.assert_array_equal(run(layer), (1 - rate) * ONES)


@pytest.mark.parametrize("first", [0.5, jnp.float32(0.5)])
def test_a_rate_set_inside_jit_needs_no_further_programs(first):
    layer = nnx.Dropout(first, rngs=fnx.Rngs(0))
    traces = []

    @fnx.jit
    def step(layer, rate):
        traces.append(rate)
        layer.rate = rate
        return jnp.mean(layer(ONES) == 0)

    for rate in RATES:
        np.testing.assert_allclose(step(layer, rate), rate, atol=ERROR)
        assert layer.rate == rate
    assert len(traces) == (2 if isinstance(first, float) else 1)


def test_a_number_in_place_of_an_array_needs_no_further_program():
    layer = nnx.Dropout(jnp.float32(0.5), rngs=fnx.Rngs(0))
    traces = []

    @fnx.jit
    def run(layer):
        traces.append(layer)
        return jnp.mean(layer(ONES) == 0)

    for rate in (0.5, 0.0, 1, np.float32(0.5)):
        layer.rate = rate
        np.testing.assert_allclose(run(layer), rate, atol=ERROR)
    assert len(traces) == 1


class Own(nnx.Stochastic):
    """A module of a user, whose annotation is postponed."""

    size: "ArrayLike"
    steps: int

    def __init__(self, size, steps, **options):
        super().__init__(**options)
        self.size = size
        self.steps = steps


def test_a_module_of_ones_own():
    assert leaves(Own(np.float32(0.5), np.int64(3))) == {"size"}
    layer = Own(0.5, 3)
    assert not leaves(layer)
    layer.size = jnp.asarray(0.25)
    assert leaves(layer) == {"size"}
