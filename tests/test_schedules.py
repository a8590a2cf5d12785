"""Schedules of dropout rates: the papers' equations, the edges, and Optax beside them."""

import math
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import dropout, transforms
from jaxreg.training import schedules

INF, NAN = math.inf, math.nan
STEPS = jnp.arange(12)
ALL = [
    partial(schedules.curriculum_dropout, rate=0.4, gamma=0.3),
    partial(schedules.early_dropout, rate=0.4, steps=7),
    partial(schedules.late_dropout, rate=0.4, start=7),
]
every_schedule = pytest.mark.parametrize("schedule", ALL, ids=lambda s: s.func.__name__)


def test_curriculum_keeps_as_the_paper_says():
    limit, t = 0.7, np.arange(101)
    kept = (1 - limit) * np.exp(-0.1 * t) + limit  # Equation 3, of the probability of keeping.
    rates = schedules.curriculum_dropout(jnp.arange(101), rate=1 - limit, gamma=10 / 100)
    np.testing.assert_allclose(1 - rates, kept, rtol=1e-6)
    assert rates[0] == 0
    # Small ramps keep their digits.
    small = schedules.curriculum_dropout(1, rate=0.5, gamma=1e-9)
    np.testing.assert_allclose(small, 0.5 * -np.expm1(-1e-9), rtol=1e-6)


def test_early_dropout_is_the_linear_schedule_of_optax():
    want = optax.linear_schedule(0.4, 0.0, 7)
    got = schedules.early_dropout(STEPS, rate=0.4, steps=7)
    np.testing.assert_allclose(got, [want(i) for i in range(12)], atol=1e-7)
    constant = optax.piecewise_constant_schedule(0.4, {7: 0.0})  # What the docstring says.
    assert [constant(6), constant(7), constant(8)] == pytest.approx([0.4, 0, 0])


def test_late_dropout_jumps_to_the_rate_itself():
    got = schedules.late_dropout(STEPS, rate=0.4, start=7)
    np.testing.assert_array_equal(got, np.where(np.arange(12) >= 7, np.float32(0.4), 0))


@pytest.mark.parametrize(
    ("schedule", "steps", "want"),
    [
        (partial(schedules.curriculum_dropout, rate=0.5, gamma=INF), [0, 1, 9], [0, 0.5, 0.5]),
        (partial(schedules.curriculum_dropout, rate=0.5, gamma=0), [0, 1, 9], [0, 0, 0]),
        (partial(schedules.curriculum_dropout, rate=1, gamma=INF), [-3, 0, 1], [0, 0, 1]),
        (partial(schedules.curriculum_dropout, rate=0.5, gamma=100), [-3, 1], [0, 0.5]),
        (partial(schedules.early_dropout, rate=0.5, steps=0), [0, 1, 9], [0, 0, 0]),
        (partial(schedules.early_dropout, rate=0.5, steps=INF), [0, 1, 9], [0.5, 0.5, 0.5]),
        (partial(schedules.early_dropout, rate=0.5, steps=2), [-3, 1, 9], [0.5, 0.25, 0]),
        (partial(schedules.early_dropout, rate=0.5, steps=0.5), [0, 0.25, 0.5], [0.5, 0.25, 0]),
        (partial(schedules.late_dropout, rate=0.5, start=0), [0, 1, 9], [0.5, 0.5, 0.5]),
        (partial(schedules.late_dropout, rate=0.5, start=INF), [0, 1, 9], [0, 0, 0]),
    ],
)
def test_edges(schedule, steps, want):
    np.testing.assert_array_equal([schedule(step) for step in steps], want)


@every_schedule
@pytest.mark.parametrize("step", [3, 3.0, np.int64(3), jnp.int32(3), jnp.bfloat16(3)], ids=repr)
def test_a_rate_is_a_float32_scalar_whatever_counts(schedule, step):
    with jax.numpy_dtype_promotion("strict"):
        rate = schedule(step)
    assert (rate.shape, rate.dtype, rate.weak_type) == ((), jnp.float32, False)
    np.testing.assert_array_equal(rate, schedule(STEPS)[3])


@every_schedule
def test_everything_may_be_traced_and_mapped(schedule):
    chex.clear_trace_counter()

    @jax.jit
    @partial(chex.assert_max_traces, n=1)
    def paths(strengths):
        run = lambda s: jax.lax.map(lambda t: schedule.func(t, **s), STEPS)  # noqa: E731
        return jax.vmap(run)(strengths)

    factors = jnp.array([1.0, 0.5, 2.0])
    strengths = {name: value * factors for name, value in schedule.keywords.items()}
    got = paths(strengths)
    for i, factor in enumerate(factors.tolist()):
        alone = {name: value * factor for name, value in schedule.keywords.items()}
        np.testing.assert_allclose(got[i], schedule.func(STEPS, **alone), rtol=1e-6)
    paths({name: value + 0.1 for name, value in strengths.items()})


@every_schedule
def test_gradients_of_the_strengths_are_finite_at_the_edges(schedule):
    extreme = {name: [0.0, 1.0, INF] for name in schedule.keywords} | {"rate": [0.0, 0.5, 1.0]}
    for index in range(3):
        strengths = {name: jnp.float32(values[index]) for name, values in extreme.items()}
        gradient = jax.jacobian(lambda s: schedule.func(STEPS, **s))(strengths)
        for name, values in gradient.items():
            assert jnp.isfinite(values).all(), (name, strengths)


def test_a_schedule_stands_where_one_of_optax_does():
    schedule = partial(schedules.early_dropout, rate=0.5, steps=2)
    decay = transforms.decoupled_decay(schedule, learning_rate=0.5, mask=None)
    params, state = jnp.ones(2), decay.init(jnp.ones(2))
    for share in (0.25, 0.125, 0.0):
        updates, state = decay.update(jnp.zeros(2), state, params)
        np.testing.assert_allclose(updates, -share * params)
    joined = optax.join_schedules([optax.constant_schedule(0.1), schedule], [3])
    np.testing.assert_allclose([joined(i) for i in (0, 2, 3, 4, 5)], [0.1, 0.1, 0.5, 0.25, 0])


def test_ramps_over_steps_and_over_depth_multiply():
    @jax.jit
    def rates(step):
        last = schedules.curriculum_dropout(step, rate=0.4, gamma=0.3)
        return jnp.stack(dropout.drop_path_rates(last, 3))

    want = 0.4 * -np.expm1(-0.3 * 5) * np.array([0, 0.5, 1])
    np.testing.assert_allclose(rates(5), want, rtol=1e-6)


@every_schedule
def test_numbers_that_are_no_strengths_raise(schedule):
    other = next(name for name in schedule.keywords if name != "rate")
    for rate in (-0.1, 1.5, NAN):
        with pytest.raises(ValueError, match=r"`rate` must be a probability in \[0, 1\], got"):
            schedule(0, rate=rate)
    for value in (-1, NAN):
        with pytest.raises(ValueError, match=rf"`{other}` must be zero or positive, got"):
            schedule(0, **{other: value})
    for name in ("rate", other):
        with pytest.raises(ValueError, match=rf"`{name}` must be a single number, got shape"):
            schedule(0, **{name: jnp.ones(2)})
