"""Penalty gradients, proximal steps and projections in an optimizer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import masks, penalties, projections, proximal, transforms
from tests.helpers import few
from tests.transforms.helpers import descend, one_step, same_bits, trajectory, updated, zeros

SOFT = transforms.proximal(proximal.l1, 0.5, 1.0)


def pair(number, scale=1.0):
    """Parameters and updates."""
    w, u = np.random.default_rng(0).normal(0, scale, (2, number)).astype(np.float32)
    return w, u


def soft(w, threshold):
    return np.sign(w) * np.maximum(np.abs(w) - threshold, 0)


# Proximal steps.


def test_the_step_lands_on_the_proximal_point():
    w, u = pair(10_000)
    landed = np.asarray(one_step(SOFT, u, w))
    want = soft(w + u, np.float32(0.5))
    assert 1000 < (want == 0).sum() < 9000
    np.testing.assert_array_equal(landed == 0, want == 0)
    # An update cannot be finer than the spacing of floats at the weight.
    np.testing.assert_array_less(abs(landed - want), 2e-7 * (abs(w) + abs(u)) + 1e-30)
    assert (landed != want).any()


def test_the_proximal_point_itself_is_a_step_on_the_parameters():
    # As the docstring of ``proximal`` explains, for exact zeros.
    w, u = pair(10_000)
    landed = jax.tree.map(partial(proximal.l1, step=0.5), {"w": jnp.asarray(w + u)})
    np.testing.assert_array_equal(landed["w"], soft(w + u, np.float32(0.5)))


def test_scaling_after_the_step_destroys_its_zeros():
    # Why the docstrings say that nothing may follow it.
    w, u = pair(1000)
    assert (one_step(SOFT, u, w) == 0).any()
    assert not (one_step(optax.chain(SOFT, optax.scale(0.9)), u, w) == 0).any()
    for factory in (transforms.proximal, transforms.preconditioned_proximal):
        assert "Nothing that scales updates may follow it" in factory.__doc__


@few("weighted", [True, False])
def test_the_threshold_follows_both_schedules_from_the_first_step(weighted):
    rates = np.array([0.5, 0.5, 0.25, 0.25, 0, 0, 0])
    weights = np.array([1.0] + [2.0] * 6 if weighted else [1.0] * 7)
    rate = optax.piecewise_constant_schedule(0.5, {2: 0.5, 4: 0.0})
    weight = optax.piecewise_constant_schedule(1.0, {1: 2.0}) if weighted else jnp.float32(1)
    tx = optax.chain(optax.sgd(rate), transforms.proximal(proximal.l1, weight, rate))
    gradient = np.array([1.0, 0.0, 0.0])
    want = np.array([10.0, -10.0, 0.1])
    path = trajectory(tx, np.float32(want), np.float32([gradient] * 7))
    for step in range(7):
        want = soft(want - rates[step] * gradient, rates[step] * weights[step])
        np.testing.assert_allclose(path[step], want, rtol=1e-6)


@few("dtype", ["bfloat16", "float32", "float16"])
def test_a_learning_rate_of_zero_leaves_parameters_as_they_are(dtype):
    w = pair(1000)[0].astype(dtype)
    rate = optax.constant_schedule(0.0)
    tx = optax.chain(optax.sgd(rate), transforms.proximal(proximal.l1, 3.0, rate))
    assert same_bits(one_step(tx, np.ones_like(w), w), w)


@few(
    ("lift", "path"),
    [
        (transforms.proximal(proximal.l1, 0.1, 1.0), 1 - 0.1 * np.arange(1, 7)),
        (transforms.independent_decay(0.1, mask=None), 0.9 ** np.arange(1, 7)),
        (transforms.decoupled_decay(0.1, learning_rate=1.0, mask=None), 0.9 ** np.arange(1, 7)),
    ],
    ids=["proximal", "independent_decay", "decoupled_decay"],
)
def test_gradient_accumulation_takes_one_step_per_k_gradients(lift, path):
    # Inside MultiSteps a threshold or a decay acts once in three calls; outside, at each.
    w = np.float32([1.0, 0.25])
    inside = optax.MultiSteps(optax.chain(optax.sgd(1.0), lift), 3).gradient_transformation()
    outside = optax.chain(optax.MultiSteps(optax.sgd(1.0), 3).gradient_transformation(), lift)
    once = [1, 1, path[0], path[0], path[0], path[1]]
    for tx, want in ((inside, once), (outside, path)):
        found = trajectory(tx, w, np.zeros((6, 2), np.float32))
        np.testing.assert_allclose(found[:, 0], want, rtol=1e-6)


@few("dtype", [jnp.bfloat16, jnp.float16])
def test_small_thresholds_reach_narrow_parameters(dtype):
    # One step of 1e-4 is below half the spacing of narrow numbers at 1, and rounds to nothing.
    tx = transforms.compensate_rounding(transforms.proximal(proximal.l1, 1e-4, 1.0))
    w = np.array([1.0, -1.0, 0.25, 0.0], dtype)
    after = np.asarray(descend(tx, jnp.zeros_like, w, 1000), np.float64)
    ulp = float(jnp.finfo(dtype).eps) / 2
    np.testing.assert_allclose(after, [0.9, -0.9, 0.15, 0], atol=ulp)
    np.testing.assert_array_equal(descend(tx, jnp.zeros_like, w, 10_500), np.zeros(4))


@few("dtype", [jnp.bfloat16, jnp.float16])
def test_zeros_stay_exactly_zero_in_narrow_parameters(dtype):
    # Gradients below the weight of the penalty never move a zero.
    noise = np.random.default_rng(0).uniform(-0.9, 0.9, (100, 8)).astype(dtype)
    tx = optax.chain(optax.sgd(0.1), transforms.proximal(proximal.l1, 1.0, 0.1))
    path = trajectory(tx, np.zeros(8, dtype), noise)
    np.testing.assert_array_equal(path, np.zeros((100, 8)))


@few("size", [6e-8, 3e-5, 1e-6])
def test_subnormal_float16_weights_never_grow(size):
    w = np.full(3, size, np.float16)
    tx = transforms.proximal(proximal.l1, 1e-10, 1.0)
    assert (descend(tx, jnp.zeros_like, w, 20) <= w).all()


# Gradients of penalties.


def test_l2_through_sgd_is_decay_and_through_adam_is_not():
    kernel = np.float32([[1.0, -2.0], [3.0, 0.5]])
    params = {"kernel": kernel, "bias": np.float32([1.0, 2.0])}

    def trained(tx):
        return descend(tx, lambda p: jax.tree.map(jnp.cos, p), params, 20)

    def distance(optimizer, rate):
        lift = transforms.add_penalty_gradient(penalties.l2, 0.3)
        through = trained(optax.chain(optax.masked(lift, masks.kernels), optimizer))
        decay = transforms.decoupled_decay(0.3, learning_rate=rate)
        decayed = trained(optax.chain(optimizer, decay))
        return max(abs(np.asarray(through[k]) - np.asarray(decayed[k])).max() for k in params)

    assert distance(optax.sgd(0.1), 0.1) < 1e-6
    assert distance(optax.adam(0.1), 0.1) > 0.05


@few("scheduled", [True, False])
def test_the_penalty_gradient_follows_its_schedule(scheduled):
    weight = optax.piecewise_constant_schedule(1.0, {1: 0.5}) if scheduled else 0.5
    tx = optax.chain(transforms.add_penalty_gradient(penalties.l1, weight), optax.scale(-1.0))
    path = trajectory(tx, np.float32([3.0, -2.0]), np.zeros((3, 2), np.float32))
    steps = np.cumsum([1.0 if scheduled else 0.5, 0.5, 0.5])
    np.testing.assert_allclose(path, np.array([3.0, -2.0]) + np.outer(steps, [-1, 1]))
    after = updated(transforms.add_penalty_gradient(penalties.l1, 1.0), path[0] + 7, path[0])
    np.testing.assert_allclose(after, path[0] + 7 + np.sign(path[0]), rtol=1e-6)


@few("penalty", [lambda w: 1j * penalties.l2(w) + penalties.l2(w), penalties.l2])
def test_the_gradient_of_a_complex_penalty_descends(penalty):
    w = np.array([3.0 + 4.0j], np.complex64)
    tx = optax.chain(transforms.add_penalty_gradient(penalty, 1.0), optax.sgd(0.5))
    np.testing.assert_allclose(one_step(tx, zeros(w), w), w / 2, rtol=1e-6)


# Projections.


def ball(radius):
    return transforms.project(partial(projections.max_norm, radius=radius))


@few("size", [1e4, 1.0, 1e2])
@few("radius", [1.0, 0.3])
def test_no_column_leaves_the_ball(size, radius):
    rng = np.random.default_rng(0)
    w = np.float32(rng.normal(0, size * radius, (50, 200)))
    gradients = np.float32(rng.normal(0, size * radius, (3, 50, 200)))
    path = trajectory(optax.chain(optax.sgd(0.1), ball(radius)), w, gradients)
    bound = radius + 2 * np.spacing(np.float32(radius))
    assert (np.linalg.norm(np.asarray(path, np.float64), axis=1) <= bound).all()


def test_projected_columns_are_on_the_surface_after_small_steps():
    w = np.float32(np.random.default_rng(0).normal(0, 1, (50, 20)))
    landed = np.asarray(one_step(ball(1.0), np.zeros_like(w), w), np.float64)
    np.testing.assert_allclose(np.linalg.norm(landed, axis=0), 1.0, rtol=2e-6)
    np.testing.assert_allclose(landed, w / np.linalg.norm(w, axis=0), atol=1e-6)


def test_no_coordinate_lands_beyond_its_goal():
    """If a step rounds past the goal, the next finer step is taken."""
    w, u = pair(20_000)
    w = np.float32(1000) * w
    goal = np.float32(0.1) * np.sign(w)
    tx = transforms.project(lambda x: jnp.asarray(goal))
    landed = np.asarray(one_step(tx, u, w))
    spacing = np.spacing(abs(w))
    assert (abs(landed) <= abs(goal)).all()
    assert (abs(landed - goal) <= spacing).all()
    assert abs(landed).max() > 0.099


def test_a_step_that_reaches_its_goal_is_left_alone():
    """To the bit, where a step to it is a floating-point number."""
    w = np.float32(np.random.default_rng(0).uniform(1, 2, 1000))
    goal = np.float32([1, -1] * 500) * np.float32(1.05)
    w = np.copysign(w, goal)
    landed = one_step(transforms.project(lambda x: jnp.asarray(goal)), np.zeros_like(w), w)
    np.testing.assert_array_equal(landed, goal)


@few("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_columns_stay_within_their_bound(dtype):
    w = np.random.default_rng(0).normal(0, 1, (100, 20)).astype(dtype)
    landed = one_step(ball(1.0), np.zeros_like(w), w)
    assert landed.dtype == dtype
    norms = np.linalg.norm(np.asarray(landed, np.float64), axis=0)
    assert (norms <= 1 + 4 * float(jnp.finfo(dtype).eps)).all()
    assert (norms >= 1 - 16 * float(jnp.finfo(dtype).eps)).all()


def test_inside_the_ball_the_update_is_untouched_to_the_bit():
    w = np.float32(np.random.default_rng(0).normal(0, 0.01, (50, 20)))
    u = np.float32(np.random.default_rng(1).normal(0, 1e-9, (50, 20)))
    u[0] = -0.0
    assert same_bits(updated(ball(1.0), u, w), u)


def test_a_model_keeps_its_other_parameters_free():
    params = {"kernel": np.full((4, 3), 5.0, np.float32), "bias": np.full(3, 5.0, np.float32)}
    landed = one_step(optax.masked(ball(1.0), masks.kernels), zeros(params), params)
    np.testing.assert_allclose(np.linalg.norm(landed["kernel"], axis=0), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(landed["bias"], params["bias"])


def test_complex_columns_land_on_their_projection():
    w = np.array([[3.0 + 4.0j], [0.0]], np.complex64)
    tx = transforms.project(lambda x: x / 5)
    np.testing.assert_allclose(one_step(tx, zeros(w), w), w / 5, rtol=1e-6)


# All three.

LIFTS = {
    "proximal": SOFT,
    "add_penalty_gradient": transforms.add_penalty_gradient(penalties.l2, 0.5),
    "project": transforms.project(lambda w: 0.5 * w),
}


@pytest.mark.parametrize("name", LIFTS)
def test_leaves_that_are_not_weights_pass_through(name):
    w = np.float32([2, -2])
    params = {"w": w, "n": np.array([3, 4]), "key": jax.random.key(0), "off": w, "hollow": w[:0]}
    updates = {"w": w, "n": np.array([1, 1]), "key": np.zeros((), jax.dtypes.float0), "off": None}
    updates |= {"hollow": w[:0], "none": None}
    params |= {"none": None}

    @jax.jit
    def step():
        moved, _ = LIFTS[name].update(updates, LIFTS[name].init(params), params)
        assert moved["off"] is None
        assert moved["none"] is None
        assert moved["key"] is updates["key"]
        return moved["w"], moved["n"], moved["hollow"]

    moved, counted, hollow = step()
    # What lands at 4 is 3.5, 3 by the gradient of l2, and 2.
    want = {"proximal": 1.5, "add_penalty_gradient": 3.0, "project": 0.0}[name]
    np.testing.assert_allclose(moved, [want, -want], rtol=1e-6)
    np.testing.assert_array_equal(counted, [1, 1])
    assert hollow.shape == (0,)


@pytest.mark.parametrize("name", LIFTS)
def test_missing_params_are_named(name):
    w = np.ones(2, np.float32)
    with pytest.raises(ValueError, match=rf"`params` must be given to the update of `{name}`, got"):
        LIFTS[name].update(w, LIFTS[name].init(w))


@pytest.mark.parametrize("value", [-1e-3, np.float32(-1), np.nan], ids=str)
def test_negative_strengths_are_named(value):
    with pytest.raises(ValueError, match=r"`weight` must be zero or positive, got"):
        transforms.proximal(proximal.l1, value, 0.1)
    with pytest.raises(ValueError, match=r"`weight` must be zero or positive, got"):
        transforms.add_penalty_gradient(penalties.l2, value)
    with pytest.raises(ValueError, match=r"`learning_rate` must be zero or positive, got"):
        transforms.proximal(proximal.l1, 0.1, value)


@pytest.mark.parametrize("name", LIFTS)
def test_updates_keep_their_own_dtypes(name):
    for dtype, other in (("bfloat16", "float32"), ("float32", "bfloat16")):
        moved = jax.eval_shape(partial(updated, LIFTS[name]), np.ones(2, dtype), np.ones(2, other))
        assert moved.dtype == dtype
