"""Proximal operators of groups, matrices, counts and boxes, by what defines them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads
from scipy.optimize import minimize

from jaxreg import penalties, proximal, transforms

DTYPES = [jnp.float32, jnp.bfloat16, jnp.float16]
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: jnp.dtype(d).name)

sparse_group = partial(proximal.sparse_group_lasso, l1_share=0.4)
box = partial(proximal.box, low=-0.5, high=1.0)
CONVEX = {
    "box": box,
    "group_lasso": proximal.group_lasso,
    "nuclear": proximal.nuclear,
    "sparse_group_lasso": sparse_group,
}
ALL = CONVEX | {"l0": proximal.l0}
every_convex = pytest.mark.parametrize("name", CONVEX)
every_operator = pytest.mark.parametrize("name", ALL)


def weights(seed=0, shape=(6, 40), scale=1.0):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def float64(x):
    return np.asarray(x, np.float64)


def bits(x):
    x = np.asarray(x)
    return x.view(f"uint{8 * x.dtype.itemsize}")


@every_dtype
@pytest.mark.parametrize("axis", [0, 1, (0, 1), None], ids=str)
def test_zero_lies_in_the_subdifferential_of_the_group_lasso(dtype, axis):
    # w - v = t sqrt(p) v / |v| where v is not zero, else |w - v| <= t sqrt(p).
    w = jnp.asarray(weights() * np.linspace(0.2, 2, 40, dtype=np.float32), dtype)
    t = {0: 0.4, None: 0.4, 1: 1.1, (0, 1): 0.5}[axis]
    v = proximal.group_lasso(w, threshold=t, axis=axis)
    axes = 0 if axis is None else axis
    w, v = float64(w), float64(v)
    weight = np.float64(np.float32(t)) * np.sqrt(w.size / np.linalg.norm(w, axis=axes).size)
    size = np.sqrt((v**2).sum(axes, keepdims=True))
    zero = np.broadcast_to(size == 0, v.shape)
    slack = 4 * float(jnp.finfo(dtype).eps) * (1 + np.abs(w).max())
    gap = (w - v) - weight * v / np.where(size == 0, 1, size)
    assert np.abs(gap[~zero]).max(initial=0) <= slack
    residual = np.sqrt(((w - v) ** 2).sum(axes, keepdims=True))
    assert (residual <= weight * (1 + slack)).all()
    if axis in (0, None):
        assert 0 < (size == 0).sum() < 40


@every_dtype
def test_zero_lies_in_the_subdifferential_of_the_sparse_group_lasso(dtype):
    w = jnp.asarray(weights() * np.linspace(0.3, 3, 40, dtype=np.float32), dtype)
    t, share = 0.75, 0.4
    v = float64(proximal.sparse_group_lasso(w, l1_share=share, threshold=t))
    w = float64(w)
    lasso, group = t * share, t * (1 - share) * np.sqrt(6)
    size = np.linalg.norm(v, axis=0, keepdims=True)
    slack = 4 * float(jnp.finfo(dtype).eps) * (1 + np.abs(w))
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


def test_the_shares_of_the_sparse_group_lasso_reach_both_ends():
    w = jnp.asarray(weights())
    ends = [proximal.sparse_group_lasso(w, l1_share=s, threshold=0.4) for s in (0.0, 1.0)]
    np.testing.assert_array_equal(ends[0], proximal.group_lasso(w, threshold=0.4))
    np.testing.assert_array_equal(ends[1], proximal.l1(w, threshold=0.4))


@pytest.mark.parametrize(("shape", "axis"), [((7, 5), -1), ((5, 7), -1), ((4, 2, 3), (1, 2))])
def test_zero_lies_in_the_subdifferential_of_the_nuclear_norm(shape, axis):
    # The residual is t times u v^T on the singular vectors that stay, and at most t elsewhere.
    w, t = weights(shape=shape), 1.5
    v = proximal.nuclear(jnp.asarray(w), threshold=t, axis=axis)
    matrix = shape if len(shape) == 2 else (4, 6)
    v, residual = (float64(a).reshape(matrix) for a in (v, w - np.asarray(v)))
    left, values, right = np.linalg.svd(v, full_matrices=False)
    rank = (values > 1e-5).sum()
    assert 0 < rank < len(values)
    assert np.linalg.norm(residual, 2) <= t * (1 + 1e-6)
    np.testing.assert_allclose(left[:, :rank].T @ residual, t * right[:rank], atol=1e-5)
    np.testing.assert_allclose(residual @ right[:rank].T, t * left[:, :rank], atol=1e-5)


@pytest.mark.parametrize("name", ["group_lasso", "sparse_group_lasso", "nuclear"])
def test_a_general_optimizer_finds_no_lower_objective(name):
    w, t = weights(3, (4, 3)).astype(np.float64), 0.5

    def penalty(v):
        groups = 2 * np.linalg.norm(v, axis=0).sum()
        if name == "nuclear":
            return np.linalg.svd(v, compute_uv=False).sum()
        return groups if name == "group_lasso" else 0.4 * np.abs(v).sum() + 0.6 * groups

    def objective(v):
        v = v.reshape(w.shape)
        return ((v - w) ** 2).sum() / 2 + t * penalty(v)

    v = float64(ALL[name](jnp.asarray(w, jnp.float32), threshold=t)).ravel()
    found = minimize(objective, w.ravel(), method="Powell", options={"xtol": 1e-9, "ftol": 1e-12})
    assert objective(v) <= found.fun + 1e-6
    assert objective(v) <= min(objective(v + 1e-3 * weights(s, 12)) for s in range(50)) + 1e-6


@pytest.mark.parametrize("name", ["group_lasso", "nuclear"])
def test_the_envelope_has_the_residual_as_its_gradient(name):
    # Holds only if the operator and the penalty of the same name weigh alike.
    prox, penalty, t = ALL[name], getattr(penalties, name), 0.4

    def envelope(w):
        v = prox(w, threshold=t)
        return penalties.l2(v - w) + t * penalty(v)

    w = jnp.asarray(weights(shape=(6, 5)))
    np.testing.assert_allclose(jax.grad(envelope)(w), w - prox(w, threshold=t), atol=1e-5)


@every_convex
@pytest.mark.parametrize("threshold", [0.0, 0.3, 1.5])
def test_firmly_nonexpansive(name, threshold):
    prox = jax.jit(CONVEX[name])
    for seed in range(8):
        x, y = weights(2 * seed, (6, 5), 1.0 + seed), weights(2 * seed + 1, (6, 5))
        p, q = (float64(prox(jnp.asarray(w), threshold=threshold)) for w in (x, y))
        apart = float64(x) - float64(y)
        assert ((p - q) ** 2).sum() <= ((p - q) * apart).sum() + 1e-5 * (apart**2).sum()


@every_dtype
def test_the_hard_threshold_is_the_global_minimum(dtype):
    w, t = jnp.asarray(weights(), dtype), 0.375
    v = proximal.l0(w, threshold=t)
    kept = float64(w) ** 2 / 2 > t
    assert 0 < kept.sum() < w.size
    np.testing.assert_array_equal(bits(v), np.where(kept, bits(w), 0))


def test_the_hard_threshold_at_the_edges():
    w = jnp.array([1.0, -1.0, 1.0000001, 1e30, 1e-30, jnp.inf, jnp.nan])
    v = proximal.l0(w, threshold=0.5)
    np.testing.assert_array_equal(bits(v), bits(w.at[jnp.array([0, 1, 4])].set(0)))
    # Twice the threshold overflows.
    np.testing.assert_array_equal(proximal.l0(w[3:5], threshold=3e38), w[3:5].at[1].set(0))
    np.testing.assert_array_equal(proximal.l0(w[:5], threshold=jnp.inf), np.zeros(5))
    each = proximal.l0(jnp.ones(3), threshold=jnp.array([0.0, 0.4, 0.6]))
    np.testing.assert_array_equal(each, [1, 1, 0])
    slope = jax.grad(lambda w, t: proximal.l0(w, threshold=t).sum(), (0, 1))
    np.testing.assert_array_equal(slope(w[:5], 0.5)[0], [0, 0, 1, 1, 0])
    assert slope(w[:5], 0.5)[1] == slope(w[:5], 0.0)[1] == 0


@every_dtype
def test_the_box_is_a_projection_for_every_positive_threshold(dtype):
    w = jnp.asarray(weights(), dtype)
    for t in (1e-30, 0.5, jnp.inf):
        v = box(w, threshold=t)
        np.testing.assert_array_equal(v, np.clip(np.asarray(w), -0.5, 1.0))
        np.testing.assert_array_equal(bits(box(v, threshold=t)), bits(v))
    inside = (w >= -0.5) & (w <= 1)
    np.testing.assert_array_equal(bits(v)[inside], bits(w)[inside])


def test_the_bounds_of_a_box_may_be_arrays():
    w = jnp.array([3.0, -3.0, jnp.nan, jnp.inf, -0.0])
    low, high = jnp.array([-1.0, -1, -1, 2, 0]), jnp.array([jnp.inf, 0, 1, 1, 0])
    v = proximal.box(w, low=low, high=high, threshold=1.0)
    np.testing.assert_array_equal(v, [3, -1, np.nan, 1, 0])
    assert np.signbit(v[-1])
    by_low = jax.jacfwd(lambda a: proximal.box(w, low=a, high=high, threshold=1.0))(low)
    np.testing.assert_array_equal(by_low, np.diag([0, 1, 0, 0, 0]))


@every_dtype
@every_operator
@pytest.mark.parametrize("wrap", [float, jnp.float32], ids=["number", "array"])
def test_threshold_zero_is_the_identity_to_the_bit(dtype, name, wrap):
    tiny = jnp.finfo(dtype).smallest_subnormal
    w = jnp.array([[0.0, -0.0, 1.0, -1.0, 1e-30, tiny], [jnp.inf, -jnp.inf, jnp.nan, 3, 0, -tiny]])
    w = w.astype(dtype).T
    same = jax.jit(ALL[name])(w, threshold=wrap(0))
    np.testing.assert_array_equal(bits(same), bits(w))
    assert same.dtype == dtype


@pytest.mark.parametrize("name", ["group_lasso", "sparse_group_lasso", "nuclear"])
@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_extreme_magnitudes(name, size):
    w, factor = weights(shape=(6, 5)), np.float32(size)
    v = ALL[name](jnp.asarray(w * factor), threshold=0.4 * size)
    want = ALL[name](jnp.asarray(w), threshold=0.4)
    np.testing.assert_allclose(v / factor, want, rtol=1e-4, atol=2e-6)

    def slope(w, t):
        return jax.grad(lambda w: (ALL[name](w, threshold=t) * weights(5, (6, 5))).sum())(w)

    actual = slope(jnp.asarray(w * factor), 0.4 * size)
    np.testing.assert_allclose(actual, slope(jnp.asarray(w), 0.4), rtol=1e-4, atol=1e-5)


@every_dtype
@every_operator
@pytest.mark.parametrize("threshold", [0.0, 1e-30, 0.5, float("inf")])
def test_zeros_stay_and_have_finite_derivatives(dtype, name, threshold):
    w = jnp.asarray(weights(shape=(6, 5)), dtype).at[:, 1].set(0)
    for point in (w, jnp.zeros_like(w)):
        v, gradients = jax.value_and_grad(
            lambda w, t: (ALL[name](w, threshold=t).astype(jnp.float32) ** 2).sum(), (0, 1)
        )(point, jnp.float32(threshold))
        assert np.isfinite(v)
        assert all(np.isfinite(float64(g)).all() for g in gradients)
    np.testing.assert_array_equal(ALL[name](point, threshold=threshold), point)


def test_float16_whose_squares_overflow():
    w = jnp.full((4, 2), 300.0, jnp.float16)
    for prox in (proximal.group_lasso, proximal.nuclear):
        # Both norms of a column of four and of the matrix come from float32.
        factor = 1 - 100 * 2 / 600 if prox is proximal.group_lasso else 1 - 100 / 848.528
        np.testing.assert_allclose(prox(w, threshold=100.0), 300 * factor + 0 * w, rtol=2e-3)


def test_a_threshold_for_each_group():
    w = jnp.array([[3.0, 3.0, 3.0], [4.0, 4.0, 4.0]])
    t = jnp.array([0.0, 2.5, -1.0]) / np.sqrt(2)
    v = proximal.group_lasso(w, threshold=t)
    np.testing.assert_allclose(v, [[3, 1.5, 3], [4, 2, 4]], rtol=1e-6)
    np.testing.assert_allclose(
        proximal.sparse_group_lasso(w, l1_share=0.0, threshold=t), v, rtol=1e-6
    )


def test_a_diverged_group_shows():
    w = jnp.asarray(weights(shape=(4, 3))).at[0, 1].set(jnp.nan)
    for prox in (proximal.group_lasso, sparse_group):
        v = prox(w, threshold=0.1)
        assert np.isnan(v[0, 1])
        assert np.isfinite(v[:, ::2]).all()
    assert np.isnan(proximal.nuclear(w, threshold=0.1)).any()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1)], ids=str)
@every_operator
def test_empty_weights(name, shape):
    assert ALL[name](jnp.ones(shape), threshold=1.0).shape == shape


@pytest.mark.parametrize("point", ["orthogonal", "rank one", "zero", "one value within"])
@pytest.mark.slow
def test_the_derivative_of_the_nuclear_step_where_singular_values_repeat(point):
    # Finite differences of the exact step, which no singular vector that is not unique disturbs.
    q = np.linalg.qr(np.random.default_rng(1).normal(0, 1, (5, 3)))[0]
    values = {
        "orthogonal": [2.0, 2.0, 2.0],
        "rank one": [2.0, 0, 0],
        "zero": [0, 0, 0],
        "one value within": [2.0, 2.0, 0.5],
    }
    with jax.enable_x64(True):
        w = jnp.asarray(q * values[point])
        step = partial(proximal.nuclear, threshold=1.0)
        check_grads(step, (w,), order=1, modes=("fwd", "rev"))
        by_t = jax.jacfwd(lambda t: proximal.nuclear(w, threshold=t))(1.0)
        np.testing.assert_allclose(by_t, -q * (np.array(values[point]) > 1), atol=1e-12)
        second = jax.grad(lambda w: jnp.sum(jax.grad(lambda w: jnp.sum(step(w) ** 2))(w) ** 2))
        assert np.isfinite(second(w)).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@every_operator
def test_the_step_of_an_optimizer_lands_on_exact_zeros(dtype, name):
    prox = partial(proximal.box, low=0.0, high=1.0) if name == "box" else ALL[name]
    weight = {"l0": 2.0, "nuclear": 200.0}.get(name, 4.0)
    tx = optax.chain(optax.sgd(0.1), transforms.proximal(prox, weight, 0.1))
    w = jnp.asarray(weights(shape=(6, 5)) * np.array([0.1, 0.2, 1, 2, 3], np.float32), dtype)
    gradient = jnp.asarray(weights(1, (6, 5)), dtype)
    updates, _ = jax.jit(tx.update)(gradient, tx.init(w), w)
    v = optax.apply_updates(w, updates)
    assert v.dtype == dtype
    moved = w.astype(jnp.float32) - 0.1 * gradient.astype(jnp.float32)
    want = prox(moved, threshold=jnp.float32(0.1) * weight)
    np.testing.assert_array_equal(np.asarray(v)[want == 0], 0)
    assert (want == 0).any()
    np.testing.assert_allclose(float64(v), want, atol=4 * float(jnp.finfo(dtype).eps) * 8)
