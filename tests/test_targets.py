"""Smoothed and mixed labels and flooding: equations, Optax, torch, edges and memory."""

import json
import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxreg import augment, targets
from tests.arrays import float64
from tests.helpers import few
from tests.normalization.helpers import assert_all_close, assert_all_finite, refuses, with_gradients

SHARES = [0.1, 0.0, 0.5, 1.0]
OUT_OF_RANGE = [5, -1, -100, 6, 127]
TORCH = json.loads((pathlib.Path(__file__).parent / "references" / "losses_torch.json").read_text())
NARROW = [jnp.bfloat16, jnp.float16]
every_share = few("alpha", SHARES)


def example(batch=(8,), classes=5, seed=0, scale=4.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, scale, (*batch, classes)).astype(np.float32)
    a, b = [rng.integers(0, classes, batch).astype(np.int32) for _ in range(2)]
    return logits, a, b


LOGITS, A, B = example()


def cross_entropies(logits, labels, alpha):
    """One for each example, from smoothed one-hot rows in float64."""
    log_p = scipy.special.log_softmax(np.asarray(logits, np.float64), -1)
    classes = logits.shape[-1]
    rows = (1 - alpha) * np.eye(classes)[np.asarray(labels)] + alpha / classes
    return -np.sum(np.where(rows > 0, rows * log_p, 0), -1)


def slopes(logits, labels, alpha):
    """Gradient of the sum of the cross entropies by the logits, in float64."""
    classes = logits.shape[-1]
    rows = (1 - alpha) * np.eye(classes)[np.asarray(labels)] + alpha / classes
    return scipy.special.softmax(np.asarray(logits, np.float64), -1) - rows


@jax.jit
def smoothed(logits, labels, alpha=0.0, where=None):
    return jax.value_and_grad(targets.smoothed_cross_entropy)(
        logits, labels, alpha=alpha, where=where
    )


@jax.jit
def mixed(logits, a, b, lam, alpha=0.0, where=None):
    options = {"share": lam, "alpha": alpha, "where": where}
    return jax.value_and_grad(targets.mixed_cross_entropy)(logits, a, b, **options)


# Smoothed labels.


@every_share
@few("batch", [(3, 4), (), (1,), (8,), (2, 3, 4)], ids=str)
@few("classes", [5, 2, 1])
def test_the_loss_is_the_cross_entropy_of_smoothed_rows(alpha, batch, classes):
    """Its gradient is softmax minus targets."""
    logits, labels, _ = example(batch, classes)
    value, gradient = smoothed(logits, labels, alpha)
    np.testing.assert_allclose(
        value, cross_entropies(logits, labels, alpha).mean(), rtol=1e-5, atol=1e-6
    )
    want = slopes(logits, labels, alpha) / labels.size
    np.testing.assert_allclose(gradient, want, atol=3e-7)


@every_share
def test_alpha_is_that_of_optax(alpha):
    """The true class gets its share of alpha too, as in torch.nn.CrossEntropyLoss and Keras."""

    @jax.jit
    def theirs(logits, labels):
        rows = optax.smooth_labels(jax.nn.one_hot(labels, 5), alpha)
        return optax.softmax_cross_entropy(logits, rows).mean()

    np.testing.assert_allclose(smoothed(LOGITS, A, alpha)[0], theirs(LOGITS, A), rtol=2e-6)
    static = jax.jit(lambda z: targets.smoothed_cross_entropy(z, A, alpha=alpha))(LOGITS)
    np.testing.assert_allclose(static, theirs(LOGITS, A), rtol=2e-6)


@few("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", ["cross_entropy", "smoothed_cross_entropy", "mixed_cross_entropy"])
def test_value_and_gradient_equal_those_of_torch(name, dtype):
    a, b = [np.array(labels) for labels in TORCH["labels"].values()]
    lam = TORCH["strengths"]["lam"]
    alpha = TORCH["strengths"]["alpha"]
    tolerance = 1e-12 if dtype == np.float64 else 2e-6
    with jax.enable_x64(dtype == np.float64):
        z = np.array(TORCH["z"], dtype)
        if name == "mixed_cross_entropy":
            # Which in torch is written as two means, each over labels of its own.
            first = smoothed(z, a, alpha)
            second = smoothed(z, b, alpha)
            result = jax.tree.map(lambda x, y: lam * x + (1 - lam) * y, first, second)
        else:
            result = smoothed(z, a, alpha if name.startswith("smoothed") else 0.0)
        assert result[0].dtype == dtype
        expected = TORCH[name]["value"], TORCH[name]["dz"]
        assert_all_close(result, expected, rtol=tolerance, atol=tolerance)


def test_torch_is_nan_where_all_labels_are_ignored():
    """Here the loss and its gradient are 0, see below."""
    assert TORCH["all_ignored"]


