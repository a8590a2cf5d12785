"""A strength that follows a metric, against a plain Python class, and through whole runs."""

import math
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxreg import penalties, transforms
from jaxreg.training import early_stopping, plateau
from tests.curves import LENGTH, curves, five_hundred, padded

NAN, INF = math.nan, math.inf


class Published:
    """The seed's class, which multiplies by 1.1.

    It is defined where the first number is not infinite, which it does not take for an improvement.
    """

    def __init__(self, initial_strength, patience, factor=1.1):
        self.strength, self.patience, self.factor = initial_strength, patience, factor
        self.best_val_loss, self.counter = INF, 0

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


@partial(jax.jit, static_argnames="update")
def scanned(start, curve, patience, factor, update=plateau.update, **options):
    """State after every metric of a curve."""

    def step(state, metric):
        state = update(state, metric, patience=patience, factor=factor, **options)
        return state, state

    return jax.lax.scan(step, start, curve)[1]


def run(curve, patience=2, factor=2.0, start=1.0, **options):
    curve = jnp.asarray(curve, jnp.float32)
    return scanned(plateau.init(start), curve, patience, factor, **options)


def strengths(*arguments, **options):
    return run(*arguments, **options).strength.tolist()


def starts_finite(curve):
    """Whether the first number of a curve is one that the published class counts."""
    numbers = curve[~np.isnan(curve)]
    return len(numbers) == 0 or numbers[0] < INF


@five_hundred
@given(
    curve=curves().filter(starts_finite),
    patience=st.integers(0, 6),
    factor=st.sampled_from([1.1, 2.0, 0.5]),
)
def test_decides_as_the_published_class(curve, patience, factor):
    got = scanned(plateau.init(1e-4), padded(curve), patience, np.float32(factor))
    got = jax.tree.map(lambda leaf: leaf[: len(curve)], jax.device_get(got))
    published = Published(1e-4, patience, factor)
    rows = [(published.update(m), published.best_val_loss, published.counter) for m in curve]
    strength, best, counter = np.array(rows).T
    np.testing.assert_array_equal(got.best_metric, best)
    np.testing.assert_array_equal(got.stale, counter)
    np.testing.assert_allclose(got.strength, strength, rtol=1e-5)
    np.testing.assert_array_equal(np.diff(got.strength) != 0, np.diff(strength) != 0)


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


def test_the_best_value_is_the_one_of_early_stopping():
    curve = jnp.array([NAN, INF, 3.0, -1.0, -1.2, NAN, -4.0, -4.3, 2.0])
    states = run(curve, min_delta=0.25)
    stopping = early_stopping.init(None)
    for i, metric in enumerate(curve):
        stopping = early_stopping.update(stopping, metric, None, patience=99, min_delta=0.25)
        np.testing.assert_array_equal(states.best_metric[i], stopping.best_metric)
        np.testing.assert_array_equal(states.has_best[i], stopping.has_best)


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
    assert strengths([1.0] * 5, 1, 0.5, minimum=0.2) == pytest.approx([1, 0.5, 0.25, 0.2, 0.2])
    assert strengths([1.0], start=9.0, maximum=6.0) == [6]
    assert strengths([1.0], start=0.0, minimum=0.5) == [0.5]
    assert strengths([1.0] * 4, 1, start=0.0) == [0, 0, 0, 0]


def test_relief_acts_at_improvements_alone():
    assert strengths([4.0, 3.0, 3.0, 2.0], 1, relief=0.5) == [0.5, 0.25, 0.5, 0.25]
    assert strengths([NAN, NAN, 1.0], 2, relief=0.0, minimum=0.25) == [1, 2, 0.25]


def test_maximizing_is_minimizing_the_negated_metric():
    curve = jnp.array([0.5, 0.7, NAN, 0.6, 0.7, 0.9])
    options = {"relief": 0.9, "min_delta": 0.01, "minimum": 0.1, "maximum": 1.5}
    states = run(curve, update=plateau.update_maximizing, **options)
    jax.tree.map(np.testing.assert_array_equal, states, run(-curve, **options))
    assert -states.best_metric[-1] == np.float32(0.9)
    assert states.strength[3] == 1.5


