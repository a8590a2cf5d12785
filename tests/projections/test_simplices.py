"""The l1 ball, the simplex and the positive orthant."""

from functools import partial

import jax
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxreg import projections, transforms
from tests.arrays import (
    NARROW,
    assert_derivatives,
    assert_same_bits,
    eps,
    float64,
    normal,
    weights,
)
from tests.balls import thresholded
from tests.helpers import few, first_of
from tests.projections.helpers import compiled, every_dtype, l1_ball

simplex = jax.jit(projections.simplex, static_argnames="axis")

# The l1 ball and the simplex.


def test_the_l1_ball_of_whole_vectors_is_that_of_optax():
    theirs = jax.jit(optax.projections.projection_l1_ball)
    for seed, radius in enumerate([0.01, 0.5, 3.0, 20.0]):
        w = weights(50, seed=seed)
        np.testing.assert_allclose(l1_ball(w, radius=radius, axis=0), theirs(w, radius), atol=5e-6)


@every_dtype
def test_absolute_values_add_up_to_the_radius_at_most(dtype):
    w = weights(200, 50, scale=2.0).astype(dtype)
    total = np.abs(float64(l1_ball(w, radius=1.0))).sum(0)
    assert (total <= 1).all()
    assert (total >= 1 - 1.2 * eps(dtype) - 2 * eps(np.float32)).all()


def rows(numbers):
    """Rows that are hard to add up, or to find the level of."""
    rng = np.random.default_rng(0)
    normal = rng.normal(size=numbers)
    return np.float32(
        [
            normal,
            normal**3,
            1000 + 0.01 * normal,
            np.ones(numbers),
            np.concatenate([[1.0], np.full(numbers - 1, 1e-5)]),
            rng.choice([0.1, -0.3, 0.7], numbers),
            2.0 ** -np.arange(numbers),
            np.concatenate([[0.75], np.full(numbers - 1, 0.25)]),
        ]
    )


every_number = few("numbers", [4, 10_000, 7, 100])


@every_number
@few("radius", [2.0, 1e-3, 1.0, 0.3, 1.7])
def test_sums_end_within_two_roundings_inside_the_ball(numbers, radius):
    w = rows(numbers)
    radius = np.float32(radius)
    once = l1_ball(w, radius=radius, axis=1)
    outside = np.abs(float64(w)).sum(1) > radius
    assert outside.sum() >= 2
    roundings = (radius - np.abs(float64(once)).sum(1)[outside]) / (radius * eps(np.float32))
    assert ((roundings >= 0) & (roundings <= 2)).all()
    assert_same_bits(l1_ball(once, radius=radius, axis=1), once)
    np.testing.assert_allclose(once, thresholded(w, radius, (1,)), atol=4 * eps(np.float32))


@every_number
@few("total", [1.0, 1e-3, 0.3, 1.7])
def test_points_of_the_simplex_add_up_to_a_rounding(numbers, total):
    w = rows(numbers)
    total = np.float32(total)
    once = simplex(w, axis=1, total=total)
    assert (float64(once) >= 0).all()
    np.testing.assert_allclose(float64(once).sum(1), total, rtol=eps(np.float32))
    assert_same_bits(simplex(once, axis=1, total=total), once)
    lowest = float64(w).min(1, keepdims=True)
    want = thresholded(float64(w) - lowest, total, (1,))
    outside = (float64(w) - lowest).sum(1) > total
    np.testing.assert_allclose(once[outside], want[outside], atol=6e-6 if numbers < 1e4 else 2e-5)


@first_of("dtype", NARROW)
def test_sums_of_narrow_weights(dtype):
    """Of float16 many are subnormal, and rounded by more than a share of them."""
    for numbers in (7, 30_000):
        w = weights(2, numbers, scale=1e-3).astype(dtype)
        once = l1_ball(w, radius=1.0 if numbers > 7 else 1e-3, axis=1)
        assert once.dtype == dtype
        bound = 1 if numbers > 7 else 1e-3
        total = np.abs(float64(once)).sum(1)
        assert ((total <= bound) & (total >= bound * (1 - 4 * eps(dtype)))).all()
        assert_same_bits(l1_ball(once, radius=bound, axis=1), once)
        once = simplex(w, axis=1)
        assert once.dtype == dtype
        np.testing.assert_allclose(float64(once).sum(1), 1, rtol=2 * eps(dtype))
        assert_same_bits(simplex(once, axis=1), once)


@pytest.mark.exhaustive
def test_a_hundred_thousand_large_and_nearly_equal_weights():
    """Of which Optax's sums come to 0.93 here."""
    w = 1000 + weights(1, 100_000, scale=0.01)
    for v in (l1_ball(w, radius=1.0, axis=1), simplex(w, axis=1)):
        v = float64(v)
        np.testing.assert_allclose(v.sum(), 1, rtol=2 * eps(np.float32))
        level = np.min(float64(w)[v > 0])
        assert (float64(w)[v == 0] <= level).all()
        assert (v > 0).sum() > 100


