"""Euclidean balls, spheres and shells of units."""

import jax
import numpy as np
import pytest

from jaxreg import projections
from tests.arrays import (
    assert_same_bits,
    eps,
    float64,
    weights,
)
from tests.balls import closest_point, norms, thresholded
from tests.helpers import few
from tests.projections.helpers import (
    compiled,
    every_dtype,
    l1_ball,
    max_norm,
    min_max_norm,
)

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


def test_a_relaxation_goes_part_of_the_way_into_the_shell():
    w = weights(6, 8) * np.geomspace(0.01, 10, 8, dtype=np.float32)
    size = norms(w)
    inside = ((size > 0.5) & (size < 2))[0]
    assert 0 < inside.sum() < 8
    for relaxation, share in ((0.25, 0.25), (1.0, 1.0), (0.0, 0.0), (2.0, 1.0), (-1.0, 0.0)):
        v = np.asarray(min_max_norm(w, 0.5, 2.0, relaxation))
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
    with pytest.raises(
        ValueError,
        match=r"`relaxation` must be a share of the way to the shell in \[0, 1\], got 1.5",
    ):
        projections.min_max_norm(w, low=1.0, high=2.0, relaxation=1.5)
    for name in ("low", "high"):
        with pytest.raises(ValueError, match=rf"`{name}` must be zero or positive, got -1.0"):
            projections.min_max_norm(w, **{"low": 1.0, "high": 2.0} | {name: -1.0})
        with pytest.raises(ValueError, match=rf"`{name}` must broadcast to shape \(1, 3\)"):
            projections.min_max_norm(w, **{"low": 1.0, "high": 2.0} | {name: np.ones(2)})
