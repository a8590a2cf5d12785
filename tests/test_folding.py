"""Pairs of layers and norms, read from traces of functions that leave marks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg._folding import Norm, Tape, find_pairs

X = np.ones((2, 3), np.float32)
W = np.ones((3, 4), np.float32)


def norm(tape, x, name="norm", *, axis=-1, is_training=False):
    tape.norms[name] = Norm(axis, x.ndim, 1e-5, 0.0, x.dtype, is_training)
    return tape.norm(name, x) * 2


def layer(tape, x, w, name="layer"):
    return tape.layer(name, w, x @ w, (-1,))


def pairs(function, *inputs, norms=None):
    tape = Tape()
    return find_pairs(tape, lambda *arrays: function(tape, *arrays), inputs or (X, W), norms)


def two(tape, x, w, v):
    y = norm(tape, layer(tape, x, w, "a"), "first")
    return norm(tape, layer(tape, jnp.sin(y), v, "b"), "second")


def test_a_norm_folds_into_the_layer_before_it():
    v = np.ones((4, 5), np.float32)
    assert pairs(lambda tape, x, w: norm(tape, layer(tape, x, w))) == {"norm": "layer"}
    assert pairs(two, X, W, v) == {"first": "a", "second": "b"}
    assert pairs(two, X, W, v, norms=["second"]) == {"second": "b"}
    assert pairs(two, X, W, v, norms=[]) == {}


def test_feature_axes_may_be_counted_from_either_end_and_be_several():
    def function(axis):
        def call(tape, x, w):
            y = tape.layer("layer", w, jnp.tensordot(x, w, 1), (-2, -1))
            return norm(tape, y, axis=axis)

        return call

    w = np.ones((3, 4, 5), np.float32)
    for axis in ((-2, -1), (1, 2), (2, 1)):
        assert pairs(function(axis), X, w) == {"norm": "layer"}
    for axis in (-1, (0, 2)):
        with pytest.raises(ValueError, match=r"which does not name the features of layer 'layer'"):
            pairs(function(axis), X, w)


def inner(call):
    """The same within a program of its own, whose marks do not count."""
    return lambda tape, x, w: jax.jit(lambda x, w: call(tape, x, w))(x, w)


def plain(tape, x, w):
    return norm(tape, layer(tape, x, w))


def tied(tape, x, w):
    return plain(tape, x, w) @ w.T


def skipped(tape, x, w):
    y = layer(tape, x, w)
    return norm(tape, y) + y


def returned(tape, x, w):
    y = layer(tape, x, w)
    return norm(tape, y), y


def scaled(tape, x, w):
    return norm(tape, layer(tape, x, 2 * w))


def called_twice(tape, x, w):
    return plain(tape, x, w) + layer(tape, -x, w)


def normalized_twice(tape, x, w):
    y = norm(tape, layer(tape, x, w))
    return norm(tape, y)


REFUSED = {
    "activation": (
        lambda tape, x, w: norm(tape, jnp.sin(layer(tape, x, w))),
        r"got 'norm': its input is not the output of a dense layer or a convolution\. To leave it",
    ),
    "no layer": (lambda tape, x, w: norm(tape, x), "its input is not the output"),
    "training": (
        lambda tape, x, w: norm(tape, layer(tape, x, w), is_training=True),
        "it uses the statistics of the batch; call it in evaluation mode",
    ),
    "axis": (
        lambda tape, x, w: norm(tape, layer(tape, x, w), axis=0),
        "its `axis` is 0, which does not name the features of layer 'layer'",
    ),
    "tied": (tied, "the kernel of layer 'layer' is also used elsewhere"),
    "skipped": (skipped, "the output of layer 'layer' is also used elsewhere"),
    "returned": (returned, "the output of layer 'layer' is also used elsewhere"),
    "scaled": (scaled, "the kernel of layer 'layer' is changed before it is used"),
    "called twice": (called_twice, "layer 'layer' is called 2 times"),
    "normalized twice": (normalized_twice, "it is called 2 times outside of scan, remat and jit"),
    "inner program": (inner(plain), "it is called 0 times outside of scan, remat and jit"),
}


@pytest.mark.parametrize(("function", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_folded_is_refused(function, message):
    with pytest.raises(ValueError, match=message):
        pairs(function)


def test_a_kernel_of_which_the_layer_sees_a_part_is_refused():
    """As in a vmap over layers, which call with a slice each."""

    def function(tape, x, w):
        return jax.vmap(lambda w: plain(tape, x, w))(w)

    message = "the kernel of layer 'layer' is changed before it is used"
    with pytest.raises(ValueError, match=message):
        pairs(function, X, np.ones((2, 3, 4), np.float32))


def test_norms_that_are_not_there_are_named():
    message = r"`norms` must name batch norms of the model, got 'bn'; it has 'norm'\."
    with pytest.raises(ValueError, match=message):
        pairs(plain, norms=["bn"])
    message = (
        r"`norms` must be batch norms of the model, but it calls no batch norm of Flax or jaxreg"
    )
    with pytest.raises(ValueError, match=message):
        pairs(layer)
