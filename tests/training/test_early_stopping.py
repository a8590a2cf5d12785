"""Early stopping against a plain Python class, with awkward metrics, and as a JAX value."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax.training.early_stopping import EarlyStopping as FlaxEarlyStopping
from jax.sharding import PartitionSpec

from jaxreg.training import early_stopping
from tests.helpers import few
from tests.training.helpers import LENGTH, padded, some_curves

NAN, INF = math.nan, math.inf
CURVES = 500
DEVICES = 8


class Published:
    """The published class, written for a model with mutable weights.

    It is defined for a patience of 1 or more and a first metric that is a number. With a patience
    of 0 it stops at once, whatever the metric, and nothing is better than a NaN that came first.
    """

    def __init__(self, patience, min_delta=0.0):
        self.patience = patience
        self.min_delta = np.float32(min_delta)
        self.best_loss = None
        self.counter = 0
        self.best_weights = None

    def __call__(self, loss, weights):
        if self.best_loss is None:
            self.best_loss, self.best_weights = loss, weights
        elif loss < self.best_loss - self.min_delta:
            self.best_loss, self.counter, self.best_weights = loss, 0, weights
        else:
            self.counter += 1
        return self.counter >= self.patience


def by_class(curve, patience, min_delta):
    """Stopping step (or the length), best step, best loss and counter of the published class."""
    stopping = Published(patience, min_delta)
    with np.errstate(invalid="ignore", over="ignore"):
        for step, loss in enumerate(curve):
            if stopping(loss, step):
                return step, stopping.best_weights, stopping.best_loss, stopping.counter
    return len(curve), stopping.best_weights, stopping.best_loss, stopping.counter


def by_flax(curve, patience):
    """Last state and stopping step of Flax's class, which counts otherwise."""
    state = FlaxEarlyStopping(patience=patience)
    stops = []
    for metric in curve:
        state = state.update(metric)
        stops.append(state.should_stop)
    return state, first_stop(stops)


def first_stop(should_stop):
    stops = np.flatnonzero(should_stop)
    return int(stops[0]) if len(stops) else None


def number_of_step(step):
    """Parameters that tell the number of the step, in two dtypes."""
    return {"narrow": 1 + step.astype(jnp.bfloat16) / 128, "step": step}


def scan(curve, patience, min_delta, update=early_stopping.update):
    """State after every metric of a curve; the parameters tell the number of the step."""

    def step(state, row):
        metric, number = row
        params = number_of_step(number)
        state = update(state, metric, params, patience=patience, min_delta=min_delta)
        return state, state

    start = early_stopping.init(number_of_step(jnp.int32(-1)))
    return jax.lax.scan(step, start, (curve, jnp.arange(LENGTH, dtype=jnp.int32)))[1]


scanned = jax.jit(scan)
scanned_together = jax.jit(jax.vmap(scan))


def run(curve, patience, min_delta=0.0, scanned=scanned):
    """States of a curve of any length, by one program for all of them."""
    states = scanned(padded(curve), np.float32(patience), np.float32(min_delta))
    return jax.tree.map(lambda leaf: np.asarray(leaf)[: len(curve)], states)


def last(states):
    return jax.tree.map(lambda leaf: leaf[-1], states)


@few("seed", range(8))
def test_decides_as_the_published_class(seed):
    """Five hundred curves in one program, each with a patience and a least change of its own."""
    rng = np.random.default_rng(seed)
    curves = [curve for curve in some_curves(CURVES, seed) if not np.isnan(curve[0])]
    patience = rng.integers(1, 7, len(curves), dtype=np.int32)
    min_delta = rng.choice(np.float32([0.0, 0.0, 0.25, 1e-3, 1e30]), len(curves))
    together = scanned_together(np.stack([padded(curve) for curve in curves]), patience, min_delta)
    together = jax.tree.map(np.asarray, together)
    assert together.best_params["narrow"].dtype == ml_dtypes.bfloat16
    steps = set()
    for index, curve in enumerate(curves):
        rows = (index, slice(len(curve)))
        states = jax.tree.map(lambda leaf, rows=rows: leaf[rows], together)
        stop, best_step, best_loss, counter = by_class(curve, patience[index], min_delta[index])
        np.testing.assert_array_equal(states.should_stop, np.arange(len(curve)) >= stop)
        found = last(states)
        assert (found.best_metric, found.stale, found.has_best) == (best_loss, counter, True)
        assert found.best_params["step"] == best_step
        assert found.best_params["narrow"] == 1 + best_step / 128
        steps.add(stop)
    assert len(curves) > 0.8 * CURVES
    assert len(steps) > 20


