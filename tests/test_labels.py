"""Integer labels of every dtype, those out of range, and logits of classes across devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxreg import _labels
from tests.helpers import few
from tests.normalization.helpers import refuses

LOGITS = np.random.default_rng(0).normal(0, 4, (16, 200)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 120, 16)
INTEGERS = [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32]


def reference(logits, labels, share):
    """Cross entropy of each example in float64."""
    log_p = scipy.special.log_softmax(np.asarray(logits, np.float64), -1)
    own = np.take_along_axis(log_p, labels[:, None], -1)[:, 0]
    return -(1 - share) * own - share * log_p.mean(-1)


@few("dtype", INTEGERS)
def test_cross_entropies_of_every_dtype_of_labels(dtype):
    found = jax.jit(_labels.cross_entropies)(LOGITS, LABELS.astype(dtype), 0.1)
    np.testing.assert_allclose(found, reference(LOGITS, LABELS, 0.1), rtol=1e-5)


@few("dtype", INTEGERS)
def test_labels_are_in_range_from_zero_to_the_number_of_classes(dtype):
    """The number itself does not fit into the narrow ones."""
    info = np.iinfo(dtype)
    labels = np.array([info.min, 0, 5, 120, info.max], dtype)
    for classes in (1, 6, 120, 121, 300):
        found = jax.jit(_labels.is_class, static_argnums=1)(labels, classes)
        wide = labels.astype(np.int64)
        np.testing.assert_array_equal(found, (wide >= 0) & (wide < classes))


def test_labels_of_64_bits_keep_them():
    with jax.enable_x64(True):
        labels = np.array([-1, 0, 4, 5, 2**31, 2**32, -(2**32)])
        found = jax.jit(_labels.is_class, static_argnums=1)(labels, 5)
        np.testing.assert_array_equal(found, [0, 1, 1, 0, 0, 0, 0])
        assert _labels.widen_labels(labels).dtype == np.int64
    assert jax.eval_shape(_labels.widen_labels, np.zeros(3, np.int16)).dtype == np.int32


def test_the_loss_of_a_label_out_of_range_is_finite():
    labels = np.array([-100, 200, 127, 2**31 - 1], np.int32)
    found = jax.jit(_labels.cross_entropies)(LOGITS[:4], labels, 0.1)
    assert np.isfinite(found).all()


def test_weights_of_examples_are_numbers_and_masks_are_ones():
    """None without a label in range, whatever the mask says; traced ones below zero are zero."""
    labels = np.array([0, -1, 4, 5, 3])

    @jax.jit
    def run(where):
        return _labels.example_weights(_labels.is_class(labels, 5), where, np.dtype(np.float32))

    np.testing.assert_array_equal(run(None), [1, 0, 1, 0, 1])
    where = np.array([0.0, 1.0, 0.5, 1.0, -1.0], np.float32)
    for dtype in (np.float32, np.float16):
        found = run(where.astype(dtype))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, [0, 0, 0.5, 0, 0])
    np.testing.assert_array_equal(run(np.array([2, 2, 3, 2, 0])), [2, 0, 3, 0, 0])
    np.testing.assert_array_equal(run(np.array([0, 1, 1, 1, 1], bool)), [0, 0, 1, 0, 1])
    assert np.isnan(run(np.full(5, np.nan, np.float32))[0])


def test_rows_without_a_weight_are_zero():
    x = np.array([[np.nan, 1.0], [2.0, np.inf]], np.float32)
    found = jax.jit(_labels.keep_weighted)(np.array([0.0, 0.5], np.float32), x)
    np.testing.assert_array_equal(found, [[0, 0], [2, np.inf]])


@few("own", ["sharded", "whole"])
def test_logits_of_labels_on_an_explicit_mesh(own):
    """Classes across devices have no gather; without it the label out of range gives zero."""
    mesh = jax.make_mesh((8,), ("d",), (AxisType.Explicit,))
    spec = P(None, "d") if own == "sharded" else P("d")
    with jax.set_mesh(mesh):
        placed = jax.device_put(LOGITS, NamedSharding(mesh, spec))
        labels = jax.device_put(LABELS.astype(np.int32), NamedSharding(mesh, P(spec[0])))
        found = jax.jit(_labels.logits_of_labels)(placed, labels)
    np.testing.assert_array_equal(found, np.take_along_axis(LOGITS, LABELS[:, None], -1)[:, 0])


def test_an_excluded_class_does_not_cost_where_it_has_no_share():
    logits = np.array([[0.0, 1.0, -np.inf]], np.float32)
    run = jax.jit(jax.value_and_grad(lambda z, y, s: _labels.cross_entropies(z, y, s).sum()))
    value, gradient = run(logits, np.array([0]), 0.0)
    np.testing.assert_allclose(value, np.log(1 + np.e), rtol=1e-6)
    assert np.isfinite(gradient).all()
    assert run(logits, np.array([2]), 0.0)[0] == np.inf
    assert run(logits, np.array([0]), 0.1)[0] == np.inf
    np.testing.assert_allclose(run(logits[:, :2], np.array([0]), 1.0)[0], np.log(1 + np.e) - 0.5)


@pytest.mark.parametrize("shape", [(), (3, 0)])
def test_logits_without_classes_raise(shape):
    message = r"`z` must have axes \[\.\.\., num_classes\], with at least one class, got shape"
    refuses(ValueError, message, _labels.check_logits, jnp.float32(np.zeros(shape)), "z")


def test_wrong_labels_raise():
    logits = np.zeros((2, 3), np.float32)
    labels = np.zeros(2, np.int32)
    _labels.check_labels(logits, labels)
    message = r"`y` must have the same shape as `logits` without its last axis, \(\d,\), got \(3,\)"
    refuses(ValueError, message, _labels.check_labels, logits, np.zeros(3, int), "y")
    message = "`labels` must be integer class ids, got dtype float32"
    refuses(TypeError, message, _labels.check_labels, logits, labels.astype("f4"))
    message = "`logits` must have a floating-point dtype, got int32"
    refuses(TypeError, message, _labels.check_labels, logits.astype("i4"), labels)
    message = "`logits` must have a real dtype, got complex64"
    refuses(TypeError, message, _labels.check_labels, logits.astype("c8"), labels)


def test_a_mask_of_another_shape_raises():
    _labels.check_where(None, (2,))
    _labels.check_where(np.ones(2), (2,))
    message = r"`where` must have the same shape as `labels`, \(2,\), got \(2, 1\)"
    refuses(ValueError, message, _labels.check_where, np.ones((2, 1)), (2,))
    message = r"`where` must have the same shape as `d`, \(2,\), got \(3,\)"
    refuses(ValueError, message, _labels.check_where, np.ones(3), (2,), "d")
    message = r"`where` must have the same shape as `d` without a part, \(2,\), got \(3,\)"
    refuses(ValueError, message, _labels.check_where, np.ones(3), (2,), "d", " without a part")


def test_weights_that_are_negative_or_no_real_numbers_raise():
    """The values of JAX's arrays are not read."""
    _labels.check_weights(None, (2,))
    _labels.check_weights(np.array([0, 3], np.uint8), (2,))
    _labels.check_weights(jnp.array([-1.0, 1.0]), (2,))
    for weights in (np.array([1.0, -0.5]), np.array([1, -2]), np.array([np.nan, 1.0])):
        message = "`where` must contain weights that are zero or positive, got (-0.5|-2|nan); pass"
        refuses(ValueError, message, _labels.check_weights, weights, (2,))
    message = "`where` must contain booleans or real weights, got dtype complex64"
    refuses(TypeError, message, _labels.check_weights, np.ones(2, np.complex64), (2,))
    message = "`where` must contain booleans or real weights, got dtype key"
    refuses(TypeError, message, _labels.check_weights, jax.random.split(jax.random.key(0)), (2,))


@few("share", [0.1, 0.0, 1.0])
def test_cross_entropies_of_rows_are_those_of_their_labels(share):
    """A row of half the probability costs half, its share of smoothing too."""
    rows = np.eye(200, dtype=np.float32)[LABELS] * np.float32([[1.0], [0.5]]).repeat(8, 0)
    found = jax.jit(_labels.distribution_cross_entropies)(LOGITS, rows, np.float32(share))
    want = reference(LOGITS, LABELS, share) * np.repeat([1.0, 0.5], 8)
    np.testing.assert_allclose(found, want, rtol=1e-5)
