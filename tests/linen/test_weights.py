"""Linen layers with random weights, and wrappers that change the weights of any layer."""

from collections.abc import Callable
from functools import partial

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxreg import dropout, linen, masks, noise
from jaxreg._trees import map_kernels
from tests.helpers import few, first_of
from tests.trees import assert_close, assert_equal, draw, shapes, shapes_of

KEY = jax.random.key(5)
PARAMS = jax.random.key(6)
KEYS = {"params": PARAMS, "dropout": KEY}
X = draw(4, 6, 6, 8, mean=1)
FLAT = X[:, 0, 0]
SERIES = X[:, 0]


@pytest.mark.parametrize("stddev", [np.ones(3), np.ones((1,))])
def test_the_noise_of_parameters_has_one_strength(stddev):
    with pytest.raises(ValueError, match=r"`stddev`.*shape \(\d,\)"):
        linen.Perturb(nn.Dense(3), stddev)


DROPPED = {
    "dense": nn.Dense(3, bias_init=nn.initializers.ones),
    "partitioned": nn.Dense(
        3,
        use_bias=False,
        dtype=jnp.bfloat16,
        kernel_init=nn.with_partitioning(nn.initializers.normal(), (None, "model")),
    ),
    "conv": nn.Conv(3, (2, 2), bias_init=nn.initializers.ones),
    "grouped": nn.Conv(
        4,
        (3, 3),
        strides=2,
        padding="CIRCULAR",
        feature_group_count=2,
        use_bias=False,
        param_dtype=jnp.bfloat16,
    ),
}


@few("layer", DROPPED.values(), ids=DROPPED)
def test_a_layer_with_dropped_weights_is_the_layer_of_flax(layer):
    """Variables are exchanged; a rate of zero changes nothing, another one drops the kernel."""
    module = linen.DropConnect(layer, 0.3)

    @jax.jit
    def start(key):
        return layer.init(key, X), module.init(key, X, deterministic=True)

    @jax.jit
    def run(variables, rate):
        off = module.apply(variables, X, deterministic=False, rate=0.0)
        # A rate of zero that is traced goes the way of training.
        traced = module.apply(variables, X, deterministic=False, rng=KEY, rate=rate)
        evaluated = module.apply(variables, X, deterministic=True)
        return layer.apply(variables, X), (off, traced, evaluated)

    # Parameters made in the same program might not be rounded to their dtype.
    variables, own = start(PARAMS)
    expected, same = run(variables, 0.0)
    assert_equal(own, variables)
    for y in same:
        assert_equal(y, expected)
    loaded = flax.serialization.from_bytes(own, flax.serialization.to_bytes(variables))

    @jax.jit
    def train(loaded, variables):
        changed = map_kernels(partial(dropout.drop_connect, rate=0.3), KEY, variables)
        return module.apply(loaded, X, deterministic=False, rng=KEY), layer.apply(changed, X)

    assert_equal(*train(loaded, variables))


LAYERS = [
    (nn.Sequential([nn.Dense(3), nn.LayerNorm(), nn.Dense(2)]), (X,)),
    (nn.Dense(3, bias_init=nn.initializers.ones), (X,)),
    (nn.Conv(3, (2, 2)), (X,)),
    (
        nn.LSTMCell(3, recurrent_kernel_init=nn.initializers.normal()),
        ((np.ones((4, 3), np.float32), np.ones((4, 3), np.float32)), FLAT),
    ),
    (nn.RNN(nn.SimpleCell(3, recurrent_kernel_init=nn.initializers.normal())), (SERIES,)),
    (nn.MultiHeadDotProductAttention(2), (SERIES, SERIES)),
]


@first_of(("layer", "inputs"), LAYERS, ids=[type(layer).__name__ for layer, _ in LAYERS])
def test_wrappers_change_the_weights_of_any_layer(layer, inputs):
    wrappers = [linen.DropConnect(layer, 0.4), linen.Perturb(layer, 0.4)]
    off = [linen.DropConnect(layer, 0.0), linen.Perturb(layer, 0.0)]

    @jax.jit
    def run(key):
        variables = layer.init(PARAMS, *inputs)
        dropped = map_kernels(partial(dropout.drop_connect, rate=0.4), key, variables)
        changed = [dropped, noise.perturb(key, variables, stddev=0.4)]
        same = [w.apply(variables, *inputs, deterministic=True) for w in wrappers]
        same += [w.apply(variables, *inputs, deterministic=False) for w in off]
        drawn = [w.apply(variables, *inputs, deterministic=False, rng=key) for w in wrappers]
        expected = [layer.apply(tree, *inputs) for tree in changed]
        return variables, dropped, layer.apply(variables, *inputs), same, drawn, expected

    variables, dropped, plain, same, drawn, expected = run(KEY)
    for y in same:
        assert_equal(y, plain)
    assert_close(drawn, expected)
    for wrapper in wrappers:
        own = shapes_of(lambda w=wrapper: w.init(PARAMS, *inputs, deterministic=True))
        assert own == shapes(variables)
    trees = (variables, dropped, masks.kernels(variables))
    for before, after, selected in zip(*map(jax.tree.leaves, trees), strict=True):
        zeros = np.mean(np.asarray(after) == 0)
        assert (0 < zeros < 1) if selected else np.array_equal(before, after)


