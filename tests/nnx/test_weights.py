"""NNX layers with random weights, and wrappers that change the weights of any layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

from jaxreg import dropout, nnx
from tests.helpers import few, first_of
from tests.trees import assert_close, assert_equal, different, draw

KEY = jax.random.key(15)
X = draw(16, 6, 4, mean=1)


def test_variables_of_a_variational_layer():
    @jax.jit
    def run(key):
        layer = nnx.VariationalDense(64, 5, param_dtype="bfloat16", rngs=flax_nnx.Rngs(key))
        return flax_nnx.to_pure_dict(flax_nnx.state(layer, flax_nnx.Param))

    params = run(KEY)
    assert {name: w.shape for name, w in params.items()} == {
        "kernel": (64, 5),
        "bias": (5,),
        "log_var": (64, 5),
    }
    assert {w.dtype for w in params.values()} == {np.dtype("bfloat16")}
    np.testing.assert_array_equal(np.float32(params["log_var"]), -10)
    np.testing.assert_array_equal(np.float32(params["bias"]), 0)
    np.testing.assert_allclose(np.std(np.float32(params["kernel"])), 1 / 8, rtol=0.2)


def test_a_variational_layer_without_a_bias():
    def run(key, x):
        layer = nnx.VariationalDense(4, 5, use_bias=False, rngs=flax_nnx.Rngs(key))
        assert layer.bias is None
        assert layer.threshold == 3
        return layer(x, deterministic=True), layer(x)

    for y in jax.eval_shape(run, KEY, X):
        assert y.shape == (16, 6, 5)


def test_layers_with_parameters_need_streams():
    for rngs in (None, flax_nnx.Rngs(0).params):
        with pytest.raises(TypeError, match=r"`rngs` of \w+, which has param.*nnx\.Rngs\(seed"):
            nnx.VariationalDense(3, 5, rngs=rngs)


@pytest.mark.parametrize("stddev", [np.ones(3), np.ones((1,))])
def test_the_noise_of_parameters_has_one_strength(stddev):
    with pytest.raises(ValueError, match=r"`stddev`.*shape \(\d,\)"):
        nnx.Perturb(flax_nnx.Linear(4, 4, rngs=flax_nnx.Rngs(0)), stddev)


class Block(flax_nnx.Module):
    """Two layers that share variables, statistics, and a stream of keys."""

    def __init__(self, rngs):
        self.first = flax_nnx.Linear(4, 4, bias_init=flax_nnx.initializers.normal(), rngs=rngs)
        self.again = self.first
        self.norm = flax_nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.drop(self.norm(self.again(self.first(x))))


@first_of("wrapper", [nnx.DropConnect, nnx.Perturb])
def test_a_wrapper_keeps_parameters_and_updates_what_its_layer_updates(wrapper):
    @jax.jit
    def run(key, x):
        layer = Block(flax_nnx.Rngs(key))
        before = flax_nnx.to_pure_dict(flax_nnx.state(layer, flax_nnx.Param))
        wrapped = wrapper(layer, 0.5, rngs=flax_nnx.Rngs(key))
        found = []
        for _ in range(2):
            y = wrapped(x)
            found.append((y, layer.norm.mean[...], layer.drop.rngs.count[...]))
        return found, before, flax_nnx.to_pure_dict(flax_nnx.state(layer, flax_nnx.Param))

    found, before, after = run(KEY, X)
    assert [count for _, _, count in found] == [1, 2]
    assert different([mean for _, mean, _ in found]) == 2
    assert different([y for y, _, _ in found]) == 2
    assert found[0][0].shape == X.shape
    assert np.all(found[0][1] != 0)
    assert_equal(before, after)


def test_a_wrapper_drops_kernels_alone_and_shared_ones_once():
    @jax.jit
    def run(key, x):
        layer = Block(flax_nnx.Rngs(key))
        layer.norm.use_running_average = layer.drop.deterministic = True
        expected = flax_nnx.clone(layer)
        # The leaves are bias and kernel of the one, and bias and scale of the other layer.
        fold = jax.random.fold_in(key, 1)
        expected.first.kernel[...] = dropout.drop_connect(fold, layer.first.kernel[...], rate=0.5)
        return nnx.DropConnect(layer, 0.5)(x, rngs=key), expected(x)

    assert_close(*run(KEY, X))


def test_the_kernel_that_is_dropped_is_a_copy_with_its_metadata():
    seen = []

    @flax_nnx.jit
    def run(layer, x):
        layer(x)
        return seen.pop() / layer.layer.kernel[...]

    linear = flax_nnx.Linear(4, 64, kernel_metadata={"role": "k"}, rngs=flax_nnx.Rngs(0))
    linear.promote_dtype = lambda arrays, dtype: seen.append(arrays[1]) or arrays
    before = np.asarray(linear.kernel[...])
    factors = run(nnx.DropConnect(linear, 0.5, rngs=flax_nnx.Rngs(0)), X)
    assert set(np.unique(np.round(factors, 5))) == {0, 2}
    np.testing.assert_array_equal(linear.kernel[...], before)
    assert linear.kernel.get_metadata()["role"] == "k"


def test_a_wrapper_of_a_cell():
    @jax.jit
    def run(x):
        cell = flax_nnx.LSTMCell(
            4, 4, recurrent_kernel_init=flax_nnx.initializers.ones, rngs=flax_nnx.Rngs(0)
        )
        return nnx.DropConnect(cell, 1.0, rngs=flax_nnx.Rngs(0))((x[:, 0], x[:, 1]), x[:, 2])[0]

    c, h = run(X)
    # All gates see their biases alone, which are zero.
    np.testing.assert_allclose(c, 0.5 * X[:, 0], rtol=1e-6)
    np.testing.assert_allclose(h, 0.5 * np.tanh(0.5 * X[:, 0]), rtol=1e-5)


def test_the_weights_of_a_recurrent_network_are_dropped_once_a_call():
    @jax.jit
    def run(key, x):
        cell = flax_nnx.SimpleCell(
            4, 4, recurrent_kernel_init=flax_nnx.initializers.ones, rngs=flax_nnx.Rngs(0)
        )
        rnn = flax_nnx.RNN(cell)
        dropped = flax_nnx.clone(rnn)
        # Leaves: the kernel of dense_h, the bias and the kernel of dense_i.
        order = [
            path[-2] for path, _ in flax_nnx.to_flat_state(flax_nnx.state(rnn, flax_nnx.Param))
        ]
        assert order == ["dense_h", "dense_i", "dense_i"]
        for position, layer in ((0, dropped.cell.dense_h), (2, dropped.cell.dense_i)):
            fold = jax.random.fold_in(key, position)
            layer.kernel[...] = dropout.drop_connect(fold, layer.kernel[...], rate=0.5)
        wrapped = nnx.DropConnect(rnn, 0.5, rngs=flax_nnx.Rngs(0))
        return (wrapped(x, rngs=key), dropped(x)), wrapped(x)

    (y, expected), other = run(KEY, X)
    assert_close(y, expected)
    assert np.any(y != other)


def test_gradients_of_dropped_weights_are_zero():
    @jax.jit
    def run(key, x):
        layer = nnx.DropConnect(flax_nnx.Linear(4, 4, rngs=flax_nnx.Rngs(0)), 0.5)
        gradient = flax_nnx.grad(lambda layer: jnp.sum(layer(x, rngs=key)))(layer)
        kept = dropout.drop_connect(jax.random.fold_in(key, 1), jnp.ones((4, 4)), rate=0.5)
        return gradient.layer.kernel[...], kept, gradient.layer.bias[...]

    kernel, kept, bias = run(KEY, np.ones((1, 4), np.float32))
    np.testing.assert_array_equal(kernel, kept)
    np.testing.assert_array_equal(bias, 1)


class Options(flax_nnx.Module):
    """A layer with keyword arguments, one of them no array."""

    def __init__(self):
        self.kernel = flax_nnx.Param(jnp.ones((4, 4)))

    def __call__(self, x, *, gain, kind="plain"):
        return gain * x @ self.kernel[...] if kind == "scaled" else x


@few("wrap", [nnx.StochasticDepth, nnx.DropConnect, nnx.Perturb])
def test_keyword_arguments_go_to_the_layer(wrap):
    strength = {"stddev" if wrap is nnx.Perturb else "rate": jnp.zeros(())}

    @jax.jit
    def run(gain, key):
        layer = wrap(Options(), 0.0)
        options = {"gain": gain, "kind": "scaled"}
        return layer(X, deterministic=True, **options), layer(X, rngs=key, **strength, **options)

    expected = 3 * X @ np.ones((4, 4)) + (X if wrap is nnx.StochasticDepth else 0)
    for y in run(3.0, KEY):
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_a_layer_that_is_skipped_needs_its_first_input_by_position():
    layer = nnx.StochasticDepth(Options(), 0.5, deterministic=True)
    message = r"`inputs` of StochasticDepth must begin .* \['gain', 'x'\]"
    with pytest.raises(TypeError, match=message):
        layer(x=X, gain=3.0)


@few("wrap", [nnx.DropConnect, nnx.Perturb, nnx.StochasticDepth])
@few("kind", [{"hijax": True}, {"ref": True}], ids=str)
def test_parameters_of_other_kinds(wrap, kind):
    """Variables of hijax and references, whose values are no leaves of a state."""

    def call(layer, key):  # A stream of hijax could not advance in here.
        return layer(X, gain=3.0, kind="scaled", rngs=key)

    expected = jax.jit(lambda key: call(wrap(Options(), 0.5), key))(KEY)
    with flax_nnx.var_defaults(**kind):  # pyright: ignore[reportGeneralTypeIssues]
        y = jax.jit(call)(wrap(Options(), 0.5), KEY)
    np.testing.assert_allclose(y, expected, rtol=1e-6)
