"""Strengths of NNX modules: arrays are state, Python numbers are structure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx
from jax.typing import ArrayLike

from jaxreg import nnx

ONES = np.ones((16, 32), np.float32)
RATES = np.array([0, 0.5, 1], np.float32)
ERROR = 5 * 0.5 / np.sqrt(ONES.size)


def leaves(module):
    return {"/".join(map(str, path)) for path, _ in flax_nnx.to_flat_state(flax_nnx.state(module))}


def test_arrays_are_state_and_numbers_are_not():
    for rate in (jnp.asarray(0.5), np.asarray(0.5), np.float32(0.5), np.float64(0.5)):
        assert leaves(nnx.Dropout(rate)) == {"rate"}
        assert leaves(flax_nnx.eval_shape(lambda rate=rate: nnx.Dropout(rate))) == {"rate"}
    for rate in (0.5, 0, 1):
        assert not leaves(nnx.Dropout(rate))


def test_modules_built_by_vmap_have_rates_of_their_own():
    @flax_nnx.jit
    def run(rates, key):
        def build(rate, key):
            return nnx.Dropout(rate, rngs=flax_nnx.Rngs(key))

        layers = flax_nnx.vmap(build)(rates, jax.random.split(key, 3))
        call = flax_nnx.vmap(lambda layer, x: jnp.mean(layer(x) == 0), in_axes=(0, None))
        return layers.rate, call(layers, jnp.asarray(ONES))

    rates, zeros = run(RATES, jax.random.key(3))
    np.testing.assert_array_equal(rates, RATES)
    np.testing.assert_allclose(zeros, RATES, atol=ERROR)


def test_a_module_built_inside_jit_keeps_its_rate():
    build = flax_nnx.jit(lambda rate, key: nnx.Dropout(rate, rngs=flax_nnx.Rngs(key)))
    run = flax_nnx.jit(lambda layer: layer(ONES))
    for rate in RATES[[0, 2]]:
        layer = build(rate, jax.random.key(3))
        np.testing.assert_array_equal(run(layer), (1 - rate) * ONES)


@pytest.mark.parametrize("first", [0.5, jnp.float32(0.5)])
def test_a_rate_set_inside_jit_needs_no_further_programs(first):
    layer = nnx.Dropout(first, rngs=flax_nnx.Rngs(0))
    traces = []

    @flax_nnx.jit
    def step(layer, rate):
        traces.append(rate)
        layer.rate = rate
        return jnp.mean(layer(ONES) == 0)

    for rate in RATES:
        np.testing.assert_allclose(step(layer, rate), rate, atol=ERROR)
        assert layer.rate == rate
    assert len(traces) == (2 if isinstance(first, float) else 1)


def test_a_number_in_place_of_an_array_needs_no_further_program():
    layer = nnx.Dropout(jnp.float32(0.5), rngs=flax_nnx.Rngs(0))
    traces = []

    @flax_nnx.jit
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


def net(rate, key):
    rngs = flax_nnx.Rngs(key)
    return flax_nnx.Sequential(flax_nnx.Linear(32, 32, rngs=rngs), nnx.Dropout(rate, rngs=rngs))


def test_stacked_layers_with_rates_of_their_own_in_a_scan():
    """The array is given to the constructors, or set in place of a number."""

    @flax_nnx.scan(in_axes=(flax_nnx.Carry, 0), out_axes=(flax_nnx.Carry, 0))
    def forward(x, layer):
        x = layer(x)
        return x, jnp.mean(x == 0)

    @flax_nnx.jit
    def run(rates, key):
        keys = jax.random.split(key, 3)
        given = flax_nnx.vmap(net)(rates, keys)
        late = flax_nnx.vmap(lambda key: net(0.25, key))(keys)
        late.layers[1].rate = rates
        return [forward(jnp.asarray(ONES), layers)[1] for layers in (given, late)]

    for zeros in run(RATES, jax.random.key(3)):
        np.testing.assert_allclose(zeros, RATES, atol=ERROR)


def test_an_ensemble_by_vmap_over_split():
    @jax.jit
    def run(rates, key):
        graph, _ = flax_nnx.split(net(rates[0], key))
        states = jax.vmap(lambda rate: flax_nnx.split(net(rate, key))[1])(rates)
        return jax.vmap(lambda state: jnp.mean(flax_nnx.merge(graph, state)(ONES) == 0))(states)

    np.testing.assert_allclose(run(RATES, jax.random.key(3)), RATES, atol=ERROR)


def test_parameters_and_gradients_are_those_of_a_model_with_a_number():
    models = [flax_nnx.eval_shape(lambda r=rate: net(r, 0)) for rate in (0.5, jnp.float32(0.5))]
    params = [flax_nnx.to_pure_dict(flax_nnx.state(model, flax_nnx.Param)) for model in models]
    assert params[0] == params[1]
    slopes = jax.eval_shape(
        lambda key: flax_nnx.grad(lambda m: m(ONES).sum())(net(key[0], 0)), RATES
    )
    assert jax.tree.structure(flax_nnx.to_pure_dict(slopes)) == jax.tree.structure(params[0])


def test_a_stack_that_is_called_as_one_layer_is_refused():
    layers = flax_nnx.eval_shape(
        lambda: flax_nnx.vmap(lambda rate: nnx.Dropout(rate))(jnp.asarray(RATES))
    )
    with pytest.raises(ValueError, match=r"`rate` must be a single number, got shape \(3,\)"):
        jax.eval_shape(lambda key: layers(ONES, rngs=key), jax.random.key(0))
