"""Rows 65 to 71 of the known failures: early stopping and its peers, each by its number."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.training.early_stopping import EarlyStopping as FlaxEarlyStopping
from jax.sharding import PartitionSpec

from jaxreg.training import early_stopping, plateau

NAN, INF = math.nan, math.inf
DEVICES = 8


@jax.jit
def scanned(curve, patience):
    """States after each value; the parameters are the number of the step."""

    def step(state, row):
        state = early_stopping.update(state, *row, patience=patience)
        return state, state

    steps = jnp.arange(curve.shape[0], dtype=jnp.int32)
    return jax.lax.scan(step, early_stopping.init(jnp.int32(-1)), (curve, steps))[1]


def first_stop(should_stop):
    stops = np.flatnonzero(should_stop)
    return int(stops[0]) if len(stops) else None


def by_flax(curve, patience):
    state, stops = FlaxEarlyStopping(patience=patience), []
    for metric in curve:
        state = state.update(metric)
        stops.append(state.should_stop)
    return state, first_stop(stops)


def test_row_65_a_nan_that_comes_first():
    """Flax 0.12 keeps the NaN as the best value, and stops while the metric falls."""
    curve = [NAN, 3.0, 2.0, 1.0, 0.5, 0.4]
    theirs, stop = by_flax(curve, 2)
    assert math.isnan(theirs.best_metric)
    assert stop == 3
    states = scanned(jnp.array(curve), 2)
    assert not states.should_stop.any()
    assert states.best_metric[-1] == np.float32(0.4)
    np.testing.assert_array_equal(states.best_params, [-1, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(states.stale, [1, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("best", [INF, -INF])
def test_row_66_an_infinite_value_may_be_the_best(best):
    """Flax 0.12 takes infinity for no value at all: after -inf, 1 counts as better."""
    theirs, _ = by_flax([best, 1.0], 2)
    assert theirs.best_metric == 1
    states = scanned(jnp.array([best, 1.0, 2.0]), 2)
    np.testing.assert_array_equal(states.has_best, [True, True, True])
    assert states.best_params[-1] == (1 if best > 1 else 0)
    assert states.best_metric[-1] == min(best, 1.0)
    strengths = plateau.init(1.0)
    for metric in (best, 1.0):
        strengths = plateau.update(strengths, metric, patience=1, factor=2.0)
    assert strengths.strength == (1 if best > 1 else 2)


@pytest.mark.parametrize(("patience", "stop", "of_flax"), [(0, 1, 1), (1, 1, 2), (2, 2, 3)])
def test_row_67_patience_counts_the_values_without_improvement(patience, stop, of_flax):
    """At the N-th such value in a row training stops; Flax 0.12 waits for one more."""
    states = scanned(jnp.ones(6), patience)
    assert first_stop(states.should_stop) == stop
    assert by_flax([1.0] * 6, patience)[1] == of_flax
    adaptive = plateau.init(1.0)
    for step in range(stop + 1):
        assert adaptive.strength == 1, step
        adaptive = plateau.update(adaptive, 1.0, patience=patience, factor=2.0)
    assert adaptive.strength == 2


def test_row_68_the_best_parameters_are_there_without_a_stop_too():
    """Keras 2 restored nothing where training ran to its end or no metric was a number."""
    states = scanned(jnp.array([3.0, 1.0, 2.0, 2.0]), 99)
    assert not states.should_stop.any()
    np.testing.assert_array_equal(states.best_params, [0, 1, 1, 1])
    nothing = scanned(jnp.full(4, NAN), 99)
    assert nothing.best_params[-1] == -1  # Those that `init` was given.
    assert not nothing.has_best.any()


def test_row_69_best_parameters_outlive_donated_buffers():
    train = jax.jit(lambda w: jax.tree.map(lambda leaf: leaf + 1, w), donate_argnums=0)
    kept_by_name = params = {"w": jnp.zeros(8)}
    params = train(params)
    with pytest.raises(RuntimeError, match="deleted"):
        np.asarray(kept_by_name["w"])  # What a plain `best = params` holds.

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(state, params, metric):
        state = early_stopping.update(state, metric, params, patience=2)
        return state, train(params)

    # The same buffer twice, in the state and among the parameters, both donated.
    state = early_stopping.init({"w": params["w"]})
    for metric in (3.0, 1.0, 2.0):
        state, params = step(state, params, metric)
    np.testing.assert_array_equal(state.best_params["w"], np.full(8, 2.0))
    np.testing.assert_array_equal(params["w"], np.full(8, 4.0))


def test_row_70_a_scan_decides_as_python_does():
    """Flax 0.12 asks a traced metric for its truth value."""
    with pytest.raises(jax.errors.TracerBoolConversionError):
        jax.jit(lambda m: FlaxEarlyStopping().update(0.5).update(m).best_metric)(1.0)
    curve = np.float32([3.0, NAN, 2.0, INF, -1.0, -1.0, 4.0, -9.0])
    states = scanned(curve, 2)
    state = early_stopping.init(jnp.int32(-1))
    for i, metric in enumerate(curve):
        state = early_stopping.update(state, metric, jnp.int32(i), patience=2)
        row = jax.tree.map(lambda leaf, i=i: leaf[i], states)
        jax.tree.map(np.testing.assert_array_equal, state, row)
    assert first_stop(states.should_stop) == 6


# Row 71: each device, or host, sees the losses of its own examples.

LOSSES = 1 / (1 + np.arange(12)) + np.random.default_rng(0).normal(0, 0.3, (DEVICES, 12))


def decisions(losses, *, metric_of):
    """For each device whether it stops, and its strength, after each step of one scan."""

    def on_device(losses):
        def step(carry, loss):
            stopping, adaptive = carry
            metric = metric_of(loss)
            stopping = early_stopping.update(stopping, metric, metric, patience=2)
            adaptive = plateau.update(adaptive, metric, patience=1, factor=2.0)
            return (stopping, adaptive), (stopping.should_stop, adaptive.strength)

        start = early_stopping.init(metric_of(losses[0, 0])), plateau.init(1.0)
        return jax.lax.scan(step, start, losses[0])[1]

    mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    mapped = jax.shard_map(
        on_device, mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec()
    )
    return jax.jit(mapped)(jnp.asarray(losses, jnp.float32))


def test_row_71_with_a_metric_of_all_devices_all_decide_the_same():
    """Replicated outputs of `shard_map` are accepted where JAX can prove that they are equal."""
    stops, strengths = decisions(LOSSES, metric_of=partial(jax.lax.pmean, axis_name="data"))
    for own in (stops, strengths):
        copies = [np.asarray(shard.data) for shard in own.addressable_shards]
        assert len(copies) == DEVICES
        assert all((copy == copies[0]).all() for copy in copies)
    mean = np.float32(LOSSES).mean(0)
    np.testing.assert_array_equal(stops, scanned(mean, 2).should_stop)
    # On their own they would not agree.
    alone = jax.vmap(lambda curve: scanned(curve, 2).should_stop)(np.float32(LOSSES))
    assert len({first_stop(row) for row in np.asarray(alone)}) > 2


def test_row_71_a_metric_of_each_device_is_refused():
    with pytest.raises((TypeError, ValueError), match=r"varying|replicat"):
        decisions(LOSSES, metric_of=lambda loss: loss)