@pytest.mark.parametrize(
    ("curve", "patience", "published", "ours"),
    [([NAN, 3.0, 2.0], 2, (2, 0), (None, 2)), ([3.0, 2.0, 2.0, 1.0], 0, (0, 0), (2, 1))],
)
def test_where_the_published_class_is_not_defined(curve, patience, published, ours):
    assert by_class(np.float32(curve), patience, 0.0)[:2] == published
    states = run(curve, patience)
    assert (first_stop(states.should_stop), states.best_params["step"][-1]) == ours


# One rule for patience: stop at the N-th value in a row that is no improvement; 0 counts as 1.
# At the same metric Flax 0.12 waits for one value more.
@pytest.mark.parametrize(
    ("patience", "stop", "of_flax"), [(0, 1, 1), (1, 1, 2), (2, 2, 3), (3, 3, 4), (9, None, None)]
)
def test_patience_counts_the_values_without_improvement(patience, stop, of_flax):
    states = run([1.0] * 6, patience)
    assert first_stop(states.should_stop) == stop
    assert states.best_params["step"][-1] == 0
    assert by_flax([1.0] * 6, patience)[1] == of_flax


@pytest.mark.parametrize(("patience", "stop"), [(0, 3), (1, 3), (2, 6), (3, None)])
def test_patience_starts_over_at_an_improvement(patience, stop):
    states = run([5.0, 4.0, 3.0, 3.5, 2.0, 2.0, 2.5, 1.0], patience)
    assert first_stop(states.should_stop) == stop


def test_infinite_patience_never_stops():
    states = run([1.0] * LENGTH, INF)
    assert not states.should_stop.any()
    np.testing.assert_array_equal(states.stale, np.arange(LENGTH))


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
    states = run(curve, 2)
    assert first_stop(states.should_stop) == stop
    assert states.best_params["step"][-1] == best_step
    assert states.best_metric[-1] == best
    assert states.has_best[-1] == (best_step >= 0)


