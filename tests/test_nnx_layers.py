"""NNX layers and wrappers with random weights, learned rates and random depth."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as fnx

from jaxreg import dropout, nnx
from tests.nnx_rows import CONV, KERNEL_KEY, KEY, LINEAR, X, assert_equal, conv, different

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("init_rate", [0.0, 1.0, -0.5, float("nan")])
def test_a_wrong_rate_to_start_from(init_rate):
    with pytest.raises(ValueError, match=r"`init_rate` must be a probability in \(0, 1\), got"):
        nnx.ConcreteDropout(init_rate)


@pytest.mark.parametrize("init_rate", [1e-3, 0.1, 0.9])
def test_the_learned_rate_starts_where_it_is_told(init_rate):
    layer = nnx.ConcreteDropout(init_rate)
    np.testing.assert_allclose(jax.nn.sigmoid(layer.logit[...]), init_rate, rtol=1e-5)
    assert layer.temperature == 0.1
    assert list(fnx.to_pure_dict(fnx.state(layer, fnx.Param))) == ["logit"]


def test_variables_of_a_variational_layer():
    layer = nnx.VariationalDense(3, 5, param_dtype="bfloat16", rngs=fnx.Rngs(0))
    params = fnx.to_pure_dict(fnx.state(layer, fnx.Param))
    assert {name: w.shape for name, w in params.items()} == {
        "kernel": (3, 5),
        "bias": (5,),
        "log_variance": (3, 5),
    }
    assert {w.dtype for w in params.values()} == {jnp.dtype("bfloat16")}
    np.testing.assert_array_equal(layer.log_variance[...], -10)
    bare = nnx.VariationalDense(3, 5, use_bias=False, rngs=fnx.Rngs(0))
    assert bare.bias is None
    np.testing.assert_array_equal(bare(X[..., :3], deterministic=True)[0, 0].shape, (5,))


@pytest.mark.parametrize(
    "build",
    [
        lambda rngs: nnx.VariationalDense(3, 5, rngs=rngs),
        lambda rngs: nnx.DropConnectDense(3, 5, rate=0.5, rngs=rngs),
        lambda rngs: nnx.DropConnectConv(3, 5, 3, rate=0.5, rngs=rngs),
    ],
)
def test_layers_with_parameters_need_streams(build):
    for rngs in (None, fnx.Rngs(0).params):
        with pytest.raises(
            TypeError, match=r"`rngs` of \w+, which has parameters.*nnx\.Rngs\(seed"
        ):
            build(rngs)


LINEARS = [
    {},
    {"use_bias": False, "dtype": jnp.bfloat16},
    {"param_dtype": jnp.bfloat16, "preferred_element_type": jnp.float32, "precision": "highest"},
    {"kernel_init": fnx.initializers.ones, "bias_init": fnx.initializers.ones},
]
CONVS = [
    *LINEARS,
    {"padding": "VALID", "strides": 2, "kernel_dilation": 2},
    {"feature_group_count": 2, "mask": jnp.arange(24.0).reshape(3, 2, 4)},
    {"padding": "CIRCULAR"},
    {"padding": [(1, 1)], "input_dilation": 2},
]


@pytest.mark.parametrize(
    ("ours", "theirs", "shape", "fields"),
    [(partial(nnx.DropConnectDense, rate=0.0), fnx.Linear, (4, 4), f) for f in LINEARS]
    + [(partial(nnx.DropConnectConv, rate=0.0), fnx.Conv, (4, 4, (3,)), f) for f in CONVS],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_a_rate_of_zero_is_the_layer_of_flax_to_the_bit(ours, theirs, shape, fields):
    layers = [build(*shape, **fields, rngs=fnx.Rngs(0)) for build in (ours, theirs)]
    states = [fnx.to_pure_dict(fnx.state(layer, fnx.Param)) for layer in layers]
    assert_equal(*states)
    outputs = [layer(X) for layer in layers]
    assert outputs[0].dtype == outputs[1].dtype
    np.testing.assert_array_equal(*(np.asarray(y, np.float32) for y in outputs))
    traced = {**ours.keywords, "rate": jnp.float32(0)}  # Decided at run time, with a mask.
    dropped = ours.func(*shape, **fields, **traced, rngs=fnx.Rngs(0))
    np.testing.assert_array_equal(*(np.asarray(y, np.float32) for y in (dropped(X), outputs[1])))


@pytest.mark.parametrize(
    ("ours", "theirs"), [(nnx.DropConnectDense, fnx.Linear), (nnx.DropConnectConv, fnx.Conv)]
)
def test_every_argument_of_flax_is_taken(ours, theirs):
    taken, given = (inspect.signature(c.__init__).parameters for c in (ours, theirs))
    assert set(given) <= set(taken)
    for name, parameter in given.items():
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            assert list(taken).index(name) == list(given).index(name)


def test_metadata_and_streams_of_a_drop_connect_layer():
    layer = nnx.DropConnectDense(4, 4, rate=0.5, kernel_metadata={"role": "k"}, rngs=fnx.Rngs(0))
    seen = []
    layer.promote_dtype = lambda arrays, dtype: seen.append(arrays[1]) or arrays
    before = layer.kernel[...]
    layer(X)
    assert set(np.unique(np.round(seen[0] / before, 5))) == {0, 2}
    np.testing.assert_array_equal(layer.kernel[...], before)
    assert layer.kernel.get_metadata()["role"] == "k"
    assert layer.rngs.count[...] == 1


class Block(fnx.Module):
    """Two layers that share variables, statistics, and a stream of keys."""

    def __init__(self, rngs):
        self.first = fnx.Linear(4, 4, bias_init=fnx.initializers.normal(), rngs=rngs)
        self.again = self.first
        self.norm = fnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.drop(self.norm(self.again(self.first(x))))


@pytest.mark.parametrize("run", [lambda layer, x: layer(x), fnx.jit(lambda layer, x: layer(x))])
@pytest.mark.parametrize("wrapper", [nnx.DropConnect, nnx.Perturb])
def test_a_wrapper_keeps_parameters_and_updates_what_its_layer_updates(wrapper, run):
    layer = Block(fnx.Rngs(0))
    before = fnx.to_pure_dict(fnx.state(fnx.clone(layer), fnx.Param))
    wrapped = wrapper(layer, 0.5, rngs=fnx.Rngs(1))
    for calls in (1, 2):
        mean = np.asarray(layer.norm.mean[...])
        assert run(wrapped, X).shape == X.shape
        assert np.all(layer.norm.mean[...] != mean)
        assert layer.drop.rngs.count[...] == calls
    after = fnx.to_pure_dict(fnx.state(layer, fnx.Param))
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_a_wrapper_drops_kernels_alone_and_shared_ones_once():
    layer = Block(fnx.Rngs(0))
    layer.norm.use_running_average = layer.drop.deterministic = True
    expected = fnx.clone(layer)
    # The leaves are the bias and the kernel of the one, the bias and the scale of the other layer.
    key = jax.random.fold_in(KEY, 1)
    expected.first.kernel[...] = dropout.drop_connect(key, layer.first.kernel[...], rate=0.5)
    assert_equal(nnx.DropConnect(layer, 0.5)(X, rngs=KEY), expected(X))


def test_a_wrapper_of_a_convolution_and_of_a_cell():
    layer = nnx.DropConnect(CONV, 0.5)
    kernel = dropout.drop_connect(KERNEL_KEY, CONV.kernel[...], rate=0.5)
    assert_equal(layer(X, rngs=KEY), conv(X, kernel))

    cell = fnx.LSTMCell(4, 4, rngs=fnx.Rngs(0))
    wrapped = nnx.DropConnect(cell, 1.0, rngs=fnx.Rngs(0))
    carry = (X[:, 0], X[:, 1])
    (c, h), _ = wrapped(carry, X[:, 2])
    # All gates see their biases alone, which are zero.
    np.testing.assert_allclose(c, 0.5 * X[:, 0], rtol=1e-6)
    np.testing.assert_allclose(h, 0.5 * np.tanh(0.5 * X[:, 0]), rtol=1e-5)


def test_the_weights_of_a_recurrent_network_are_dropped_once_a_call():
    rnn = fnx.RNN(fnx.SimpleCell(4, 4, rngs=fnx.Rngs(0)))
    wrapped = nnx.DropConnect(rnn, 0.5, rngs=fnx.Rngs(0))
    assert different([wrapped(X), wrapped(X)]) == 2
    dropped = fnx.clone(rnn)
    # Leaves: the kernel of dense_h, the bias and the kernel of dense_i.
    for position, layer in ((0, dropped.cell.dense_h), (2, dropped.cell.dense_i)):
        key = jax.random.fold_in(KEY, position)
        layer.kernel[...] = dropout.drop_connect(key, layer.kernel[...], rate=0.5)
    order = [path[-2] for path, _ in fnx.to_flat_state(fnx.state(rnn, fnx.Param))]
    assert order == ["dense_h", "dense_i", "dense_i"]
    assert_equal(wrapped(X, rngs=KEY), dropped(X))


def test_gradients_of_dropped_weights_are_zero():
    layer = nnx.DropConnect(fnx.clone(LINEAR), 0.5)
    gradient = fnx.grad(lambda layer: jnp.sum(layer(jnp.ones((1, 4)), rngs=KEY)))(layer)
    mask = dropout.drop_connect(KERNEL_KEY, jnp.ones((4, 4)), rate=0.5)
    np.testing.assert_array_equal(gradient.layer.kernel[...], mask)
    np.testing.assert_array_equal(gradient.layer.bias[...], 1)


@pytest.mark.parametrize("run", [lambda layer, x: layer(x), fnx.jit(lambda layer, x: layer(x))])
def test_depth_updates_the_state_of_its_layer_when_it_is_not_skipped(run):
    layer = nnx.StochasticDepth(Block(fnx.Rngs(0)), 0.5, rngs=fnx.Rngs(1))
    counts = []
    for _ in range(9):
        before = np.asarray(layer.layer.norm.mean[...]), layer.layer.drop.rngs.count[...]
        y = run(layer, X)
        skipped = different([y, X]) == 1
        counts.append(skipped)
        moved = layer.layer.drop.rngs.count[...] - before[1]
        assert (moved, different([layer.layer.norm.mean[...], before[0]])) == (
            (0, 1) if skipped else (1, 2)
        )
    assert 0 < sum(counts) < 9
    assert layer.rngs.count[...] == 9


def test_depth_stands_in_a_cond_and_reads_its_parameters_from_outside():
    layer = nnx.StochasticDepth(fnx.clone(LINEAR), 0.5)
    traced = jax.make_jaxpr(lambda key, x: layer(x, rngs=key))(KEY, X)
    (cond,) = (e for e in traced.eqns if e.primitive.name == "cond")
    assert any("dot_general" in str(branch) for branch in cond.params["branches"])
    # The module is not an argument of what is differentiated.
    slope = jax.jit(jax.grad(lambda x: jnp.sum(layer(x, rngs=KEY))))(X)
    assert np.all(np.isfinite(slope))
    always = nnx.StochasticDepth(fnx.clone(LINEAR), 1.0, rngs=fnx.Rngs(0))
    np.testing.assert_array_equal(always(X), X)


def test_depth_of_stacked_blocks_in_a_scan():
    @fnx.split_rngs(splits=8)
    @fnx.vmap
    def make(rngs):
        return nnx.StochasticDepth(Block(rngs), 0.5, rngs=rngs)

    @fnx.scan(in_axes=(fnx.Carry, 0), out_axes=fnx.Carry)
    def forward(x, layer):
        return layer(x)

    layers = make(fnx.Rngs(0))
    gradient = fnx.grad(lambda layers: jnp.sum(forward(X, layers) ** 2))(layers)
    moved = np.any(layers.layer.norm.mean[...] != 0, axis=1)
    assert 0 < moved.sum() < 8
    pulled = np.any(gradient.layer.again.kernel[...] != 0, axis=(1, 2))
    np.testing.assert_array_equal(pulled, moved)
    np.testing.assert_array_equal(layers.rngs.count[...], 1)


def test_depth_of_a_layer_with_two_inputs():
    class Product(fnx.Module):
        def __call__(self, x, y):
            return x * y

    layer = nnx.StochasticDepth(Product(), 0.5, rngs=fnx.Rngs(0))
    results = [layer(X, jnp.full_like(X, 3)) for _ in range(9)]
    assert different(results) == 2
    for y in results:
        np.testing.assert_allclose(y / X, np.full_like(X, 1 if different([y, X]) == 1 else 7), 1e-5)
    np.testing.assert_allclose(layer(X, jnp.full_like(X, 3), deterministic=True), 4 * X, rtol=1e-6)