@few("dtype", NARROW)
def test_narrow_logits_lose_nothing_more(dtype):
    logits, a, b = example((64,), 100)
    logits = logits.astype(dtype)
    first = cross_entropies(logits, a, 0.1)
    second = cross_entropies(logits, b, 0.1)
    value, _ = smoothed(logits, a, 0.1)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, first.mean(), rtol=1e-5)
    value, _ = mixed(logits, a, b, 0.3, 0.1)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, np.mean(0.3 * first + 0.7 * second), rtol=1e-5)


def test_large_logits_of_float16_do_not_overflow_the_sum():
    logits = np.full((4, 100), 60000.0, np.float16)
    value, _ = smoothed(logits, np.arange(4), 0.1)
    np.testing.assert_allclose(value, np.log(100), atol=4e-3)


@every_share
def test_a_label_out_of_range_contributes_nothing(alpha):
    kept = np.delete(np.arange(8), [0, 3])
    want = cross_entropies(LOGITS, A, alpha)[kept].mean()
    of_kept = slopes(LOGITS, A, alpha)[kept] / 6
    for bad in OUT_OF_RANGE:
        padded = A.copy()
        padded[[0, 3]] = bad
        value, gradient = smoothed(LOGITS, padded, alpha)
        np.testing.assert_allclose(value, want, rtol=1e-5)
        np.testing.assert_array_equal(gradient[np.array([0, 3])], np.zeros((2, 5)))
        np.testing.assert_allclose(np.asarray(gradient)[kept], of_kept, rtol=1e-5, atol=1e-7)


@few("kind", [np.float32, np.int32, bool])
def test_where_selects_and_weighs_examples(kind):
    logits, labels, other = example((3, 4))
    where = np.random.default_rng(1).integers(0, 3, (3, 4)).astype(kind)
    weights = float64(where)
    first = cross_entropies(logits, labels, 0.5)
    second = cross_entropies(logits, other, 0.5)
    value, gradient = smoothed(logits, labels, 0.5, where)
    np.testing.assert_allclose(value, np.average(first, weights=weights), rtol=1e-5)
    want = slopes(logits, labels, 0.5) * weights[..., None] / weights.sum()
    np.testing.assert_allclose(gradient, want, atol=3e-7)
    value, _ = mixed(logits, labels, other, 0.3, 0.5, where)
    np.testing.assert_allclose(value, np.average(0.3 * first + 0.7 * second, weights=weights))


def test_weights_may_be_small_and_differentiated():
    """Their scale does not count; the slope is what more weight would change, but for none."""
    weights = np.float32([1, 2, 0.5, 1, 0, 1, 3, 1])
    each = cross_entropies(LOGITS, A, 0.1)
    mean = np.average(each, weights=weights)
    want = np.where(weights > 0, each - mean, 0) / weights.sum()

    @jax.jit
    def run(where):
        def loss(where):
            return targets.smoothed_cross_entropy(LOGITS, A, alpha=0.1, where=where)

        return jax.value_and_grad(loss)(where)

    for scale in (1.0, 1e-15, 1e15):
        value, slope = run(weights * np.float32(scale))
        np.testing.assert_allclose(value, mean, rtol=1e-5)
        np.testing.assert_allclose(slope * scale, want, rtol=1e-4)


def test_weights_of_classes_are_those_of_torch():
    """Its `weight`: the sum of weighted losses over the sum of the weights."""
    class_weights = np.float32([0.2, 1.0, 3.0, 0.0, 1.5])
    labels = A.copy()
    labels[1] = -100
    kept = np.arange(8) != 1
    want = np.average(cross_entropies(LOGITS, A, 0)[kept], weights=class_weights[A[kept]])
    np.testing.assert_allclose(smoothed(LOGITS, labels, 0.0, class_weights[labels % 5])[0], want)


@every_share
@few("how", ["labels", "where", "empty"])
def test_nothing_counted_is_zero_with_a_zero_gradient(alpha, how):
    logits, a, b = (array[:0] for array in (LOGITS, A, B)) if how == "empty" else (LOGITS, A, B)
    where = np.zeros(8, bool) if how == "where" else None
    if how == "labels":
        a, b = a - 100, b + 5
    for value, gradient in (
        smoothed(logits, a, alpha, where),
        mixed(logits, a, b, 0.3, alpha, where),
    ):
        assert value == 0
        np.testing.assert_array_equal(gradient, np.zeros_like(logits))


@few("alpha", [0.1, 0.0])
def test_garbage_in_examples_that_do_not_count_stays_there(alpha):
    first = cross_entropies(LOGITS[2:], A[2:], alpha).mean()
    second = cross_entropies(LOGITS[2:], B[2:], alpha).mean()
    a = A.copy()
    b = B.copy()
    where = np.arange(8) != 1
    a[0] = -1
    b[0] = 5
    for garbage in (np.nan, np.inf, -np.inf):
        logits = LOGITS.copy()
        logits[:2] = garbage
        for (value, gradient), want in (
            (smoothed(logits, a, alpha, where), first),
            (mixed(logits, a, b, 0.3, alpha, where), 0.3 * first + 0.7 * second),
        ):
            np.testing.assert_allclose(value, want, rtol=1e-5)
            np.testing.assert_array_equal(gradient[:2], np.zeros((2, 5)))
            assert_all_finite(gradient)


