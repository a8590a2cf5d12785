"""Folding the batch norms of NNX models: numbers, refusals, dtypes and modes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

from jaxreg import nnx
from tests.foldings import (
    IMAGES,
    MASK,
    REFUSED,
    STRIDES,
    TRANSPOSED,
    TWO,
    has_root,
    plain,
    trained,
)
from tests.helpers import few

NORMS = {"flax": flax_nnx.BatchNorm, "jaxreg": nnx.BatchNorm}
# Layers, the feature axes of the norm, and their sizes.
KINDS = {
    "conv": (partial(flax_nnx.Conv, 4, 6, (3, 3), **STRIDES), -1, 6),
    "dense": (partial(flax_nnx.Linear, 4, 6), -1, 6),
    "grouped_conv": (partial(flax_nnx.Conv, 4, 6, (3, 3), feature_group_count=2), 3, 6),
    "masked_conv": (partial(flax_nnx.Conv, 4, 6, (3, 3), mask=MASK), -1, 6),
    "conv_transpose": (partial(flax_nnx.ConvTranspose, 4, 6, (3, 3), **STRIDES), -1, 6),
    "transposed_kernel": (partial(flax_nnx.ConvTranspose, 4, 6, (3, 3), **TRANSPOSED), -1, 6),
    "one_feature_axis": (partial(flax_nnx.LinearGeneral, (6, 4), 6, **TWO), -1, 6),
    "two_feature_axes": (partial(flax_nnx.LinearGeneral, (6, 4), (3, 6), **TWO), (-2, -1), (3, 6)),
}


def train(model):
    """Gives a model random values, and puts it into evaluation."""
    values = trained(flax_nnx.state(model, (flax_nnx.Param, flax_nnx.BatchStat)))
    flax_nnx.update(model, jax.tree.map(jnp.asarray, values))
    model.eval()
    return model


def module_has_root(model, x):
    graph, state = flax_nnx.split(model)
    return has_root(lambda state, x: flax_nnx.merge(graph, state)(x), state, x)


@pytest.mark.parametrize("kind", KINDS)
@few("norm", ["jaxreg", "flax"])
@few("bias", [True, False], ids=["bias", "no_bias"])
def test_every_layer(kind, norm, bias):
    layer, axis, sizes = KINDS[kind]
    if norm == "flax" and kind == "two_feature_axes":
        pytest.skip("Flax's takes the size of one feature axis")
    options = {"axis": axis, "use_scale": bias, "use_bias": not bias, "epsilon": 0.01}

    @jax.jit
    def run(x):
        rngs = flax_nnx.Rngs(0)
        module = NORMS[norm](sizes, **options, rngs=rngs)
        model = train(flax_nnx.Sequential(layer(use_bias=bias, rngs=rngs), module, jax.nn.relu))
        expected = model(x)
        folded = nnx.fold_batch_norm(model, x)
        assert not flax_nnx.state(folded, flax_nnx.BatchStat)
        assert len(jax.tree.leaves(flax_nnx.state(folded, flax_nnx.Param))) == 2
        assert module_has_root(model, x)
        assert not module_has_root(folded, x)
        return expected, folded(x), model(x)

    expected, found, after = run(IMAGES)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(after, expected)


class Block(flax_nnx.Module):
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


def test_a_residual_network():
    @jax.jit
    def run(x):
        rngs = flax_nnx.Rngs(0)
        model = train(flax_nnx.Sequential(Block(4, 4, rngs), Block(4, 8, rngs)))
        expected = model(x)
        folded = nnx.fold_batch_norm(model, x)
        assert not module_has_root(folded, x)
        some = nnx.fold_batch_norm(model, x, norms=["layers/1/shortcut/norm"])
        assert isinstance(some.layers[1].shortcut["norm"], nnx.FoldedBatchNorm)
        assert isinstance(some.layers[0].shortcut["norm"], flax_nnx.BatchNorm)
        return expected, folded(x), some(x), model(x)

    expected, folded, some, after = run(IMAGES)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(folded, expected, atol=1e-5 * scale)
    np.testing.assert_allclose(some, expected, atol=1e-5 * scale)
    np.testing.assert_array_equal(after, expected)


@few("norm", ["jaxreg", "flax"])
def test_the_dtype_of_the_result_stays(norm):
    """A layer that computes in bfloat16 before a norm with parameters in float32."""

    def run(x):
        rngs = flax_nnx.Rngs(0)
        layer = flax_nnx.Linear(4, 4, dtype=jnp.bfloat16, rngs=rngs)
        model = flax_nnx.Sequential(layer, NORMS[norm](4, use_running_average=True, rngs=rngs))
        return model(x), nnx.fold_batch_norm(model, x)(x)

    result, folded = jax.eval_shape(run, IMAGES.astype(jnp.bfloat16))
    assert result.dtype == folded.dtype == jnp.float32


# Refusals and modes.

LINEAR = partial(flax_nnx.Linear, 4, 4)


class Net(flax_nnx.Module):
    """A layer, a norm, and a function that says how they are called."""

    def __init__(self, forward, axis=-1, make=LINEAR):
        rngs = flax_nnx.Rngs(0)
        self.layer = make(rngs=rngs)
        self.norm = nnx.BatchNorm(4, axis=axis, rngs=rngs)
        self.forward = forward

    def __call__(self, x):
        return self.forward(self.layer, self.norm, x)


def refuses(message, make, x=IMAGES, **options):
    """Fails unless the fold of a model is refused, which it is before anything is computed."""
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda x: nnx.fold_batch_norm(make(), x, **options) and None, x)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_folded_is_refused(name):
    forward, message = REFUSED[name]
    refuses(message, lambda: Net(forward))


def test_feature_axes_that_differ_are_refused():
    message = r"'norm': its `axis` is 1, which does not name the features of layer 'layer'"
    refuses(message, lambda: Net(plain, axis=1), IMAGES[:, :4])


def test_a_kernel_that_is_changed_on_its_way_is_refused():
    def make(rngs):
        return flax_nnx.WeightNorm(flax_nnx.Linear(4, 4, rngs=rngs), rngs=rngs)

    message = r"the kernel of layer '\S+' is changed before it is used"
    refuses(message, lambda: Net(plain, make=make))


def test_a_layer_of_ones_own_is_no_layer():
    class Rectified(flax_nnx.Linear):
        def __call__(self, inputs, out_sharding=None):
            return jax.nn.relu(super().__call__(inputs, out_sharding))

    message = "its input is not the output"
    refuses(message, lambda: Net(plain, make=partial(Rectified, 4, 4)))


def test_layers_with_a_batch_of_kernels_are_no_layers():
    make = partial(flax_nnx.LinearGeneral, 4, 4, batch_axis={0: 2})
    refuses("its input is not the output", lambda: Net(plain, make=make))


def test_norms_that_are_not_there_are_named():
    message = r"`norms` must name batch norms of the model, got 'bn'; it has 'norm'"
    refuses(message, lambda: Net(plain), norms=["bn"])
    message = r"`norms` must be batch norms of the model, but it calls no batch norm of Flax"
    refuses(message, lambda: flax_nnx.Linear(4, 4, rngs=flax_nnx.Rngs(0)))


def test_a_norm_in_a_container_that_cannot_change_is_refused():
    class Pair(flax_nnx.Module):
        def __init__(self, rngs):
            norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
            self.pair = flax_nnx.data((LINEAR(rngs=rngs), norm))

        def __call__(self, x):
            return self.pair[1](self.pair[0](x))

    message = r"`model` must have its batch norms .* got 'pair/1' in another"
    refuses(message, lambda: Pair(flax_nnx.Rngs(0)))


def test_a_model_may_be_called_in_a_way_of_its_own():
    class Two(Net):
        def encode(self, x):
            return self.norm(self.layer(x), True)

    def run(x):
        model = Two(lambda *_: None)
        folded = nnx.fold_batch_norm(model, x, call=lambda model, x: model.encode(x))
        assert isinstance(folded.norm, nnx.FoldedBatchNorm)
        return folded.encode(x)

    assert jax.eval_shape(run, IMAGES).shape == IMAGES.shape


def test_a_folded_model_does_not_train():
    """``train``, ``eval`` and ``nnx.view`` reach what stands in the place of the norm."""
    message = r"`use_running_average` must be True for a folded batch norm, got False; train"
    model = Net(lambda layer, norm, x: norm(layer(x)))
    model.eval()
    folded = jax.jit(lambda model, x: nnx.fold_batch_norm(model, x))(model, IMAGES)
    folded.train()
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(folded, IMAGES)
    view = flax_nnx.view(folded, use_running_average=True)
    expected = jax.jit(view.layer)(IMAGES)
    np.testing.assert_allclose(jax.jit(view)(IMAGES), expected, rtol=1e-6)
    folded.eval()
    np.testing.assert_allclose(jax.jit(folded)(IMAGES), expected, rtol=1e-6)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda x: folded.norm(x, False), IMAGES)


def test_a_function_in_place_of_a_module_is_refused():
    with pytest.raises(TypeError, match="`model` must be a module, got function; pass the model"):
        nnx.fold_batch_norm(lambda x: x, IMAGES)


def test_the_offset_of_the_factor_is_folded():
    @jax.jit
    def run(x):
        rngs = flax_nnx.Rngs(0)
        norm = nnx.BatchNorm(4, scale_offset=1.0, rngs=rngs)
        model = train(flax_nnx.Sequential(LINEAR(rngs=rngs), norm))
        return nnx.fold_batch_norm(model, x)(x), model(x)

    np.testing.assert_allclose(*run(IMAGES), atol=1e-5)
