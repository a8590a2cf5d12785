"""Folding the batch norms of Linen models: numbers, refusals, dtypes and metadata."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec as P

from jaxreg import linen
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
from tests.trees import assert_equal

KEY = jax.random.key(3)
NORMS = {"flax": nn.BatchNorm, "jaxreg": linen.BatchNorm}
# Layers, and the feature axes of the norm.
KINDS = {
    "conv": (partial(nn.Conv, 6, (3, 3), **STRIDES), -1),
    "dense": (partial(nn.Dense, 6), -1),
    "grouped_conv": (partial(nn.Conv, 6, (3, 3), feature_group_count=2), 3),
    "masked_conv": (partial(nn.Conv, 6, (3, 3), mask=MASK), -1),
    "conv_transpose": (partial(nn.ConvTranspose, 6, (3, 3), **STRIDES), -1),
    "transposed_kernel": (partial(nn.ConvTranspose, 6, (3, 3), **TRANSPOSED), -1),
    "one_feature_axis": (partial(nn.DenseGeneral, 6, **TWO), -1),
    "two_feature_axes": (partial(nn.DenseGeneral, (3, 6), **TWO), (-2, -1)),
}


def start(model, *inputs, **options):
    """Variables of a model with random values, without running it."""
    return trained(jax.eval_shape(partial(model.init, **options), KEY, *inputs))


@pytest.mark.parametrize("kind", KINDS)
@few("norm", NORMS)
@few("bias", [True, False], ids=["bias", "no_bias"])
def test_every_layer(kind, norm, bias):
    layer, axis = KINDS[kind]
    # One of the norm's own parameters is missing each time.
    module = NORMS[norm](True, axis=axis, use_scale=bias, use_bias=not bias, epsilon=0.01)
    model = nn.Sequential([layer(use_bias=bias), module, nn.relu])
    variables, made = start(model, IMAGES), []

    @jax.jit
    def run(variables, x):
        apply, folded = linen.fold_batch_norm(model.apply, variables, x)
        made.append(apply)
        return model.apply(variables, x), apply(folded, x), folded

    expected, found, folded = run(variables, IMAGES)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert set(folded) == {"params"}
    assert set(folded["params"]) == {"layers_0"}
    assert set(folded["params"]["layers_0"]) == {"kernel", "bias"}
    assert has_root(model.apply, variables, IMAGES)
    assert not has_root(made[0], folded, IMAGES)


class Block(nn.Module):
    """A residual block with a projection; the caller tells the mode."""

    features: int

    @nn.compact
    def __call__(self, x, *, train):
        norm = partial(linen.BatchNorm, use_running_average=not train)
        conv = partial(nn.Conv, self.features, use_bias=False)
        y = nn.relu(norm(name="first")(conv((3, 3))(x)))
        y = linen.Dropout(0.5, deterministic=not train)(conv((3, 3))(y))
        return nn.relu(norm(name="second")(y) + norm(name="shortcut")(conv((1, 1))(x)))


class ResNet(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        x = nn.BatchNorm(use_running_average=not train, name="stem")(
            nn.Conv(4, (3, 3), dtype=jnp.bfloat16)(x)
        )
        for features in (4, 8):
            x = Block(features)(x, train=train)
        return nn.Dense(3)(x.mean(axis=(1, 2)))


def test_a_residual_network():
    model = partial(ResNet().apply, train=False)
    variables = start(ResNet(), IMAGES, train=False)
    before = jax.tree.map(np.array, variables)
    some = ["Block_0/first", "Block_1/shortcut"]

    @jax.jit
    def run(variables, x):
        apply, folded = linen.fold_batch_norm(model, variables, x)
        assert not has_root(apply, folded, x)
        apply_some, folded_some = linen.fold_batch_norm(model, variables, x, norms=some)
        assert set(folded_some["batch_stats"]["Block_0"]) == {"second", "shortcut"}
        return model(variables, x), apply(folded, x), apply_some(folded_some, x)

    expected, all_folded, some_folded = run(variables, IMAGES)
    # The stem computes in bfloat16, and its kernel is rounded to it after the fold.
    scale = np.abs(expected).max()
    np.testing.assert_allclose(all_folded, expected, rtol=0.02, atol=1e-4 * scale)
    np.testing.assert_allclose(some_folded, expected, rtol=1e-4, atol=1e-6 * scale)
    assert_equal(variables, before)


@few("norm", NORMS)
def test_the_dtype_of_the_result_stays(norm):
    """A layer that computes in bfloat16 before a norm with parameters in float32."""
    x = IMAGES.astype(jnp.bfloat16)
    model = nn.Sequential([nn.Dense(4, dtype=jnp.bfloat16), NORMS[norm](True)])

    def run(variables, x):
        apply, folded = linen.fold_batch_norm(model.apply, variables, x)
        return model.apply(variables, x), apply(folded, x)

    result, folded = jax.eval_shape(run, start(model, x), x)
    assert result.dtype == folded.dtype == jnp.float32


def test_partition_metadata_stays():
    init = nn.with_partitioning(nn.initializers.ones, (None, "model"))
    model = nn.Sequential([nn.Dense(4, kernel_init=init), linen.BatchNorm(True)])
    variables = jax.eval_shape(model.init, KEY, IMAGES)
    folded = jax.eval_shape(lambda v: linen.fold_batch_norm(model.apply, v, IMAGES)[1], variables)
    specs = nn.get_partition_spec(folded)["params"]["layers_0"]
    assert specs["kernel"] == P(None, "model")
    assert specs["bias"] == P()


# Refusals.


class Net(nn.Module):
    """A layer, a norm, and a function that says how they are called."""

    forward: object
    axis: int = -1
    make: object = partial(nn.Dense, 4)

    def setup(self):
        self.layer = self.make()
        self.norm = linen.BatchNorm(axis=self.axis)

    def __call__(self, x):
        return self.forward(self.layer, self.norm, x)


def refuses(message, model, *, apply=None, x=IMAGES, **options):
    """Fails unless the fold is refused, which it is before anything is computed."""
    variables = jax.eval_shape(model.init, KEY, x)
    with pytest.raises(ValueError, match=message):
        linen.fold_batch_norm(model.apply if apply is None else apply, variables, x, **options)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_folded_is_refused(name):
    forward, message = REFUSED[name]
    apply = partial(Net(forward).apply, mutable=["batch_stats"])
    refuses(message, Net(plain), apply=apply)


def test_feature_axes_that_differ_are_refused():
    message = r"'norm': its `axis` is 1, which does not name the features of layer 'layer'"
    refuses(message, Net(plain, axis=1), x=IMAGES[:, :4])


def test_a_kernel_that_is_changed_on_its_way_is_refused():
    axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
    for make in (partial(nn.WeightNorm, nn.Dense(4)), partial(nn.vmap(nn.Dense, **axes), 4)):
        message = r"the kernel of layer '\S+' is changed before it is used"
        refuses(message, Net(plain, make=make))


def test_a_layer_of_ones_own_is_no_layer():
    class Rectified(nn.Dense):
        @nn.compact
        def __call__(self, inputs):
            return nn.relu(super().__call__(inputs))

    refuses("its input is not the output", Net(plain, make=partial(Rectified, 4)))


def test_layers_with_a_batch_of_kernels_are_no_layers():
    make = partial(nn.DenseGeneral, 4, batch_dims=(0,))
    refuses("its input is not the output", Net(plain, make=make))


def test_norms_that_are_not_there_are_named():
    message = r"`norms` must name batch norms of the model, got 'bn'; it has 'norm'"
    refuses(message, Net(plain), norms=["bn"])
    message = (
        r"`norms` must be batch norms of the model, but it calls no batch norm of Flax or jaxreg"
    )
    refuses(message, nn.Dense(4))


@few("lift", [nn.remat, nn.jit])
def test_what_is_lifted_is_refused_and_stays_as_it_was(lift):
    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return lift(Net)(plain)(x)

    variables = start(Outer(), IMAGES)
    inner = {key: next(iter(tree.values())) for key, tree in variables.items()}
    for _ in range(2):
        with pytest.raises(ValueError, match=r"called 0 times outside of scan|it called none"):
            linen.fold_batch_norm(Outer().apply, variables, IMAGES)
        found, expected = jax.jit(
            lambda v, inner, x: (Outer().apply(v, x), Net(plain).apply(inner, x))
        )(variables, inner, IMAGES)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@few("warm", [True, False])
def test_a_compiled_model_is_refused_and_stays_as_it_was(warm):
    """Nothing of the trace with marks may stay in the cache of what the user goes on to call."""
    variables = start(Net(plain), IMAGES)
    compiled = jax.jit(Net(plain).apply)
    if warm:
        compiled(variables, IMAGES)
    message = "it calls no batch norm" if warm else "called 0 times outside of scan, remat and jit"
    with pytest.raises(ValueError, match=message):
        linen.fold_batch_norm(compiled, variables, IMAGES)
    expected = jax.jit(lambda v, x: Net(plain).apply(v, x))(variables, IMAGES)
    np.testing.assert_allclose(compiled(variables, IMAGES), expected, rtol=1e-5)


def test_a_folded_model_does_not_train():
    evaluates = [True]

    def forward(layer, norm, x):
        return norm(layer(x), evaluates[0])

    def run(variables, x):
        apply, folded = linen.fold_batch_norm(Net(forward).apply, variables, x)
        evaluates[0] = False
        return apply(folded, x)

    message = r"`use_running_average` must be True for the folded 'norm', got False; train"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(run, jax.eval_shape(Net(plain).init, KEY, IMAGES), IMAGES)


def test_a_module_in_place_of_a_function_is_refused():
    variables = jax.eval_shape(Net(plain).init, KEY, IMAGES)
    message = r"`apply` must be a function .*got the module Net; pass its `apply` method"
    with pytest.raises(TypeError, match=message):
        linen.fold_batch_norm(Net(plain), variables, IMAGES)


def test_the_offset_of_the_factor_is_folded():
    norm = linen.BatchNorm(use_running_average=True, scale_offset=1.0)
    model = nn.Sequential([nn.Dense(4), norm])
    variables = start(model, IMAGES)

    @jax.jit
    def run(variables, x):
        apply, folded = linen.fold_batch_norm(model.apply, variables, x)
        return apply(folded, x), model.apply(variables, x)

    np.testing.assert_allclose(*run(variables, IMAGES), atol=1e-5)