def test_excluded_classes_cost_nothing_without_mass_and_infinity_with():
    """In Optax a zero target times an infinite logit is NaN."""
    logits, a, b = LOGITS.copy(), A % 4, B % 4
    logits[:, 4] = -np.inf
    first = cross_entropies(LOGITS[:, :4], a, 0.0).mean()
    second = cross_entropies(LOGITS[:, :4], b, 0.0).mean()
    for (value, gradient), want in (
        (smoothed(logits, a), first),
        (mixed(logits, a, b, 0.3), 0.3 * first + 0.7 * second),
    ):
        np.testing.assert_allclose(value, want, rtol=1e-5)
        assert_all_finite(gradient)
        np.testing.assert_array_equal(gradient[:, 4], np.zeros(8))
    b[0] = 4
    for value, gradient in (
        mixed(logits, a, b, 0.3),
        smoothed(logits, b),
        smoothed(logits, a, 0.1),
        smoothed(logits, a, 1.0),
    ):
        assert value == np.inf
        assert_all_finite(gradient)


def test_alpha_may_be_traced_and_differentiated():
    """The loss is linear in it; beyond its range it acts as the nearest end."""

    @jax.jit
    def run(alpha):
        def loss(alpha):
            return targets.smoothed_cross_entropy(LOGITS, A, alpha=alpha)

        return jax.vmap(jax.value_and_grad(loss))(alpha)

    values, of_alpha = run(np.array([*SHARES, -0.5, 1.5], np.float32))
    acts_as = [*SHARES, 0.0, 1.0]
    want = [cross_entropies(LOGITS, A, alpha).mean() for alpha in acts_as]
    np.testing.assert_allclose(values, want, rtol=1e-5)
    np.testing.assert_allclose(of_alpha[:1], want[3] - want[1], rtol=1e-5)


@few("function", ["mixed", "smoothed"])
def test_no_compiled_gradient_has_an_array_of_labels(function):
    """Beside the logits and their gradient nothing has their size, not even a mask."""
    batch, classes = 96, 4096
    logits = jax.ShapeDtypeStruct((batch, classes), jnp.float32)
    labels = [jax.ShapeDtypeStruct((batch,), jnp.int32)] * (1 + (function == "mixed"))

    def loss(logits, *labels):
        if function == "mixed":
            return targets.mixed_cross_entropy(logits, *labels, share=0.1, alpha=0.1)
        return targets.smoothed_cross_entropy(logits, *labels, alpha=0.1)

    memory = jax.jit(jax.grad(loss)).lower(logits, *labels).compile().memory_analysis()
    assert memory.temp_size_in_bytes < batch * classes / 50
    assert memory.output_size_in_bytes < 1.01 * 4 * batch * classes


# Rows.


@every_share
@few("classes", [8, 1, 2, 10])
def test_rows_are_those_of_optax(alpha, classes):
    labels = np.arange(classes)
    make = jax.jit(lambda y: targets.smooth_labels(y, alpha=alpha, num_classes=classes))
    rows = np.asarray(make(labels))
    assert (rows.shape, rows.dtype) == ((classes, classes), np.float32)
    want = jax.jit(lambda y: optax.smooth_labels(jax.nn.one_hot(y, classes), alpha))(labels)
    np.testing.assert_allclose(rows, want, rtol=2e-7, atol=0)
    np.testing.assert_allclose(rows.sum(-1), np.ones(classes), rtol=1e-6)


def test_the_shares_of_a_row():
    make = jax.jit(lambda y: targets.smooth_labels(y, alpha=0.5, num_classes=4))
    expected = [[[0.125, 0.625, 0.125, 0.125], [0.125] * 3 + [0.625]]]
    np.testing.assert_array_equal(make(np.array([[1, 3]])), expected)


@every_share
@few("classes", [10, 2, 3])
def test_rows_without_the_true_class_are_those_of_fairseq(alpha, classes):
    """Filled with alpha / (K - 1) first and the confidence put in at the label."""
    labels = np.array([[0, 1], [classes - 1, 0]])
    want = np.full((2, 2, classes), alpha / (classes - 1))
    np.put_along_axis(want, labels[..., None], 1 - alpha, -1)
    make = jax.jit(lambda y: targets.smooth_labels_excluding(y, alpha=alpha, num_classes=classes))
    rows = make(labels)
    assert rows.dtype == jnp.float32
    np.testing.assert_allclose(rows, want, rtol=1e-6)


@every_share
def test_a_single_class_keeps_everything(alpha):
    def make(alpha):
        labels = np.array([0, -1, 1], np.int32)
        return targets.smooth_labels_excluding(labels, alpha=alpha, num_classes=1)

    np.testing.assert_array_equal(jax.jit(lambda: make(alpha))(), [[1], [0], [0]])
    np.testing.assert_array_equal(jax.jit(make)(alpha), [[1], [0], [0]])


