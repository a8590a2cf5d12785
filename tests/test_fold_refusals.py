"""What folding of batch norms refuses, in Linen and in NNX, by names of norms and layers."""

from functools import partial

import jax
import numpy as np
import pytest
from flax import linen as flax_linen
from flax import nnx as flax_nnx

from jaxreg import linen, nnx
from tests.test_fold import trained

KEY = jax.random.key(3)
IMAGES = jax.random.normal(KEY, (2, 6, 6, 4))


class Net(flax_linen.Module):
    """A layer, a norm, and a function that says how they are called."""

    forward: object
    axis: int = -1
    make: object = partial(flax_linen.Dense, 4)

    def setup(self):
        self.layer = self.make()
        self.norm = linen.BatchNorm(axis=self.axis)

    def __call__(self, x):
        return self.forward(self.layer, self.norm, x)


LINEAR = partial(flax_nnx.Linear, 4, 4)


class NnxNet(flax_nnx.Module):
    def __init__(self, forward, axis=-1, make=LINEAR):
        rngs = flax_nnx.Rngs(0)
        self.layer, self.norm = make(rngs=rngs), nnx.BatchNorm(4, axis=axis, rngs=rngs)
        self.forward = forward

    def __call__(self, x):
        return self.forward(self.layer, self.norm, x)


def kernel_of(layer):
    return layer.variables["params"]["kernel"] if hasattr(layer, "variables") else layer.kernel[...]


FORWARD = {
    "activation": (
        lambda layer, norm, x: norm(jax.nn.relu(layer(x)), True),
        r"got 'norm': its input is not the output of a dense layer or a convolution\. To leave",
    ),
    "no_layer": (lambda layer, norm, x: layer(norm(x, True)), r"'norm': its input is not the"),
    "reshape": (
        lambda layer, norm, x: norm(layer(x).reshape(2, -1, 4), True),
        r"'norm': its input is not the output",
    ),
    "skip": (
        lambda layer, norm, x: norm(y := layer(x), True) + y,
        r"the output of layer 'layer' is also used elsewhere",
    ),
    "returned": (
        lambda layer, norm, x: (norm(y := layer(x), True), y),
        r"the output of layer 'layer' is also used elsewhere",
    ),
    "layer_twice": (
        lambda layer, norm, x: norm(layer(x), True) + layer(-x),
        r"layer 'layer' is called 2 times",
    ),
    "norm_twice": (
        lambda layer, norm, x: norm(norm(layer(x), True), True),
        r"'norm': it is called 2 times",
    ),
    "tied": (
        lambda layer, norm, x: norm(layer(x), True) @ kernel_of(layer).T,
        r"the kernel of layer 'layer' is also used elsewhere",
    ),
    "training": (
        lambda layer, norm, x: norm(layer(x), False),
        r"'norm': it uses the statistics of the batch; call the model in evaluation",
    ),
}


def plain(layer, norm, x):
    return norm(layer(x), True)


@pytest.mark.parametrize("name", FORWARD)
def test_what_cannot_be_folded_is_refused(name):
    forward, message = FORWARD[name]
    variables = Net(plain).init(KEY, IMAGES)
    with pytest.raises(ValueError, match=message):
        linen.fold_batch_norm(
            partial(Net(forward).apply, mutable=["batch_stats"]), variables, IMAGES
        )
    with pytest.raises(ValueError, match=message):
        nnx.fold_batch_norm(NnxNet(forward), IMAGES)


def test_feature_axes_that_differ_are_refused():
    x, message = (
        IMAGES[:, :4],
        r"'norm': its `axis` is 1, where the features of layer 'layer' are not",
    )
    model = Net(plain, axis=1)
    with pytest.raises(ValueError, match=message):
        linen.fold_batch_norm(model.apply, model.init(KEY, x), x)
    with pytest.raises(ValueError, match=message):
        nnx.fold_batch_norm(NnxNet(plain, axis=1), x)


def test_a_kernel_that_is_changed_on_its_way_is_refused():
    message = r"the kernel of layer '\S+' is changed before it is used"
    wrapped = partial(flax_linen.WeightNorm, flax_linen.Dense(4))
    several = flax_linen.vmap(
        flax_linen.Dense, variable_axes={"params": 0}, split_rngs={"params": True}
    )
    for make in (wrapped, partial(several, 4)):
        model = Net(plain, make=make)
        with pytest.raises(ValueError, match=message):
            linen.fold_batch_norm(model.apply, model.init(KEY, IMAGES), IMAGES)

    def make(rngs):
        return flax_nnx.WeightNorm(flax_nnx.Linear(4, 4, rngs=rngs), rngs=rngs)

    with pytest.raises(ValueError, match=message):
        nnx.fold_batch_norm(NnxNet(plain, make=make), IMAGES)


