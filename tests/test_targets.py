"""Label smoothing against float64 NumPy, Optax, torch's convention, and its edge cases."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from jaxreg import targets

ALPHAS = [0.0, 0.1, 0.5, 1.0]
OUT_OF_RANGE = [-1, -100, 5, 6, 127]


def example(batch=(8,), classes=5, seed=0, scale=4.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, scale, (*batch, classes)).astype(np.float32)
    return logits, rng.integers(0, classes, batch).astype(np.int32)


def reference(logits, labels, alpha, where=None):
    """Mean over counted examples of the cross entropy, from one-hot rows in float64."""
    logits = np.asarray(logits, np.float64).reshape(-1, logits.shape[-1])
    classes, total, counted = logits.shape[-1], 0.0, 0
    use = np.ones(len(logits), bool) if where is None else np.ravel(where) != 0
    for row, label, used in zip(logits, np.ravel(labels), use, strict=True):
        if not used or not 0 <= label < classes:
            continue
        q = (1 - alpha) * (np.arange(classes) == label) + alpha / classes
        log_p = row - scipy.special.logsumexp(row)
        total -= sum(a * b for a, b in zip(q, log_p, strict=True) if a)
        counted += 1
    return total / max(counted, 1)


@jax.jit
def loss(logits, labels, alpha, where=None):
    labels = jnp.asarray(labels)
    return targets.smoothed_cross_entropy(jnp.asarray(logits), labels, alpha=alpha, where=where)


value_and_gradient = jax.jit(jax.value_and_grad(loss))


def gradient_of(*args):
    return value_and_gradient(*args)[1]


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("batch", [(), (1,), (8,), (3, 4), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("classes", [2, 5])
def test_loss_is_the_cross_entropy_of_smoothed_rows(alpha, batch, classes):
    logits, labels = example(batch, classes)
    want = reference(logits, labels, alpha)
    np.testing.assert_allclose(loss(logits, labels, alpha), want, rtol=1e-5)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_loss_in_float64(alpha):
    logits, labels = example()
    with jax.enable_x64(True):
        value = loss(logits.astype(np.float64), labels, alpha)
        assert value.dtype == jnp.float64
        np.testing.assert_allclose(value, reference(logits, labels, alpha), rtol=1e-13)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_narrow_logits_lose_nothing_more(dtype, alpha):
    logits, labels = example((64,), 100)
    logits = jnp.asarray(logits, dtype)
    value = loss(logits, labels, alpha)
    assert value.dtype == jnp.float32
    want = reference(np.asarray(logits, np.float64), labels, alpha)
    np.testing.assert_allclose(value, want, rtol=1e-5)


def test_large_logits_of_float16_do_not_overflow_the_sum():
    logits = jnp.full((4, 100), 60000.0, jnp.float16)
    np.testing.assert_allclose(loss(logits, jnp.arange(4), 0.1), np.log(100), atol=4e-3)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_gradient_is_softmax_minus_targets(alpha):
    logits, labels = example()
    q = (1 - alpha) * np.eye(5)[labels] + alpha / 5
    want = (scipy.special.softmax(logits.astype(np.float64), -1) - q) / len(labels)
    np.testing.assert_allclose(gradient_of(logits, labels, alpha), want, atol=1e-7)


def test_alpha_zero_is_the_optax_loss():
    logits, labels = example((32,), 10)
    want = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    np.testing.assert_allclose(loss(logits, labels, 0.0), want, rtol=1e-6)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_alpha_is_that_of_optax(alpha):
    # The true class gets its share of alpha too, as in torch.nn.CrossEntropyLoss and Keras.
    logits, labels = example((32,), 10)
    rows = optax.smooth_labels(jax.nn.one_hot(labels, 10), alpha)
    want = optax.softmax_cross_entropy(logits, rows).mean()
    np.testing.assert_allclose(loss(logits, labels, alpha), want, rtol=2e-6)


@pytest.mark.parametrize("bad", OUT_OF_RANGE)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_label_out_of_range_contributes_nothing(bad, alpha):
    logits, labels = example()
    padded = labels.copy()
    padded[[0, 3]] = bad
    kept = np.delete(np.arange(8), [0, 3])
    want = reference(logits[kept], labels[kept], alpha)
    np.testing.assert_allclose(loss(logits, padded, alpha), want, rtol=1e-5)
    gradient = gradient_of(logits, padded, alpha)
    np.testing.assert_array_equal(gradient[jnp.array([0, 3])], np.zeros((2, 5)))
    alone = gradient_of(logits[kept], labels[kept], alpha)
    np.testing.assert_allclose(gradient[kept], alone, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_where_selects_examples(alpha):
    logits, labels = example((3, 4))
    where = np.random.default_rng(1).integers(0, 2, (3, 4))
    for mask in (where, where.astype(bool), where.astype(np.float32)):
        value = loss(logits, labels, alpha, jnp.asarray(mask))
        np.testing.assert_allclose(value, reference(logits, labels, alpha, where), rtol=1e-5)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("how", ["labels", "where", "empty"])
def test_nothing_counted_is_zero_with_a_zero_gradient(alpha, how):
    logits, labels = example()
    where = jnp.zeros(8, bool) if how == "where" else None
    if how == "labels":
        labels = np.resize(OUT_OF_RANGE, 8)
    if how == "empty":
        logits, labels = logits[:0], labels[:0]
    value, gradient = value_and_gradient(logits, labels, alpha, where)
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(logits))


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_garbage_in_examples_that_do_not_count_stays_there(garbage, alpha):
    logits, labels = example()
    want = reference(logits[2:], labels[2:], alpha)
    logits[:2] = garbage
    labels[0] = -1
    where = jnp.arange(8) != 1
    value, gradient = value_and_gradient(logits, labels, alpha, where)
    np.testing.assert_allclose(value, want, rtol=1e-5)
    np.testing.assert_array_equal(gradient[:2], np.zeros((2, 5)))
    assert np.isfinite(gradient).all()


def test_a_class_of_no_mass_may_be_excluded_by_an_infinite_logit():
    logits, labels = example()
    labels[:] = 2
    logits[:, 4] = -np.inf
    value, gradient = value_and_gradient(logits, labels, 0.0)
    np.testing.assert_allclose(value, reference(logits[:, :4], labels, 0.0), rtol=1e-5)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[:, 4], np.zeros(8))


def test_an_excluded_class_with_mass_costs_infinity():
    logits = jnp.array([[0.0, -jnp.inf]])
    assert loss(logits, jnp.array([1]), 0.0) == jnp.inf
    assert loss(logits, jnp.array([0]), 0.1) == jnp.inf


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32])
def test_every_integer_dtype_of_labels(dtype):
    logits, labels = example((16,), 200)
    labels = np.minimum(labels, min(np.iinfo(dtype).max, 199))
    want = reference(logits, labels, 0.1)
    np.testing.assert_allclose(loss(logits, labels.astype(dtype), 0.1), want, rtol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "bad"), [(np.int8, -1), (np.int8, -100), (np.uint8, 255), (np.uint32, 2**32 - 1)]
)
def test_padding_in_narrow_and_unsigned_labels(dtype, bad):
    logits, labels = example()
    padded = labels.astype(dtype)
    padded[0] = bad
    want = reference(logits[1:], labels[1:], 0.1)
    np.testing.assert_allclose(loss(logits, padded, 0.1), want, rtol=1e-5)


@pytest.mark.parametrize("bad", [-1, -100, 2**31, 2**32, -(2**32)])
def test_int64_labels(bad):
    logits, labels = example()
    with jax.enable_x64(True):
        padded = labels.astype(np.int64)
        np.testing.assert_allclose(
            loss(logits, padded, 0.1), reference(logits, labels, 0.1), rtol=1e-5
        )
        padded[0] = bad
        want = reference(logits[1:], labels[1:], 0.1)
        np.testing.assert_allclose(loss(logits, padded, 0.1), want, rtol=1e-5)


def test_alpha_may_be_traced_mapped_and_differentiated():
    logits, labels = example()
    values = jax.vmap(lambda a: loss(logits, labels, a))(jnp.array(ALPHAS))
    want = [reference(logits, labels, a) for a in ALPHAS]
    np.testing.assert_allclose(values, want, rtol=1e-5)
    slope = jax.grad(lambda a: loss(logits, labels, a))(jnp.float32(0.3))
    np.testing.assert_allclose(slope, want[3] - want[0], rtol=1e-5)  # The loss is linear in alpha.


@pytest.mark.parametrize(("traced", "acts_as"), [(-0.5, 0.0), (1.5, 1.0)])
def test_a_traced_alpha_out_of_range_acts_as_the_nearest_in_range(traced, acts_as):
    logits, labels = example()
    value = loss(logits, labels, jnp.float32(traced))
    np.testing.assert_allclose(value, reference(logits, labels, acts_as), rtol=1e-5)
    rows = targets.smooth_labels(jnp.asarray(labels), alpha=jnp.float32(traced), num_classes=5)
    want = targets.smooth_labels(jnp.asarray(labels), alpha=acts_as, num_classes=5)
    np.testing.assert_array_equal(rows, want)


@pytest.mark.parametrize("transform", [lambda f: f, jax.value_and_grad], ids=["loss", "gradient"])
def test_the_compiled_program_holds_no_array_of_labels(transform):
    batch, classes = 128, 4096
    logits = jax.ShapeDtypeStruct((batch, classes), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32)

    def dense(logits, labels):
        rows = optax.smooth_labels(jax.nn.one_hot(labels, classes), 0.1)
        return optax.softmax_cross_entropy(logits, rows).mean()

    def scratch(function):
        compiled = jax.jit(transform(function)).lower(logits, labels).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # One array of labels less, and in training none of that size at all.
    array, ours = 4 * batch * classes, scratch(lambda z, y: loss(z, y, 0.1))
    assert ours + array <= scratch(dense) + array / 100
    assert transform is not jax.value_and_grad or ours < array / 100


# The rows themselves.


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("classes", [1, 2, 8, 10])
def test_rows_are_those_of_optax(alpha, classes):
    labels = jnp.arange(classes)
    rows = targets.smooth_labels(labels, alpha=alpha, num_classes=classes)
    assert (rows.shape, rows.dtype) == ((classes, classes), jnp.float32)
    want = optax.smooth_labels(jax.nn.one_hot(labels, classes), alpha)
    np.testing.assert_allclose(rows, want, rtol=2e-7, atol=0)
    np.testing.assert_allclose(rows.sum(-1), np.ones(classes), rtol=1e-6)


def test_the_shares_of_a_row():
    rows = np.asarray(targets.smooth_labels(jnp.array([[1, 3]]), alpha=0.5, num_classes=4))
    np.testing.assert_array_equal(rows, [[[0.125, 0.625, 0.125, 0.125], [0.125] * 3 + [0.625]]])
    hard = targets.smooth_labels(jnp.array([2, 0]), alpha=0, num_classes=3)
    np.testing.assert_array_equal(hard, np.eye(3)[[2, 0]])


@pytest.mark.parametrize("bad", OUT_OF_RANGE)
def test_a_row_of_a_label_out_of_range_is_zero(bad):
    rows = targets.smooth_labels(jnp.array([bad, 0]), alpha=0.5, num_classes=5)
    np.testing.assert_array_equal(rows[0], np.zeros(5))
    np.testing.assert_allclose(rows[1].sum(), 1, rtol=1e-6)


def test_rows_and_loss_agree():
    logits, labels = example()
    rows = targets.smooth_labels(jnp.asarray(labels), alpha=0.3, num_classes=5)
    want = optax.softmax_cross_entropy(logits, rows).mean()
    np.testing.assert_allclose(loss(logits, labels, 0.3), want, rtol=1e-6)


@pytest.mark.parametrize("alpha", [-0.1, 1.5, np.nan, np.float32(2)])
def test_alpha_outside_its_range_raises(alpha):
    match = r"`alpha` must be the share of smoothing in \[0, 1\]"
    with pytest.raises(ValueError, match=match):
        targets.smoothed_cross_entropy(jnp.zeros((1, 2)), jnp.array([0]), alpha=alpha)
    with pytest.raises(ValueError, match=match):
        targets.smooth_labels(jnp.array([0]), alpha=alpha, num_classes=2)


def test_arguments_of_the_wrong_kind_raise():
    logits, labels = example()
    with pytest.raises(TypeError, match=r"`labels` must hold integer class ids, got dtype float32"):
        loss(logits, labels.astype(np.float32), 0.1)
    with pytest.raises(TypeError, match=r"`labels` must hold integer class ids, got dtype float32"):
        targets.smooth_labels(jnp.eye(3), alpha=0.1, num_classes=3)
    with pytest.raises(TypeError, match=r"`logits` must have a floating-point dtype, got int32"):
        loss(logits.astype(np.int32), labels, 0.1)
    with pytest.raises(ValueError, match=r"`labels` must have the shape of `logits` without its"):
        loss(logits, labels[:-1], 0.1)
    with pytest.raises(ValueError, match=r"`where` must have the shape of `labels`, \(8,\)"):
        loss(logits, labels, 0.1, jnp.ones((8, 1)))
    with pytest.raises(ValueError, match=r"`num_classes` must be at least 1, got 0"):
        targets.smooth_labels(jnp.array([0]), alpha=0.1, num_classes=0)