@pytest.mark.parametrize("smooth", [targets.smooth_labels, targets.smooth_labels_excluding])
@few("dtype", [np.uint8, np.int8, np.int32, np.uint32])
def test_rows_of_labels_out_of_range_are_zero(smooth, dtype):
    """Optax gives padding a row of alpha / K, which trains."""
    bad = [200, 255] if np.iinfo(dtype).min == 0 else [-1, -100, 127]
    labels = np.array([0, 99, 100, *bad], dtype)
    rows = jax.jit(lambda y: smooth(y, alpha=0.5, num_classes=100))(labels)
    sums = np.asarray(rows).sum(-1)
    np.testing.assert_allclose(sums, [1, 1, 0] + [0] * len(bad), rtol=1e-5)
    row = jax.jit(lambda y: smooth(y, alpha=0.0, num_classes=310))(np.array([50], dtype))
    np.testing.assert_array_equal(row[0], np.arange(310) == 50)
    nothing = jax.eval_shape(lambda: smooth(np.zeros(0, dtype), alpha=0.5, num_classes=3))
    assert nothing.shape == (0, 3)


@pytest.mark.parametrize("smooth", [targets.smooth_labels, targets.smooth_labels_excluding])
def test_wide_labels_of_numpy_need_no_wide_dtype(smooth):
    rows = jax.jit(lambda: smooth(np.array([1], np.int64), alpha=0.0, num_classes=2))()
    np.testing.assert_array_equal(rows, [[0, 1]])


@pytest.mark.parametrize("smooth", [targets.smooth_labels, targets.smooth_labels_excluding])
def test_a_traced_share_of_rows_out_of_range_acts_as_the_nearest(smooth):
    run = jax.jit(lambda alpha: smooth(A[:1] * 0, alpha=alpha, num_classes=3))
    np.testing.assert_array_equal(run(-0.5), [[1, 0, 0]])
    own, other = (1 / 3, 1 / 3) if smooth is targets.smooth_labels else (0, 0.5)
    np.testing.assert_allclose(run(1.5), [[own, other, other]], rtol=1e-6, atol=1e-7)


# Mixed labels.


@few("alpha", [0.1, 0.0])
@few("lam", [0.25, 0.0, 0.1, 0.5, 1.0])
@few("batch", [(2, 3), (), (1,), (8,)], ids=str)
def test_the_loss_of_mixed_labels_is_that_of_both_parts(batch, lam, alpha):
    logits, a, b = example(batch)
    first = cross_entropies(logits, a, alpha).mean()
    second = cross_entropies(logits, b, alpha).mean()
    value, gradient = mixed(logits, a, b, lam, alpha)
    np.testing.assert_allclose(value, lam * first + (1 - lam) * second, rtol=1e-5)
    want = lam * slopes(logits, a, alpha) + (1 - lam) * slopes(logits, b, alpha)
    np.testing.assert_allclose(gradient, want / a.size, atol=3e-7)
    static = jax.jit(lambda z: targets.mixed_cross_entropy(z, a, b, share=lam, alpha=alpha))(logits)
    np.testing.assert_allclose(static, value, rtol=1e-6)


def test_one_share_for_each_example():
    logits, a, b = example((3, 4, 4))
    lam = np.array([0.2, 0.5, 1.0], np.float32)[:, None, None]
    first = cross_entropies(logits, a, 0.0)
    second = cross_entropies(logits, b, 0.0)
    value, gradient = mixed(logits, a, b, lam)
    np.testing.assert_allclose(value, (lam * first + (1 - lam) * second).mean(), rtol=1e-6)
    want = lam[..., None] * slopes(logits, a, 0) + (1 - lam[..., None]) * slopes(logits, b, 0)
    np.testing.assert_allclose(gradient, want / 48, atol=1e-7)
    message = r"`share` must broadcast to shape \(3, 4, 4\).*add axes"
    refuses(ValueError, message, targets.mixed_cross_entropy, logits, a, b, share=np.ones(3, "f4"))


@few("lam", [1.0, 0.0])
def test_a_part_without_a_share_may_have_any_label(lam):
    """A class that it alone has may be excluded."""
    logits = LOGITS.copy()
    a = A % 4
    b = B.copy()
    logits[:, 4] = -np.inf
    b[0] = 4
    value, gradient = mixed(logits, *((a, b) if lam else (b, a)), lam)
    np.testing.assert_allclose(value, cross_entropies(LOGITS[:, :4], a, 0).mean(), rtol=1e-5)
    np.testing.assert_allclose(gradient[:, :4], slopes(LOGITS[:, :4], a, 0) / 8, atol=3e-7)


