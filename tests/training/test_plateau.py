"""A strength that follows a metric, against a plain Python class, and through whole runs."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import penalties, transforms
from jaxreg.training import plateau
from tests.helpers import few
from tests.training.helpers import LENGTH, padded, some_curves

NAN, INF = math.nan, math.inf
CURVES = 500


class Published:
    """The published class, which multiplies by 1.1.

    It is defined where the first number is not infinite, which it does not take for an improvement.
    """

    def __init__(self, initial_strength, patience, factor=1.1):
        self.strength = initial_strength
        self.patience = patience
        self.factor = factor
        self.best_val_loss = INF
        self.counter = 0

    def update(self, val_loss):
        if val_loss < self.best_val_loss:
            self.best_val_loss = val_loss
            self.counter = 0
        else:
            self.counter += 1
            if self.counter >= self.patience:
                self.strength *= self.factor
                self.counter = 0
        return self.strength


def scan(start, curve, patience, numbers, update=plateau.update):
    """State after every metric of a curve."""

    def step(state, metric):
        state = update(state, metric, patience=patience, **numbers)
        return state, state

    return jax.lax.scan(step, plateau.init(start), curve)[1]


scanned = jax.jit(scan)
scanned_together = jax.jit(jax.vmap(scan))
OFF = {"factor": 2.0, "relief": 1.0, "min_delta": 0.0, "minimum": 0.0, "maximum": INF}


def run(curve, patience=2, start=1.0, scanned=scanned, **numbers):
    """States of a curve of any length, by one program for all of them."""
    numbers = {name: np.float32(value) for name, value in (OFF | numbers).items()}
    states = scanned(np.float32(start), padded(curve), np.float32(patience), numbers)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[: len(curve)], states)


def strengths(*arguments, **options):
    return run(*arguments, **options).strength.tolist()


def starts_finite(curve):
    """Returns whether the published class counts the first number of a curve."""
    numbers = curve[~np.isnan(curve)]
    return len(numbers) == 0 or numbers[0] < INF


@few("seed", range(8))
def test_decides_as_the_published_class(seed):
    """Five hundred curves in one program, each with a patience and a factor of its own."""
    rng = np.random.default_rng(seed)
    curves = [curve for curve in some_curves(CURVES, seed) if starts_finite(curve)]
    number = len(curves)
    patience = rng.integers(0, 7, number, dtype=np.int32)
    factor = rng.choice([1.1, 2.0, 0.5], number)
    start = np.full(number, 1e-4, np.float32)
    stacked = np.stack([padded(curve) for curve in curves])
    together = scanned_together(start, stacked, patience, {"factor": np.float32(factor)})
    together = jax.tree.map(np.asarray, together)
    changes = 0
    for index, curve in enumerate(curves):
        rows = (index, slice(len(curve)))
        got = jax.tree.map(lambda leaf, rows=rows: leaf[rows], together)
        published = Published(1e-4, patience[index], factor[index])
        found = [(published.update(m), published.best_val_loss, published.counter) for m in curve]
        strength, best, counter = np.array(found).T
        np.testing.assert_array_equal(got.best_metric, best)
        np.testing.assert_array_equal(got.stale, counter)
        np.testing.assert_allclose(got.strength, strength, rtol=1e-5)
        np.testing.assert_array_equal(np.diff(got.strength) != 0, np.diff(strength) != 0)
        np.testing.assert_array_equal(got.has_best, np.cumsum(~np.isnan(curve)) > 0)
        changes += (np.diff(strength) != 0).sum()
    assert number > 0.8 * CURVES
    assert changes > number


def test_where_the_published_class_is_not_defined():
    published, curve = Published(1.0, 2, 2.0), [INF, INF, 3.0]
    assert [published.update(m) for m in curve] == [1, 2, 2]
    assert strengths(curve) == [1, 1, 1]  # The first number is an improvement on nothing.


# One rule for patience: act at the N-th value in a row that is no improvement; 0 counts as 1.
@pytest.mark.parametrize(
    ("patience", "want"),
    [
        (0, [1, 2, 4, 8, 16]),
        (1, [1, 2, 4, 8, 16]),
        (2, [1, 1, 2, 2, 4]),
        (4, [1, 1, 1, 1, 2]),
        (INF, [1, 1, 1, 1, 1]),
    ],
)
def test_patience_on_a_constant_metric(patience, want):
    assert strengths([1.0] * 5, patience) == want


@pytest.mark.parametrize(
    ("curve", "want", "best"),
    [
        ([3.0, 4.0, NAN, 2.0], [1, 1, 2, 2], 2.0),
        ([NAN, NAN, 1.0, 1.0], [1, 2, 2, 2], 1.0),
        ([NAN, 5.0, NAN, 6.0], [1, 1, 1, 2], 5.0),
        ([INF, INF, INF], [1, 1, 2], INF),
        ([INF, 5.0, INF, 4.0], [1, 1, 1, 1], 4.0),
        ([-INF, 1.0, -INF], [1, 1, 2], -INF),
        ([-1.0, -2.0, -1.5, -1.9, -3.0], [1, 1, 1, 2, 2], -3.0),
    ],
    ids=str,
)
def test_awkward_metrics(curve, want, best):
    states = run(curve)
    assert states.strength.tolist() == want
    assert states.best_metric[-1] == best


def test_the_best_value_is_the_one_that_is_better_by_min_delta():
    states = run([NAN, INF, 3.0, -1.0, -1.2, NAN, -4.0, -4.3, 2.0], min_delta=0.25)
    best = np.float32([INF, INF, 3.0, -1.0, -1.0, -1.0, -4.0, -4.3, -4.3])
    np.testing.assert_array_equal(states.best_metric, best)
    np.testing.assert_array_equal(states.has_best, [False] + [True] * 8)
    np.testing.assert_array_equal(states.stale, [1, 0, 0, 0, 1, 0, 0, 0, 1])


@pytest.mark.parametrize(
    ("curve", "min_delta", "want"),
    [
        ([1.0, 0.5], 0.5, [1, 2]),  # Exactly min_delta better is no improvement.
        ([1.0, 0.49], 0.5, [1, 1]),
        ([1.0, 0.75, 0.5, 0.25], 0.5, [1, 2, 4, 4]),  # From the best, not from the last value.
        ([-1.0, -1.25, -2.0], 0.5, [1, 2, 2]),
    ],
)
def test_min_delta_is_absolute(curve, min_delta, want):
    assert strengths(curve, 1, min_delta=min_delta) == want


def test_bounds_hold_after_every_update():
    assert strengths([1.0] * 5, 1, maximum=6.0) == [1, 2, 4, 6, 6]
    assert strengths([1.0] * 5, 1, factor=0.5, minimum=0.2) == pytest.approx(
        [1, 0.5, 0.25, 0.2, 0.2]
    )
    assert strengths([1.0], start=9.0, maximum=6.0) == [6]
    assert strengths([1.0], start=0.0, minimum=0.5) == [0.5]
    assert strengths([1.0] * 4, 1, start=0.0) == [0, 0, 0, 0]


def test_relief_acts_at_improvements_alone():
    assert strengths([4.0, 3.0, 3.0, 2.0], 1, relief=0.5) == [0.5, 0.25, 0.5, 0.25]
    assert strengths([NAN, NAN, 1.0], 2, relief=0.0, minimum=0.25) == [1, 2, 0.25]


def test_maximizing_keeps_the_largest_value():
    maximizing = jax.jit(partial(scan, update=plateau.update_maximizing))
    options = {"relief": 0.5, "min_delta": 0.125, "minimum": 0.375, "maximum": 1.5}
    states = run([0.5, 0.75, NAN, 0.75, 0.875, 1.0, 0.5, 0.5], scanned=maximizing, **options)
    np.testing.assert_array_equal(-states.best_metric, [0.5] + [0.75] * 4 + [1.0] * 3)
    want = [0.5, 0.375, 0.375, 0.75, 0.75, 0.375, 0.375, 0.75]
    np.testing.assert_array_equal(states.strength, want)
    np.testing.assert_array_equal(states.stale, [0, 0, 1, 0, 1, 0, 1, 0])
    assert strengths([1.0] * 5, 1, scanned=maximizing, maximum=3.0) == [1, 2, 3, 3, 3]


def test_many_runs_with_strengths_of_their_own_in_one_program():
    curves = np.float32(np.random.default_rng(0).normal(0, 1, (8, LENGTH)))
    patience = np.arange(8, dtype=np.int32)
    factor = np.linspace(0.5, 2, 8, dtype=np.float32)
    traces = []

    @jax.jit
    @jax.vmap
    def together(curve, patience, factor):
        traces.append(1)
        return scan(factor, curve, patience, {"factor": factor, "maximum": 9 * factor})

    states = together(curves, patience, factor)
    together(curves, patience + 1, factor / 2)
    assert len(traces) == 1
    for index in range(8):
        published = Published(float(factor[index]), patience[index], float(factor[index]))
        want = []
        for metric in curves[index]:
            published.strength = min(published.update(metric), 9 * float(factor[index]))
            want.append(published.strength)
        np.testing.assert_allclose(states.strength[index], want, rtol=1e-5)


# Single operations, one program each.
@pytest.mark.programs(24)
def test_eager_updates_are_those_of_the_scan_and_keep_shapes_and_dtypes():
    curve = [3.0, 2.0, 2.5, NAN, 2.5]
    states = run(curve)
    state = plateau.init(np.float64(1.0))
    for index, metric in enumerate(curve):
        new = plateau.update(state, np.float64(metric), patience=2, factor=2)
        for leaf, other in zip(state, new, strict=True):
            assert (leaf.shape, leaf.dtype, leaf.weak_type) == (
                other.shape, other.dtype, other.weak_type)  # fmt: skip
        state = new
        row = jax.tree.map(lambda leaf, i=index: leaf[i], states)
        jax.tree.map(np.testing.assert_array_equal, state, row)


def test_the_best_metric_is_float32_whatever_comes_in():
    @jax.jit
    def twice(first, second, strength):
        state = plateau.update(plateau.init(strength), first, patience=1, factor=1)
        return plateau.update(state, second, patience=1, factor=2.0)

    # bfloat16 would see 3 again.
    state = twice(jnp.bfloat16(3), np.float32(2.999), jnp.bfloat16(1))
    assert state.best_metric == np.float32(2.999)
    assert state.strength.dtype == state.best_metric.dtype == jnp.float32
    assert state.strength == 1


def test_the_state_keeps_its_dtypes_among_float64():
    wide = dict.fromkeys(("factor", "relief", "minimum"), np.float64(2)) | {"maximum": 3.0}
    with jax.enable_x64(True):
        state = jax.eval_shape(plateau.init, np.float64(1))
        update = partial(plateau.update, patience=np.int64(2), **wide)
        new = jax.eval_shape(update, state, np.float64(1))
        traced = jax.eval_shape(
            lambda state, metric, numbers: plateau.update(state, metric, patience=2, **numbers),
            state, np.float64(1), wide,
        )  # fmt: skip
    assert new == state
    assert traced == state
    assert [leaf.dtype for leaf in new] == [np.float32, np.float32, bool, np.int32]


def test_a_state_that_was_cast_keeps_its_dtypes():
    state = jax.eval_shape(plateau.init, 1.0)
    for dtype in (jnp.bfloat16, np.float16):
        cast = jax.tree.map(
            lambda leaf, dtype=dtype: jax.ShapeDtypeStruct(
                (), dtype if leaf.dtype == np.float32 else leaf.dtype
            ),
            state,
        )
        new = jax.eval_shape(partial(plateau.update, patience=2, factor=2.0), cast, 1.0)
        assert new == cast


# The strength of a decay, in a whole run that is one scan.

NOISE = np.float32(np.random.default_rng(0).normal(size=(60, 8)))


def optimizer(weight):
    decay = transforms.decoupled_decay(weight, learning_rate=0.05, mask=None)
    return optax.chain(optax.adam(0.05), decay)


def gradient(w, noise):
    """Of the mean square of `w - 1 - noise`."""
    return (w - 1 - noise) / 4


def validation(w):
    return ((w - 0.5) ** 2).mean()


def made_anew(carry, noise):
    w, state, adaptive = carry
    updates, state = optimizer(adaptive.strength).update(gradient(w, noise), state, w)
    w = optax.apply_updates(w, updates)
    adaptive = plateau.update(adaptive, validation(w), patience=3, factor=2.0, maximum=8.0)
    return (w, state, adaptive), adaptive.strength


INJECTED = optax.chain(
    optax.adam(0.05),
    optax.inject_hyperparams(transforms.decoupled_decay, static_args=("mask",))(
        weight=0.1, learning_rate=0.05, mask=None
    ),
)


def step_with_injection(carry, noise):
    w, state, adaptive = carry
    updates, chained = INJECTED.update(gradient(w, noise), state, w)
    adam = chained[0]
    decay = chained[1]
    w = optax.apply_updates(w, updates)
    adaptive = plateau.update(adaptive, validation(w), patience=3, factor=2.0, maximum=8.0)
    decay = decay._replace(hyperparams={**decay.hyperparams, "weight": adaptive.strength})
    return (w, (adam, decay), adaptive), adaptive.strength


def by_loop():
    """The same in NumPy: Adam, and a decay by the strength of the published class."""
    w = np.zeros(8)
    first = np.zeros(8)
    second = np.zeros(8)
    adaptive = Published(0.1, 3, 2.0)
    path = []
    for step, noise in enumerate(np.float64(NOISE), 1):
        g = gradient(w, noise)
        first = 0.9 * first + 0.1 * g
        second = 0.999 * second + 0.001 * g**2
        size = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        w = w - 0.05 * size - 0.05 * adaptive.strength * w
        adaptive.update(validation(w))
        adaptive.strength = min(adaptive.strength, 8.0)
        path.append(adaptive.strength)
    return w, path


@few(
    ("step", "start"),
    [(made_anew, optimizer(0.0)), (step_with_injection, INJECTED)],
    ids=["anew", "injected"],
)
def test_a_whole_run_with_an_adaptive_decay_is_one_scan(step, start):
    @jax.jit
    def whole_run(noise):
        w = jnp.zeros(8)
        return jax.lax.scan(step, (w, start.init(w), plateau.init(0.1)), noise)

    (w, _, adaptive), path = whole_run(NOISE)
    want, want_path = by_loop()
    np.testing.assert_allclose(path, want_path, rtol=1e-5)
    np.testing.assert_allclose(w, want, rtol=1e-4, atol=1e-5)
    assert 0.2 < float(adaptive.strength) <= 8
    assert len(set(want_path)) > 2


def test_the_strength_of_a_penalty():
    def step(carry, noise):
        w, adaptive = carry
        grad = jax.grad(lambda w: (w * noise).mean() + adaptive.strength * penalties.l2(w))(w)
        w = w - 0.1 * grad
        return (w, plateau.update(adaptive, 1.0, patience=1, factor=2.0, maximum=1.0)), None

    @jax.jit
    def whole_run(noise):
        return jax.lax.scan(step, (jnp.full(8, 5.0), plateau.init(0.01)), noise)[0]

    w, adaptive = whole_run(NOISE)
    want = np.full(8, 5.0)
    strength = 0.01
    for count, noise in enumerate(np.float64(NOISE)):
        want = want - 0.1 * (noise / 8 + strength * want)
        strength = min(2 * strength, 1.0) if count else strength
    assert adaptive.strength == 1
    np.testing.assert_allclose(w, want, rtol=1e-4, atol=1e-6)


# Errors.


@pytest.mark.parametrize("update", [plateau.update, plateau.update_maximizing])
@pytest.mark.parametrize("metric", [np.ones(1), np.ones(2)], ids=str)
def test_a_metric_that_is_no_scalar_raises(update, metric):
    with pytest.raises(ValueError, match=r"`metric` must be a scalar, got shape \(\d,\)"):
        update(plateau.init(1.0), metric, patience=2, factor=2.0)


@pytest.mark.parametrize("name", ["patience", "factor", "relief", "min_delta", "minimum"])
@pytest.mark.parametrize("value", [-1, NAN, np.int32(-3)], ids=str)
def test_negative_and_missing_numbers_raise(name, value):
    arguments = {"patience": 2, "factor": 2.0, name: value}
    with pytest.raises(ValueError, match=rf"`{name}` must be zero or positive, got"):
        plateau.update(plateau.init(1.0), 1.0, **arguments)
    with pytest.raises(ValueError, match=rf"`{name}` must be zero or positive, got"):
        plateau.update_maximizing(plateau.init(1.0), 1.0, **arguments)


def test_bounds_in_the_wrong_order_raise():
    with pytest.raises(ValueError, match=r"`minimum` must be at most `maximum`, got 2\.0 and 1\.0"):
        plateau.update(plateau.init(1.0), 1.0, patience=1, factor=2.0, minimum=2.0, maximum=1.0)


def test_a_start_that_is_no_strength_raises():
    with pytest.raises(ValueError, match=r"`strength` must be zero or positive, got -1"):
        plateau.init(-1.0)
    with pytest.raises(ValueError, match=r"`strength` must be a single number, got shape \(2,\)"):
        plateau.init(np.ones(2))
