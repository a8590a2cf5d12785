"""Projections on spheres, shells, spectral and l1 balls, and the positive orthant."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads
from scipy.optimize import minimize

from jaxreg import projections, transforms

DTYPES = [jnp.float32, jnp.bfloat16, jnp.float16]
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: jnp.dtype(d).name)

ALL = {
    "l1_ball": partial(projections.l1_ball, radius=1.7),
    "min_max_norm": partial(projections.min_max_norm, low=1.5, high=2.0),
    "min_max_norm of one size": partial(projections.min_max_norm, low=0.3, high=0.3),
    "non_negative": projections.non_negative,
    "spectral_ball": partial(projections.spectral_ball, radius=1.7),
    "unit_norm": projections.unit_norm,
}
every_projection = pytest.mark.parametrize("name", ALL)
BALLS = {"l1_ball": projections.l1_ball, "spectral_ball": projections.spectral_ball}
every_ball = pytest.mark.parametrize("name", BALLS)


def weights(seed=0, shape=(6, 8), scale=1.0):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def float64(x):
    return np.asarray(x, np.float64)


def bits(x):
    x = np.asarray(x)
    return x.view(f"uint{8 * x.dtype.itemsize}")


def size_of(name, w):
    """What a ball bounds, in float64: one number for each unit, or one for the matrix."""
    w = float64(w)
    return np.abs(w).sum(0) if name == "l1_ball" else np.linalg.svd(w, compute_uv=False).max()


@every_dtype
@every_projection
def test_idempotent_to_the_bit(dtype, name):
    project = jax.jit(ALL[name])
    for seed, scale in enumerate([0.1, 0.6, 1.0, 5.0, 100.0]):
        once = project(jnp.asarray(weights(seed, (40, 30), scale), dtype))
        assert once.dtype == dtype
        np.testing.assert_array_equal(bits(project(once)), bits(once))


@every_ball
@pytest.mark.parametrize("shape", [(7, 5), (5, 7)], ids=str)
def test_no_feasible_point_is_closer(name, shape):
    # <w - v, z - v> is not positive for any z in a convex set.
    w = weights(1, shape, 2.0)
    v = float64(BALLS[name](jnp.asarray(w), radius=1.5))
    assert (size_of(name, v) <= 1.5).all()
    for seed in range(100):
        z = float64(weights(seed, shape) * np.random.default_rng(seed).choice([0, 1, 9], shape))
        z *= 1.5 / np.maximum(1e-9, size_of(name, z))
        assert (((w - v) * (z - v)).sum(0 if name == "l1_ball" else None) <= 5e-5).all()


def test_the_l1_ball_of_whole_vectors_is_that_of_optax():
    for seed, radius in enumerate([0.01, 0.5, 3.0, 20.0]):
        w = jnp.asarray(weights(seed, (50,)))
        want = optax.projections.projection_l1_ball(w, radius)
        v = projections.l1_ball(w, radius=radius, axis=0)
        np.testing.assert_allclose(v, want, atol=5e-6)


@pytest.mark.parametrize("axis", [0, -1, (0, 2), None], ids=str)
def test_the_units_of_the_l1_ball_by_bisection(axis):
    w, radius = weights(shape=(4, 3, 5)), 1.25
    v = projections.l1_ball(jnp.asarray(w), radius=radius, axis=axis)
    axes = (0, 1) if axis is None else axis
    size = np.abs(float64(w))
    low, high = np.zeros_like(size.sum(axes, keepdims=True)), size.max(axes, keepdims=True)
    for _ in range(60):
        level = (low + high) / 2
        over = np.maximum(size - level, 0).sum(axes, keepdims=True) > radius
        low, high = np.where(over, level, low), np.where(over, high, level)
    want = np.where(size.sum(axes, keepdims=True) > radius, np.maximum(size - high, 0), size)
    np.testing.assert_allclose(v, np.sign(w) * want, atol=5e-6)
    assert (np.asarray(v) == 0).any()


def test_a_general_optimizer_finds_no_closer_point_of_the_l1_ball():
    w = float64(weights(2, (5,)))
    constraint = {"type": "ineq", "fun": lambda z: 1.0 - np.abs(z).sum()}
    found = minimize(lambda z: ((z - w) ** 2).sum(), 0 * w, constraints=[constraint])
    v = float64(projections.l1_ball(jnp.asarray(w, jnp.float32), radius=1.0, axis=0))
    assert ((v - w) ** 2).sum() <= found.fun + 1e-5


@pytest.mark.parametrize("spread", [0.0, 0.01])
def test_many_large_and_nearly_equal_weights(spread):
    w = jnp.asarray(1000 + weights(0, (100_000,), spread))
    v = float64(jax.jit(partial(projections.l1_ball, radius=1.0, axis=0))(w))
    assert 1 - 5e-5 <= v.sum() <= 1
    level = np.min(float64(w)[v > 0])
    assert (float64(w)[v == 0] <= level).all()


@pytest.mark.parametrize(
    ("shape", "axis"), [((7, 5), -1), ((5, 7), -1), ((4, 2, 3), (1, 2)), ((3, 3, 2, 6), -1)]
)
def test_singular_values_are_clipped(shape, axis):
    w, radius = weights(shape=shape), 1.6
    v = projections.spectral_ball(jnp.asarray(w), radius=radius, axis=axis)
    rows = 4 if axis == (1, 2) else int(np.prod(shape[:-1]))
    left, values, right = np.linalg.svd(float64(w).reshape(rows, -1), full_matrices=False)
    assert (values > radius).any()
    want = (left * np.minimum(values, radius)) @ right
    np.testing.assert_allclose(v.reshape(want.shape), want, atol=2e-5)


@every_dtype
def test_spectral_norms_end_within_the_ball(dtype):
    for seed, shape in enumerate([(8, 5), (64, 64), (30, 120)]):
        w = jnp.asarray(weights(seed, shape, 2.0), dtype)
        size = size_of("spectral_ball", projections.spectral_ball(w, radius=1.0))
        assert 1 - 3 * float(jnp.finfo(dtype).eps) - 1e-5 <= size <= 1 + 1e-7


def test_norms_within_bounds():
    w = weights() * np.geomspace(0.01, 10, 8, dtype=np.float32)
    size = np.linalg.norm(float64(w), axis=0)
    for rate in (1.0, 0.25):
        v = projections.min_max_norm(jnp.asarray(w), low=0.5, high=2.0, rate=rate)
        goal = (1 - rate) * size + rate * np.clip(size, 0.5, 2.0)
        np.testing.assert_allclose(v, w * goal / size, rtol=2e-6)
    inside = (size > 0.5) & (size < 2)
    assert 0 < inside.sum() < 8
    np.testing.assert_array_equal(bits(v)[:, inside], bits(w)[:, inside])


def test_min_max_norm_without_a_lower_bound_is_max_norm():
    w = jnp.asarray(weights())
    v = projections.min_max_norm(w, low=0.0, high=1.0)
    np.testing.assert_allclose(v, projections.max_norm(w, radius=1.0), rtol=2e-6)
    each = projections.min_max_norm(w, low=0.0, high=jnp.array([jnp.inf] * 7 + [1.0]))
    np.testing.assert_array_equal(bits(each)[:, :7], bits(w)[:, :7])
    np.testing.assert_allclose(each[:, 7], v[:, 7], rtol=2e-6)
    crossed = projections.min_max_norm(w, low=jnp.float32(3.0), high=jnp.float32(1.0))
    np.testing.assert_allclose(np.linalg.norm(crossed, axis=0), np.ones(8), rtol=1e-6)


@every_dtype
@pytest.mark.parametrize("axis", [0, 1, (0, 1)], ids=str)
def test_unit_norms(dtype, axis):
    w = jnp.asarray(weights(scale=3.0), dtype)
    v = float64(projections.unit_norm(w, axis=axis))
    want = float64(w) / np.sqrt((float64(w) ** 2).sum(axis, keepdims=True))
    np.testing.assert_allclose(v, want, rtol=float(jnp.finfo(dtype).eps) + 4e-7)


def test_moves_off_the_sphere_have_no_derivative_even_at_norm_one():
    for w in (jnp.array([[0.6], [0.8]]), jnp.array([[3.0], [4.0]])):
        jacobian = jax.jacrev(projections.unit_norm)(w).reshape(2, 2)
        u = np.array([0.6, 0.8])
        want = (np.eye(2) - np.outer(u, u)) / np.linalg.norm(w)
        np.testing.assert_allclose(jacobian, want, atol=1e-6)


@every_dtype
def test_negative_weights_become_zero(dtype):
    w = jnp.array([-1.0, -1e-7, -0.0, 0.0, 2.0, jnp.inf, jnp.nan, -jnp.inf], dtype)
    v = projections.non_negative(w)
    np.testing.assert_array_equal(bits(v), bits(w.at[jnp.array([0, 1, 7])].set(0)))
    slope = jax.grad(lambda w: projections.non_negative(w).sum())(w[:5])
    np.testing.assert_array_equal(slope, jnp.array([0, 0, 1, 1, 1], dtype))


@every_dtype
@pytest.mark.parametrize("name", [n for n in ALL if n != "unit_norm"])
@pytest.mark.parametrize("jit", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_the_inside_is_untouched_to_the_bit(dtype, name, jit):
    smallest = jnp.finfo(dtype).smallest_subnormal
    w = jnp.abs(jnp.asarray(weights(scale=0.01), dtype))
    w = w.at[:4, 0].set(jnp.array([0.0, -0.0, smallest, smallest], dtype))
    project = ALL[name] if "min_max" not in name else partial(ALL[name], low=0.0)
    np.testing.assert_array_equal(bits(jit(project)(w)), bits(w))


@pytest.mark.parametrize("name", ["l1_ball", "spectral_ball", "min_max_norm"])
def test_a_point_on_the_surface_is_inside(name):
    w = jnp.diag(jnp.array([1.7, -1.7]))
    project = partial(ALL["min_max_norm"], high=1.7) if name == "min_max_norm" else ALL[name]
    np.testing.assert_array_equal(bits(project(w)), bits(w))


@every_dtype
@every_ball
def test_radius_zero_gives_zeros_and_an_infinite_one_the_identity(dtype, name):
    ball, w = BALLS[name], jnp.asarray(weights(), dtype)
    for zero in (0.0, jnp.float32(0), jnp.float32(-1)):
        np.testing.assert_array_equal(ball(w, radius=zero), jnp.zeros_like(w))
    w = w.at[0, :2].set(jnp.array([jnp.inf, jnp.nan], dtype))
    for infinite in (float("inf"), jnp.float32(jnp.inf)):
        np.testing.assert_array_equal(bits(ball(w, radius=infinite)), bits(w))


@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_extreme_magnitudes(size):
    w, factor = weights(), np.float32(size)
    for prox, sizes in (
        (projections.l1_ball, {"radius": 1.5}),
        (projections.spectral_ball, {"radius": 1.5}),
        (projections.min_max_norm, {"low": 1.5, "high": 2.0}),
    ):
        larger = {k: v * size for k, v in sizes.items()}
        v = prox(jnp.asarray(w * factor), **larger)
        np.testing.assert_allclose(v / factor, prox(jnp.asarray(w), **sizes), rtol=2e-5, atol=2e-5)
    v = projections.unit_norm(jnp.asarray(w * factor))
    np.testing.assert_allclose(v, projections.unit_norm(jnp.asarray(w)), rtol=2e-6)
    if size > 1:
        for ball in BALLS.values():
            v = ball(jnp.asarray(w * factor), radius=1.5)
            assert np.isfinite(v).all()
            assert np.abs(v).max() > 0.1


def test_float16_whose_squares_overflow():
    w = jnp.full((4, 2), 300.0, jnp.float16)
    for project, want in (
        (projections.unit_norm, 0.5),
        (partial(projections.min_max_norm, low=0.0, high=4.0), 2.0),
        (partial(projections.spectral_ball, radius=np.sqrt(2.0)), 0.5),
        (partial(projections.l1_ball, radius=8.0), 2.0),
    ):
        np.testing.assert_allclose(project(w), want + 0 * w, rtol=4e-3)
    np.testing.assert_array_equal(projections.l1_ball(w, radius=1200.0), w)
    np.testing.assert_array_equal(projections.spectral_ball(w, radius=849.0), w)


@every_dtype
@every_projection
def test_zeros_stay_and_have_finite_derivatives(dtype, name):
    w = jnp.asarray(weights(), dtype).at[:, 1].set(0)
    for point in (w, jnp.zeros_like(w)):
        v, gradient = jax.value_and_grad(
            lambda w: (ALL[name](w).astype(jnp.float32) * weights(3)).sum()
        )(point)
        assert np.isfinite(v)
        assert np.isfinite(float64(gradient)).all()
    np.testing.assert_array_equal(ALL[name](point), point)


@every_ball
@pytest.mark.parametrize("radius", [0.0, 1e-30, 1.0, float("inf")])
def test_derivatives_by_every_radius_are_finite(name, radius):
    def value(w, r):
        return (BALLS[name](w, radius=r) * weights(3)).sum()

    for w in (jnp.asarray(weights()), jnp.zeros((6, 8))):
        for gradient in jax.grad(value, (0, 1))(w, jnp.float32(radius)):
            assert np.isfinite(gradient).all()


@pytest.mark.slow
def test_derivatives_of_the_balls_agree_with_differences():
    with jax.enable_x64(True):
        w = jnp.asarray(float64(weights(shape=(6, 3))))
        for ball in BALLS.values():
            check_grads(lambda w, r: ball(w, radius=r), (w, 1.5), order=2)  # noqa: B023
        # Where singular values repeat, and where some are at rest within the ball.
        q = np.linalg.qr(float64(weights(shape=(6, 3))))[0]
        for values in ([2.0, 2.0, 2.0], [2.0, 2.0, 0.5], [2.0, 0, 0]):
            clip = partial(projections.spectral_ball, radius=1.0)
            check_grads(clip, (jnp.asarray(q * values),), order=1)


def test_a_radius_for_each_unit():
    w = jnp.array([[3.0, 3.0, 0.3], [1.0, 1.0, 0.4]])
    v = projections.l1_ball(w, radius=jnp.array([1.0, 10.0, 1.0]))
    np.testing.assert_allclose(v, [[1.0, 3.0, 0.3], [0.0, 1.0, 0.4]], rtol=3e-6)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1)], ids=str)
@every_projection
def test_empty_weights(name, shape):
    assert ALL[name](jnp.ones(shape)).shape == shape


def test_a_diverged_unit_shows_and_leaves_its_neighbours_alone():
    w = jnp.asarray(weights()).at[0, 1].set(jnp.nan)
    for name in ("l1_ball", "min_max_norm", "unit_norm"):
        v = ALL[name](w)
        assert np.isnan(v[0, 1])
        np.testing.assert_array_equal(v[:, 2:], ALL[name](jnp.asarray(weights()))[:, 2:])
    assert np.isnan(ALL["spectral_ball"](w)).any()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@every_projection
def test_the_last_step_of_an_optimizer(dtype, name):
    tx = optax.chain(optax.sgd(0.1), transforms.project(ALL[name]))
    w, gradient = (jnp.asarray(weights(s), dtype) for s in range(2))
    updates, _ = jax.jit(tx.update)(gradient, tx.init(w), w)
    v = optax.apply_updates(w, updates)
    want = ALL[name](w + jnp.asarray(-0.1, dtype) * gradient)
    assert v.dtype == dtype
    np.testing.assert_allclose(float64(v), want, atol=2e-6 + 4 * float(jnp.finfo(dtype).eps))
    np.testing.assert_array_equal(np.asarray(v)[want == 0], 0)
    assert (want == 0).any() == (name in ("l1_ball", "non_negative"))