@few("bad", OUT_OF_RANGE)
def test_a_label_out_of_range_of_one_part_adds_nothing(bad):
    """It is not the last class, and the example counts for the other part."""
    a = A.copy()
    b = B.copy()
    a[[0, 3]] = bad
    b[[3, 4, 5]] = bad
    first = cross_entropies(LOGITS, A, 0.1)
    second = cross_entropies(LOGITS, B, 0.1)
    each = 0.3 * first * (a == A) + 0.7 * second * (b == B)
    value, gradient = mixed(LOGITS, a, b, 0.3, 0.1)
    np.testing.assert_allclose(value, each.sum() / 7, rtol=1e-5)
    np.testing.assert_array_equal(gradient[3], np.zeros(5))
    value, _ = mixed(LOGITS, a, b, 0.3, 0.1, np.arange(8) % 2)
    np.testing.assert_allclose(value, each[[1, 5, 7]].mean(), rtol=1e-5)
    # Without a share of the part that has a label an example does not count.
    np.testing.assert_allclose(mixed(LOGITS, a, b, 1.0)[0], smoothed(LOGITS, a)[0], rtol=1e-6)
    np.testing.assert_allclose(mixed(LOGITS, a, b, 0.0)[0], smoothed(LOGITS, b)[0], rtol=1e-6)


def test_a_traced_share_may_be_differentiated_and_out_of_range():
    first = cross_entropies(LOGITS, A, 0.0).mean()
    second = cross_entropies(LOGITS, B, 0.0).mean()
    run = jax.jit(
        jax.vmap(jax.value_and_grad(lambda s: targets.mixed_cross_entropy(LOGITS, A, B, share=s)))
    )
    values, of_share = run(np.array([1e-30, 0.3, 1 - 1e-6, -0.5, 1.5], np.float32))
    shares = np.array([0, 0.3, 1 - 1e-6, 0, 1])
    np.testing.assert_allclose(values, shares * first + (1 - shares) * second, rtol=1e-5)
    np.testing.assert_allclose(of_share[:3], first - second, rtol=1e-5)
    value, _ = mixed(LOGITS, A, B, np.full(8, 1.5, np.float32))
    np.testing.assert_allclose(value, first, rtol=1e-6)


# Distributions.


def rows_of(labels, alpha=0.0, classes=5):
    return (1 - alpha) * np.eye(classes)[labels] + alpha / classes


@every_share
def test_the_loss_of_distributions_is_that_of_optax(alpha):
    q = np.random.default_rng(3).dirichlet(np.ones(5), 8).astype(np.float32)

    @jax.jit
    def theirs(logits, q):
        def loss(logits):
            rows = optax.smooth_labels(q, alpha)
            return optax.softmax_cross_entropy(logits, rows).mean()

        return jax.value_and_grad(loss)(logits)

    value, gradient = smoothed(LOGITS, q, alpha)
    want, want_gradient = theirs(LOGITS, q)
    np.testing.assert_allclose(value, want, rtol=2e-6)
    np.testing.assert_allclose(gradient, want_gradient, atol=2e-7)


@few("alpha", [0.1, 0.0])
def test_mixed_rows_cost_what_their_labels_do(alpha):
    """Also where one part has no label, and where neither has."""
    a = A.copy()
    b = B.copy()
    a[[0, 3]] = -1
    b[[3, 4]] = -1
    lam = np.linspace(0.1, 0.9, 8, dtype=np.float32)
    rows = lam[:, None] * rows_of(A) * (a >= 0)[:, None]
    rows += (1 - lam[:, None]) * rows_of(B) * (b >= 0)[:, None]
    for where in (None, np.float32([1, 0.5, 2, 1, 0, 1, 1, 3])):
        found = smoothed(LOGITS, rows.astype(np.float32), alpha, where)
        assert_all_close(found, mixed(LOGITS, a, b, lam, alpha, where), rtol=2e-6, atol=2e-7)


def test_mixup_and_cutmix_with_smoothing_as_in_timm():
    """timm smooths both rows and then mixes them."""
    key = jax.random.key(0)
    image = np.random.default_rng(0).normal(size=(8, 6, 6, 5)).astype(np.float32)

    def loss(random, image):
        mixed = random(key, image, A, alpha=0.8, num_classes=5, partners=augment.partners.reverse)
        logits = mixed.x.mean((1, 2))
        return mixed.share, logits, targets.smoothed_cross_entropy(logits, mixed.labels, alpha=0.1)

    losses = jax.jit(
        lambda x: [loss(mix, x) for mix in (augment.random_mixup, augment.random_cutmix)]
    )

    for share, logits, loss in jax.device_get(losses(image)):
        rows = share[:, None] * rows_of(A, 0.1) + (1 - share[:, None]) * rows_of(A[::-1], 0.1)
        log_p = scipy.special.log_softmax(float64(logits), -1)
        np.testing.assert_allclose(loss, -(rows * log_p).sum(-1).mean(), rtol=1e-5)


