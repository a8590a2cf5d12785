"""Folding of batch norms: the numbers, and whole models in Linen and NNX."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen
from flax import nnx as flax_nnx
from jax.sharding import PartitionSpec as P

from jaxreg import linen, nnx, normalization

pytestmark = pytest.mark.slow

KEY = jax.random.key(3)
IMAGES = jax.random.normal(KEY, (2, 6, 6, 4))
NORMS = {"flax": flax_linen.BatchNorm, "jaxreg": linen.BatchNorm}
NNX_NORMS = {"flax": flax_nnx.BatchNorm, "jaxreg": nnx.BatchNorm}


def draw(*shape, seed=0, low=-1.0, high=1.0):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def trained(tree):
    """Random values in place of the initial ones, positive ones for variances."""

    def leaf(path, value):
        seed = sum(map(ord, jax.tree_util.keystr(path)))
        low = 0.2 if "var" in jax.tree_util.keystr(path) else -1.0
        return jnp.asarray(draw(*value.shape, seed=seed, low=low, high=1.5), value.dtype)

    return jax.tree_util.tree_map_with_path(leaf, tree)


def has_root(function, *inputs):
    text = jax.jit(function).lower(*inputs).compile().as_text()
    return "rsqrt" in text or "sqrt" in text


def test_the_numbers_against_float64():
    w, b, gamma, beta = draw(5, 3), draw(3, seed=1), draw(3, seed=2), draw(3, seed=3)
    mean, var, x = draw(3, seed=4), draw(3, seed=5, low=0.1), draw(7, 5, seed=6)
    kernel, bias = normalization.fold_batch_norm(
        jnp.asarray(w),
        normalization.BatchStats(jnp.asarray(mean), jnp.asarray(var)),
        layer_bias=jnp.asarray(b),
        scale=jnp.asarray(gamma),
        bias=jnp.asarray(beta),
        eps=1e-3,
    )
    wide = [np.float64(a) for a in (x, w, b, mean, var, gamma, beta)]
    x, w, b, mean, var, gamma, beta = wide
    expected = gamma * (x @ w + b - mean) / np.sqrt(var + 1e-3) + beta
    np.testing.assert_allclose(x @ np.float64(kernel) + np.float64(bias), expected, atol=2e-6)


def test_a_constant_feature_without_eps_becomes_the_offset():
    stats = normalization.BatchStats(jnp.array([2.0]), jnp.array([0.0]))
    kernel, bias = normalization.fold_batch_norm(
        jnp.ones((3, 1)), stats, bias=jnp.array([0.5]), eps=0.0
    )
    np.testing.assert_array_equal(kernel, 0)
    np.testing.assert_array_equal(bias, 0.5)


def test_a_narrow_kernel_is_rounded_once():
    stats = normalization.BatchStats(jnp.asarray(draw(64)), jnp.asarray(draw(64, low=0.1)))
    w = jnp.asarray(draw(64, 64), jnp.bfloat16)
    layer_bias = jnp.asarray(draw(64, seed=7), jnp.bfloat16)
    narrow = normalization.fold_batch_norm(w, stats, layer_bias=layer_bias)
    wide = normalization.fold_batch_norm(
        w.astype(jnp.float32), stats, layer_bias=layer_bias.astype(jnp.float32)
    )
    for ours, exact in zip(narrow, wide, strict=True):
        assert ours.dtype == jnp.bfloat16
        np.testing.assert_array_equal(ours, exact.astype(jnp.bfloat16))


MASK = jnp.tri(4, 6) * jnp.ones((3, 3, 1, 1))
GROUPS = {"feature_group_count": 2}
STRIDES = {"strides": (2, 2)}
TRANSPOSED = {"transpose_kernel": True}
TWO = {"axis": (-2, -1)}
# Layers in Linen and in NNX, the feature axes of the norm, and their sizes.
KINDS = {
    "dense": (
        partial(flax_linen.Dense, 6),
        partial(flax_nnx.Linear, 4, 6),
        -1,
        6,
    ),
    "conv": (
        partial(flax_linen.Conv, 6, (3, 3), **STRIDES),
        partial(flax_nnx.Conv, 4, 6, (3, 3), **STRIDES),
        -1,
        6,
    ),
    "grouped_conv": (
        partial(flax_linen.Conv, 6, (3, 3), **GROUPS),
        partial(flax_nnx.Conv, 4, 6, (3, 3), **GROUPS),
        3,
        6,
    ),
    "masked_conv": (
        partial(flax_linen.Conv, 6, (3, 3), mask=MASK),
        partial(flax_nnx.Conv, 4, 6, (3, 3), mask=MASK),
        -1,
        6,
    ),
    "conv_transpose": (
        partial(flax_linen.ConvTranspose, 6, (3, 3), **STRIDES),
        partial(flax_nnx.ConvTranspose, 4, 6, (3, 3), **STRIDES),
        -1,
        6,
    ),
    "transposed_kernel": (
        partial(flax_linen.ConvTranspose, 6, (3, 3), **TRANSPOSED),
        partial(flax_nnx.ConvTranspose, 4, 6, (3, 3), **TRANSPOSED),
        -1,
        6,
    ),
    "one_feature_axis": (
        partial(flax_linen.DenseGeneral, 6, **TWO),
        partial(flax_nnx.LinearGeneral, (6, 4), 6, **TWO),
        -1,
        6,
    ),
    "two_feature_axes": (
        partial(flax_linen.DenseGeneral, (3, 6), **TWO),
        partial(flax_nnx.LinearGeneral, (6, 4), (3, 6), **TWO),
        (-2, -1),
        (3, 6),
    ),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
every_norm = pytest.mark.parametrize("norm", NORMS)
with_bias = pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])


@every_kind
@every_norm
@with_bias
def test_every_layer_of_linen(kind, norm, bias):
    layer, _, axis, _ = KINDS[kind]
    # One of the norm's own parameters is missing each time.
    module = NORMS[norm](True, axis=axis, use_scale=bias, use_bias=not bias, epsilon=0.01)
    model = flax_linen.Sequential([layer(use_bias=bias), module, flax_linen.relu])
    variables = trained(model.init(KEY, IMAGES))
    expected = model.apply(variables, IMAGES)
    apply, folded = linen.fold_batch_norm(model.apply, variables, IMAGES)
    np.testing.assert_allclose(apply(folded, IMAGES), expected, atol=1e-5)
    assert set(folded) == {"params"}
    assert set(folded["params"]) == {"layers_0"}
    assert set(folded["params"]["layers_0"]) == {"kernel", "bias"}
    assert has_root(model.apply, variables, IMAGES)
    assert not has_root(apply, folded, IMAGES)


@every_kind
@every_norm
@with_bias
def test_every_layer_of_nnx(kind, norm, bias):
    _, layer, axis, sizes = KINDS[kind]
    if norm == "flax" and kind == "two_feature_axes":
        pytest.skip("Flax's takes the size of one feature axis")
    rngs = flax_nnx.Rngs(0)
    module = NNX_NORMS[norm](
        sizes, axis=axis, use_scale=bias, use_bias=not bias, epsilon=0.01, rngs=rngs
    )
    model = flax_nnx.Sequential(layer(use_bias=bias, rngs=rngs), module, jax.nn.relu)
    model.eval()
    flax_nnx.update(model, trained(flax_nnx.state(model, (flax_nnx.Param, flax_nnx.BatchStat))))
    expected = model(IMAGES)
    folded = nnx.fold_batch_norm(model, IMAGES)
    np.testing.assert_allclose(folded(IMAGES), expected, atol=1e-5)
    np.testing.assert_array_equal(model(IMAGES), expected)
    assert not flax_nnx.state(folded, flax_nnx.BatchStat)
    assert len(jax.tree.leaves(flax_nnx.state(folded, flax_nnx.Param))) == 2
    assert module_has_root(model)
    assert not module_has_root(folded)


def module_has_root(model):
    graph, state = flax_nnx.split(model)
    return has_root(lambda state, x: flax_nnx.merge(graph, state)(x), state, IMAGES)


class Block(flax_linen.Module):
    """A residual block with a projection; the caller tells the mode."""

    features: int

    @flax_linen.compact
    def __call__(self, x, *, train):
        norm = partial(linen.BatchNorm, use_running_average=not train)
        conv = partial(flax_linen.Conv, self.features, use_bias=False)
        y = flax_linen.relu(norm(name="first")(conv((3, 3))(x)))
        y = linen.Dropout(0.5, deterministic=not train)(conv((3, 3))(y))
        return flax_linen.relu(norm(name="second")(y) + norm(name="shortcut")(conv((1, 1))(x)))


class ResNet(flax_linen.Module):
    @flax_linen.compact
    def __call__(self, x, *, train):
        x = flax_linen.BatchNorm(use_running_average=not train, name="stem")(
            flax_linen.Conv(4, (3, 3), dtype=jnp.bfloat16)(x)
        )
        for features in (4, 8):
            x = Block(features)(x, train=train)
        return flax_linen.Dense(3)(x.mean(axis=(1, 2)))


def test_a_residual_network_of_linen():
    model = partial(ResNet().apply, train=False)
    variables = trained(ResNet().init(KEY, IMAGES, train=False))
    before = jax.tree.map(np.array, variables)
    apply, folded = linen.fold_batch_norm(model, variables, IMAGES)
    expected = model(variables, IMAGES)
    # The stem computes in bfloat16, and its kernel is rounded to it after the fold.
    np.testing.assert_allclose(apply(folded, IMAGES), expected, rtol=0.02, atol=0.1)
    jax.tree.map(np.testing.assert_array_equal, variables, before)
    assert not has_root(apply, folded, IMAGES)
    some = linen.fold_batch_norm(
        model, variables, IMAGES, norms=["Block_0/first", "Block_1/shortcut"]
    )
    np.testing.assert_allclose(some[0](some[1], IMAGES), expected, rtol=1e-4, atol=1e-4)
    assert set(some[1]["batch_stats"]["Block_0"]) == {"second", "shortcut"}


class NnxBlock(flax_nnx.Module):
    def __init__(self, inputs, features, rngs):
        conv = partial(flax_nnx.Conv, use_bias=False, rngs=rngs)
        self.convs = flax_nnx.List(
            [conv(inputs, features, (3, 3)), conv(features, features, (3, 3))]
        )
        self.norms = flax_nnx.List([nnx.BatchNorm(features, rngs=rngs) for _ in range(2)])
        self.shortcut = flax_nnx.Dict(
            conv=conv(inputs, features, (1, 1)), norm=flax_nnx.BatchNorm(features, rngs=rngs)
        )
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        y = jax.nn.relu(self.norms[0](self.convs[0](x)))
        y = self.norms[1](self.dropout(self.convs[1](y)))
        return jax.nn.relu(y + self.shortcut["norm"](self.shortcut["conv"](x)))


def test_a_residual_network_of_nnx():
    rngs = flax_nnx.Rngs(0)
    model = flax_nnx.Sequential(NnxBlock(4, 4, rngs), NnxBlock(4, 8, rngs))
    flax_nnx.update(model, trained(flax_nnx.state(model, (flax_nnx.Param, flax_nnx.BatchStat))))
    model.eval()
    before, expected = flax_nnx.clone(model), model(IMAGES)
    folded = nnx.fold_batch_norm(model, IMAGES)
    assert not module_has_root(folded)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(folded(IMAGES), expected, atol=1e-5 * scale)
    leaves = [jax.tree.leaves(flax_nnx.state(net, flax_nnx.Param)) for net in (before, model)]
    jax.tree.map(np.testing.assert_array_equal, *leaves)
    some = nnx.fold_batch_norm(model, IMAGES, norms=["layers/1/shortcut/norm"])
    np.testing.assert_allclose(some(IMAGES), expected, atol=1e-5 * scale)
    assert isinstance(some.layers[1].shortcut["norm"], nnx.FoldedBatchNorm)
    assert isinstance(some.layers[0].shortcut["norm"], flax_nnx.BatchNorm)


@pytest.mark.parametrize("norm", NORMS)
def test_the_dtype_of_the_result_stays(norm):
    """A layer that computes in bfloat16 before a norm with parameters in float32."""
    x = IMAGES.astype(jnp.bfloat16)
    model = flax_linen.Sequential([flax_linen.Dense(4, dtype=jnp.bfloat16), NORMS[norm](True)])
    variables = model.init(KEY, x)
    apply, folded = linen.fold_batch_norm(model.apply, variables, x)
    assert model.apply(variables, x).dtype == apply(folded, x).dtype == jnp.float32
    rngs = flax_nnx.Rngs(0)
    layer = flax_nnx.Linear(4, 4, dtype=jnp.bfloat16, rngs=rngs)
    module = flax_nnx.Sequential(layer, NNX_NORMS[norm](4, use_running_average=True, rngs=rngs))
    assert nnx.fold_batch_norm(module, x)(x).dtype == module(x).dtype == jnp.float32


def test_partition_metadata_stays():
    init = flax_linen.with_partitioning(flax_linen.initializers.ones, (None, "model"))
    layer = flax_linen.Dense(4, kernel_init=init)
    model = flax_linen.Sequential([layer, linen.BatchNorm(True)])
    variables = model.init(KEY, IMAGES)
    apply, folded = linen.fold_batch_norm(model.apply, variables, IMAGES)
    specs = flax_linen.get_partition_spec(folded)["params"]["layers_0"]
    assert specs["kernel"] == P(None, "model")
    np.testing.assert_allclose(apply(folded, IMAGES), model.apply(variables, IMAGES), atol=1e-5)
