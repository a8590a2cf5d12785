"""Smoothing without the true class, mixed labels and flooding: equations, edges, memory."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from jaxreg import targets

SHARES = [0.0, 0.1, 0.5, 1.0]
OUT_OF_RANGE = [-1, -100, 5, 127]


def example(batch=(8,), classes=5, seed=0):
    rng = np.random.default_rng(seed)
    logits = jnp.asarray(rng.normal(0, 3, (*batch, classes)), jnp.float32)
    a, b = (jnp.asarray(rng.integers(0, classes, batch), jnp.int32) for _ in range(2))
    return logits, a, b


@jax.jit
def mixed(logits, a, b, lam, alpha=0.0, where=None):
    return targets.mixed_cross_entropy(logits, a, b, lam=lam, alpha=alpha, where=where)


@jax.jit
def smoothed(logits, labels, alpha=0.0, where=None):
    return targets.smoothed_cross_entropy(logits, labels, alpha=alpha, where=where)


gradient_of_mixed = jax.jit(jax.value_and_grad(mixed))


def cross_entropies(logits, labels, alpha):
    """One for each example, from one-hot rows in float64."""
    log_p = scipy.special.log_softmax(np.asarray(logits, np.float64), -1)
    classes = logits.shape[-1]
    rows = (1 - alpha) * np.eye(classes)[np.asarray(labels)] + alpha / classes
    return -(rows * log_p).sum(-1)


# Smoothing that leaves out the true class.


@pytest.mark.parametrize("alpha", SHARES)
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_rows_are_those_of_the_seed(alpha, classes):
    """Filled with alpha / (K - 1) first and the confidence put in at the label."""
    labels = np.array([[0, 1], [classes - 1, 0]])
    want = np.full((2, 2, classes), alpha / (classes - 1))
    np.put_along_axis(want, labels[..., None], 1 - alpha, -1)
    rows = targets.smooth_labels_excluding(jnp.array(labels), alpha=alpha, num_classes=classes)
    assert rows.dtype == jnp.float32
    np.testing.assert_allclose(rows, want, rtol=1e-6)
    np.testing.assert_allclose(rows.sum(-1), np.ones((2, 2)), rtol=1e-6)


def test_the_two_conventions_differ_by_a_factor():
    """Row 53 of the peers: alpha / K of torch, Keras and Optax, alpha / (K - 1) of fairseq."""
    logits, labels, _ = example(classes=5)
    rows = targets.smooth_labels_excluding(labels, alpha=0.2, num_classes=5)
    same = targets.smooth_labels(labels, alpha=0.2 * 5 / 4, num_classes=5)
    np.testing.assert_allclose(rows, same, rtol=1e-6)
    want = optax.softmax_cross_entropy(logits, rows).mean()
    np.testing.assert_allclose(smoothed(logits, labels, 0.25), want, rtol=1e-6)


@pytest.mark.parametrize("alpha", SHARES)
def test_a_single_class_keeps_everything(alpha):
    rows = targets.smooth_labels_excluding(jnp.array([0, -1, 1]), alpha=alpha, num_classes=1)
    np.testing.assert_array_equal(rows, [[1], [0], [0]])
    traced = jax.jit(
        lambda a: targets.smooth_labels_excluding(jnp.array([0]), alpha=a, num_classes=1)
    )
    np.testing.assert_array_equal(traced(alpha), [[1]])


@pytest.mark.parametrize("smooth", [targets.smooth_labels, targets.smooth_labels_excluding])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint32])
def test_rows_of_labels_out_of_range_are_zero(smooth, dtype):
    """Row 50: Optax gives padding a row of alpha / K, which trains."""
    bad = [200, 255] if np.iinfo(dtype).min == 0 else [-1, -100, 127]
    rows = smooth(jnp.array([0, *bad], dtype), alpha=0.5, num_classes=100)
    np.testing.assert_allclose(rows.sum(-1), [1] + [0] * len(bad), rtol=1e-5)
    assert smooth(jnp.array([300, 0]), alpha=0.0, num_classes=301)[0, 300] == 1
    row = smooth(jnp.array([50], dtype), alpha=0.0, num_classes=310)
    np.testing.assert_array_equal(row[0], np.arange(310) == 50)
    assert smooth(jnp.zeros(0, dtype), alpha=0.5, num_classes=3).shape == (0, 3)


@pytest.mark.parametrize("smooth", [targets.smooth_labels, targets.smooth_labels_excluding])
def test_wrong_arguments_of_rows_raise(smooth):
    """Row 53: a share outside [0, 1] would give negative probabilities."""
    labels = jnp.array([0])
    for alpha in (-0.1, 1.5, np.nan):
        with pytest.raises(ValueError, match=r"`alpha` must be the share of smoothing in \[0, 1\]"):
            smooth(labels, alpha=alpha, num_classes=2)
    with pytest.raises(ValueError, match=r"`num_classes` must be at least 1, got 0"):
        smooth(labels, alpha=0.1, num_classes=0)
    with pytest.raises(TypeError, match=r"`num_classes` must be an integer, got float 2\.0"):
        smooth(labels, alpha=0.1, num_classes=2.0)
    with pytest.raises(TypeError, match=r"`labels` must hold integer class ids"):
        smooth(jnp.eye(2), alpha=0.1, num_classes=2)
    for traced, acts_as in ((-0.5, 0.0), (1.5, 1.0)):
        rows = smooth(labels, alpha=jnp.float32(traced), num_classes=3)
        np.testing.assert_array_equal(rows, smooth(labels, alpha=acts_as, num_classes=3))


# Integer labels against one-hot rows, with labels that are ignored.


@pytest.mark.parametrize("alpha", SHARES)
def test_integer_labels_equal_one_hot_rows_with_ignored_labels(alpha):
    logits, labels, _ = example((64,), 50)
    labels = labels.at[::5].set(jnp.resize(jnp.array([-1, -100, 50, 127]), 13))

    def dense(logits):
        rows = targets.smooth_labels(labels, alpha=alpha, num_classes=50)
        return optax.softmax_cross_entropy(logits, rows).sum() / jnp.sum(rows.any(-1))

    want, want_gradient = jax.jit(jax.value_and_grad(dense))(logits)
    value, gradient = jax.jit(jax.value_and_grad(smoothed))(logits, labels, alpha)
    np.testing.assert_allclose(value, want, rtol=1e-6)
    np.testing.assert_allclose(gradient, want_gradient, atol=1e-6 * np.abs(want_gradient).max())


@pytest.mark.parametrize("function", [smoothed, mixed], ids=["smoothed", "mixed"])
def test_no_compiled_gradient_has_an_array_of_labels(function):
    """Beside the logits and their gradient nothing has their size, not even a mask."""
    batch, classes = 96, 4096
    logits = jax.ShapeDtypeStruct((batch, classes), jnp.float32)
    labels = [jax.ShapeDtypeStruct((batch,), jnp.int32)] * (1 + (function is mixed))
    compiled = jax.jit(jax.grad(function)).lower(logits, *labels, 0.1).compile()
    memory = compiled.memory_analysis()
    assert memory.temp_size_in_bytes < batch * classes / 50
    assert memory.output_size_in_bytes < 1.01 * 4 * batch * classes


# Mixed labels.


@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("lam", SHARES)
@pytest.mark.parametrize("batch", [(), (1,), (8,), (2, 3)], ids=str)
def test_the_loss_is_the_criterion_of_the_seed(batch, lam, alpha):
    logits, a, b = example(batch)
    first, second = (cross_entropies(logits, y, alpha).mean() for y in (a, b))
    want = lam * first + (1 - lam) * second
    np.testing.assert_allclose(mixed(logits, a, b, lam, alpha), want, rtol=1e-5)


def test_the_loss_is_that_of_mixed_one_hot_rows():
    logits, a, b = example((32,), 10)
    lam = jnp.linspace(0, 1, 32)
    hot_a, hot_b = (jax.nn.one_hot(y, 10) for y in (a, b))
    rows = lam[:, None] * hot_a + (1 - lam[:, None]) * hot_b
    want = optax.softmax_cross_entropy(logits, rows).mean()
    value, gradient = gradient_of_mixed(logits, a, b, lam)
    np.testing.assert_allclose(value, want, rtol=1e-6)
    want = (scipy.special.softmax(np.asarray(logits, np.float64), -1) - np.asarray(rows)) / 32
    np.testing.assert_allclose(gradient, want, atol=1e-7)


@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_everything_of_one_part_is_its_loss(alpha):
    logits, a, b = example()
    # A class that the other part alone has may be excluded.
    excluded = logits.at[:, 4].set(-jnp.inf)
    a = a % 4
    b = b.at[0].set(4)
    for z in (logits, excluded) if alpha == 0 else (logits,):
        want, want_gradient = jax.jit(jax.value_and_grad(smoothed))(z, a, alpha)
        for lam, first, second in ((1.0, a, b), (0.0, b, a), (0.4, a, a)):
            value, gradient = gradient_of_mixed(z, first, second, lam, alpha)
            np.testing.assert_allclose(value, want, rtol=1e-6)
            np.testing.assert_allclose(gradient, want_gradient, atol=1e-7)


def test_one_share_for_each_example_of_an_image():
    logits, a, b = example((3, 4, 4))
    lam = np.array([0.2, 0.5, 1.0])
    first, second = (cross_entropies(logits, y, 0.0) for y in (a, b))
    weights = lam[:, None, None]
    want = (weights * first + (1 - weights) * second).mean()
    value = mixed(logits, a, b, jnp.asarray(weights, jnp.float32))
    np.testing.assert_allclose(value, want, rtol=1e-6)
    with pytest.raises(ValueError, match=r"`lam` must broadcast to shape \(3, 4, 4\).*add axes"):
        mixed(logits, a, b, jnp.asarray(lam, jnp.float32))


@pytest.mark.parametrize("bad", OUT_OF_RANGE)
def test_each_part_is_the_mean_over_its_labels_in_range(bad):
    """Row 50: a label out of range contributes nothing, and is not the last class."""
    logits, a, b = example()
    some_a, some_b = a.at[jnp.array([0, 3])].set(bad), b.at[jnp.array([3, 4, 5])].set(bad)
    first, second = (cross_entropies(logits, y, 0.1) for y in (a, b))
    want = 0.3 * np.delete(first, [0, 3]).mean() + 0.7 * np.delete(second, [3, 4, 5]).mean()
    value, gradient = gradient_of_mixed(logits, some_a, some_b, 0.3, 0.1)
    np.testing.assert_allclose(value, want, rtol=1e-5)
    np.testing.assert_array_equal(gradient[3], np.zeros(5))
    where = jnp.arange(8) % 2
    want = 0.3 * first[[1, 5, 7]].mean() + 0.7 * second[[1, 7]].mean()
    value = mixed(logits, some_a.at[3].set(bad), some_b, 0.3, 0.1, where)
    np.testing.assert_allclose(value, want, rtol=1e-5)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
def test_garbage_in_examples_that_do_not_count_stays_there(garbage):
    logits, a, b = example()
    want = mixed(logits[2:], a[2:], b[2:], 0.3, 0.1)
    where = jnp.arange(8) != 1
    value, gradient = gradient_of_mixed(
        logits.at[:2].set(garbage), a.at[0].set(-1), b.at[0].set(5), 0.3, 0.1, where
    )
    np.testing.assert_allclose(value, want, rtol=1e-6)
    np.testing.assert_array_equal(gradient[:2], np.zeros((2, 5)))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("how", ["labels", "where", "empty"])
def test_nothing_counted_is_zero_with_a_zero_gradient(how):
    """Row 51: torch gives NaN."""
    logits, a, b = example((0,) if how == "empty" else (8,))
    where = jnp.zeros(8, bool) if how == "where" else None
    if how == "labels":
        a, b = a - 100, b + 5
    value, gradient = gradient_of_mixed(logits, a, b, 0.3, 0.1, where)
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(logits))


def test_excluded_classes_cost_nothing_without_mass_and_infinity_with():
    """Row 52: in Optax a zero target times an infinite logit is NaN."""
    logits, a, b = example()
    a, b = a % 4, b % 4
    value, gradient = gradient_of_mixed(logits.at[:, 4].set(-jnp.inf), a, b, 0.3)
    np.testing.assert_allclose(value, mixed(logits[:, :4], a, b, 0.3), rtol=1e-6)
    np.testing.assert_array_equal(gradient[:, 4], np.zeros(8))
    for value, gradient in (
        gradient_of_mixed(logits.at[:, 4].set(-jnp.inf), a, b.at[0].set(4), 0.3),
        jax.value_and_grad(smoothed)(jnp.array([[0.0, -jnp.inf]]), jnp.array([1]), 1.0),
    ):
        assert value == np.inf
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize(("traced", "acts_as"), [(-0.5, 0.0), (1.5, 1.0)])
def test_a_traced_share_out_of_range_acts_as_the_nearest(traced, acts_as):
    logits, a, b = example()
    want = mixed(logits, a, b, acts_as)
    np.testing.assert_array_equal(mixed(logits, a, b, jnp.float32(traced)), want)
    np.testing.assert_array_equal(mixed(logits, a, b, jnp.full(8, traced)), want)


def test_the_slope_by_the_share_is_the_difference_also_at_its_ends():
    logits, a, b = example()
    want = cross_entropies(logits, a, 0.0).mean() - cross_entropies(logits, b, 0.0).mean()
    for lam in (1e-30, 0.3, 1 - 1e-6):
        slope = jax.jit(jax.grad(mixed, 3))(logits, a, b, jnp.float32(lam))
        np.testing.assert_allclose(slope, want, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_logits_lose_nothing_more(dtype):
    logits, a, b = example((64,), 100)
    logits = logits.astype(dtype)
    value = mixed(logits, a, b, 0.3)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, mixed(logits.astype(jnp.float32), a, b, 0.3), rtol=1e-6)


def test_wrong_arguments_of_mixed_labels_raise():
    logits, a, b = example()
    with pytest.raises(ValueError, match=r"`labels_b` must have the shape of `logits` without"):
        mixed(logits, a, b[:-1], 0.3)
    with pytest.raises(TypeError, match=r"`labels_a` must hold integer class ids, got dtype float"):
        mixed(logits, jax.nn.one_hot(a, 5), b, 0.3)
    with pytest.raises(ValueError, match=r"`logits` must have .* with at least one class, got"):
        mixed(logits[:, :0], a, b, 0.3)
    with pytest.raises(ValueError, match=r"`lam` must be the share of the first labels in"):
        targets.mixed_cross_entropy(logits, a, b, lam=np.float32(np.nan))


# Flooding.


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_flooding_is_the_equation_of_the_paper(dtype):
    loss = jnp.asarray([0.0, 0.125, 0.5, 0.75, 3.0], dtype)
    value, pullback = jax.vjp(lambda x: targets.flood(x, level=0.5), loss)
    assert value.dtype == dtype
    np.testing.assert_array_equal(np.float32(value), [1.0, 0.875, 0.5, 0.75, 3.0])
    (gradient,) = pullback(jnp.ones_like(value))
    np.testing.assert_array_equal(np.float32(gradient), [-1, -1, 0, 1, 1])


def test_a_narrow_loss_is_rounded_once():
    loss = jnp.linspace(0, 0.29, 50).astype(jnp.bfloat16)
    want = (0.6 - loss.astype(jnp.float32)).astype(jnp.bfloat16)
    np.testing.assert_array_equal(targets.flood(loss, level=0.3), want)


def test_above_the_level_the_loss_stays_to_the_bit():
    loss = jnp.asarray(np.random.default_rng(0).exponential(size=1000), jnp.float32)
    for level in (0.0, jnp.float32(0), -0.0, -1.0, 0.3):
        flooded = targets.flood(loss, level=level)
        kept = loss > level
        np.testing.assert_array_equal(flooded[kept], loss[kept])
    assert not np.array_equal(jnp.abs(loss - 0.3) + 0.3, targets.flood(loss, level=0.3))


def test_level_zero_leaves_losses_that_are_not_negative():
    special = jnp.array([0.0, 1e-40, 1e-30, 1.0, jnp.inf, jnp.nan])
    flooded = targets.flood(special, level=jnp.zeros(()))
    assert np.asarray(flooded).tobytes() == np.asarray(special).tobytes()
    assert targets.flood(jnp.float32(-2), level=0.0) == 2


def test_flooding_at_infinite_levels_and_losses():
    infinite = jnp.array([-jnp.inf, jnp.inf, 1.0])
    np.testing.assert_array_equal(targets.flood(infinite, level=-jnp.inf), infinite)
    np.testing.assert_array_equal(targets.flood(infinite, level=0.5), [np.inf, np.inf, 1.0])
    assert targets.flood(jnp.float32(1), level=jnp.inf) == np.inf
    assert targets.flood(jnp.float32(1), level=jnp.float32(jnp.nan)) == 1


def test_descent_on_a_flooded_loss_floats_at_the_level():
    """Where plain descent reaches zero."""

    def end(level):
        def loss(w):
            return targets.flood(jnp.sum(w**2), level=level)

        w, _ = jax.lax.scan(
            lambda w, _: (w - 0.01 * jax.grad(loss)(w), None), jnp.ones(3), length=500
        )
        return jnp.sum(w**2)

    levels = jnp.array([0.0, 0.5, 1.0])
    np.testing.assert_allclose(jax.jit(jax.vmap(end))(levels), levels, atol=0.05)


def test_flooding_the_mean_differs_from_the_mean_of_flooded_losses():
    losses = jnp.array([0.1, 0.9])
    assert targets.flood(losses.mean(), level=0.5) == 0.5
    np.testing.assert_allclose(targets.flood(losses, level=0.5).mean(), 0.9)