def test_distributions_of_tokens_in_other_dtypes():
    logits = example((3, 4))[0]
    q = np.random.default_rng(3).dirichlet(np.ones(5), (3, 4))
    for dtype in (jnp.bfloat16, np.float32):
        value, _ = smoothed(logits.astype(jnp.bfloat16), q.astype(dtype), 0.1)
        assert value.dtype == np.float32
        rows = 0.9 * float64(q.astype(dtype)) + 0.02
        log_p = scipy.special.log_softmax(float64(logits.astype(jnp.bfloat16)), -1)
        np.testing.assert_allclose(value, -(rows * log_p).sum(-1).mean(), rtol=1e-2)
    with jax.enable_x64(True):
        assert jax.eval_shape(smoothed, logits, q, 0.1)[0].dtype == np.float64


def test_distributions_and_logits_that_exclude_classes():
    """In Optax a zero times an infinite logit is NaN; garbage without a weight is no matter."""
    q = np.random.default_rng(3).dirichlet(np.ones(4), 8).astype(np.float32)
    rows = np.concatenate([q, np.zeros((8, 1), np.float32)], -1)
    logits = LOGITS.copy()
    logits[:, 4] = -np.inf
    want = -(q * scipy.special.log_softmax(float64(LOGITS[:, :4]), -1)).sum(-1)
    value, gradient = smoothed(logits, rows)
    np.testing.assert_allclose(value, want.mean(), rtol=1e-5)
    assert_all_finite(gradient)
    value, gradient = smoothed(logits, rows, 0.1)
    assert value == np.inf
    assert_all_finite(gradient)
    logits[0] = rows[1] = np.nan
    value, gradient = smoothed(logits, rows, 0.0, np.arange(8) > 1)
    np.testing.assert_allclose(value, want[2:].mean(), rtol=1e-5)
    assert_all_finite(gradient)
    assert np.isnan(smoothed(LOGITS, rows)[0])
    value, gradient = smoothed(LOGITS, np.zeros_like(LOGITS))
    assert value == 0
    assert not np.asarray(gradient).any()


# Losses that are put together.


def sums(logits, labels, where, *, reduce=targets.sum_and_count):
    return targets.smoothed_cross_entropy(logits, labels, alpha=0.1, where=where, reduce=reduce)


BATCH = example((32, 3), seed=5)
WEIGHTS = np.random.default_rng(6).choice(np.float32([0, 0, 0.5, 1, 2]), (32, 3))
W = np.random.default_rng(7).normal(size=(5, 5)).astype(np.float32)


def whole_batch():
    """The mean of the whole batch and its slope by the weights of one layer."""
    labels = np.where(np.arange(32)[:, None] % 3 == 0, -1, BATCH[1])

    def loss(w):
        return sums(BATCH[0] @ w, labels, WEIGHTS, reduce=targets.weighted_mean)

    return labels, jax.jit(jax.value_and_grad(loss))(W)


def test_micro_batches_add_up_to_the_batch():
    """Eight of four examples, of which different numbers count."""
    labels, want = whole_batch()

    @jax.jit
    def accumulated(w):
        def step(carry, batch):
            x, y, where = batch
            new = jax.value_and_grad(lambda w: sums(x @ w, y, where), has_aux=True)(w)
            return jax.tree.map(jnp.add, carry, new), None

        parts = [a.reshape(8, 4, *a.shape[1:]) for a in (BATCH[0], labels, WEIGHTS)]
        start = ((jnp.zeros(()), jnp.zeros(())), jnp.zeros_like(w))
        (found, slope), _ = jax.lax.scan(step, start, tuple(parts))
        return targets.SumAndCount(*found).mean(), slope / found[1]

    assert_all_close(accumulated(W), want, rtol=1e-6, atol=1e-7)


@few("how", ["psum", "transposed"])
def test_devices_add_up_to_the_batch(how):
    labels, want = whole_batch()
    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
    over = partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("data"), P("data"), P("data")))

    def mean(w, x, y, where):
        return jax.lax.psum(sums(x @ w, y, where), "data").mean()

    if how == "psum":
        run = over(jax.value_and_grad(mean), out_specs=P())
    else:
        run = jax.value_and_grad(over(mean, out_specs=P()))
    assert_all_close(jax.jit(run)(W, BATCH[0], labels, WEIGHTS), want, rtol=1e-6, atol=1e-7)


def reduced_numbers(reduce):
    """Counts the numbers that are summed over the devices of a sharded batch."""
    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
    spread = NamedSharding(mesh, P("data"))

    def loss(logits, labels):
        return targets.smoothed_cross_entropy(logits, labels, alpha=0.1, reduce=reduce)

    program = jax.jit(loss, in_shardings=(spread, spread)).lower(LOGITS, A).compile()
    lines = [line for line in program.as_text().splitlines() if " all-reduce(" in line]
    assert "all-gather" not in program.as_text()
    return sum(line.split(" all-reduce(")[0].count("f32[]") for line in lines)


def test_where_all_labels_count_nothing_is_counted():
    assert reduced_numbers(targets.weighted_mean) == 2
    assert reduced_numbers(targets.mean_of_all) == 1