class Block(nn.Module):
    """A layer with statistics and keys."""

    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=False, momentum=0.5)(nn.Dense(8)(x))
        return linen.Dropout(0.5, deterministic=False)(x)


class Net(nn.Module):
    """Two layers, each wrapped in the same way."""

    wrap: Callable[[nn.Module], nn.Module]

    def setup(self):
        self.block = self.wrap(Block())
        self.head = self.wrap(nn.Dense(2))

    def __call__(self, x):
        return self.head(self.block(x))


def test_wrapped_layers_keep_their_place_and_other_variables():
    """Names of parameters are those without the wrapper; statistics and keys inside still work."""

    def wrap(layer):
        outer = linen.Perturb(linen.DropConnect(layer, 0.5, deterministic=False), 0.1)
        return outer.clone(deterministic=False)

    net = Net(wrap)

    @jax.jit
    def run(key):
        variables = Net(lambda layer: layer).init(KEYS, FLAT)
        rngs = {"dropout": key}
        return variables, *net.apply(variables, FLAT, mutable=["batch_stats"], rngs=rngs)

    variables, y, updated = run(KEY)
    assert shapes_of(lambda: net.init(KEYS, FLAT)) == shapes(variables)
    assert y.shape == (4, 2)
    before = variables["batch_stats"]
    after = updated["batch_stats"]
    assert shapes(before) == shapes(after)
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, after)
    assert all(jax.tree.leaves(moved))


def test_variational_dense_without_a_bias_and_in_bfloat16():
    module = linen.VariationalDense(3, use_bias=False, param_dtype=jnp.bfloat16)

    @jax.jit
    def run(x):
        variables = module.init(PARAMS, x, deterministic=False)
        return module.apply(variables, x, deterministic=False, rng=KEY), variables["params"]

    y, params = run(X.astype(jnp.bfloat16))
    assert {name: w.dtype for name, w in params.items()} == {
        "kernel": jnp.bfloat16,
        "log_var": jnp.bfloat16,
    }
    np.testing.assert_array_equal(params["log_var"], -10)
    assert np.std(np.asarray(params["kernel"], np.float32)) > 0.1
    assert (y.shape, y.dtype) == ((4, 6, 6, 3), jnp.bfloat16)
    assert module.threshold == 3
    with pytest.raises(TypeError, match="`inputs` must have a floating-point dtype, got int32"):
        module.init(KEYS, np.ones(3, np.int32), deterministic=True)


class Options(nn.Module):
    """A layer with keyword arguments, one of them no array."""

    @nn.compact
    def __call__(self, x, *, gain, kind="plain"):
        kernel = self.param("kernel", nn.initializers.ones, (8, 8))
        return gain * x @ kernel if kind == "scaled" else x


@few("wrap", [linen.StochasticDepth, linen.DropConnect, linen.Perturb])
def test_keyword_arguments_go_to_the_layer(wrap):
    layer = wrap(Options(), 0.0)
    strength = {"stddev" if wrap is linen.Perturb else "rate": jnp.zeros(())}

    @jax.jit
    def run(gain, key):
        options = {"gain": gain, "kind": "scaled"}
        y, variables = layer.init_with_output(key, FLAT, deterministic=True, **options)
        trained = layer.apply(variables, FLAT, deterministic=False, rng=key, **strength, **options)
        return y, trained

    expected = 3 * FLAT @ np.ones((8, 8)) + (FLAT if wrap is linen.StochasticDepth else 0)
    for y in run(3.0, KEY):
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_a_layer_that_is_skipped_needs_its_first_input_by_position():
    layer = linen.StochasticDepth(Options(), 0.5, deterministic=True)
    message = r"`inputs` of StochasticDepth must begin .* \['gain', 'x'\]"
    with pytest.raises(TypeError, match=message):
        layer.init(KEY, x=FLAT, gain=3.0)
