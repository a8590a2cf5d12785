"""Projections: untouched inside, feasible outside, closest, idempotent, at every magnitude."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import projections
from tests.arrays import (
    DTYPES,
    assert_derivatives,
    assert_finite,
    assert_same_bits,
    eps,
    float64,
    weights,
)
from tests.balls import closest_point, norms, size_of, thresholded
from tests.helpers import few

ALL = {
    "l1_ball": partial(projections.l1_ball, radius=1.7),
    "max_norm": partial(projections.max_norm, radius=1.7),
    "min_max_norm": partial(projections.min_max_norm, low=1.5, high=2.0),
    "min_max_norm of one size": partial(projections.min_max_norm, low=0.3, high=0.3),
    "non_negative": projections.non_negative,
    "spectral_ball": partial(projections.spectral_ball, radius=1.7),
    "unit_norm": projections.unit_norm,
}
BALLS = {
    "l1_ball": projections.l1_ball,
    "max_norm": projections.max_norm,
    "spectral_ball": projections.spectral_ball,
}
every_projection = pytest.mark.parametrize("name", ALL)
every_ball = pytest.mark.parametrize("name", BALLS)
every_dtype = few("dtype", DTYPES, ids=str)

max_norm = jax.jit(projections.max_norm, static_argnames="axis")
l1_ball = jax.jit(projections.l1_ball, static_argnames="axis")


@jax.jit
def min_max_norm(w, low, high, rate=1.0):
    return projections.min_max_norm(w, low=low, high=high, rate=rate)


@cache
def compiled(name):
    return jax.jit(ALL[name])


ball = jax.jit(lambda name, w, radius: BALLS[name](w, radius=radius), static_argnums=0)


# All projections.


@every_projection
@every_dtype
def test_a_projection_is_idempotent_to_the_bit(name, dtype):
    project = compiled(name)
    for seed, scale in enumerate([0.1, 0.3, 0.6, 1.0, 5.0, 100.0]):
        once = project(weights(40, 30, seed=seed, scale=scale).astype(dtype))
        assert once.dtype == dtype
        assert_same_bits(project(once), once)


@pytest.mark.parametrize("name", [name for name in ALL if name != "unit_norm"])
@every_dtype
def test_the_inside_is_untouched_to_the_bit(name, dtype):
    tiny = np.asarray(jnp.finfo(dtype).smallest_subnormal, dtype)
    w = np.abs(weights(6, 8, scale=0.01)).astype(dtype)
    w[:4, 0] = [0.0, -0.0, tiny, tiny]
    project = jax.jit(partial(ALL[name], low=0.0)) if "min_max" in name else compiled(name)
    assert_same_bits(project(w), w)


@pytest.mark.parametrize("name", ["l1_ball", "max_norm", "spectral_ball", "min_max_norm"])
def test_a_point_on_the_surface_is_inside(name):
    w = np.diag(np.float32([1.7, -1.7]))
    project = partial(ALL["min_max_norm"], high=1.7) if name == "min_max_norm" else ALL[name]
    assert_same_bits(jax.jit(project)(w), w)


@every_ball
@few("shape", [(5, 7), (7, 5)], ids=str)
def test_no_feasible_point_is_closer(name, shape):
    # <w - v, z - v> is not positive for any z in a convex set.
    w = weights(*shape, seed=1, scale=2.0)
    v = float64(ball(name, w, 1.5))
    assert (size_of(name, v) <= 1.5 * (1 + 1e-7)).all()
    for seed in range(100):
        z = float64(weights(*shape, seed=seed))
        z *= np.random.default_rng(seed).choice([0, 1, 9], shape)
        z *= 1.5 / np.maximum(1e-9, size_of(name, z))
        angle = ((w - v) * (z - v)).sum(None if name == "spectral_ball" else 0)
        assert (angle <= 5e-5).all()


@every_ball
@every_dtype
def test_a_radius_of_zero_gives_zeros_and_an_infinite_one_the_identity(name, dtype):
    w = weights(6, 8).astype(dtype)
    for zero in (0.0, -1.0):
        np.testing.assert_array_equal(ball(name, w, zero), np.zeros_like(w))
    np.testing.assert_array_equal(jax.jit(partial(BALLS[name], radius=0))(w), np.zeros_like(w))
    w[0, :2] = [np.inf, np.nan]
    assert_same_bits(ball(name, w, np.inf), w)
    assert_same_bits(jax.jit(partial(BALLS[name], radius=float("inf")))(w), w)


@every_projection
@every_dtype
def test_zeros_stay_and_have_finite_derivatives(name, dtype):
    directions = weights(6, 8, seed=3)

    def value(w):
        return (ALL[name](w).astype(np.float32) * directions).sum()

    @jax.jit
    def derivatives(w):
        slope, curved = jax.jvp(jax.grad(value), (w,), (jnp.ones_like(w),))
        return ALL[name](w), value(w), slope, curved

    w = weights(6, 8).astype(dtype)
    w[:, 1] = 0
    w[2] = 0
    for point in (w, np.zeros_like(w)):
        v, *rest = derivatives(point)
        assert_finite(rest)
        if name != "spectral_ball":
            np.testing.assert_array_equal(np.asarray(v)[:, 1], point[:, 1])
    np.testing.assert_array_equal(v, point)


@every_ball
def test_derivatives_by_every_radius_are_finite(name):
    directions = weights(6, 8, seed=3)

    @jax.jit
    def derivatives(w, radius):
        value = lambda w, r: (BALLS[name](w, radius=r) * directions).sum()  # noqa: E731
        return jax.grad(value, (0, 1))(w, radius)

    w = weights(6, 8)
    w[:, 1] = 0
    for radius in (0.0, 1e-30, 1.0, np.inf):
        for point in (w, np.zeros_like(w)):
            by_w, by_radius = derivatives(point, np.float32(radius))
            assert_finite((by_w, by_radius))
            # Zero is inside every ball but that of radius 0; a matrix moves as a whole.
            if radius > 0 and (name != "spectral_ball" or not point.any()):
                np.testing.assert_array_equal(by_w[:, 1], directions[:, 1])


@every_projection
def test_weights_of_any_size_make_the_same_step(name):
    function = getattr(ALL[name], "func", ALL[name])
    sizes = getattr(ALL[name], "keywords", {})
    project = jax.jit(lambda w, sizes: function(w, **sizes))
    w, sizes = weights(6, 8), {k: np.float32(v) for k, v in sizes.items()}
    expected = np.asarray(project(w, sizes))
    for factor in (np.float32(1e30), np.float32(1e-30)):
        v = project(w * factor, {k: v * factor for k, v in sizes.items()})
        grown = v if name == "unit_norm" else v / factor
        np.testing.assert_allclose(grown, expected, rtol=2e-5, atol=2e-5)
    if "radius" in sizes:
        v = project(w * np.float32(1e30), sizes)
        assert np.isfinite(v).all()
        assert np.abs(v).max() > 0.1


def test_squares_that_overflow_float16_are_computed_wide():
    w = np.full((4, 2), 300.0, np.float16)

    @jax.jit
    def values(w):
        return {
            "unit_norm": projections.unit_norm(w),
            "min_max_norm": projections.min_max_norm(w, low=0.0, high=4.0),
            "max_norm": projections.max_norm(w, radius=2.0),
            "spectral_ball": projections.spectral_ball(w, radius=np.sqrt(2.0)),
            "l1_ball": projections.l1_ball(w, radius=8.0),
        }, {
            "max_norm": projections.max_norm(w, radius=601.0),
            "l1_ball": projections.l1_ball(w, radius=1200.0),
            "spectral_ball": projections.spectral_ball(w, radius=849.0),
        }

    outside, inside = values(w)
    wanted = {"unit_norm": 0.5, "min_max_norm": 2, "max_norm": 1, "spectral_ball": 0.5}
    for name, v in outside.items():
        np.testing.assert_allclose(v, wanted.get(name, 2.0) + 0 * w, rtol=4e-3)
    for v in inside.values():
        np.testing.assert_array_equal(v, w)


@every_projection
def test_empty_weights_stay(name):
    shapes = [(0, 3), (3, 0), (1, 1), (0, 0)]
    steps = jax.jit(lambda: [ALL[name](jnp.ones(shape)) for shape in shapes])()
    assert [v.shape for v in steps] == shapes


@every_projection
def test_a_diverged_unit_shows_and_leaves_its_neighbours_alone(name):
    w = weights(6, 8)
    healthy = np.asarray(compiled(name)(w))
    w[0, 1] = np.nan
    v = np.asarray(compiled(name)(w))
    if name == "spectral_ball":
        assert np.isnan(v).any()
        return
    assert np.isnan(v[0, 1])
    np.testing.assert_array_equal(v[:, 2:], healthy[:, 2:])


@every_projection
def test_values_in_float64(name):
    w = float64(weights(20, 5, scale=3.0))
    with jax.enable_x64(True):
        v = np.asarray(compiled(name)(w))
    assert v.dtype == np.float64
    left, values, right = np.linalg.svd(w, full_matrices=False)
    want = {
        "max_norm": closest_point(w, 1.7),
        "min_max_norm": closest_point(w, 2.0),
        "min_max_norm of one size": closest_point(w, 0.3),
        "non_negative": np.maximum(w, 0),
        "spectral_ball": (left * np.minimum(values, 1.7)) @ right,
        "unit_norm": w / norms(w),
        "l1_ball": thresholded(w, 1.7, 0),
    }[name]
    np.testing.assert_allclose(v, want, rtol=1e-13, atol=1e-13)


@every_projection
def test_wrong_weights_are_named(name):
    with pytest.raises(TypeError, match=r"`w` must have a floating-point dtype, got int32"):
        ALL[name](np.ones((2, 2), np.int32))
    if name == "non_negative":
        return
    for axis in (2, -3, (0, 5)):
        with pytest.raises(ValueError, match=r"`axis` must lie in \[-2, 2\), got"):
            ALL[name](np.ones((2, 2), np.float32), axis=axis)
    with pytest.raises(ValueError, match=r"`axis` must name each axis once, got \(0, -2\)"):
        ALL[name](np.ones((2, 2), np.float32), axis=(0, -2))


@every_ball
def test_wrong_radii_are_named(name):
    w = np.ones((2, 3), np.float32)
    for radius in (-1e-9, -1, np.float32(-2), np.nan):
        with pytest.raises(ValueError, match=r"`radius` must be zero or positive, got"):
            BALLS[name](w, radius=radius)
    rule = "be a single number" if name == "spectral_ball" else r"broadcast to shape \(1, 3\)"
    for shape in ((2,), (2, 1), (2, 3)):
        with pytest.raises(ValueError, match=rf"`radius` must {rule}, got shape"):
            BALLS[name](w, radius=np.ones(shape))


@pytest.mark.parametrize("name", ["l1_ball", "spectral_ball", "non_negative"])
def test_complex_weights_raise(name):
    with pytest.raises(TypeError, match=r"`w` must have a real dtype, got complex64"):
        ALL[name](np.ones((2, 2), np.complex64))


# Euclidean balls.

# Attention: the query's kernel is [features, heads, depth], the output's [heads, depth, features].
SHAPES_AND_AXES = [
    ((6, 2, 3), None, (0, 1)),
    ((6, 4), None, (0,)),
    ((3, 3, 5, 4), None, (0, 1, 2)),
    ((6, 2, 3), 0, (0,)),
    ((6, 4), -1, (1,)),
    ((6, 4), (0, 1), (0, 1)),
    ((2, 3, 4), (-1, 0), (0, 2)),
    ((5,), None, ()),
    ((5,), 0, (0,)),
    ((), None, ()),
]


@few(("shape", "axis", "axes"), SHAPES_AND_AXES, ids=str)
def test_units_run_over_the_given_axes(shape, axis, axes):
    w = weights(*shape, scale=2.0)

    @jax.jit
    def values(w, radius):
        return (
            projections.max_norm(w, radius=radius, axis=axis),
            projections.l1_ball(w, radius=radius, axis=axis),
            projections.unit_norm(w, axis=axis),
            projections.min_max_norm(w, low=2 * radius, high=3 * radius, axis=axis),
        )

    for radius in (0.5, 1.7):
        ball, diamond, unit, shell = values(w, radius)
        assert (ball.shape, ball.dtype) == (shape, np.float32)
        np.testing.assert_allclose(ball, closest_point(w, radius, axes), rtol=2e-6)
        np.testing.assert_allclose(diamond, thresholded(w, radius, axes), atol=5e-6)
        np.testing.assert_allclose(unit, w / norms(w, axes), rtol=2e-6)
        size = norms(w, axes)
        goal = np.clip(size, 2 * radius, 3 * radius)
        np.testing.assert_allclose(shell, w * goal / size, rtol=2e-6)


@every_dtype
@few("radius", [1.0, 1e-3, 3.0, 1e3])
def test_norms_end_within_the_radius_and_next_to_it(dtype, radius):
    w = weights(200, 50, scale=radius).astype(dtype)
    size = norms(max_norm(w, radius=radius))
    bound = np.float64(np.float32(radius))
    ulp = np.spacing(np.float32(radius)).astype(np.float64)
    slack = 2 * ulp if dtype == np.float32 else 4 * eps(dtype) * radius
    assert (size <= bound + slack).all()
    # On the surface up to rounding, not somewhere inside.
    assert (size >= bound * (1 - 2 * eps(dtype) - 1e-6)).all()


@every_dtype
def test_ten_thousand_narrow_values_stay_within_the_bound(dtype):
    size = norms(max_norm(weights(10_000, 3).astype(dtype), radius=1.0))
    assert (size <= 1 + 4 * eps(dtype)).all()


def test_a_thousand_projections_leave_small_weights_alone():
    again = jax.jit(
        lambda w: jax.lax.fori_loop(0, 1000, lambda _, v: projections.max_norm(v, radius=2.0), w)
    )
    for size in (1e-4, 1e-8, 1e-20, 1e-30):
        w = np.full((5, 3), size, np.float32)
        assert_same_bits(again(w), w)


@few("inputs", [7, 40])
def test_none_of_many_units_moves_twice(inputs):
    once = max_norm(weights(inputs, 4096, scale=5.0), radius=1.7)
    assert_same_bits(max_norm(once, radius=1.7), once)


def test_only_the_units_outside_move():
    w = weights(6, 4)
    w[:, 1:3] *= 100
    v = np.asarray(max_norm(w, radius=50.0))
    assert_same_bits(v[:, [0, 3]], w[:, [0, 3]])
    np.testing.assert_allclose(norms(v)[0, 1:3], 50.0, rtol=1e-6)
    np.testing.assert_array_equal(max_norm(np.float32([[3.0], [4.0]]), radius=5.0), [[3], [4]])


def test_the_derivative_outside_is_that_of_the_radial_projection():
    w, c = weights(6, 1, scale=4.0), 1.5
    by_w, by_radius = jax.jit(
        lambda w, c: (
            jax.jacrev(lambda w: max_norm(w, radius=c))(w),
            jax.jacfwd(lambda c: max_norm(w, radius=c))(c),
        )
    )(w, np.float32(c))
    u = float64(w).ravel()
    size = np.linalg.norm(u)
    want = c / size * (np.eye(6) - np.outer(u, u) / size**2)
    np.testing.assert_allclose(by_w.reshape(6, 6), want, atol=1e-6)
    np.testing.assert_allclose(by_radius.ravel(), u / size, rtol=2e-6)


def test_a_radius_for_each_unit():
    w = np.array([[3.0, 3.0, 0.3], [4.0, 4.0, 0.4]], np.float32)
    v = max_norm(w, radius=np.array([1.0, 10.0, -1.0], np.float32))
    np.testing.assert_allclose(v, [[0.6, 3.0, 0.0], [0.8, 4.0, 0.0]], rtol=1e-6)
    w = np.array([[3.0, 3.0, 0.3], [1.0, 1.0, 0.4]], np.float32)
    v = l1_ball(w, radius=np.array([1.0, 10.0, 1.0], np.float32))
    np.testing.assert_allclose(v, [[1.0, 3.0, 0.3], [0.0, 1.0, 0.4]], rtol=3e-6)


# Spheres and shells.


@every_dtype
def test_units_end_on_the_sphere(dtype):
    w = weights(6, 8, scale=3.0).astype(dtype)
    v = float64(compiled("unit_norm")(w))
    np.testing.assert_allclose(v, float64(w) / norms(w), rtol=eps(dtype) + 4e-7)


def test_moves_off_the_sphere_have_no_derivative_even_at_norm_one():
    jacobian = jax.jit(jax.jacrev(projections.unit_norm))
    for w in (np.float32([[0.6], [0.8]]), np.float32([[3.0], [4.0]])):
        u = np.array([0.6, 0.8])
        want = (np.eye(2) - np.outer(u, u)) / np.linalg.norm(w)
        np.testing.assert_allclose(jacobian(w).reshape(2, 2), want, atol=1e-6)


def test_a_rate_goes_part_of_the_way_into_the_shell():
    w = weights(6, 8) * np.geomspace(0.01, 10, 8, dtype=np.float32)
    size = norms(w)
    inside = ((size > 0.5) & (size < 2))[0]
    assert 0 < inside.sum() < 8
    for rate, share in ((0.25, 0.25), (1.0, 1.0), (0.0, 0.0), (2.0, 1.0), (-1.0, 0.0)):
        v = np.asarray(min_max_norm(w, 0.5, 2.0, rate))
        goal = (1 - share) * size + share * np.clip(size, 0.5, 2.0)
        np.testing.assert_allclose(v, w * goal / size, rtol=2e-6)
        assert_same_bits(v[:, inside], w[:, inside])
        if share == 0:
            assert_same_bits(v, w)


def test_bounds_of_a_shell_may_be_absent_crossed_or_of_each_unit():
    w = weights(6, 8)
    np.testing.assert_allclose(min_max_norm(w, 0.0, 1.0), closest_point(w, 1.0), rtol=2e-6)
    high = np.float32([np.inf] * 7 + [1.0])
    v = np.asarray(min_max_norm(w, 0.0, high))
    assert_same_bits(v[:, :7], w[:, :7])
    np.testing.assert_allclose(v[:, 7:], closest_point(w[:, 7:], 1.0), rtol=2e-6)
    np.testing.assert_allclose(norms(min_max_norm(w, 3.0, 1.0)), np.ones((1, 8)), rtol=1e-6)
    low = np.float32([5.0] * 4 + [0.0] * 4)
    v = np.asarray(min_max_norm(w, low, np.inf))
    np.testing.assert_allclose(norms(v)[0, :4], 5.0, rtol=1e-6)
    assert_same_bits(v[:, 4:], w[:, 4:])


def test_wrong_bounds_of_a_shell_are_named():
    w = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"`low` must be at most `high`, got 2.0 and 1.0"):
        projections.min_max_norm(w, low=2.0, high=1.0)
    with pytest.raises(ValueError, match=r"`rate` must be a probability in \[0, 1\], got 1.5"):
        projections.min_max_norm(w, low=1.0, high=2.0, rate=1.5)
    for name in ("low", "high"):
        with pytest.raises(ValueError, match=rf"`{name}` must be zero or positive, got -1.0"):
            projections.min_max_norm(w, **{"low": 1.0, "high": 2.0} | {name: -1.0})
        with pytest.raises(ValueError, match=rf"`{name}` must broadcast to shape \(1, 3\)"):
            projections.min_max_norm(w, **{"low": 1.0, "high": 2.0} | {name: np.ones(2)})


# The l1 ball.


def test_the_l1_ball_of_whole_vectors_is_that_of_optax():
    theirs = jax.jit(optax.projections.projection_l1_ball)
    for seed, radius in enumerate([0.01, 0.5, 3.0, 20.0]):
        w = weights(50, seed=seed)
        np.testing.assert_allclose(l1_ball(w, radius=radius, axis=0), theirs(w, radius), atol=5e-6)


@every_dtype
def test_absolute_values_add_up_to_the_radius_at_most(dtype):
    w = weights(200, 50, scale=2.0).astype(dtype)
    total = np.abs(float64(l1_ball(w, radius=1.0))).sum(0)
    assert (total <= 1 + 1e-7).all()
    assert (total >= 1 - 1.2 * eps(dtype) - 1e-5).all()


@pytest.mark.parametrize("spread", [0.0, 0.01])
def test_many_large_and_nearly_equal_weights(spread):
    w = 1000 + weights(100_000, scale=spread)
    v = float64(l1_ball(w, radius=1.0, axis=0))
    assert 1 - 5e-5 <= v.sum() <= 1
    level = np.min(float64(w)[v > 0])
    assert (float64(w)[v == 0] <= level).all()


# The spectral ball.

LAYOUTS = [((4, 2, 3), (1, 2)), ((7, 5), -1), ((5, 7), -1), ((3, 3, 2, 6), -1)]


@few(("shape", "axis"), LAYOUTS, ids=str)
def test_singular_values_are_clipped(shape, axis):
    w, radius = weights(*shape), 1.6
    v = jax.jit(partial(projections.spectral_ball, radius=radius, axis=axis))(w)
    assert v.shape == shape
    columns = 6 if axis == (1, 2) else shape[-1]
    left, values, right = np.linalg.svd(float64(w).reshape(-1, columns), full_matrices=False)
    assert (values > radius).any()
    want = (left * np.minimum(values, radius)) @ right
    np.testing.assert_allclose(v.reshape(want.shape), want, atol=2e-5)


def test_matrices_a_little_outside_the_ball_and_with_outputs_last_are_clipped():
    near = np.diag(np.float32([1 + 1e-6, 0.5]))
    assert size_of("spectral_ball", ball("spectral_ball", near, 1.0)) <= 1 + 1e-7
    w = weights(3, 2, 4)
    left, values, right = np.linalg.svd(float64(w).reshape(6, 4), full_matrices=False)
    v = np.asarray(ball("spectral_ball", w, 1.0)).reshape(6, 4)
    np.testing.assert_allclose(v, (left * np.minimum(values, 1.0)) @ right, atol=2e-5)


@every_dtype
def test_spectral_norms_end_within_the_ball(dtype):
    for seed, shape in enumerate([(8, 5), (64, 64), (30, 120)]):
        w = weights(*shape, seed=seed, scale=2.0).astype(dtype)
        size = size_of("spectral_ball", ball("spectral_ball", w, 1.0))
        assert 1 - 3 * eps(dtype) - 1e-5 <= size <= 1 + 1e-7


@every_ball
def test_derivatives_of_balls_agree_with_differences(name):
    """First and second ones, of one number, along one direction."""
    factors, *directions = np.random.default_rng(0).normal(size=(3, 6, 3))
    directions[1] = directions[1][0, 0]

    def number(w, radius):
        return (BALLS[name](w, radius=radius) * factors).sum()

    @jax.jit
    def measure(step):
        point = [x + step * d for x, d in zip(start, directions, strict=True)]
        return jax.jvp(jax.value_and_grad(number, (0, 1)), point, directions)

    start = [float64(weights(6, 3, scale=2.0)), np.float64(1.5)]
    with jax.enable_x64(True):
        (_, slopes), (forward, second) = jax.device_get(measure(0.0))
        moved = [jax.device_get(measure(step * 1e-4)[0]) for step in (-2.0, -1.0, 1.0, 2.0)]
    quotient = jax.tree.map(
        lambda far_down, down, up, far_up: (8 * (up - down) - (far_up - far_down)) / 12e-4, *moved
    )
    equal = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-9)
    jax.tree.map(equal, (forward, second), quotient)
    along = sum((s * d).sum() for s, d in zip(slopes, directions, strict=True))
    np.testing.assert_allclose(along, forward, rtol=1e-9)


@few("values", [(2.0, 2.0, 0.5), (2.0, 2.0, 2.0), (2.0, 0, 0)], ids=str)
def test_derivatives_where_singular_values_repeat_or_rest_within_the_ball(values):
    q = np.linalg.qr(float64(weights(6, 3)))[0]
    assert_derivatives(partial(projections.spectral_ball, radius=1.0), q * values)


# The positive orthant.


@every_dtype
def test_negative_weights_become_zero(dtype):
    w = np.array([-1.0, -1e-7, -0.0, 0.0, 2.0, np.inf, np.nan, -np.inf], dtype)
    want = w.copy()
    want[[0, 1, 7]] = 0
    assert_same_bits(compiled("non_negative")(w), want)
    slope = jax.jit(jax.grad(lambda w: projections.non_negative(w).sum()))(w)
    np.testing.assert_array_equal(np.float32(slope)[:5], [0, 0, 1, 1, 1])