def test_reductions_of_losses():
    losses = np.float32([[1, 3, np.inf], [4, 0.5, 2]])
    weights = np.float32([[1, 0.5, 0], [2, 0, 1]])

    @jax.jit
    def run(losses, weights):
        return [
            reduce(losses, weights)
            for reduce in (
                targets.sum_and_count,
                targets.weighted_mean,
                targets.mean_of_all,
                targets.per_example,
            )
        ]

    both, mean, of_all, each = run(losses, weights)
    assert both == (12.5, 4.5)
    np.testing.assert_allclose((both.mean(), mean, of_all), (12.5 / 4.5, 12.5 / 4.5, 12.5 / 6))
    np.testing.assert_array_equal(each, [[1, 1.5, 0], [8, 0, 2]])
    both, mean, of_all, each = run(losses, 0 * weights)
    assert (*both, mean, of_all) == (0, 0, 0, 0)
    assert not np.asarray(each).any()
    narrow = run(losses.astype(np.float16), weights.astype(jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(narrow)} == {np.dtype(np.float32)}
    assert jax.eval_shape(targets.mean_of_all, losses[:0], weights[:0]).shape == ()


def test_losses_of_examples_are_returned():
    labels = A.copy()
    labels[2] = -1
    where = np.float32([1, 0, 2, 1, 1, 1, 0.5, 1])
    found = jax.jit(
        lambda z: (
            sums(z, labels, where, reduce=targets.per_example),
            targets.mixed_cross_entropy(z, labels, B, share=0.25, reduce=targets.per_example),
            sums(z, labels, where, reduce=lambda losses, weights: (losses * weights).max()),
        )
    )(LOGITS)
    first = cross_entropies(LOGITS, A, 0.1) * where * (labels >= 0)
    np.testing.assert_allclose(found[0], first, rtol=1e-5)
    np.testing.assert_allclose(found[2], first.max(), rtol=1e-5)
    parts = [cross_entropies(LOGITS, y, 0) for y in (A, B)]
    second = 0.25 * parts[0] * (labels >= 0) + 0.75 * parts[1]
    np.testing.assert_allclose(found[1], second, rtol=1e-5)


# Flooding.


def flooded(loss, level):
    """Value and slope of each element, as one program with a static level."""
    return with_gradients(lambda x: targets.flood(x, level=level), np.ones_like(loss), loss)


@few("dtype", [np.float16, np.float32, jnp.bfloat16])
def test_flooding_is_the_equation_of_the_paper(dtype):
    value, (gradient,) = flooded(np.array([0.0, 0.125, 0.5, 0.75, 3.0]).astype(dtype), 0.5)
    assert value.dtype == dtype
    np.testing.assert_array_equal(np.asarray(value, "f4"), [1.0, 0.875, 0.5, 0.75, 3.0])
    np.testing.assert_array_equal(np.asarray(gradient, "f4"), [-1, -1, 0, 1, 1])


@few("dtype", [np.float64, np.float32])
def test_flooding_equals_torch(dtype):
    level = list(TORCH["strengths"].values())[3]
    with jax.enable_x64(dtype == np.float64):
        loss = np.array(TORCH["loss"], dtype)
        value, (gradient,) = flooded(loss, level)
        tolerance = 1e-12 if dtype == np.float64 else 2e-6
        np.testing.assert_allclose(value, TORCH["flood"]["value"], rtol=tolerance)
        np.testing.assert_allclose(gradient, TORCH["flood"]["dloss"], rtol=tolerance)


def test_a_narrow_loss_is_rounded_once():
    loss = np.linspace(0, 0.29, 50).astype(jnp.bfloat16)
    want = (np.float32(2 * np.float32(0.3)) - loss.astype(np.float32)).astype(jnp.bfloat16)
    np.testing.assert_array_equal(flooded(loss, 0.3)[0], want)


def test_above_the_level_the_loss_stays_to_the_bit():
    """The paper's formula changes last bits."""
    loss = np.random.default_rng(0).exponential(size=1000).astype(np.float32)
    run = jax.jit(lambda x, level: targets.flood(x, level=level))
    for level in (0.0, -0.0, -1.0, 0.3):
        value = np.asarray(run(loss, level))
        kept = loss > level
        np.testing.assert_array_equal(value[kept], loss[kept])
    assert not np.array_equal(np.abs(loss - np.float32(0.3)) + np.float32(0.3), value)


def test_level_zero_leaves_losses_that_are_not_negative():
    special = np.array([0.0, 1e-40, 1e-30, 1.0, np.inf, np.nan, -2.0], np.float32)
    run = jax.jit(lambda x, level: targets.flood(x, level=level))
    for value in (run(special, 0.0), jax.jit(lambda x: targets.flood(x, level=0.0))(special)):
        assert np.asarray(value)[:6].tobytes() == special[:6].tobytes()
        assert value[6] == 2


def test_flooding_at_infinite_levels_and_losses():
    run = jax.jit(lambda x, level: targets.flood(x, level=level))
    infinite = np.array([-np.inf, np.inf, 1.0], np.float32)
    np.testing.assert_array_equal(run(infinite, -np.inf), infinite)
    np.testing.assert_array_equal(run(infinite, 0.5), [np.inf, np.inf, 1.0])
    assert run(infinite, np.inf)[2] == np.inf
    assert run(infinite, np.nan)[2] == 1


def test_descent_on_a_flooded_loss_floats_at_the_level():
    """Plain descent reaches zero."""

    def end(level):
        def loss(w):
            return targets.flood(jnp.sum(w**2), level=level)

        w, _ = jax.lax.scan(
            lambda w, _: (w - 0.01 * jax.grad(loss)(w), None), jnp.ones(3), length=500
        )
        return jnp.sum(w**2)

    levels = np.array([0.0, 0.5, 1.0], np.float32)
    np.testing.assert_allclose(jax.jit(jax.vmap(end))(levels), levels, atol=0.05)


# Wrong arguments.


@pytest.mark.parametrize("alpha", [-0.1, 1.5, np.nan, np.float32(2)])
def test_a_share_outside_its_range_raises(alpha):
    """It would give negative probabilities."""
    message = r"`alpha` must be a share of smoothing in \[0, 1\]"
    refuses(ValueError, message, targets.smoothed_cross_entropy, LOGITS, A, alpha=alpha)
    options = {"share": 0.3, "alpha": alpha}
    refuses(ValueError, message, targets.mixed_cross_entropy, LOGITS, A, B, **options)
    for smooth in (targets.smooth_labels, targets.smooth_labels_excluding):
        refuses(ValueError, message, smooth, A, alpha=alpha, num_classes=5)
    message = "`share` must be a share of the first labels in"
    refuses(ValueError, message, targets.mixed_cross_entropy, LOGITS, A, B, share=alpha)


@pytest.mark.parametrize("smooth", [targets.smooth_labels, targets.smooth_labels_excluding])
def test_wrong_arguments_of_rows_raise(smooth):
    for number in (0, -1):
        message = f"`num_classes` must be at least 1, got {number}"
        refuses(ValueError, message, smooth, A, alpha=0.1, num_classes=number)
    message = r"`num_classes` must be an integer, got float 2\.0"
    refuses(TypeError, message, smooth, A, alpha=0.1, num_classes=2.0)
    message = "`labels` must be integer class ids"
    refuses(TypeError, message, smooth, np.eye(2, dtype="f4"), alpha=0.1, num_classes=2)


def test_wrong_arguments_of_losses_raise():
    smooth, mix = targets.smoothed_cross_entropy, targets.mixed_cross_entropy
    message = "`labels` must be integer class ids, got dtype float32"
    refuses(TypeError, message, smooth, LOGITS, A.astype("f4"), alpha=0.1)
    message = "`where` must have the same shape as `labels`, "
    refuses(ValueError, message, smooth, LOGITS, A, alpha=0.1, where=np.ones((8, 1)))
    message = "`where` must have the same shape as `labels_a`, "
    refuses(ValueError, message, mix, LOGITS, A, B, share=0.3, where=np.ones((8, 1)))
    message = r"`where` must have the same shape as `labels` without its last axis, \(8,\), got "
    refuses(ValueError, message, smooth, LOGITS, LOGITS, alpha=0.1, where=np.ones((8, 5)))
    message = "`labels` must be integer class ids, got dtype float32"
    refuses(TypeError, message, smooth, LOGITS, LOGITS[:, :4], alpha=0.1)
    message = "`where` must contain weights that are zero or positive, got -1"
    for labels in (A, LOGITS):
        refuses(ValueError, message, smooth, LOGITS, labels, alpha=0.1, where=-np.ones(8))
    refuses(ValueError, message, mix, LOGITS, A, B, share=0.3, where=-np.ones(8))
    message = r"`weights` must have the same shape as `losses`, \(8,\), got \(5,\)"
    for reduce in (targets.weighted_mean, targets.mean_of_all, targets.per_example):
        refuses(ValueError, message, reduce, LOGITS[:, 0], LOGITS[0])
        refuses(TypeError, "`losses` must have a floating-point", reduce, A, LOGITS[:, 0])
        refuses(TypeError, "`weights` must have a floating-point", reduce, LOGITS[:, 0], A)
    message = "`labels_b` must have the same shape as `logits` without"
    refuses(ValueError, message, mix, LOGITS, A, B[:-1], share=0.3)
    message = "`labels_a` must be integer class ids, got dtype float"
    refuses(TypeError, message, mix, LOGITS, A.astype("f4"), B, share=0.3)
    refuses(TypeError, "`loss` must have a floating-point", targets.flood, A, level=0.0)
    refuses(ValueError, "`level` must be a number in", targets.flood, LOGITS, level=np.nan)
    message = r"`level` must be a single number, got shape \(5,\)"
    refuses(ValueError, message, targets.flood, LOGITS, level=np.ones(5))
