"""Proximal operators of groups, with one step for a group and in a diagonal metric."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from jaxreg import penalties, proximal
from tests.arrays import (
    DTYPES,
    assert_derivatives,
    assert_finite,
    assert_same_bits,
    bits,
    eps,
    float64,
    weights,
)
from tests.helpers import few
from tests.proximal import helpers
from tests.proximal.helpers import step

OPERATORS = {
    "group_lasso": proximal.group_lasso,
    "sparse_group_lasso": partial(proximal.sparse_group_lasso, l1_share=0.4),
}
every_operator = pytest.mark.parametrize("name", OPERATORS)
every_dtype = few("dtype", DTYPES, ids=str)
every_axis = few("axis", [None, 1, (0, 1), 0], ids=str)
group_lasso = jax.jit(proximal.group_lasso, static_argnames="axis")


@jax.jit
def sparse_group_lasso(w, share, t):
    return proximal.sparse_group_lasso(w, l1_share=share, step=t)


def graded(dtype=np.float32):
    """Forty columns from small to large ones."""
    return (weights(6, 40) * np.linspace(0.1, 2, 40, dtype=np.float32)).astype(dtype)


def metric(*shape, seed=1, decades=1.0):
    """Positive diagonal whose elements are decades apart."""
    powers = np.random.default_rng(seed).uniform(-decades, decades, shape)
    return (10.0**powers).astype(np.float32)


def by_bisection(w, t):
    """The step on one group in float64, from the radius where its equation changes its sign."""
    with np.errstate(divide="ignore", over="ignore"):
        cut = np.asarray(t, np.float64) * np.sqrt(len(w))
        dual = np.divide(w, cut, out=np.where(w == 0, 0.0, np.inf), where=cut > 0)
    if (dual**2).sum() <= 1:
        return 0 * w
    low, high = -690.0, np.log(np.linalg.norm(w))
    for _ in range(200):
        middle = (low + high) / 2
        above = ((w / (np.exp(middle) + cut)) ** 2).sum() > 1
        low, high = (middle, high) if above else (low, middle)
    return w * (np.exp(low) / (np.exp(low) + cut))


def exact_sparse(w, share, t):
    """The step on columns with one step, in float64."""
    w = float64(w)
    thinned = np.sign(w) * np.maximum(np.abs(w) - t * share, 0)
    size = np.maximum(np.linalg.norm(thinned, axis=0), 1e-300)
    return thinned * np.maximum(1 - t * (1 - share) * np.sqrt(len(w)) / size, 0)


# Both operators, both kinds of steps.


@every_operator
@every_dtype
def test_a_step_of_zero_is_the_identity_to_the_bit(name, dtype):
    helpers.assert_identity_at_zero(OPERATORS[name], dtype)


@every_operator
@every_dtype
def test_zeros_stay_and_have_finite_derivatives(name, dtype):
    helpers.assert_finite_at_zeros(OPERATORS[name], dtype)


@every_operator
def test_steps_are_firmly_nonexpansive(name):
    helpers.assert_firmly_nonexpansive(OPERATORS[name])


def test_the_envelope_has_the_residual_as_its_gradient():
    helpers.assert_envelope(proximal.group_lasso, penalties.group_lasso)


@every_operator
@pytest.mark.parametrize("kind", ["groups", "weights"])
def test_weights_of_any_size_make_the_same_step(name, kind):
    t = np.float32(0.4) if kind == "groups" else 0.4 / metric(6, 5)
    helpers.assert_same_at_any_size(OPERATORS[name], t)


@every_operator
def test_odd_shapes(name):
    helpers.assert_empty_weights_stay(OPERATORS[name])
    shapes = [(0, 3), (3, 0), (1, 1), (3,)]

    @jax.jit
    def steps():
        operator = OPERATORS[name]
        return [operator(jnp.ones(s), step=jnp.full(s, 0.25)) for s in shapes]

    for v, shape in zip(steps(), shapes, strict=True):
        np.testing.assert_allclose(v, np.full(shape, 0.75), rtol=1e-6)


@every_operator
@pytest.mark.parametrize("kind", ["groups", "weights"])
def test_a_general_optimizer_finds_no_lower_objective(name, kind):
    w = float64(weights(4, 3, seed=3))
    d, s = (0 * w + 1, 0.5) if kind == "groups" else (float64(metric(4, 3, seed=4)), 0.4)

    def penalty(v):
        groups = 2 * np.linalg.norm(v, axis=0).sum()
        return groups if name == "group_lasso" else 0.4 * np.abs(v).sum() + 0.6 * groups

    def objective(v):
        v = v.reshape(w.shape)
        return (d * (v - w) ** 2).sum() / 2 + s * penalty(v)

    t = np.float32(s) if kind == "groups" else np.float32(s / d)
    v = float64(step(OPERATORS[name])(np.float32(w), t)).ravel()
    found = minimize(objective, w.ravel(), method="Powell", options={"xtol": 1e-9, "ftol": 1e-12})
    assert objective(v) <= found.fun + 1e-6
    nearby = [v + 1e-3 * weights(12, seed=seed) for seed in range(50)]
    assert objective(v) <= min(map(objective, nearby)) + 1e-6


@every_operator
def test_a_diverged_group_shows(name):
    w = weights(4, 3)
    w[0, 1] = np.nan
    for t in (np.float32(0.1), np.full((4, 3), 0.1, np.float32)):
        v = np.asarray(step(OPERATORS[name])(w, t))
        assert np.isnan(v[0, 1])
        assert np.isnan(v[:, 1]).all() or t.ndim == 0
        assert np.isfinite(v[:, ::2]).all()
    t[0, 1] = np.nan
    spread = np.asarray(step(OPERATORS[name])(np.ones((4, 3), np.float32), t))
    assert np.isnan(spread[:, 1]).all()


@every_operator
def test_wrong_arguments_are_named(name):
    operator, w = OPERATORS[name], np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"`step` must be zero or positive, got -1.0"):
        operator(w, step=-1.0)
    with pytest.raises(ValueError, match=r"`step` must broadcast to shape \(2, 3\), got"):
        operator(w, step=np.ones(2))
    with pytest.raises(ValueError, match=r"`axis` must lie in \[-2, 2\), got 2"):
        operator(w, step=1.0, axis=2)
    with pytest.raises(TypeError, match=r"`w` must have a floating-point dtype, got int32"):
        operator(w.astype(np.int32), step=1.0)


# One step for a group.


@every_dtype
@every_axis
def test_zero_lies_in_the_subdifferential_of_the_group_lasso(dtype, axis):
    # w - v = t sqrt(p) v / |v| where v is not zero, else |w - v| <= t sqrt(p).
    w = (weights(6, 40) * np.linspace(0.2, 2, 40, dtype=np.float32)).astype(dtype)
    t = {0: 0.4, None: 0.4, 1: 1.1, (0, 1): 0.5}[axis]
    v = float64(group_lasso(w, step=t, axis=axis))
    axes, w = 0 if axis is None else axis, float64(w)
    weight = np.float64(np.float32(t)) * np.sqrt(w.size / np.linalg.norm(w, axis=axes).size)
    size = np.sqrt((v**2).sum(axes, keepdims=True))
    zero = np.broadcast_to(size == 0, v.shape)
    slack = 4 * eps(dtype) * (1 + np.abs(w).max())
    gap = (w - v) - weight * v / np.where(size == 0, 1, size)
    assert np.abs(gap[~zero]).max(initial=0) <= slack
    residual = np.sqrt(((w - v) ** 2).sum(axes, keepdims=True))
    assert (residual <= weight * (1 + slack)).all()
    if axis in (0, None):
        assert 0 < (size == 0).sum() < 40


@every_dtype
def test_zero_lies_in_the_subdifferential_of_the_sparse_group_lasso(dtype):
    w = (weights(6, 40) * np.linspace(0.3, 3, 40, dtype=np.float32)).astype(dtype)
    t, share = 0.75, 0.4
    v = float64(sparse_group_lasso(w, share, t))
    w = float64(w)
    lasso, group = t * share, t * (1 - share) * np.sqrt(6)
    size = np.linalg.norm(v, axis=0, keepdims=True)
    slack = 4 * eps(dtype) * (1 + np.abs(w))
    residual = w - v - group * v / np.where(size == 0, 1, size)
    alive = np.broadcast_to(size != 0, v.shape)
    assert 0 < (size == 0).sum() < 40
    assert (v[alive] == 0).any()
    gap = residual - lasso * np.sign(v)
    assert (np.abs(gap) <= slack)[alive & (v != 0)].all()
    assert (np.abs(residual) <= lasso + slack)[alive & (v == 0)].all()
    # A group is zero where no subgradient of the l1 part brings it past the ball of the other.
    thinned = np.sign(w) * np.maximum(np.abs(w) - lasso, 0)
    assert (np.linalg.norm(thinned, axis=0) <= group * (1 + slack.max()))[size[0] == 0].all()


def test_shares_reach_both_ends_and_are_clipped_to_them():
    w = weights(6, 40)
    for given, share in ((0.0, 0.0), (-1.0, 0.0), (1.0, 1.0), (2.0, 1.0), (0.3, 0.3)):
        v = sparse_group_lasso(w, given, 0.4)
        np.testing.assert_allclose(v, exact_sparse(w, share, 0.4), atol=1e-6)
        np.testing.assert_array_equal(np.asarray(v) == 0, exact_sparse(w, share, 0.4) == 0)
    for share in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"`l1_share` must be a number in \[0, 1\], got"):
            proximal.sparse_group_lasso(w, l1_share=share, step=1.0)


def test_infinite_steps_leave_zeros_at_every_share():
    for share in (0.0, 0.5, 1.0):
        np.testing.assert_array_equal(sparse_group_lasso(weights(6, 40), share, np.inf), 0)


def test_a_step_for_each_group():
    w = np.array([[3.0, 3.0, 3.0], [4.0, 4.0, 4.0]], np.float32)
    t = np.float32(np.array([0.0, 2.5, -1.0]) / np.sqrt(2))
    want = [[3, 1.5, 3], [4, 2, 4]]
    np.testing.assert_allclose(group_lasso(w, step=t), want, rtol=1e-6)
    np.testing.assert_allclose(sparse_group_lasso(w, 0.0, t), want, rtol=1e-6)


def test_a_group_at_its_step_vanishes():
    w = np.array([[2.0, 2.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], np.float32)
    for t in (np.float32([1.0, 0.75]), np.ones((4, 2), np.float32) * np.float32([1.0, 0.75])):
        v = group_lasso(w, step=t)
        np.testing.assert_array_equal(bits(v[:, 0]), 0)
        np.testing.assert_allclose(v[0, 1], 0.5, rtol=1e-6)


def test_squares_that_overflow_float16_are_computed_wide():
    w = np.full((4, 2), 300.0, np.float16)
    v = group_lasso(w, step=100.0)
    np.testing.assert_allclose(v, 300 * (1 - 100 * 2 / 600) + 0 * w, rtol=2e-3)


def test_complex_groups_keep_their_phases():
    w = np.array([[3.0, 0.3], [4.0j, 0.4j]], np.complex64)
    for t in (np.float32(2.5 / np.sqrt(2)), np.full((2, 2), 2.5 / np.sqrt(2), np.float32)):
        v = group_lasso(w, step=t)
        assert v.dtype == np.complex64
        np.testing.assert_allclose(v, [[1.5, 0], [2j, 0]], rtol=1e-6)


# A step for each weight.


@every_dtype
@every_axis
def test_zero_lies_in_the_subdifferential_in_the_metric(dtype, axis):
    # d (w - v) = s sqrt(p) v / |v| where v is not zero, else |d w| <= s sqrt(p).
    w = graded(dtype)
    d = float64(metric(6, 40))
    axes = 0 if axis is None else axis
    t = np.float32({0: 0.5, None: 0.5, 1: 1.6, (0, 1): 0.5}[axis] / d)
    v = group_lasso(w, step=t, axis=axis)
    assert v.dtype == dtype
    w = float64(w)
    v = float64(v)
    t = float64(t)
    size = np.linalg.norm(v, axis=axes, keepdims=True)
    cut = t * np.sqrt(w.size / size.size)
    assert (np.linalg.norm(w / cut, axis=axes, keepdims=True)[size == 0] <= 1 + 1e-6).all()
    gap = v * (1 + cut / np.where(size == 0, 1, size)) - w
    slack = eps(dtype) * 3 * (1 + cut / np.where(size == 0, 1, size)) * abs(w)
    slack += 1e-5 * abs(w).max() * (dtype == np.float32)
    assert (abs(gap) <= slack)[np.broadcast_to(size != 0, w.shape)].all()
    if axis in (0, None):
        assert 0 < (size == 0).sum() < 40


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@few("decades", [15.0, 0.1, 2.0, 8.0])
def test_the_group_lasso_is_that_of_bisection(dtype, decades):
    # Up to 30 decades of weights and of metrics within one group.
    rng = np.random.default_rng(int(10 * decades))
    size, number = 30, 100
    w = rng.normal(0, 1, (size, number)) * 10 ** rng.uniform(-decades, 0, (size, number))
    spread = rng.choice([0.1, 1.0, decades], number)
    t = abs(w) * 10 ** (rng.uniform(-1, 1, (size, number)) * spread)
    t = (t * rng.uniform(0.2, 1.2, number)).astype(dtype)
    w = w.astype(dtype)
    with jax.enable_x64(True):
        v = float64(group_lasso(w, step=t))
    columns = zip(float64(w).T, float64(t).T, strict=True)
    want = np.stack([by_bisection(*column) for column in columns], axis=1)
    assert 0 < (want == 0).all(axis=0).sum() < number
    np.testing.assert_array_equal((v == 0).all(axis=0), (want == 0).all(axis=0))
    tolerance = 2e-6 if dtype == np.float32 else 1e-13
    assert (abs(v - want) <= tolerance * abs(w).max(axis=0)).all()


@every_operator
@every_dtype
def test_equal_thresholds_are_one_threshold(name, dtype):
    w = graded(dtype)
    t = np.linspace(0.2, 1, 40, dtype=np.float32)
    share = 0.4 if name == "sparse_group_lasso" else 0.0
    want = exact_sparse(w, share, float64(t))
    assert 0 < (want == 0).all(axis=0).sum() < 40
    rounding = 4 * eps(dtype) * abs(float64(w)).max(axis=0)
    for steps in (t, np.broadcast_to(t, w.shape)):
        v = step(OPERATORS[name])(w, steps)
        np.testing.assert_array_equal(np.asarray(v) == 0, want == 0)
        assert (abs(float64(v) - want) <= rounding).all()


def test_the_shape_of_a_threshold_says_what_it_is_for():
    w = weights(4, 4, 5)
    t = np.linspace(0.1, 0.8, 4, dtype=np.float32)
    for shape in ((4, 1, 1), (1, 4, 1)):
        v = np.asarray(group_lasso(w, step=t.reshape(shape)))
        full = np.broadcast_to(t.reshape(shape), w.shape)
        want = [by_bisection(*map(np.ravel, (w[..., i], full[..., i]))) for i in range(5)]
        np.testing.assert_allclose(v.reshape(16, 5).T, want, atol=1e-6)
    rows = np.asarray(group_lasso(w, step=t[:, None, None], axis=(1, 2)))
    want = exact_sparse(w.reshape(4, 20).T, 0.0, float64(t))
    np.testing.assert_allclose(rows.reshape(4, 20).T, want, atol=1e-6)
    with pytest.raises(ValueError, match=r"`step` must broadcast to shape \(4, 4, 5\)"):
        proximal.group_lasso(w, step=t)


@every_operator
def test_one_step_for_a_group_is_a_closed_form(name):
    program = jax.make_jaxpr(lambda w, t: OPERATORS[name](w, step=t))
    w = np.ones((4, 5), np.float32)
    for shape in ((), (5,), (1, 5), (1, 1)):
        assert "while" not in str(program(w, np.ones(shape, np.float32)))
    assert "while" in str(program(w, np.ones((4, 1), np.float32)))


def test_a_group_vanishes_at_its_bound_and_not_above():
    w = np.array([[3.0, 3.0, 3.0], [4.0, 4.0, 4.0]], np.float32)
    # The first dual norm is 0.6^2 + 0.8^2 = 1; the others are slightly smaller and larger.
    t = 5 * np.array([[1, 1.001, 0.999], [1, 1.001, 0.999]]) / np.sqrt(2) * (1 + 1e-7)
    v = np.asarray(group_lasso(w, step=np.float32(t)))
    np.testing.assert_array_equal(bits(v[:, :2]), 0)
    assert (v[:, 2] > 0).all()
    np.testing.assert_allclose(v[:, 2], 0.001 * w[:, 2], rtol=1e-3)


@every_operator
@every_dtype
def test_infinite_and_absent_steps(name, dtype):
    infinity = np.inf
    w = np.array([[1.0, 2.0, -0.0, 3.0], [3.0, -4.0, 0.0, 1.0], [0.5, 1.0, 0.0, 0.5]], dtype)
    t = np.array([[0, infinity, infinity, -1], [infinity, infinity, 0, 0.1], [0.1, 1, 1, 0.1]])
    v = np.asarray(step(OPERATORS[name])(w, np.float32(t)))
    assert v[0, 0] == w[0, 0]
    assert v[0, 3] == w[0, 3]  # A negative element counts as 0.
    assert v[1, 0] == 0
    assert 0 < v[2, 0] < w[2, 0]
    np.testing.assert_array_equal(v[:, 1:3], 0)  # Alone, the last weight is below its step.
    everything = step(OPERATORS[name])(w, np.full(w.shape, infinity, np.float32))
    np.testing.assert_array_equal(everything, 0)
    nothing = step(OPERATORS[name])(w, np.zeros(w.shape, np.float32))
    assert_same_bits(nothing, w)


@every_operator
def test_what_a_step_of_zero_leaves_it_leaves_to_the_bit(name):
    tiny = jnp.finfo(np.float32).smallest_subnormal
    hard = np.array([0.0, -0.0, 1.0, 1e-30, tiny, np.inf, -np.inf, np.nan], np.float32)
    w = np.stack([hard, np.ones(8, np.float32)])
    t = np.stack([np.zeros(8, np.float32), np.full(8, 0.1, np.float32)])
    v = step(OPERATORS[name])(w, t)
    assert_same_bits(np.asarray(v)[0], hard)


@every_operator
@few("factor", [1, 1 + 2j], ids=["real", "complex"])
def test_derivatives_are_those_of_the_step(name, factor):
    direction = weights(3, 4, seed=10) * factor
    w = float64(weights(3, 4, seed=7))
    w[1, 2] = 0
    w = w * factor
    t = 0.2 / float64(metric(3, 4, seed=9, decades=0.5))
    t[:, 3] *= 30

    def moved(w, t):
        return (OPERATORS[name](w, step=t) * direction).real

    with jax.enable_x64(True):
        v = np.asarray(step(OPERATORS[name])(w, t))
    np.testing.assert_array_equal((v == 0).all(axis=0), [False, False, False, True])
    assert_derivatives(moved, w, t)
    free = t.copy()
    free[0, 1] = 0.0
    assert_derivatives(partial(moved, t=free), w)


@every_operator
def test_derivatives_by_one_step_are_those_of_the_step(name):
    w = float64(weights(3, 4, seed=7))
    w[1, 2] = 0
    assert_derivatives(lambda w, t: OPERATORS[name](w, step=t), w, 0.1 + 0.1 * np.arange(4.0))
    assert_derivatives(lambda w: OPERATORS[name](w, step=0.2), w, order=2)


@every_operator
@every_dtype
def test_derivatives_are_finite_at_kinks(name, dtype):
    def value(w, t):
        return (OPERATORS[name](w, step=t).astype(np.float32) ** 2).sum()

    @jax.jit
    def derivatives(w, t):
        pushed = jax.jvp(value, (w, t), (w, jnp.ones_like(t)))
        return jax.grad(value, (0, 1))(w, t), jax.hessian(value)(w, t), pushed

    w = weights(3, 4).astype(dtype)
    t = 0.2 / metric(3, 4)
    w[:, 1] = 0
    t[0] = 0
    t[1] = np.inf
    for point in (w, np.zeros_like(w)):
        for size in (t, np.zeros_like(t), np.full_like(t, 0.3), np.full_like(t, np.inf)):
            assert_finite(derivatives(point, size))


@pytest.mark.parametrize("shape", [(2, 3), ()], ids=["weights", "groups"])
def test_the_derivative_inside_a_vanished_group_is_zero(shape):
    slopes = jax.jit(jax.grad(lambda w, t: proximal.group_lasso(w, step=t).sum(), (0, 1)))
    for w in (np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)):
        for slope in slopes(w, np.full(shape, 10.0, np.float32)):
            np.testing.assert_array_equal(slope, 0)


def test_thresholds_for_weights_map_and_scan():
    w = weights(6, 40)
    t = 0.3 / metric(6, 40)
    factors = np.linspace(0.0, 2.0, 5, dtype=np.float32)

    @jax.jit
    def values(w, t):
        each = lambda f: proximal.group_lasso(w, step=f * t)  # noqa: E731
        return jax.vmap(each)(factors), jax.lax.map(each, factors)

    groups = [(w.T[i], f * t.T[i]) for f in factors[1:] for i in range(40)]
    want = np.stack([by_bisection(*map(float64, group)) for group in groups])
    want = want.reshape(4, 40, 6).transpose(0, 2, 1)
    for v in values(w, t):
        np.testing.assert_array_equal(v[0], w)
        np.testing.assert_allclose(v[1:], want, atol=1e-6)