def test_a_nan_that_comes_first_is_a_bad_value_and_not_the_best_one():
    """Flax 0.12 keeps the NaN as the best value, and stops while the metric falls."""
    curve = [NAN, 3.0, 2.0, 1.0, 0.5, 0.4]
    theirs, stop = by_flax(curve, 2)
    assert math.isnan(theirs.best_metric)
    assert stop == 3
    states = run(curve, 2)
    assert not states.should_stop.any()
    assert states.best_metric[-1] == np.float32(0.4)
    np.testing.assert_array_equal(states.best_params["step"], [-1, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(states.stale, [1, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(states.has_best, [False] + [True] * 5)


@pytest.mark.parametrize("best", [INF, -INF])
def test_an_infinite_value_may_be_the_best(best):
    """Flax 0.12 takes infinity for no value at all: after -inf, 1 counts as better."""
    theirs, _ = by_flax([best, 1.0], 2)
    assert theirs.best_metric == 1
    states = run([best, 1.0, 2.0], 2)
    np.testing.assert_array_equal(states.has_best, [True, True, True])
    assert states.best_params["step"][-1] == (1 if best > 1 else 0)
    assert states.best_metric[-1] == min(best, 1.0)


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
def test_an_improvement_is_more_than_min_delta_below_the_best(curve, min_delta, best_step):
    assert run(curve, 9, min_delta).best_params["step"][-1] == best_step


def test_the_best_parameters_can_be_taken_at_any_time():
    """Keras 2 restored nothing where training ran to its end or no metric was a number."""
    states = run([3.0, 4.0, 2.0, 5.0, 1.0], 9)
    np.testing.assert_array_equal(states.best_params["step"], [0, 0, 2, 2, 4])
    assert not states.should_stop.any()  # Training ran to the end, and the best ones are there.
    np.testing.assert_array_equal(states.stale, [0, 1, 0, 1, 0])
    nothing = run([NAN] * 4, 99)
    assert nothing.best_params["step"][-1] == -1  # Those that `init` was given.
    assert not nothing.has_best.any()


def test_the_state_is_frozen_after_the_stop():
    states = run([2.0, 3.0, 1.0, NAN, -INF, 0.0], 1)
    np.testing.assert_array_equal(states.should_stop, [False, True, True, True, True, True])
    stopped = jax.tree.map(lambda leaf: leaf[1], states)
    jax.tree.map(np.testing.assert_array_equal, last(states), stopped)


def test_maximizing_keeps_the_largest_value():
    curve = np.float32([0.5, 0.7, NAN, 0.6, 0.75, 0.9, 0.9, 0.9])
    maximizing = jax.jit(partial(scan, update=early_stopping.update_maximizing))
    states = run(curve, 3, 0.1, scanned=maximizing)
    np.testing.assert_array_equal(
        -states.best_metric, np.float32([0.5, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7])
    )
    np.testing.assert_array_equal(states.best_params["step"], [0, 1, 1, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(states.stale, [0, 0, 1, 2, 3, 3, 3, 3])
    np.testing.assert_array_equal(states.should_stop, [False] * 4 + [True] * 4)


# Single operations, one program each, that the other eager tests of this file share.
@pytest.mark.programs(24)
def test_eager_steps_are_those_of_the_scan():
    """Flax 0.12 asks a traced metric for its truth value."""
    with pytest.raises(jax.errors.TracerBoolConversionError):
        jax.jit(lambda m: FlaxEarlyStopping().update(0.5).update(m).best_metric)(1.0)
    curve = [3.0, NAN, 2.0, INF, -1.0, -1.0, 4.0, -9.0]
    states = run(curve, 2)
    state = early_stopping.init(np.int32(-1))
    for index, metric in enumerate(curve):
        new = early_stopping.update(state, np.float64(metric), np.int32(index), patience=2)
        for leaf, other in zip(jax.tree.leaves(state), jax.tree.leaves(new), strict=True):
            assert (leaf.shape, leaf.dtype, leaf.weak_type) == (
                other.shape, other.dtype, other.weak_type)  # fmt: skip
        state = new
        row = jax.tree.map(lambda leaf, i=index: leaf[i], states)
        row = row._replace(best_params=row.best_params["step"])
        jax.tree.map(np.testing.assert_array_equal, state, row)
    assert first_stop(states.should_stop) == 6


def test_the_state_keeps_its_dtypes_among_float64():
    with jax.enable_x64(True):
        numbers = {"patience": np.int64(2), "min_delta": np.float64(0.5)}
        params = np.zeros(2, ml_dtypes.bfloat16)
        state = jax.eval_shape(early_stopping.init, params)
        update = partial(early_stopping.update, **numbers)
        new = jax.eval_shape(update, state, np.float64(1), params)
    assert new == state
    own = [np.float32, bool, np.int32, bool, np.int32]
    assert [leaf.dtype for leaf in new] == [ml_dtypes.bfloat16, *own]


def test_parameters_of_another_dtype_are_kept_in_that_of_the_state():
    """So that a scan over a state of master weights in bfloat16, or of one that was cast, runs."""
    state = early_stopping.init({"w": np.zeros(2, ml_dtypes.bfloat16), "n": np.int32(0)})
    params = {"w": np.full(2, 3.0, np.float32), "n": np.int8(1)}
    new = jax.jit(early_stopping.update, static_argnames="patience")(state, 1.0, params, patience=3)
    assert new.best_params["w"].dtype == ml_dtypes.bfloat16
    assert new.best_params["n"].dtype == np.int32
    np.testing.assert_array_equal(new.best_params["w"], np.full(2, 3.0))
    assert new.best_params["n"] == 1

    def narrow(leaf):
        return leaf.astype(jnp.bfloat16) if leaf.dtype == np.float32 else leaf

    cast = jax.tree.map(narrow, state)
    update = partial(early_stopping.update, patience=3)
    assert jax.eval_shape(update, cast, 1.0, params) == jax.eval_shape(lambda: cast)
    with jax.numpy_dtype_promotion("strict"):
        jax.eval_shape(update, cast, np.float32(1.0), params)


def test_parameters_that_do_not_fit_the_state_are_named():
    state = jax.eval_shape(early_stopping.init, {"w": np.zeros(2, np.int32)})
    update = partial(jax.eval_shape, partial(early_stopping.update, patience=3), state, 1.0)
    message = r"`params` must have dtypes that cast to the state's, int32, got float32"
    with pytest.raises(TypeError, match=message):
        update({"w": np.zeros(2, np.float32)})
    message = r"`params` must have the shapes of the state, \(2,\), got \(\)"
    with pytest.raises(ValueError, match=message):
        update({"w": np.int32(0)})
    with pytest.raises(ValueError, match=r"`params` must have the tree structure of the state"):
        update([np.zeros(2, np.int32)])


# A first value, and values that end training at once.


@jax.jit
def scan_with(curve, options):
    return scan(curve, 2, 0.0, update=partial(early_stopping.update, **options))


def run_with(curve, start=0, good=-INF, bad=INF):
    """States of a curve at a patience of 2, by one program for all numbers."""
    options = {"start": start, "stopping_threshold": good, "divergence_threshold": bad}
    options = {name: np.float32(value) for name, value in options.items()}
    return run(curve, 2, scanned=lambda curve, *_: scan_with(curve, options))


@pytest.mark.parametrize(
    ("start", "stop", "best_step"), [(0, 2, 0), (1, 4, 2), (3, 6, 4), (5, None, 6), (20, None, -1)]
)
def test_values_before_the_start_are_passed_over(start, stop, best_step):
    """As by Keras' `start_from_epoch`: the first ones are neither the best nor stale."""
    curve = [1.0, 4.0, 2.5, 3.0, 2.75, 3.5, 2.8]
    curve[2], curve[4] = (2.5, 2.75)
    states = run_with(curve, start=start)
    assert first_stop(states.should_stop) == stop
    assert states.best_params["step"][-1] == best_step
    last_seen = len(curve) if stop is None else stop + 1
    np.testing.assert_array_equal(states.seen, np.minimum(np.arange(len(curve)) + 1, last_seen))
    assert not states.stale[:start].any()
    assert not states.has_best[:start].any()


def test_a_value_that_is_good_or_bad_enough_stops_at_once():
    """The limits themselves are neither, nor is NaN, which counts against the patience."""
    states = run_with([3.0, 2.0, 0.5, 0.25], good=0.5)
    assert first_stop(states.should_stop) == 3
    assert states.best_params["step"][-1] == 3
    states = run_with([3.0, 9.0, 2.0, 9.5, 1.0], bad=9.0)
    assert first_stop(states.should_stop) == 3
    assert states.best_params["step"][-1] == 2
    assert first_stop(run_with([3.0, INF, 2.0], bad=1e30).should_stop) == 1
    assert first_stop(run_with([3.0, -INF, 2.0], good=-1e30).should_stop) == 1
    for good, bad in ((-INF, INF), (INF, -INF), (NAN, NAN)):
        states = run_with([NAN, NAN, 1.0], good=good, bad=bad)
        np.testing.assert_array_equal(states.should_stop, [False, True, True])
        assert not states.has_best.any()


def test_no_limit_stops_before_the_start():
    states = run_with([0.1, 99.0, 0.1, 3.0, 99.0], start=2, good=0.5, bad=9.0)
    assert first_stop(states.should_stop) == 2
    states = run_with([0.1, 99.0, 1.0, 3.0, 99.0], start=2, good=0.5, bad=9.0)
    assert first_stop(states.should_stop) == 4
    assert states.best_params["step"][-1] == 2


def test_limits_of_a_metric_to_be_maximized():
    """A threshold above which it ends, and a floor."""

    @jax.jit
    def maximizing(curve, good, bad):
        limits = {"stopping_threshold": good, "divergence_threshold": bad, "start": 1}
        return scan(curve, 9, 0.0, partial(early_stopping.update_maximizing, **limits))

    curve = [0.99, 0.5, 0.8, 0.95, 0.1, 0.99]
    for good, bad, stop, best_step in ((0.9, 0.0, 3, 3), (2.0, 0.2, 4, 3), (INF, -INF, None, 5)):
        states = run(curve, 9, scanned=lambda c, *_, g=good, b=bad: maximizing(c, g, b))
        assert first_stop(states.should_stop) == stop
        assert states.best_params["step"][-1] == best_step


@pytest.mark.parametrize("update", [early_stopping.update, early_stopping.update_maximizing])
def test_wrong_limits_are_named(update):
    state = early_stopping.init(np.int32(-1))
    with pytest.raises(ValueError, match=r"`start` must be zero or positive, got -1"):
        update(state, 1.0, np.int32(0), patience=2, start=-1)
    for name in ("stopping_threshold", "divergence_threshold"):
        with pytest.raises(ValueError, match=rf"`{name}` must be a number in .*, got nan"):
            update(state, 1.0, np.int32(0), patience=2, **{name: NAN})
        with pytest.raises(ValueError, match=rf"`{name}` must be a single number, got shape"):
            update(state, 1.0, np.int32(0), patience=2, **{name: np.ones(2)})


def test_best_parameters_outlive_donated_buffers():
    train = jax.jit(lambda w: jax.tree.map(lambda leaf: leaf + 1, w), donate_argnums=0)
    kept_by_name = params = {"w": jax.device_put(np.zeros(8, np.float32))}
    state = early_stopping.init(params)
    params = train(params)
    with pytest.raises(RuntimeError, match="deleted"):
        np.asarray(kept_by_name["w"])  # What a plain `best = params` holds.
    np.testing.assert_array_equal(state.best_params["w"], np.zeros(8))
    update = jax.jit(early_stopping.update, static_argnames="patience")
    state = update(state, 3.0, params, patience=5)
    params = train(params)
    np.testing.assert_array_equal(state.best_params["w"], np.ones(8))

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(state, params, metric):
        return early_stopping.update(state, metric, params, patience=2), train(params)

    # The same buffer twice, in the state and among the parameters, both donated.
    shared = jax.device_put(np.zeros(8, np.float32))
    state = early_stopping.init({"a": shared, "b": shared})
    params = {"a": shared, "b": jax.device_put(np.zeros(8, np.float32))}
    for metric in (3.0, 1.0, 2.0):
        state, params = step(state, params, metric)
    np.testing.assert_array_equal(state.best_params["a"], np.ones(8))
    np.testing.assert_array_equal(params["b"], np.full(8, 3.0))


def leaves_of_every_kind(step):
    return {
        "bfloat16": np.full(3, 1.0 + step / 128, ml_dtypes.bfloat16),
        "float16": np.full(2, 0.1 * step, np.float16),
        "integer": np.array([step, 2**31 - 1 - step], np.int32),
        "bool": np.array(step % 2 == 0),
        "key": jax.random.wrap_key_data(np.array([[step, 1], [2, step]], np.uint32)),
        "none": None,
        "scalar": np.float32(step),
        "empty": np.zeros((0, 2), np.float32),
        "tuple": (np.array([np.nan, -0.0], np.float32), []),
    }


def test_leaves_of_every_kind_come_back_exactly():
    update = jax.jit(partial(early_stopping.update, patience=9))
    state = jax.jit(early_stopping.init)(leaves_of_every_kind(0))
    for step, metric in enumerate([5.0, 1.0, 3.0]):
        state = update(state, metric, leaves_of_every_kind(step))
    want = leaves_of_every_kind(1)
    assert jax.tree.structure(state.best_params) == jax.tree.structure(want)

    def same(leaf, other):
        assert leaf.dtype == other.dtype
        assert leaf.shape == other.shape
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
            other = jax.random.key_data(other)
        assert np.asarray(leaf).tobytes() == np.asarray(other).tobytes()

    jax.tree.map(same, state.best_params, want)


# Each device, or host, sees the losses of its own examples.
LOSSES = (1 / (1 + np.arange(12)) + np.random.default_rng(0).normal(0, 0.3, (DEVICES, 12))).astype(
    np.float32
)


def decisions(losses, *, metric_of):
    """For each device whether it stops after each step of one scan."""

    def on_device(losses):
        def step(stopping, loss):
            metric = metric_of(loss)
            stopping = early_stopping.update(stopping, metric, metric, patience=2)
            return stopping, stopping.should_stop

        return jax.lax.scan(step, early_stopping.init(metric_of(losses[0, 0])), losses[0])[1]

    mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    mapped = jax.shard_map(
        on_device, mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec()
    )
    return jax.jit(mapped)(losses)


def test_with_a_metric_of_all_devices_all_decide_the_same():
    """Replicated outputs of `shard_map` are accepted where JAX can prove that they are equal."""
    stops = decisions(LOSSES, metric_of=partial(jax.lax.pmean, axis_name="data"))
    copies = [np.asarray(shard.data) for shard in stops.addressable_shards]
    assert len(copies) == DEVICES
    assert all((copy == copies[0]).all() for copy in copies)
    mean = LOSSES.mean(0)
    np.testing.assert_array_equal(stops, np.arange(12) >= by_class(mean, 2, 0.0)[0])
    # On their own they would not agree.
    assert len({by_class(curve, 2, 0.0)[0] for curve in LOSSES}) > 2


def test_a_metric_of_each_device_is_refused():
    with pytest.raises((TypeError, ValueError), match=r"varying|replicat"):
        decisions(LOSSES, metric_of=lambda loss: loss)


@pytest.mark.parametrize("update", [early_stopping.update, early_stopping.update_maximizing])
@pytest.mark.parametrize("metric", [np.ones(1), np.ones(2)], ids=str)
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
