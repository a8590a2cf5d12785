"""Strengths of NNX modules: arrays are state, Python numbers are structure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as fnx
from jax.typing import ArrayLike

from jaxreg import nnx

ONES = np.ones((16, 32), np.float32)
RATES = np.array([0, 0.5, 1], np.float32)
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


def net(rate, key):
    rngs = fnx.Rngs(key)
    return fnx.Sequential(fnx.Linear(32, 32, rngs=rngs), nnx.Dropout(rate, rngs=rngs))


def test_stacked_layers_with_rates_of_their_own_in_a_scan():
    """The array is given to the constructors, or set in place of a number."""

    @fnx.scan(in_axes=(fnx.Carry, 0), out_axes=(fnx.Carry, 0))
    def forward(x, layer):
        x = layer(x)
        return x, jnp.mean(x == 0)

    @fnx.jit
    def run(rates, key):
        keys = jax.random.split(key, 3)
        given = fnx.vmap(net)(rates, keys)
        late = fnx.vmap(lambda key: net(0.25, key))(keys)
        late.layers[1].rate = rates
        return [forward(jnp.asarray(ONES), layers)[1] for layers in (given, late)]

    for zeros in run(RATES, jax.random.key(3)):
        np.testing.assert_allclose(zeros, RATES, atol=ERROR)


def test_an_ensemble_by_vmap_over_split():
    @jax.jit
    def run(rates, key):
        graph, _ = fnx.split(net(rates[0], key))
        states = jax.vmap(lambda rate: fnx.split(net(rate, key))[1])(rates)
        return jax.vmap(lambda state: jnp.mean(fnx.merge(graph, state)(ONES) == 0))(states)

    np.testing.assert_allclose(run(RATES, jax.random.key(3)), RATES, atol=ERROR)


def test_parameters_and_gradients_are_those_of_a_model_with_a_number():
    models = [fnx.eval_shape(lambda r=rate: net(r, 0)) for rate in (0.5, jnp.float32(0.5))]
    params = [fnx.to_pure_dict(fnx.state(model, fnx.Param)) for model in models]
    assert params[0] == params[1]
    slopes = jax.eval_shape(lambda key: fnx.grad(lambda m: m(ONES).sum())(net(key[0], 0)), RATES)
    assert jax.tree.structure(fnx.to_pure_dict(slopes)) == jax.tree.structure(params[0])


def test_a_stack_that_is_called_as_one_layer_is_refused():
    layers = fnx.eval_shape(lambda: fnx.vmap(lambda rate: nnx.Dropout(rate))(jnp.asarray(RATES)))
    with pytest.raises(ValueError, match=r"`rate` must be a single number, got shape \(3,\)"):
        jax.eval_shape(lambda key: layers(ONES, rngs=key), jax.random.key(0))
