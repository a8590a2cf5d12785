"""All projections: untouched inside, feasible outside, closest, idempotent, at every magnitude."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import projections
from tests.arrays import (
    assert_finite,
    assert_same_bits,
    float64,
    weights,
)
from tests.balls import closest_point, norms, size_of, thresholded
from tests.helpers import few
from tests.projections.helpers import (
    ALL,
    BALLS,
    ball,
    compiled,
    every_ball,
    every_dtype,
    every_projection,
)


@every_projection
@every_dtype
def test_a_projection_is_idempotent_to_the_bit(name, dtype):
    project = compiled(name)
    for seed, scale in enumerate([0.1, 0.3, 0.6, 1.0, 5.0, 100.0]):
        once = project(weights(40, 30, seed=seed, scale=scale).astype(dtype))
        assert once.dtype == dtype
        assert_same_bits(project(once), once)


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("simplex", "unit_norm")])
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
        if name not in ("simplex", "spectral_ball"):
            np.testing.assert_array_equal(np.asarray(v)[:, 1], point[:, 1])
    np.testing.assert_array_equal(v, point if name != "simplex" else np.full_like(point, 1 / 6))


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
            # Zero is inside every ball except the ball of radius 0; a matrix moves as a whole.
            if radius > 0 and (name != "spectral_ball" or not point.any()):
                np.testing.assert_array_equal(by_w[:, 1], directions[:, 1])


@every_projection
def test_weights_of_any_size_make_the_same_step(name):
    function = getattr(ALL[name], "func", ALL[name])
    sizes = getattr(ALL[name], "keywords", {})
    axis = {"axis": 0} if name == "simplex" else {}
    project = jax.jit(lambda w, sizes: function(w, **axis, **sizes))
    w = weights(6, 8)
    sizes = {k: np.float32(v) for k, v in sizes.items() if k != "axis"}
    if name == "simplex":
        sizes["total"] = np.float32(1.0)
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
def test_a_diverged_unit_shows_and_leaves_its_neighbors_alone(name):
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
        "simplex": thresholded(w - w.min(), 1.0, 0),
    }[name]
    np.testing.assert_allclose(v, want, rtol=1e-13, atol=1e-13)


@every_projection
def test_wrong_weights_are_named(name):
    with pytest.raises(TypeError, match=r"`w` must have a floating-point dtype, got int32"):
        ALL[name](np.ones((2, 2), np.int32))
    if name == "non_negative":
        return
    if name == "simplex":
        assert projections.simplex(np.ones((0, 2), np.float32), axis=0).shape == (0, 2)
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
