"""Proximal operators with a threshold for each weight: the step in a diagonal metric."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.optimize import minimize

from jaxreg import proximal

DTYPES = [jnp.float32, jnp.bfloat16, jnp.float16]
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: jnp.dtype(d).name)
SEPARABLE = {
    "box": (partial(proximal.box, low=-0.5, high=1.0), lambda v: 0 * v),
    "elastic_net": (
        partial(proximal.elastic_net, l1=0.6, l2=0.8),
        lambda v: 0.6 * abs(v) + 0.4 * v**2,
    ),
    "l0": (proximal.l0, lambda v: (v != 0).astype(float)),
    "l1": (proximal.l1, abs),
    "l2": (proximal.l2, lambda v: v**2 / 2),
}
GROUPED = {
    "group_lasso": proximal.group_lasso,
    "sparse_group_lasso": partial(proximal.sparse_group_lasso, l1_share=0.4),
}
every_grouped = pytest.mark.parametrize("name", GROUPED)
group_lasso = jax.jit(proximal.group_lasso, static_argnames="axis")


def weights(seed=0, shape=(6, 40), scale=1.0):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def metric(seed=1, shape=(6, 40), decades=1.0):
    """Positive diagonal whose elements are decades apart."""
    powers = np.random.default_rng(seed).uniform(-decades, decades, shape)
    return (10.0**powers).astype(np.float32)


def float64(x):
    return np.asarray(x, np.float64)


def bits(x):
    x = np.asarray(x)
    return x.view(f"uint{8 * x.dtype.itemsize}")


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


@pytest.mark.parametrize("name", SEPARABLE)
def test_separable_operators_minimize_in_the_metric(name):
    # Against all points of a fine grid, with a strength s and the metric d in the objective.
    prox, penalty = SEPARABLE[name]
    w, d, s = weights(shape=(50,)), metric(shape=(50,)), 0.3
    v = float64(jax.jit(prox)(jnp.asarray(w), threshold=s / jnp.asarray(d)))
    grid = np.linspace(-0.5, 1, 3001) if name == "box" else np.linspace(-4, 4, 16_001)

    def objective(v, w, d):
        return d / 2 * (v - float64(w)) ** 2 + s * penalty(v)

    lowest = objective(grid[:, None], w, d).min(axis=0)
    assert (objective(v, w, d) <= lowest + 1e-6).all()
    if name in ("l0", "l1", "elastic_net"):
        assert 5 < (v == 0).sum() < 45


@every_dtype
@pytest.mark.parametrize("axis", [0, 1, (0, 1), None], ids=str)
def test_zero_lies_in_the_subdifferential_of_the_group_lasso(dtype, axis):
    # d (w - v) = s sqrt(p) v / |v| where v is not zero, else |d w| <= s sqrt(p).
    w = jnp.asarray(weights() * np.linspace(0.1, 2, 40, dtype=np.float32), dtype)
    d, axes = float64(metric()), 0 if axis is None else axis
    s = {0: 0.5, None: 0.5, 1: 1.6, (0, 1): 0.5}[axis]
    t = jnp.asarray(s / d, jnp.float32)
    v = group_lasso(w, threshold=t, axis=axis)
    assert v.dtype == dtype
    w, v, t = float64(w), float64(v), float64(t)
    size = np.linalg.norm(v, axis=axes, keepdims=True)
    cut = t * np.sqrt(w.size / size.size)
    assert (np.linalg.norm(w / cut, axis=axes, keepdims=True)[size == 0] <= 1 + 1e-6).all()
    gap = v * (1 + cut / np.where(size == 0, 1, size)) - w
    slack = float(jnp.finfo(dtype).eps) * 3 * (1 + cut / np.where(size == 0, 1, size)) * abs(w)
    assert (abs(gap) <= slack + 1e-5 * abs(w).max() * (dtype == jnp.float32))[
        np.broadcast_to(size != 0, w.shape)
    ].all()
    if axis in (0, None):
        assert 0 < (size == 0).sum() < 40


@pytest.mark.parametrize("decades", [0.1, 2.0, 8.0, 15.0])
def test_the_group_lasso_is_that_of_bisection(decades):
    # Up to 30 decades of weights and of metrics within one group.
    rng = np.random.default_rng(int(10 * decades))
    size = 30
    w = rng.normal(0, 1, (size, 200)) * 10 ** rng.uniform(-decades, 0, (size, 200))
    spread = rng.choice([0.1, 1.0, decades], 200)
    t = abs(w) * 10 ** (rng.uniform(-1, 1, (size, 200)) * spread) * rng.uniform(0.2, 1.2, 200)
    for dtype, tolerance in ((np.float32, 2e-6), (np.float64, 1e-13)):
        with jax.enable_x64(True):
            w, t = w.astype(dtype).astype(float), t.astype(dtype).astype(float)
            v = float64(group_lasso(jnp.asarray(w, dtype), threshold=jnp.asarray(t, dtype)))
        want = np.stack([by_bisection(*column) for column in zip(w.T, t.T, strict=True)], axis=1)
        assert 0 < (want == 0).all(axis=0).sum() < 200
        np.testing.assert_array_equal((v == 0).all(axis=0), (want == 0).all(axis=0))
        assert (abs(v - want) <= tolerance * abs(w).max(axis=0)).all()


@every_grouped
def test_a_general_optimizer_finds_no_lower_objective(name):
    w, d, s = weights(3, (4, 3)).astype(np.float64), float64(metric(4, (4, 3))), 0.4

    def penalty(v):
        groups = 2 * np.linalg.norm(v, axis=0).sum()
        return groups if name == "group_lasso" else 0.4 * np.abs(v).sum() + 0.6 * groups

    def objective(v):
        v = v.reshape(w.shape)
        return (d * (v - w) ** 2).sum() / 2 + s * penalty(v)

    v = GROUPED[name](jnp.asarray(w, jnp.float32), threshold=jnp.asarray(s / d, jnp.float32))
    v = float64(v).ravel()
    found = minimize(objective, w.ravel(), method="Powell", options={"xtol": 1e-9, "ftol": 1e-12})
    assert objective(v) <= found.fun + 1e-6
    assert objective(v) <= min(objective(v + 1e-3 * weights(i, 12)) for i in range(50)) + 1e-6


@every_grouped
@every_dtype
def test_equal_thresholds_are_one_threshold(name, dtype):
    w = jnp.asarray(weights() * np.linspace(0.1, 2, 40, dtype=np.float32), dtype)
    t = jnp.linspace(0.2, 1, 40)
    v = GROUPED[name](w, threshold=jnp.broadcast_to(t, w.shape))
    want = GROUPED[name](w, threshold=t)
    assert 0 < (want == 0).all(axis=0).sum() < 40
    np.testing.assert_array_equal(v == 0, want == 0)
    rounding = 4 * float(jnp.finfo(dtype).eps) * abs(float64(w)).max(axis=0)
    assert (abs(float64(v) - float64(want)) <= rounding).all()


def test_the_shape_of_a_threshold_says_what_it_is_for():
    w = jnp.asarray(weights(shape=(4, 4, 5)))
    t = jnp.linspace(0.1, 0.8, 4)
    for shape in ((4, 1, 1), (1, 4, 1)):
        v = proximal.group_lasso(w, threshold=t.reshape(shape))
        full = jnp.broadcast_to(t.reshape(shape), w.shape)
        np.testing.assert_array_equal(v, proximal.group_lasso(w, threshold=full))
        want = [by_bisection(*map(np.ravel, (w[..., i], full[..., i]))) for i in range(5)]
        np.testing.assert_allclose(v.reshape(16, 5).T, want, atol=1e-6)
    rows = proximal.group_lasso(w, threshold=t[:, None, None], axis=(1, 2))
    alone = [proximal.group_lasso(w[i], threshold=t[i], axis=(0, 1)) for i in range(4)]
    np.testing.assert_allclose(rows, jnp.stack(alone), rtol=1e-6)
    with pytest.raises(ValueError, match=r"`threshold` must broadcast to shape \(4, 4, 5\)"):
        proximal.group_lasso(w, threshold=t)


@pytest.mark.parametrize("shape", [(), (5,), (1, 5), (1, 1)], ids=str)
@every_grouped
def test_one_threshold_for_a_group_is_a_closed_form(name, shape):
    program = jax.make_jaxpr(lambda w, t: GROUPED[name](w, threshold=t))
    assert "while" not in str(program(jnp.ones((4, 5)), jnp.ones(shape)))
    assert "while" in str(program(jnp.ones((4, 5)), jnp.ones((4, 1))))


def test_a_group_vanishes_at_its_bound_and_not_above():
    w = jnp.array([[3.0, 3.0, 3.0], [4.0, 4.0, 4.0]])
    # The dual norm of the first is 0.6^2 + 0.8^2 = 1, that of the others a little less and more.
    t = 5 * jnp.array([[1, 1.001, 0.999], [1, 1.001, 0.999]]) / np.sqrt(2)
    t = t * (1 + 1e-7)
    v = proximal.group_lasso(w, threshold=t)
    np.testing.assert_array_equal(bits(v[:, :2]), 0)
    assert (v[:, 2] > 0).all()
    np.testing.assert_allclose(v[:, 2], 0.001 * w[:, 2], rtol=1e-3)
    at_bound = jnp.array([[2.0], [0.0], [0.0], [0.0]])  # Without any rounding.
    np.testing.assert_array_equal(proximal.group_lasso(at_bound, threshold=jnp.ones((4, 1))), 0)


@every_dtype
@every_grouped
def test_infinite_and_absent_thresholds(name, dtype):
    infinity = jnp.inf
    w = jnp.array([[1.0, 2.0, -0.0, 3.0], [3.0, -4.0, 0.0, 1.0], [0.5, 1.0, 0.0, 0.5]], dtype)
    t = jnp.array([[0, infinity, infinity, -1], [infinity, infinity, 0, 0.1], [0.1, 1, 1, 0.1]])
    v = jax.jit(GROUPED[name])(w, threshold=t)
    assert v[0, 0] == w[0, 0]
    assert v[0, 3] == w[0, 3]  # A negative element counts as 0.
    assert v[1, 0] == 0
    assert 0 < v[2, 0] < w[2, 0]
    np.testing.assert_array_equal(v[:, 1:3], 0)  # Alone, the last weight is below its threshold.
    everything = GROUPED[name](w, threshold=jnp.full(w.shape, infinity))
    np.testing.assert_array_equal(everything, 0)
    nothing = GROUPED[name](w, threshold=jnp.zeros(w.shape))
    np.testing.assert_array_equal(bits(nothing), bits(w))


@every_grouped
def test_what_a_threshold_of_zero_leaves_it_leaves_to_the_bit(name):
    tiny = jnp.finfo(jnp.float32).smallest_subnormal
    hard = [0.0, -0.0, 1.0, 1e-30, tiny, jnp.inf, -jnp.inf, jnp.nan]
    w = jnp.stack([jnp.array(hard), jnp.ones(8)])
    t = jnp.stack([jnp.zeros(8), jnp.full(8, 0.1)])
    v = jax.jit(GROUPED[name])(w, threshold=t)
    np.testing.assert_array_equal(bits(v[0]), bits(w[0]))


def test_a_diverged_group_shows():
    w = jnp.asarray(weights(shape=(4, 3))).at[0, 1].set(jnp.nan)
    for prox in GROUPED.values():
        v = prox(w, threshold=jnp.full((4, 3), 0.1))
        assert np.isnan(v[:, 1]).all()
        assert np.isfinite(v[:, ::2]).all()
        spread = prox(jnp.ones((4, 3)), threshold=jnp.full((4, 3), 0.1).at[0, 1].set(jnp.nan))
        assert np.isnan(spread[:, 1]).all()


@every_grouped
@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_extreme_magnitudes(name, size):
    w, t, factor = weights(shape=(6, 5)), 0.4 / metric(shape=(6, 5)), np.float32(size)
    prox, direction = GROUPED[name], weights(5, (6, 5))
    v = prox(jnp.asarray(w * factor), threshold=jnp.asarray(t * factor))
    np.testing.assert_allclose(v / factor, prox(w, threshold=t), rtol=1e-4, atol=2e-6)

    def slope(w, t):
        return jax.grad(lambda *a: (prox(a[0], threshold=a[1]) * direction).sum(), (0, 1))(w, t)

    actual = slope(jnp.asarray(w * factor), jnp.asarray(t * factor))
    for ours, want in zip(actual, slope(jnp.asarray(w), jnp.asarray(t)), strict=True):
        np.testing.assert_allclose(ours, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "factor", [1, pytest.param(1 + 2j, marks=pytest.mark.slow)], ids=["real", "complex"]
)
@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.slow)])
@every_grouped
def test_derivatives_are_those_of_the_step(name, order, factor):
    direction = weights(10, (3, 4)) * factor

    @jax.jit
    def value(w, t):
        return (GROUPED[name](w, threshold=t) * direction).real.sum()

    with jax.enable_x64(True):
        w = jnp.asarray(float64(weights(7, (3, 4)))).at[1, 2].set(0) * factor
        t = jnp.asarray(0.2 / float64(metric(9, (3, 4), 0.5))).at[:, 3].multiply(30)
        v = GROUPED[name](w, threshold=t)
        np.testing.assert_array_equal((v == 0).all(axis=0), [False, False, False, True])
        check_grads(value, (w, t), order=order, modes=("fwd", "rev"), atol=1e-4, rtol=1e-4)
        free = t.at[0, 1].set(0.0)
        check_grads(partial(value, t=free), (w,), order=1, modes=("fwd", "rev"))


@every_dtype
@every_grouped
def test_derivatives_are_finite_at_kinks(name, dtype):
    def value(w, t):
        return (GROUPED[name](w, threshold=t).astype(jnp.float32) ** 2).sum()

    @jax.jit
    def derivatives(w, t):
        pushed = jax.jvp(value, (w, t), (w, jnp.ones_like(t)))
        return jax.grad(value, (0, 1))(w, t), jax.hessian(value)(w, t), pushed

    w = jnp.asarray(weights(shape=(3, 4)), dtype).at[:, 1].set(0)
    t = jnp.asarray(0.2 / metric(shape=(3, 4))).at[0].set(0.0).at[1].set(jnp.inf)
    for point in (w, jnp.zeros_like(w)):
        for threshold in (t, jnp.zeros_like(t), jnp.full_like(t, 0.3), jnp.full_like(t, jnp.inf)):
            for derivative in jax.tree.leaves(derivatives(point, threshold)):
                assert np.isfinite(np.asarray(derivative, np.float32)).all()


def test_the_derivative_inside_a_vanished_group_is_zero():
    t = jnp.full((2, 3), 10.0)
    for w in (jnp.ones((2, 3)), jnp.zeros((2, 3))):
        slopes = jax.grad(lambda *a: proximal.group_lasso(a[0], threshold=a[1]).sum(), (0, 1))(w, t)
        for slope in slopes:
            np.testing.assert_array_equal(slope, 0)


def test_thresholds_map_and_scan_in_one_program():
    w, t = jnp.asarray(weights()), jnp.asarray(0.3 / metric())
    factors = jnp.linspace(0.0, 2.0, 5)
    alone = jnp.stack([proximal.group_lasso(w, threshold=f * t) for f in factors])
    mapped = jax.jit(jax.vmap(lambda f: proximal.group_lasso(w, threshold=f * t)))(factors)
    np.testing.assert_allclose(mapped, alone, atol=1e-6)
    _, scanned = jax.lax.scan(
        lambda _, f: (None, proximal.group_lasso(w, threshold=f * t)), None, factors
    )
    np.testing.assert_allclose(scanned, alone, atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (3,)], ids=str)
@every_grouped
def test_odd_shapes(name, shape):
    v = GROUPED[name](jnp.ones(shape), threshold=jnp.full(shape, 0.25))
    np.testing.assert_allclose(v, np.full(shape, 0.75), rtol=1e-6)


def test_the_nuclear_norm_has_no_such_step():
    with pytest.raises(ValueError, match=r"`threshold` must be a single number, got .*\(6, 5\)"):
        proximal.nuclear(jnp.asarray(weights(shape=(6, 5))), threshold=jnp.ones((6, 5)))