def test_a_layer_of_ones_own_is_no_layer():
    class Rectified(flax_linen.Dense):
        @flax_linen.compact
        def __call__(self, inputs):
            return flax_linen.relu(super().__call__(inputs))

    class NnxRectified(flax_nnx.Linear):
        def __call__(self, inputs):
            return jax.nn.relu(super().__call__(inputs))

    model, message = Net(plain, make=partial(Rectified, 4)), "its input is not the output"
    with pytest.raises(ValueError, match=message):
        linen.fold_batch_norm(model.apply, model.init(KEY, IMAGES), IMAGES)
    with pytest.raises(ValueError, match=message):
        nnx.fold_batch_norm(NnxNet(plain, make=partial(NnxRectified, 4, 4)), IMAGES)


def test_names_of_norms():
    message = r"`norms` must name batch norms of the model, got 'bn'; it has 'norm'"
    with pytest.raises(ValueError, match=message):
        linen.fold_batch_norm(Net(plain).apply, Net(plain).init(KEY, IMAGES), IMAGES, norms=["bn"])
    with pytest.raises(ValueError, match=message):
        nnx.fold_batch_norm(NnxNet(plain), IMAGES, norms=["bn"])


def test_a_model_without_a_norm():
    message = r"`norms` must be batch norms of the model, but it called none of Flax or jaxreg"
    model = flax_linen.Dense(4)
    with pytest.raises(ValueError, match=message):
        linen.fold_batch_norm(model.apply, model.init(KEY, IMAGES), IMAGES)
    with pytest.raises(ValueError, match=message):
        nnx.fold_batch_norm(flax_nnx.Linear(4, 4, rngs=flax_nnx.Rngs(0)), IMAGES)


def test_a_norm_in_a_container_that_cannot_change_is_refused():
    class Pair(flax_nnx.Module):
        def __init__(self, rngs):
            norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
            self.pair = flax_nnx.data((LINEAR(rngs=rngs), norm))

        def __call__(self, x):
            return self.pair[1](self.pair[0](x))

    with pytest.raises(ValueError, match=r"`model` must hold norms .* got 'pair/1' in another"):
        nnx.fold_batch_norm(Pair(flax_nnx.Rngs(0)), IMAGES)


@pytest.mark.parametrize("lift", [flax_linen.jit, flax_linen.remat])
def test_what_is_lifted_is_refused_and_stays_as_it_was(lift):
    class Outer(flax_linen.Module):
        @flax_linen.compact
        def __call__(self, x):
            return lift(Net)(plain)(x)

    variables = trained(Outer().init(KEY, IMAGES))
    expected = Net(plain).apply({k: next(iter(v.values())) for k, v in variables.items()}, IMAGES)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"called 0 times outside of scan|it called none"):
            linen.fold_batch_norm(Outer().apply, variables, IMAGES)
        np.testing.assert_allclose(Outer().apply(variables, IMAGES), expected, rtol=1e-5)


def test_a_compiled_model_is_refused_and_stays_as_it_was():
    """Nothing of the trace with marks may stay in the cache of what the user goes on to call."""
    variables = trained(Net(plain).init(KEY, IMAGES))
    expected = Net(plain).apply(variables, IMAGES)
    for warm in (False, True):
        compiled = jax.jit(Net(plain).apply)
        if warm:
            compiled(variables, IMAGES)
        message = "it called none" if warm else "called 0 times outside of scan, remat and jit"
        with pytest.raises(ValueError, match=message):
            linen.fold_batch_norm(compiled, variables, IMAGES)
        np.testing.assert_allclose(compiled(variables, IMAGES), expected, rtol=1e-5)


def test_a_folded_model_does_not_train():
    message = r"`use_running_average` must be true for .*folded, got False; train the model that"
    evaluates = [True]

    def forward(layer, norm, x):
        return norm(layer(x), evaluates[0])

    variables = Net(plain).init(KEY, IMAGES)
    apply, folded = linen.fold_batch_norm(Net(forward).apply, variables, IMAGES)
    model = nnx.fold_batch_norm(NnxNet(forward), IMAGES)
    evaluates[0] = False
    with pytest.raises(ValueError, match=message):
        apply(folded, IMAGES)
    with pytest.raises(ValueError, match=message):
        model(IMAGES)


def test_modes_of_a_folded_model():
    """``train``, ``eval`` and ``nnx.view`` reach what stands in the place of the norm."""
    model = NnxNet(lambda layer, norm, x: norm(layer(x)))
    model.eval()
    folded = nnx.fold_batch_norm(model, IMAGES)
    folded.train()
    with pytest.raises(ValueError, match=r"`use_running_average` must be true"):
        folded(IMAGES)
    view = flax_nnx.view(folded, use_running_average=True)
    np.testing.assert_array_equal(view(IMAGES), view.layer(IMAGES))
    folded.eval()
    np.testing.assert_array_equal(folded(IMAGES), view(IMAGES))
