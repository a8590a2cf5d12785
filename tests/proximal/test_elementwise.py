"""Proximal operators of single weights, by what defines them: optimality, exact zeros, identity."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import penalties, proximal
from tests.arrays import (
    DTYPES,
    assert_derivatives,
    assert_same_bits,
    bits,
    eps,
    float64,
    normal,
    weights,
)
from tests.helpers import few
from tests.proximal import helpers
from tests.proximal.helpers import rounding, step

ELASTIC_NET = partial(proximal.elastic_net, l1=0.6, l2=0.8)
BOX = partial(proximal.box, low=-0.5, high=1.0)
OPERATORS = {
    "l1": proximal.l1,
    "l2": proximal.l2,
    "elastic_net": ELASTIC_NET,
    "l0": proximal.l0,
    "box": BOX,
}
PENALTIES = {
    "l1": abs,
    "l2": lambda v: v**2 / 2,
    "elastic_net": lambda v: 0.6 * abs(v) + 0.4 * v**2,
    "l0": lambda v: (v != 0).astype(float),
    "box": lambda v: 0 * v,
}
every_operator = pytest.mark.parametrize("name", OPERATORS)
every_convex = pytest.mark.parametrize("name", ["l1", "l2", "elastic_net", "box"])
every_dtype = few("dtype", DTYPES, ids=str)
# A value whose copy to another dtype and back, or whose product with one, would not be itself.
HARD_TO_KEEP = np.array([0.0, -0.0, 1.0, -1.0, 1e-30, np.inf, -np.inf, np.nan], np.float32)

soft = step(proximal.l1)
shrunk = step(proximal.l2)
hard = step(proximal.l0)


@jax.jit
def elastic_net(w, l1, l2, t):
    return proximal.elastic_net(w, l1=l1, l2=l2, step=t)


@jax.jit
def box(w, low, high, t):
    return proximal.box(w, low=low, high=high, step=t)


# All operators.


@every_operator
def test_the_step_in_a_diagonal_metric_has_the_lowest_objective(name):
    # Against all points of a fine grid, with a strength s and the metric d in the objective.
    w, s = weights(50), 0.3
    d = (10.0 ** np.random.default_rng(1).uniform(-1, 1, 50)).astype(np.float32)
    v = float64(step(OPERATORS[name])(w, np.float32(s) / d))
    grid = np.linspace(-0.5, 1, 3001) if name == "box" else np.linspace(-4, 4, 16_001)

    def objective(v, w, d):
        return d / 2 * (v - float64(w)) ** 2 + s * PENALTIES[name](v)

    lowest = objective(grid[:, None], w, d).min(axis=0)
    assert (objective(v, w, d) <= lowest + 1e-6).all()
    if name in ("l0", "l1", "elastic_net"):
        assert 5 < (v == 0).sum() < 45


@every_operator
@every_dtype
def test_a_step_of_zero_is_the_identity_to_the_bit(name, dtype):
    helpers.assert_identity_at_zero(OPERATORS[name], dtype)


@every_operator
@every_dtype
def test_zeros_stay_and_have_finite_derivatives(name, dtype):
    helpers.assert_finite_at_zeros(OPERATORS[name], dtype)


@every_convex
def test_steps_are_firmly_nonexpansive(name):
    helpers.assert_firmly_nonexpansive(OPERATORS[name])


@pytest.mark.parametrize("name", ["l1", "l2", "elastic_net"])
def test_the_envelope_has_the_residual_as_its_gradient(name):
    penalty = getattr(penalties, name)
    strengths = {"l1": 0.6, "l2": 0.8} if name == "elastic_net" else {}
    helpers.assert_envelope(OPERATORS[name], partial(penalty, **strengths))


@every_operator
def test_any_shape_is_kept(name):
    helpers.assert_empty_weights_stay(OPERATORS[name])
    shapes = [(1,), (), (0,), (2, 3, 4)]

    @jax.jit
    def steps():
        return [OPERATORS[name](jnp.full(shape, 1.75), step=0.5) for shape in shapes]

    want = {"l1": 1.25, "l2": 1.75 / 1.5, "elastic_net": 1.45 / 1.4, "l0": 1.75, "box": 1.0}[name]
    for v, shape in zip(steps(), shapes, strict=True):
        np.testing.assert_allclose(v, np.full(shape, want), rtol=1e-6)


@pytest.mark.parametrize("name", ["l1", "l2", "elastic_net"])
def test_infinite_steps_leave_zeros(name):
    w = np.array([1e30, -1.0, 0.0], np.float32)
    np.testing.assert_array_equal(step(OPERATORS[name])(w, np.inf), np.zeros(3))


@every_operator
def test_wrong_weights_and_steps_are_named(name):
    w = np.ones(2, np.float32)
    for size in (-1e-9, -1, np.float32(-2), -np.inf, np.nan):
        with pytest.raises(ValueError, match=r"`step` must be zero or positive, got"):
            OPERATORS[name](w, step=size)
    with pytest.raises(ValueError, match=r"`step` must broadcast to shape \(2,\), got"):
        OPERATORS[name](w, step=np.ones(3))
    with pytest.raises(TypeError, match=r"`w` must have a floating-point dtype, got int32"):
        OPERATORS[name](np.arange(3, dtype=np.int32), step=1.0)
    with pytest.raises(TypeError, match=r"`w` must be an array, got float"):
        OPERATORS[name](1.0, step=1.0)


# Soft threshold.


@every_dtype
@few("step", [0.5, 0.0, 1e-3, 2.0])
def test_zero_lies_in_the_subdifferential_of_l1(dtype, step):
    # v minimizes |v - w|^2 / 2 + t |v|_1 if and only if 0 is in v - w + t * subdifferential |v|.
    w = weights(400, scale=1.5).astype(dtype)
    v = float64(soft(w, step))
    residual = float64(w) - v
    t = float(np.float32(step))
    slack = rounding(w, dtype, t)
    at_zero = v == 0
    assert (np.abs(residual[at_zero]) <= t + slack[at_zero]).all()
    gap = residual[~at_zero] - t * np.sign(v[~at_zero])
    assert (np.abs(gap) <= slack[~at_zero]).all()


@few("step", [0.5, 0.0, 1e-3, 2.0])
def test_the_residual_of_l1_is_the_projection_on_the_dual_ball(step):
    w = weights(400, scale=1.5)
    np.testing.assert_allclose(w - soft(w, step), np.clip(w, -step, step), atol=1e-6)


@every_dtype
def test_weights_within_the_step_are_exactly_zero(dtype):
    below = 0.5 * (1 - eps(dtype))
    w = np.array([0.5, -0.5, below, -below, 1e-7, 0.0, -0.0, 0.51, -0.51], dtype)
    v = np.asarray(soft(w, 0.5))
    np.testing.assert_array_equal(bits(v[:7]), np.zeros(7))  # No negative zero either.
    assert (v[7:] != 0).all()
    assert v.dtype == dtype


def exact_soft(w, t):
    return np.sign(float64(w)) * np.maximum(np.abs(float64(w)) - t, 0)


@every_dtype
def test_the_narrow_result_is_the_exact_one_rounded_once(dtype):
    # A threshold that rounds when cast to the narrow dtype: 0.3 is 0.30078125 in bfloat16.
    w = weights(400, scale=3).astype(dtype)
    t = np.float64(np.float32(0.3))
    rounded = exact_soft(w, t).astype(np.float32).astype(dtype)
    np.testing.assert_array_equal(soft(w, np.float32(0.3)), rounded)
    if dtype == np.float32:
        return  # Where the quotients of float32 may be off in the last bit.
    quotient = (float64(w) / (1 + t)).astype(np.float32).astype(dtype)
    np.testing.assert_array_equal(shrunk(w, np.float32(0.3)), quotient)


def test_values_in_float64():
    w = normal(100)
    with jax.enable_x64(True):
        v = soft(w, 0.1)
        halved = shrunk(w, 0.1)
        both = elastic_net(w, 0.5, 2.0, 0.1)
    assert v.dtype == halved.dtype == both.dtype == np.float64
    np.testing.assert_allclose(v, exact_soft(w, 0.1), rtol=1e-14, atol=1e-17)
    np.testing.assert_allclose(halved, w / 1.1, rtol=1e-14)
    np.testing.assert_allclose(both, exact_soft(w, 0.05) / 1.2, rtol=1e-14, atol=1e-17)


def test_array_steps_act_elementwise():
    w = np.array([[3.0, 3.0, -3.0], [1.0, -1.0, 1.0]], np.float32)
    columns = soft(w, np.array([0.0, 1.0, 2.0], np.float32))
    np.testing.assert_array_equal(columns, [[3, 2, -1], [1, 0, 0]])
    rows = soft(w, np.array([[2.0], [0.5]], np.float32))
    np.testing.assert_array_equal(rows, [[1, 1, -1], [0.5, -0.5, 0.5]])
    halved = shrunk(w, np.array([[0.0], [1.0]], np.float32))
    np.testing.assert_array_equal(halved, [[3, 3, -3], [0.5, -0.5, 0.5]])


def test_negative_elements_of_a_step_act_as_zero():
    w = np.array([3.0, -3.0, -0.0, np.nan], np.float32)
    t = np.array([-1.0, 1.0, -1.0, -1.0], np.float32)
    for operator, moved in ((soft, -2.0), (shrunk, -1.5), (hard, -3.0)):
        assert_same_bits(operator(w, t), np.array([3.0, moved, -0.0, np.nan], np.float32))


def test_infinite_and_missing_weights_show():
    w = np.array([np.inf, -np.inf, np.nan], np.float32)
    for name, operator in OPERATORS.items():
        v = step(operator)(w, 1.0)
        # A diverged weight must not turn into a healthy zero.
        np.testing.assert_array_equal(v, [1.0, -0.5, np.nan] if name == "box" else w)


def test_derivatives_are_one_outside_the_step_and_zero_inside():
    w = np.array([2.0, -2.0, 0.3, -0.3, 0.0, 0.5], np.float32)

    @jax.jit
    def derivatives(w, t):
        slope = jax.grad(lambda w: soft(w, t).sum())(w)
        return slope, jax.jacfwd(lambda t: soft(w, t))(t)

    slope, by_step = derivatives(w, np.float32(0.5))
    np.testing.assert_array_equal(slope, [1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(by_step, [-1, 1, 0, 0, 0, 0])


def test_complex_weights_shrink_along_their_phase():
    w = np.array([3.0 + 4.0j, 0.3 + 0.4j, 0.0j], np.complex64)
    v = soft(w, 1.0)
    assert v.dtype == np.complex64
    np.testing.assert_allclose(v, [2.4 + 3.2j, 0, 0], rtol=1e-6)
    v = elastic_net(w, 1.0, 1.0, 1.0)
    np.testing.assert_allclose(v, [1.2 + 1.6j, 0, 0], rtol=1e-6)
    kept = hard(w, 0.5)
    np.testing.assert_array_equal(kept, [w[0], 0, 0])


def test_the_derivative_for_complex_weights_turns_with_them():
    w = np.array([3 + 4j, -1 + 0.5j, 0.1 + 0.2j])
    direction = np.array([1 + 2j, 2 - 1j, 1j])

    def value(w):
        return jnp.real(proximal.l1(w, step=0.5) * direction).sum()

    assert_derivatives(value, w)
    with jax.enable_x64(True):
        slope = jax.jit(jax.grad(value))(np.zeros_like(w))
    np.testing.assert_array_equal(slope, 0)


# Elastic net.


@every_dtype
def test_zero_lies_in_the_subdifferential_of_the_elastic_net(dtype):
    # v - w + t * (l1 * subdifferential |v| + l2 * v), with v and w exact in float64.
    w, t, l1, l2 = weights(400, scale=1.5).astype(dtype), 0.5, 0.75, 1.5
    v = float64(elastic_net(w, l1, l2, t))
    residual = float64(w) - v - t * l2 * v
    slack = rounding(w, dtype, t)
    at_zero = v == 0
    assert 0 < at_zero.sum() < 400
    assert (np.abs(residual[at_zero]) <= t * l1 + slack[at_zero]).all()
    assert (np.abs(residual - t * l1 * np.sign(v))[~at_zero] <= slack[~at_zero]).all()


def test_an_elastic_net_of_one_kind_is_that_operator():
    w = weights(400, scale=1.5)
    np.testing.assert_allclose(elastic_net(w, 1.0, 0.0, 0.5), exact_soft(w, 0.5), rtol=1e-6)
    np.testing.assert_allclose(elastic_net(w, 0.0, 1.0, 0.5), w / 1.5, rtol=1e-6)


def test_an_elastic_net_of_nothing_is_the_identity_to_the_bit():
    for l1, l2, t in ((0.0, 0.0, 1.0), (0.0, 0.0, np.inf), (np.inf, np.inf, 0.0), (1.0, -1.0, 0.0)):
        assert_same_bits(elastic_net(HARD_TO_KEEP, l1, l2, t), HARD_TO_KEEP)
    everything = elastic_net(HARD_TO_KEEP[:5], np.inf, 0.0, 1.0)
    np.testing.assert_array_equal(everything, 0)
    everything = elastic_net(HARD_TO_KEEP[:5], 0.0, 1.0, np.inf)
    np.testing.assert_array_equal(everything, 0)


def test_steps_and_weights_of_the_elastic_net_may_be_arrays():
    w = np.array([[3.0, 3.0, -3.0], [1.0, -1.0, 1.0]], np.float32)
    l1 = np.array([0.0, 1.0, -2.0], np.float32)
    l2 = np.array([[1.0], [0.0]], np.float32)
    v = elastic_net(w, l1, l2, np.array([1.0, 2.0, 1.0], np.float32))
    np.testing.assert_allclose(v, [[1.5, 1 / 3, -1.5], [1, 0, 1]], rtol=1e-6)


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_wrong_weights_of_the_elastic_net_are_named(name):
    good = {"l1": 0.5, "l2": 0.5, "step": 1.0}
    w = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match=rf"`{name}` must be zero or positive, got -1.0"):
        proximal.elastic_net(w, **good | {name: -1.0})
    with pytest.raises(ValueError, match=rf"`{name}` must broadcast to shape \(2, 3\)"):
        proximal.elastic_net(w, **good | {name: np.ones(2)})


# Hard threshold.


@every_dtype
def test_the_hard_threshold_is_the_global_minimum(dtype):
    w, t = weights(400).astype(dtype), 0.375
    kept = float64(w) ** 2 / 2 > t
    assert 0 < kept.sum() < w.size
    np.testing.assert_array_equal(bits(hard(w, t)), np.where(kept, bits(w), 0))


def test_the_hard_threshold_at_the_edges():
    w = np.array([1.0, -1.0, 1.0000001, 1e30, 1e-30, np.inf, np.nan], np.float32)
    want = w.copy()
    want[[0, 1, 4]] = 0
    assert_same_bits(hard(w, 0.5), want)
    # Twice the step overflows.
    np.testing.assert_array_equal(hard(w, 3e38)[3:5], [w[3], 0])
    np.testing.assert_array_equal(hard(w, np.inf)[:5], 0)
    each = hard(np.ones(3, np.float32), np.array([0.0, 0.4, 0.6], np.float32))
    np.testing.assert_array_equal(each, [1, 1, 0])
    slope = jax.jit(jax.grad(lambda w, t: proximal.l0(w, step=t).sum(), (0, 1)))
    by_w, by_step = slope(w[:5], 0.5)
    np.testing.assert_array_equal(by_w, [0, 0, 1, 1, 0])
    assert by_step == slope(w[:5], 0.0)[1] == 0


# Box.


@every_dtype
def test_the_box_is_a_projection_for_every_positive_step(dtype):
    w = weights(400).astype(dtype)
    inside = (w >= -0.5) & (w <= 1)
    for t in (1e-30, 0.5, np.inf):
        v = np.asarray(step(BOX)(w, t))
        np.testing.assert_array_equal(v, np.clip(w, dtype.type(-0.5), dtype.type(1.0)))
        assert_same_bits(step(BOX)(v, t), v)
        assert_same_bits(v[inside], w[inside])


def test_the_bounds_of_a_box_may_be_arrays():
    w = np.array([3.0, -3.0, np.nan, np.inf, -0.0], np.float32)
    low = np.array([-1.0, -1, -1, 2, 0], np.float32)
    high = np.array([np.inf, 0, 1, 1, 0], np.float32)
    v = box(w, low, high, 1.0)
    np.testing.assert_array_equal(v, [3, -1, np.nan, 1, 0])
    assert np.signbit(v[-1])
    by_low, by_high = jax.jit(jax.jacfwd(box, (1, 2)))(w, low, high, 1.0)
    np.testing.assert_array_equal(by_low, np.diag([0, 1, 0, 0, 0]))
    np.testing.assert_array_equal(by_high, np.diag([0, 0, 0, 1, 0]))


def test_the_box_is_off_where_its_step_is_zero():
    w = np.array([3.0, 3.0, -3.0], np.float32)
    v = box(w, -1.0, 1.0, np.array([0.0, 0.1, -1.0], np.float32))
    np.testing.assert_array_equal(v, [3, 1, -3])


def test_wrong_boxes_are_named():
    w = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"`low` must be at most `high`, got 1.0 and 0.5; swap"):
        proximal.box(w, low=1.0, high=0.5, step=1.0)
    with pytest.raises(ValueError, match=r"`low` must be at most `high`, got nan and 0.5; swap"):
        proximal.box(w, low=np.nan, high=0.5, step=1.0)
    jax.eval_shape(partial(proximal.box, low=0.5, high=0.5, step=1.0), w)
    for name in ("low", "high"):
        bounds = {"low": 0.0, "high": 1.0} | {name: np.ones(2)}
        with pytest.raises(ValueError, match=rf"`{name}` must broadcast to shape \(2, 3\)"):
            proximal.box(w, **bounds, step=1.0)
    with pytest.raises(TypeError, match=r"`w` must have a real dtype, got complex64"):
        proximal.box(w + 1j, low=0.0, high=1.0, step=1.0)
