"""Early stopping against a plain Python class, with awkward metrics, and as a JAX value."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxreg.training import early_stopping
from tests.curves import LENGTH, curves, five_hundred, padded

NAN, INF = math.nan, math.inf


class Published:
    """The seed's class, written for a model with mutable weights.

    It is defined for a patience of 1 or more and a first metric that is a number. With a patience
    of 0 it stops at once, whatever the metric, and nothing is better than a NaN that came first.
    """

    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, np.float32(min_delta)
        self.best_loss, self.counter, self.best_weights = None, 0, None

    def __call__(self, loss, weights):
        if self.best_loss is None:
            self.best_loss, self.best_weights = loss, weights
        elif loss < self.best_loss - self.min_delta:
            self.best_loss, self.counter, self.best_weights = loss, 0, weights
        else:
            self.counter += 1
        return self.counter >= self.patience


def random_curves():
    """Eight noisy descents."""
    noise = np.random.default_rng(0).normal(0, 1, (8, LENGTH))
    return np.float32(noise - 0.2 * np.arange(LENGTH))


def by_class(curve, patience, min_delta):
    """Stopping step (or the length), best step, best loss and counter of the published class."""
    stopping = Published(patience, min_delta)
    with np.errstate(invalid="ignore", over="ignore"):
        for step, loss in enumerate(curve):
            if stopping(loss, step):
                return step, stopping.best_weights, stopping.best_loss, stopping.counter
    return len(curve), stopping.best_weights, stopping.best_loss, stopping.counter


def mixed(steps):
    """Parameters of two dtypes, bfloat16 among them, that tell the number of the step."""
    return {"narrow": 1 + steps.astype(jnp.bfloat16) / 128, "step": steps}


@partial(jax.jit, static_argnames=("update", "parameters"))
def scanned(curve, patience, min_delta=0.0, update=early_stopping.update, parameters=jnp.asarray):
    """State after every metric of a curve; the parameters are the number of the step."""

    def step(state, row):
        metric, params = row
        state = update(state, metric, params, patience=patience, min_delta=min_delta)
        return state, state

    steps = parameters(jnp.arange(curve.shape[0], dtype=jnp.int32))
    start = early_stopping.init(parameters(jnp.int32(-1)))
    return jax.lax.scan(step, start, (curve, steps))


def run(curve, patience, min_delta=0.0):
    final, states = scanned(jnp.asarray(curve, jnp.float32), patience, min_delta)
    stops = np.flatnonzero(states.should_stop)
    return final, int(stops[0]) if len(stops) else None


@five_hundred
@given(
    curve=curves().filter(lambda curve: not np.isnan(curve[0])),
    patience=st.integers(1, 6),
    min_delta=st.sampled_from([0.0, 0.0, 0.25, 1e-3, 1e30]),
)
def test_decides_as_the_published_class(curve, patience, min_delta):
    _, states = scanned(padded(curve), patience, np.float32(min_delta), parameters=mixed)
    states = jax.device_get(states)
    states = jax.tree.map(lambda leaf: leaf[: len(curve)], states)
    stop, best_step, best_loss, counter = by_class(curve, patience, min_delta)
    stops = np.arange(len(curve)) >= stop
    np.testing.assert_array_equal(states.should_stop, stops)
    last = jax.tree.map(lambda leaf: leaf[-1], states)
    assert (last.best_metric, last.stale, last.has_best) == (best_loss, counter, True)
    want = jax.device_get(mixed(jnp.int32(best_step)))
    assert last.best_params == want
    assert last.best_params["narrow"].dtype == want["narrow"].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("curve", "patience", "published", "ours"),
    [([NAN, 3.0, 2.0], 2, (2, 0), (None, 2)), ([3.0, 2.0, 2.0, 1.0], 0, (0, 0), (2, 1))],
)
def test_where_the_published_class_is_not_defined(curve, patience, published, ours):
    assert by_class(np.float32(curve), patience, 0.0)[:2] == published
    final, stop = run(curve, patience)
    assert (stop, int(final.best_params)) == ours


def test_eight_runs_in_one_vmap_stop_each_at_its_own_step():
    mapped = random_curves()
    patience, min_delta = np.array([1, 2, 3, 4, 1, 2, 3, 50]), np.array([0, 0.1] * 4, np.float32)
    state = jax.vmap(early_stopping.init)(jnp.full((8, 2), -1))
    update = jax.jit(jax.vmap(lambda s, m, p, n, d: early_stopping.update(
        s, m, p, patience=n, min_delta=d)))  # fmt: skip
    stopped_at = np.full(8, LENGTH)
    for step in range(LENGTH):
        state = update(state, mapped[:, step], jnp.full((8, 2), step), patience, min_delta)
        new = np.asarray(state.should_stop) & (stopped_at == LENGTH)
        stopped_at[new] = step
    want = [by_class(c, n, d) for c, n, d in zip(mapped, patience, min_delta, strict=True)]
    np.testing.assert_array_equal(stopped_at, [w[0] for w in want])
    np.testing.assert_array_equal(state.best_params, [[w[1]] * 2 for w in want])
    assert len(set(stopped_at)) > 3


def test_eager_steps_are_those_of_the_scan():
    curve = random_curves()[0]
    state = early_stopping.init(jnp.int32(-1))
    final, states = scanned(jnp.asarray(curve), 3)
    for step, metric in enumerate(curve):
        state = early_stopping.update(state, float(metric), jnp.int32(step), patience=3)
        row = jax.tree.map(lambda leaf, step=step: leaf[step], states)
        jax.tree.map(np.testing.assert_array_equal, state, row)
    jax.tree.map(np.testing.assert_array_equal, state, final)


# One rule for patience: stop at the N-th value in a row that is no improvement; 0 counts as 1.
@pytest.mark.parametrize(("patience", "stop"), [(0, 1), (1, 1), (2, 2), (3, 3), (9, None)])
def test_patience_on_a_constant_metric(patience, stop):
    final, stopped_at = run([1.0] * 6, patience)
    assert stopped_at == stop
    assert int(final.best_params) == 0


@pytest.mark.parametrize(("patience", "stop"), [(0, 3), (1, 3), (2, 6), (3, None)])
def test_patience_starts_over_at_an_improvement(patience, stop):
    assert run([5.0, 4.0, 3.0, 3.5, 2.0, 2.0, 2.5, 1.0], patience)[1] == stop


def test_infinite_patience_never_stops():
    final, stopped_at = run([1.0] * 50, INF)
    assert stopped_at is None
    assert int(final.stale) == 49


@pytest.mark.parametrize(
    ("curve", "stop", "best_step", "best"),
    [
        ([NAN, 3.0, 2.0, 1.0, 0.5, 0.25], None, 5, 0.25),
        ([3.0, NAN, 2.0, NAN, 1.0], None, 4, 1.0),
        ([3.0, NAN, NAN, 1.0], 2, 0, 3.0),
        ([3.0, 4.0, NAN, 1.0], 2, 0, 3.0),
        ([NAN, NAN, 1.0], 1, -1, INF),
        ([INF, INF, 3.0], None, 2, 3.0),
        ([INF, NAN, INF, 1.0], 2, 0, INF),
        ([INF, 5.0, INF, 4.0], None, 3, 4.0),
        ([-INF, 1.0, -INF, 0.0], 2, 0, -INF),
        ([1.0, -INF, 0.0, 0.0], 3, 1, -INF),
        ([NAN, INF, 2.0], None, 2, 2.0),
    ],
    ids=str,
)
def test_awkward_metrics_with_a_patience_of_two(curve, stop, best_step, best):
    final, stopped_at = run(curve, 2)
    assert stopped_at == stop
    assert int(final.best_params) == best_step
    assert float(final.best_metric) == best
    assert bool(final.has_best) == (best_step >= 0)


def test_nan_is_a_bad_value_and_never_the_best_one():
    state = early_stopping.init(jnp.zeros(2))
    state = early_stopping.update(state, NAN, jnp.ones(2), patience=3)
    assert not state.has_best
    assert int(state.stale) == 1
    np.testing.assert_array_equal(state.best_params, np.zeros(2))


@pytest.mark.parametrize(
    ("curve", "min_delta", "best_step"),
    [
        ([1.0, 0.5], 0.5, 0),  # Exactly min_delta better is no improvement.
        ([1.0, 0.49], 0.5, 1),
        ([1.0, 0.75, 0.5, 0.25], 0.5, 3),  # Counted from the best, not from the last value.
        ([-1.0, -1.25, -2.0], 0.5, 2),
        ([-1.0, -1.5], 0.5, 0),
        ([INF, 1e30], 0.5, 1),
        ([1.0, 0.0], INF, 0),
    ],
)
def test_min_delta(curve, min_delta, best_step):
    assert int(run(curve, 9, min_delta)[0].best_params) == best_step


def test_the_best_parameters_can_be_taken_at_any_time():
    _, states = scanned(jnp.array([3.0, 4.0, 2.0, 5.0, 1.0]), 9)
    np.testing.assert_array_equal(states.best_params, [0, 0, 2, 2, 4])
    assert not states.should_stop.any()  # Training ran to the end, and the best ones are there.
    np.testing.assert_array_equal(states.stale, [0, 1, 0, 1, 0])


def test_the_state_is_frozen_after_the_stop():
    final, states = scanned(jnp.array([2.0, 3.0, 1.0, NAN, -INF, 0.0]), 1)
    np.testing.assert_array_equal(states.should_stop, [False, True, True, True, True, True])
    stopped = jax.tree.map(lambda leaf: leaf[1], states)
    jax.tree.map(np.testing.assert_array_equal, final, stopped)


def test_maximizing_is_minimizing_the_negated_metric():
    curve = jnp.array([0.5, 0.7, NAN, 0.6, 0.7, 0.9])
    final, states = scanned(curve, 3, update=early_stopping.update_maximizing)
    _, negated = scanned(-curve, 3)
    jax.tree.map(np.testing.assert_array_equal, states, negated)
    assert float(-final.best_metric) == np.float32(0.7)
    assert int(final.best_params) == 1
    assert bool(final.should_stop)


def test_buffers_may_be_donated_after_init_and_after_update():
    train = jax.jit(lambda params: jax.tree.map(lambda w: w + 1, params), donate_argnums=0)
    params = {"w": jnp.zeros((64, 64)), "same": jnp.ones(8)}
    state = early_stopping.init(params)
    params = train(params)
    for metric in (3.0, 2.0, 2.5):
        state = early_stopping.update(state, metric, params, patience=5)
        params = train(params)
    np.testing.assert_array_equal(state.best_params["w"], np.full((64, 64), 2.0))


def test_the_state_itself_may_be_donated_with_the_parameters():
    @partial(jax.jit, donate_argnums=(0, 1))
    def step(state, params, metric):
        state = early_stopping.update(state, metric, params, patience=2)
        return state, jax.tree.map(lambda w: w + 1, params)

    shared = jnp.zeros(16)
    params = {"a": shared, "b": jnp.zeros(16)}
    state = early_stopping.init({"a": shared, "b": shared})
    for metric in (3.0, 1.0, 2.0):
        state, params = step(state, params, metric)
    np.testing.assert_array_equal(state.best_params["a"], np.ones(16))
    np.testing.assert_array_equal(params["b"], np.full(16, 3.0))


def leaves_of_every_kind(step):
    return {
        "bfloat16": jnp.full((3,), 1.0 + step / 128, jnp.bfloat16),
        "float16": jnp.full((2,), 0.1 * step, jnp.float16),
        "integer": jnp.array([step, 2**31 - 1 - step], jnp.int32),
        "bool": jnp.array(step % 2 == 0),
        "key": jax.random.split(jax.random.key(step), 2),
        "none": None,
        "scalar": jnp.float32(step),
        "empty": jnp.zeros((0, 2)),
        "tuple": (jnp.array([jnp.nan, -0.0]), []),
    }


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_leaves_of_every_kind_come_back_exactly(transform):
    update = transform(partial(early_stopping.update, patience=9))
    state = early_stopping.init(leaves_of_every_kind(0))
    for step, metric in enumerate([5.0, 1.0, 3.0]):
        state = update(state, metric, leaves_of_every_kind(step))
    want = leaves_of_every_kind(1)
    assert jax.tree.structure(state.best_params) == jax.tree.structure(want)

    def same(leaf, other):
        assert leaf.dtype == other.dtype
        assert leaf.shape == other.shape
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf, other = jax.random.key_data(leaf), jax.random.key_data(other)
        assert np.asarray(leaf).tobytes() == np.asarray(other).tobytes()

    jax.tree.map(same, state.best_params, want)


def test_the_state_has_fixed_shapes_and_dtypes():
    state = early_stopping.init(jnp.zeros(2, jnp.bfloat16))
    new = early_stopping.update(state, np.float64(1.0), jnp.ones(2, jnp.bfloat16), patience=2)
    for leaf, other in zip(jax.tree.leaves(state), jax.tree.leaves(new), strict=True):
        assert (leaf.shape, leaf.dtype, leaf.weak_type) == (
            other.shape, other.dtype, other.weak_type)  # fmt: skip


@pytest.mark.parametrize("update", [early_stopping.update, early_stopping.update_maximizing])
@pytest.mark.parametrize("metric", [np.ones(1), jnp.ones(2)], ids=str)
def test_a_metric_that_is_no_scalar_raises(update, metric):
    with pytest.raises(ValueError, match=r"`metric` must be a scalar, got shape \(\d,\)"):
        update(early_stopping.init(None), metric, None, patience=2)


@pytest.mark.parametrize("name", ["patience", "min_delta"])
@pytest.mark.parametrize("value", [-1, -0.5, NAN, np.int32(-3)], ids=str)
@pytest.mark.parametrize("update", [early_stopping.update, early_stopping.update_maximizing])
def test_negative_and_missing_numbers_raise(name, value, update):
    arguments = {"patience": 2, name: value}
    with pytest.raises(ValueError, match=rf"`{name}` must be zero or positive, got"):
        update(early_stopping.init(None), 1.0, None, **arguments)