@pytest.mark.parametrize("project", [l1_ball, simplex])
def test_long_rows_are_not_sorted(project):
    radius = {"radius": 1.0} if project is l1_ball else {}
    text = str(jax.make_jaxpr(lambda w: project(w, axis=0, **radius))(np.ones(1000, np.float32)))
    assert "sort" not in text
    assert "cumsum" not in text


def test_the_simplex_is_that_of_optax():
    theirs = jax.jit(optax.projections.projection_simplex)
    for seed, total in enumerate([0.01, 1.0, 20.0]):
        w = weights(50, seed=seed)
        np.testing.assert_allclose(simplex(w, axis=0, total=total), theirs(w, total), atol=5e-6)


def test_points_that_are_easy_to_project():
    inf = np.inf
    w = np.float32([[0.25, 0.75, -0.0], [0, 0, 0], [-inf, 3, 1], [-5, -5, -9], [2, 2, 2]])
    want = [[0.25, 0.75, 0], [1 / 3] * 3, [0, 1, 0], [0.5, 0.5, 0], [1 / 3] * 3]
    found = np.asarray(simplex(w, axis=1))
    np.testing.assert_allclose(found, want, rtol=1e-7)
    assert_same_bits(found[0], w[0])
    assert np.isnan(simplex(np.float32([[inf, 1, 0], [-inf, -inf, -inf]]), axis=1)).all()
    # Rows that add up to the total, whole or in their positive part, outside the simplex.
    outside = np.float32([[2, -1, 0], [0.75, 0.25, -0.5]])
    np.testing.assert_allclose(simplex(outside, axis=1), [[1, 0, 0], [0.75, 0.25, 0]])


def test_totals_of_nothing_and_of_each_unit():
    w = np.abs(weights(3, 4))
    totals = np.float32([[0.0], [-1.0], [2.5]])
    v = float64(simplex(w, axis=1, total=totals))
    np.testing.assert_array_equal(v[:2], np.zeros((2, 4)))
    np.testing.assert_allclose(v.sum(1), [0, 0, 2.5], rtol=1e-7)


def test_derivatives_of_the_simplex_are_those_of_its_face():
    """Also at its points, where moves off it have no effect."""
    face = np.float64([1, 1, 0, 1])
    want = np.diag(face) - np.outer(face, face) / 3
    jacobian = jax.jit(jax.jacrev(lambda w, t: simplex(w, axis=0, total=t), (0, 1)))
    for w in (np.float32([1.1, 0.9, -3.0, 1.0]), np.float32([0.5, 0.25, 0.0, 0.25])):
        by_w, by_total = jacobian(w, np.float32(1))
        np.testing.assert_allclose(by_w, want, atol=1e-7)
        np.testing.assert_allclose(by_total, face / 3, atol=1e-7)
    function = partial(projections.simplex, axis=1)
    assert_derivatives(lambda w, t: function(w, total=t), normal(3, 6), np.float64(1.3))
    assert_derivatives(lambda w, t: function(w, total=t), normal(3, 6), np.float64(1.3), order=2)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_rows_that_are_spread_over_devices_end_at_the_same_bits(kind):
    mesh = jax.make_mesh((8,), ("d",), (kind,))
    w = weights(4, 64)
    with jax.set_mesh(mesh):
        spread = jax.device_put(w, NamedSharding(mesh, P(None, "d")))
        found = l1_ball(spread, radius=1.5, axis=1), simplex(spread, axis=1)
    alone = l1_ball(w, radius=1.5, axis=1), simplex(w, axis=1)
    for spread, whole in zip(found, alone, strict=True):
        np.testing.assert_allclose(spread, whole, atol=eps(np.float32))


def test_the_last_step_of_an_optimizer_ends_on_the_simplex():
    tx = optax.chain(optax.sgd(0.1), transforms.project(partial(projections.simplex, axis=0)))

    @jax.jit
    def train(w, gradient):
        def step(w, _):
            updates, _ = tx.update(gradient, tx.init(w), w)
            return optax.apply_updates(w, updates), None

        return jax.lax.scan(step, w, length=50)[0]

    w = train(np.full(5, 0.2, np.float32), np.float32([0.3, -0.1, 0.2, -0.1, 0.5]))
    np.testing.assert_allclose(w, [0, 0.5, 0, 0.5, 0], atol=1e-6)


# The positive orthant.


@every_dtype
def test_negative_weights_become_zero(dtype):
    w = np.array([-1.0, -1e-7, -0.0, 0.0, 2.0, np.inf, np.nan, -np.inf], dtype)
    want = w.copy()
    want[[0, 1, 7]] = 0
    assert_same_bits(compiled("non_negative")(w), want)
    slope = jax.jit(jax.grad(lambda w: projections.non_negative(w).sum()))(w)
    np.testing.assert_array_equal(np.float32(slope)[:5], [0, 0, 1, 1, 1])
