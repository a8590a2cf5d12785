"""The max-norm ball: untouched inside, feasible outside, closest, at every magnitude."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import projections

DTYPES = [jnp.float32, jnp.bfloat16, jnp.float16]
# Attention: the query's kernel is [features, heads, depth], the output's [heads, depth, features].
SHAPES_AND_AXES = [
    ((6, 4), None, (0,)),
    ((3, 3, 5, 4), None, (0, 1, 2)),
    ((6, 2, 3), 0, (0,)),
    ((2, 3, 6), None, (0, 1)),
    ((6, 4), -1, (1,)),
    ((6, 4), (0, 1), (0, 1)),
    ((2, 3, 4), (-1, 0), (0, 2)),
    ((5,), None, ()),
    ((5,), 0, (0,)),
    ((), None, ()),
]

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: jnp.dtype(d).name)
every_axis = pytest.mark.parametrize(("shape", "axis", "axes"), SHAPES_AND_AXES, ids=str)


@partial(jax.jit, static_argnames="axis")
def max_norm(w, radius, axis=None):
    return projections.max_norm(w, radius=radius, axis=axis)


def weights(shape=(40, 30), seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def norms(w, axes):
    """Norms in float64, from the largest element so that no square leaves its range."""
    size = np.abs(np.asarray(w).astype(np.float64))
    return np.sqrt(np.sum(size**2, axis=axes, keepdims=True))


def bits(x):
    x = np.asarray(x)
    return x.view(f"uint{8 * x.dtype.itemsize}")


def closest_point(w, radius, axes):
    """The closed form of the closest point of the ball, in float64."""
    size = norms(w, axes)
    factor = np.where(size > radius, radius / np.where(size > 0, size, 1), 1)
    return np.asarray(w, np.float64) * factor


@every_axis
@pytest.mark.parametrize("radius", [0.5, 1.7])
def test_the_closest_point_of_the_ball(shape, axis, axes, radius):
    w = weights(shape)
    v = max_norm(jnp.asarray(w), radius=radius, axis=axis)
    assert (v.shape, v.dtype) == (shape, jnp.float32)
    np.testing.assert_allclose(v, closest_point(w, radius, axes), rtol=2e-6)


def test_no_feasible_point_is_closer():
    w, rng = weights((7, 1), scale=3.0), np.random.default_rng(1)
    v = np.asarray(max_norm(jnp.asarray(w), radius=1.0), np.float64)
    others = rng.normal(0, 1, (500, 7, 1))
    others /= np.maximum(1, norms(others, (1,)))
    # The angle condition of a projection on a convex set.
    assert (((w - v) * (others - v)).sum((1, 2)) <= 1e-5).all()


@every_dtype
@pytest.mark.parametrize("radius", [1e-3, 1.0, 3.0, 1e3])
def test_feasible(dtype, radius):
    w = jnp.asarray(weights((200, 50), scale=radius), dtype)
    size = norms(max_norm(w, radius=radius), (0,))
    bound = np.float64(np.float32(radius))
    ulp = np.spacing(np.float32(radius)).astype(np.float64)
    slack = 2 * ulp if dtype == jnp.float32 else 4 * float(jnp.finfo(dtype).eps) * radius
    assert (size <= bound + slack).all()
    # On the surface up to rounding, not somewhere inside.
    assert (size >= bound * (1 - 8 * float(jnp.finfo(dtype).eps))).all()


@every_dtype
def test_ten_thousand_narrow_values_stay_within_the_bound(dtype):
    w = jnp.asarray(weights((10_000, 3)), dtype)
    size = norms(max_norm(w, radius=1.0), (0,))
    assert (size <= 1 + 4 * float(jnp.finfo(dtype).eps)).all()


@every_dtype
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_idempotent_to_the_bit(dtype, scale):
    for seed, radius in enumerate([0.1, 0.7, 1.0, 2.3]):
        w = jnp.asarray(weights(seed=seed, scale=scale), dtype)
        once = max_norm(w, radius=radius)
        np.testing.assert_array_equal(bits(max_norm(once, radius=radius)), bits(once))


@every_dtype
@pytest.mark.parametrize("function", [projections.max_norm, max_norm], ids=["eager", "jit"])
def test_the_inside_is_untouched_to_the_bit(dtype, function):
    smallest = jnp.finfo(dtype).smallest_subnormal
    w = jnp.asarray(weights((40, 4), scale=0.01), dtype)
    w = w.at[:4, 0].set(jnp.array([0.0, -0.0, smallest, -smallest], dtype))
    v = function(w, radius=1.0)
    np.testing.assert_array_equal(bits(v), bits(w))


@pytest.mark.parametrize("size", [1e-4, 1e-8, 1e-20, 1e-30])
def test_a_thousand_projections_leave_small_weights_alone(size):
    w = jnp.full((5, 3), size, jnp.float32)
    project = partial(max_norm, radius=2.0)
    v = jax.lax.fori_loop(0, 1000, lambda _, v: project(v), w)
    np.testing.assert_array_equal(bits(v), bits(w))


def test_only_the_units_outside_move():
    w = weights((6, 4))
    w[:, 1:3] *= 100
    v = max_norm(jnp.asarray(w), radius=50.0)
    np.testing.assert_array_equal(bits(v[:, 0]), bits(w[:, 0]))
    np.testing.assert_array_equal(bits(v[:, 3]), bits(w[:, 3]))
    np.testing.assert_allclose(norms(v, (0,))[0, 1:3], 50.0, rtol=1e-6)


def test_a_point_on_the_surface_is_inside():
    w = jnp.array([[3.0], [4.0]])
    np.testing.assert_array_equal(max_norm(w, radius=5.0), w)


@pytest.mark.parametrize("size", [1e20, 1e30, 1e-20, 1e-30])
def test_extreme_magnitudes(size):
    # Squares of these overflow or vanish in float32.
    w = jnp.array([[0.6 * size], [0.8 * size]], jnp.float32)
    radius = 1.0 if size > 1 else size / 10
    v = max_norm(w, radius=radius)
    np.testing.assert_allclose(v, [[0.6 * radius], [0.8 * radius]], rtol=2e-6)


def test_float16_whose_squares_overflow():
    w = jnp.full((4, 2), 300.0, jnp.float16)
    np.testing.assert_allclose(max_norm(w, radius=2.0), np.ones((4, 2)), rtol=2e-3)
    np.testing.assert_array_equal(max_norm(w, radius=601.0), w)


@every_dtype
def test_radius_zero_gives_zeros_and_an_infinite_one_the_identity(dtype):
    w = jnp.asarray(weights(), dtype).at[0, 0].set(jnp.inf)
    finite = w[1:]
    np.testing.assert_array_equal(max_norm(finite, radius=0.0), jnp.zeros_like(finite))
    np.testing.assert_array_equal(bits(max_norm(w, radius=jnp.inf)), bits(w))
    np.testing.assert_array_equal(bits(max_norm(w, radius=float("inf"))), bits(w))


@pytest.mark.parametrize("radius", [0.0, 1e-30, 1.0, float("inf")])
def test_a_zero_unit_stays_and_has_a_finite_gradient(radius):
    w = jnp.asarray(weights((5, 3))).at[:, 1].set(0.0)
    v, gradient = jax.value_and_grad(
        lambda w: jnp.sum(max_norm(w, radius=radius) * jnp.arange(1.0, 4.0))
    )(w)
    assert np.isfinite(v)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(max_norm(w, radius=radius)[:, 1], np.zeros(5))
    # Zero is the interior of every ball but that of radius 0, which is the point itself.
    inside = jax.jacfwd(partial(max_norm, radius=radius))(jnp.zeros((2, 1)))
    np.testing.assert_array_equal(inside.reshape(2, 2), np.eye(2))


def test_gradient_outside_is_that_of_the_radial_projection():
    w, c = jnp.asarray(weights((6, 1), scale=4.0)), 1.5
    jacobian = jax.jacrev(partial(max_norm, radius=c))(w).reshape(6, 6)
    u = np.asarray(w, np.float64).ravel()
    size = np.linalg.norm(u)
    want = c / size * (np.eye(6) - np.outer(u, u) / size**2)
    np.testing.assert_allclose(jacobian, want, atol=1e-6)
    by_radius = jax.jacfwd(lambda c: max_norm(w, radius=c))(jnp.float32(c))
    np.testing.assert_allclose(by_radius.ravel(), u / size, rtol=2e-6)


def test_a_traced_radius_may_change_and_a_negative_one_acts_as_zero():
    w = jnp.asarray(weights())
    project = partial(max_norm, w)
    for radius in (0.5, 2.0, 100.0):
        np.testing.assert_allclose(project(radius), closest_point(w, radius, (0,)), rtol=2e-6)
    np.testing.assert_array_equal(project(-1.0), np.zeros_like(w))


def test_a_radius_per_unit():
    w = jnp.array([[3.0, 3.0, 0.3], [4.0, 4.0, 0.4]])
    v = max_norm(w, radius=jnp.array([1.0, 10.0, 1.0]))
    np.testing.assert_allclose(v, [[0.6, 3.0, 0.3], [0.8, 4.0, 0.4]], rtol=1e-6)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (0, 0, 2)], ids=str)
def test_empty_weights(shape):
    assert max_norm(jnp.zeros(shape), radius=1.0).shape == shape


def test_a_diverged_unit_shows_and_leaves_its_neighbours_alone():
    w = jnp.asarray(weights((4, 3))).at[0, 1].set(jnp.nan)
    v = max_norm(w, radius=0.5)
    assert np.isnan(v[0, 1])
    want = closest_point(weights((4, 3))[:, [0, 2]], 0.5, (0,))
    np.testing.assert_allclose(v[:, jnp.array([0, 2])], want, rtol=2e-6)


def test_attention_kernels_by_axis():
    # One unit is one (head, depth) pair: axis 0 sums over the input features alone.
    query = weights((8, 2, 4), scale=5.0)
    v = max_norm(jnp.asarray(query), radius=1.0, axis=0)
    np.testing.assert_allclose(norms(v, (0,)), np.ones((1, 2, 4)), rtol=1e-6)
    output = weights((2, 4, 8), scale=5.0)
    v = max_norm(jnp.asarray(output), radius=1.0)
    np.testing.assert_allclose(norms(v, (0, 1)), np.ones((1, 1, 8)), rtol=1e-6)


def test_float64():
    with jax.enable_x64(True):
        w = np.random.default_rng(0).normal(0, 3, (20, 5))
        v = max_norm(jnp.asarray(w), radius=1.0)
        assert v.dtype == jnp.float64
        np.testing.assert_allclose(v, closest_point(w, 1.0, (0,)), rtol=1e-14)


@pytest.mark.parametrize("radius", [-1e-9, -1, np.float32(-2), np.nan])
def test_a_negative_radius_raises(radius):
    with pytest.raises(ValueError, match=r"`radius` must be zero or positive, got"):
        projections.max_norm(jnp.ones((2, 2)), radius=radius)


@pytest.mark.parametrize("axis", [2, -3, (0, 5)])
def test_an_axis_outside_the_array_raises(axis):
    with pytest.raises(ValueError, match=r"`axis` must lie in \[-2, 2\), got"):
        projections.max_norm(jnp.ones((2, 2)), radius=1.0, axis=axis)


def test_an_axis_named_twice_raises():
    with pytest.raises(ValueError, match=r"`axis` must name each axis once, got \(0, -2\)"):
        projections.max_norm(jnp.ones((2, 2)), radius=1.0, axis=(0, -2))


def test_integer_weights_raise():
    with pytest.raises(TypeError, match=r"`w` must have a floating-point dtype, got int32"):
        projections.max_norm(jnp.arange(4).reshape(2, 2), radius=1.0)