def test_many_runs_with_strengths_of_their_own_in_one_program():
    rng = np.random.default_rng(0)
    curves = jnp.asarray(rng.normal(0, 1, (8, LENGTH)), jnp.float32)
    patience, factor = jnp.arange(8), jnp.linspace(0.5, 2, 8)
    chex.clear_trace_counter()

    @jax.jit
    @partial(chex.assert_max_traces, n=1)
    def together(curves, patience, factor):
        run_one = lambda c, n, f: scanned(plateau.init(f), c, n, f, maximum=9 * f)  # noqa: E731
        return jax.vmap(run_one)(curves, patience, factor)

    states = together(curves, patience, factor)
    together(curves, patience + 1, factor / 2)
    for i in range(8):
        alone = run(curves[i], int(patience[i]), factor[i], factor[i], maximum=9 * factor[i])
        row = jax.tree.map(lambda leaf, i=i: leaf[i], states)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), row, alone)


def test_eager_updates_are_those_of_the_scan_and_keep_shapes_and_dtypes():
    curve = [3.0, 2.0, 2.5, NAN, 2.5]
    states, state = run(curve), plateau.init(np.float64(1.0))
    for i, metric in enumerate(curve):
        new = plateau.update(state, np.float64(metric), patience=2, factor=2)
        for leaf, other in zip(state, new, strict=True):
            assert (leaf.shape, leaf.dtype, leaf.weak_type) == (
                other.shape, other.dtype, other.weak_type)  # fmt: skip
        state = new
        row = jax.tree.map(lambda leaf, i=i: leaf[i], states)
        jax.tree.map(np.testing.assert_array_equal, state, row)


def test_the_best_metric_is_float32_whatever_comes_in():
    state = plateau.update(plateau.init(jnp.bfloat16(1)), jnp.bfloat16(3), patience=1, factor=1)
    state = plateau.update(state, 2.999, patience=1, factor=2.0)  # bfloat16 would see 3 again.
    assert state.best_metric == np.float32(2.999)
    assert state.strength.dtype == state.best_metric.dtype == jnp.float32
    assert state.strength == 1


def test_the_state_keeps_its_dtypes_among_float64():
    with jax.enable_x64(True):
        wide = {"factor": jnp.float64(2), "minimum": jnp.float64(0), "maximum": np.float64(3)}
        state = plateau.update(plateau.init(1.0), jnp.float64(1), patience=jnp.int64(2), **wide)
        new = plateau.update(state, 2.0, patience=1, relief=jnp.float64(1), **wide)
    for before, after in zip(state, new, strict=True):
        assert before.dtype == after.dtype
    assert new.strength.dtype == new.best_metric.dtype == jnp.float32
    assert new.strength == 2


# The strength of a decay, in a whole run that is one scan.

NOISE = jax.random.normal(jax.random.key(0), (60, 8))


def optimizer(weight):
    decay = transforms.decoupled_decay(weight, learning_rate=0.05, mask=None)
    return optax.chain(optax.adam(0.05), decay)


def gradient(w, noise):
    return jax.grad(lambda w: jnp.square(w - 1 - noise).mean())(w)


def validation(w):
    return jnp.square(w - 0.5).mean()


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


def injected(carry, noise):
    w, state, adaptive = carry
    updates, (adam, decay) = INJECTED.update(gradient(w, noise), state, w)
    w = optax.apply_updates(w, updates)
    adaptive = plateau.update(adaptive, validation(w), patience=3, factor=2.0, maximum=8.0)
    decay = decay._replace(hyperparams={**decay.hyperparams, "weight": adaptive.strength})
    return (w, (adam, decay), adaptive), adaptive.strength


def by_loop():
    w, adaptive, path = jnp.zeros(8), Published(0.1, 3, 2.0), []
    state = optimizer(0.1).init(w)
    for noise in NOISE:
        updates, state = optimizer(adaptive.strength).update(gradient(w, noise), state, w)
        w = optax.apply_updates(w, updates)
        adaptive.update(float(validation(w)))
        adaptive.strength = min(adaptive.strength, 8.0)
        path.append(adaptive.strength)
    return w, path


@pytest.mark.parametrize(
    ("step", "start"), [(made_anew, optimizer(0.0)), (injected, INJECTED)], ids=["anew", "injected"]
)
def test_a_whole_run_with_an_adaptive_decay_is_one_scan(step, start):
    w = jnp.zeros(8)
    (w, _, adaptive), path = jax.jit(partial(jax.lax.scan, step))(
        (w, start.init(w), plateau.init(0.1)), NOISE
    )
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

    (w, adaptive), _ = jax.lax.scan(step, (jnp.full(8, 5.0), plateau.init(0.01)), NOISE)
    assert adaptive.strength == 1
    assert abs(w).max() < 0.1


# Errors.


@pytest.mark.parametrize("update", [plateau.update, plateau.update_maximizing])
@pytest.mark.parametrize("metric", [np.ones(1), jnp.ones(2)], ids=str)
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
        plateau.init(jnp.ones(2))
