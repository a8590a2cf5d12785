"""Schedules of dropout rates: the papers' equations, the edges, and Optax beside them."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

from jaxreg import dropout, transforms
from jaxreg.training import schedules

INF, NAN = math.inf, math.nan
STEPS = np.arange(12, dtype=np.int32)
ALL = [
    partial(schedules.curriculum_dropout, rate=0.4, gamma=0.3),
    partial(schedules.early_dropout, rate=0.4, steps=7),
    partial(schedules.late_dropout, rate=0.4, start=7),
]
every_schedule = pytest.mark.parametrize("schedule", ALL, ids=lambda s: s.func.__name__)
curriculum = jax.jit(schedules.curriculum_dropout)
early = jax.jit(schedules.early_dropout)
late = jax.jit(schedules.late_dropout)


def test_curriculum_keeps_as_the_paper_says():
    limit, t = 0.7, np.arange(101)
    kept = (1 - limit) * np.exp(-0.1 * t) + limit  # Equation 3, of the probability of keeping.
    rates = np.asarray(curriculum(np.arange(101), rate=1 - limit, gamma=10 / 100))
    np.testing.assert_allclose(1 - rates, kept, rtol=1e-6)
    assert rates[0] == 0
    # Small ramps keep their digits.
    small = curriculum(1, rate=0.5, gamma=1e-9)
    np.testing.assert_allclose(small, 0.5 * -np.expm1(-1e-9), rtol=1e-6)


def test_early_dropout_is_the_linear_schedule_of_optax():
    want = optax.linear_schedule(0.4, 0.0, 7)
    got = early(STEPS, rate=0.4, steps=7)
    np.testing.assert_allclose(got, jax.jit(want)(STEPS), atol=1e-7)
    np.testing.assert_allclose(got, 0.4 * np.maximum(0, 1 - STEPS / 7), atol=1e-7)
    constant = optax.piecewise_constant_schedule(0.4, {7: 0.0})  # What the docstring says.
    np.testing.assert_allclose(jax.jit(jax.vmap(constant))(STEPS[6:9]), [0.4, 0, 0])


def test_late_dropout_jumps_to_the_rate_itself():
    got = late(STEPS, rate=0.4, start=7)
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
    rates = jax.jit(lambda steps: schedule(steps))(np.float32(steps))
    np.testing.assert_array_equal(rates, want)
    traced = jax.jit(schedule.func)(np.float32(steps), **schedule.keywords)
    np.testing.assert_array_equal(traced, want)


COUNTS = [3, 3.0, np.int64(3), np.int32(3), ml_dtypes.bfloat16(3)]


@every_schedule
def test_a_rate_is_a_float32_scalar_whatever_counts(schedule):
    @jax.jit
    def rates(counts):
        return [schedule(count) for count in COUNTS], [schedule(count) for count in counts]

    with jax.numpy_dtype_promotion("strict"):
        static, traced = rates(COUNTS)
    want = {curriculum: 0.4 * -np.expm1(-0.9), early: 0.4 * 4 / 7, late: 0.0}
    name = schedule.func.__name__
    want = next(value for function, value in want.items() if function.__name__ == name)
    for rate in (*static, *traced):
        assert (rate.shape, rate.dtype, rate.weak_type) == ((), jnp.float32, False)
        np.testing.assert_allclose(rate, want, rtol=1e-6)


def by_hand(name, steps, strengths):
    """The equations in float64."""
    t = np.maximum(steps, 0.0)
    if name == "curriculum_dropout":
        return strengths["rate"] * -np.expm1(-strengths["gamma"] * t)
    if name == "early_dropout":
        return strengths["rate"] * np.maximum(0, 1 - t / strengths["steps"])
    return strengths["rate"] * (t >= strengths["start"])


@every_schedule
def test_everything_may_be_traced_and_mapped(schedule):
    traces = []

    @jax.jit
    def paths(strengths):
        traces.append(1)
        run = lambda s: jax.lax.map(lambda t: schedule.func(t, **s), STEPS)  # noqa: E731
        return jax.vmap(run)(strengths)

    factors = np.array([1.0, 0.5, 2.0])
    strengths = {name: np.float32(value * factors) for name, value in schedule.keywords.items()}
    got = paths(strengths)
    for i, factor in enumerate(factors):
        alone = {name: value * factor for name, value in schedule.keywords.items()}
        want = by_hand(schedule.func.__name__, STEPS, alone)
        np.testing.assert_allclose(got[i], want, rtol=1e-6, atol=1e-7)
    paths({name: value + np.float32(0.1) for name, value in strengths.items()})
    assert len(traces) == 1


@every_schedule
def test_gradients_of_the_strengths_are_finite_at_the_edges(schedule):
    extreme = {name: [0.0, 1.0, INF] for name in schedule.keywords} | {"rate": [0.0, 0.5, 1.0]}
    jacobian = jax.jit(jax.jacfwd(lambda s: schedule.func(STEPS, **s)))
    for index in range(3):
        strengths = {name: np.float32(values[index]) for name, values in extreme.items()}
        gradient = jacobian(strengths)
        for name, values in gradient.items():
            assert np.isfinite(values).all(), (name, strengths)
        with np.errstate(invalid="ignore", divide="ignore"):
            unit = by_hand(schedule.func.__name__, STEPS, strengths | {"rate": 1.0})
        known = np.isfinite(unit)
        np.testing.assert_allclose(gradient["rate"][known], unit[known], rtol=1e-6, atol=1e-7)


def test_a_schedule_stands_where_one_of_optax_does():
    schedule = partial(schedules.early_dropout, rate=0.5, steps=2)
    decay = transforms.decoupled_decay(schedule, learning_rate=0.5, mask=None)
    joined = optax.join_schedules([optax.constant_schedule(0.1), schedule], [3])

    @jax.jit
    def shares(params):
        def step(state, _):
            updates, state = decay.update(jnp.zeros(2), state, params)
            return state, updates

        return jax.lax.scan(step, decay.init(params), length=3)[1], jax.vmap(joined)(STEPS)

    updates, rates = shares(np.ones(2, np.float32))
    np.testing.assert_allclose(updates[:, 0], [-0.25, -0.125, 0.0])
    np.testing.assert_allclose(rates[:6], [0.1, 0.1, 0.1, 0.5, 0.25, 0])


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
            schedule(0, **{name: np.ones(2)})
