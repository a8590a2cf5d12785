"""A whole run with early stopping, adaptive decay and a ramp of dropout is one program."""

import importlib.util
from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

RUNS = 32


@pytest.fixture
def program(monkeypatch):
    """The example in float64, with fewer and wider steps, so that within 80 some runs stop.

    In float32 the roundings of two programs may grow until a decision falls the other way.
    """
    path = Path(__file__).parents[3] / "examples" / "one_program.py"
    spec = importlib.util.spec_from_file_location("one_program", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, value in {"STEPS": 80, "EVALUATE_EVERY": 4, "PATIENCE": 3, "BATCH_SIZE": 20}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "LEARNING_RATE", 0.02)
    with jax.enable_x64(True):
        yield module


def test_32_runs_in_one_scan_are_what_each_is_alone(program):
    x, y, validation_x, validation_y = program.load()
    data = jnp.float64(x[:60]), y[:60], jnp.float64(validation_x[:100]), validation_y[:100]
    keys = jax.random.split(jax.random.key(0), RUNS)
    limits = jnp.linspace(0.0, 0.8, RUNS)
    chex.clear_trace_counter()

    @chex.assert_max_traces(n=1)
    def traced_once(run, limit):
        return program.train(run, limit, data)

    together = jax.jit(jax.vmap(traced_once), donate_argnums=0)
    start = jax.jit(program.start)

    def stack_inputs():
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(start, keys))

    given = stack_inputs()
    assert {leaf.dtype for leaf in jax.tree.leaves(given.params)} == {jnp.dtype(jnp.float64)}
    runs, steps = together(given, limits)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((given.params, given.stopping)))
    again, _ = together(stack_inputs(), limits)  # Nothing is compiled or traced a second time.
    jax.tree.map(np.testing.assert_array_equal, runs.params, again.params)
    assert len(set(steps.tolist())) > 5  # They stop, each at its own step.
    assert (steps < program.STEPS).sum() > RUNS // 2
    assert len(set(runs.decay.strength.tolist())) > 2
    assert (runs.stopping.best_metric < 1.5).all()  # Of log 10 = 2.3 before training.

    traces = []

    @partial(jax.jit, donate_argnums=0)
    def alone(run, limit):
        traces.append(1)
        return program.train(run, limit, data)

    for row in range(RUNS):
        run, stopped = alone(start(keys[row]), limits[row])
        expected = jax.tree.map(lambda leaf, row=row: leaf[row], runs)
        assert stopped == steps[row]
        for field in ("stale", "should_stop", "has_best"):
            assert getattr(run.stopping, field) == getattr(expected.stopping, field)
        assert run.decay.strength == expected.decay.strength
        close = partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7)
        jax.tree.map(close, run.params, expected.params)
        jax.tree.map(close, run.stopping.best_params, expected.stopping.best_params)
    assert len(traces) == 1
