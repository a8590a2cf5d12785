"""Penalty gradients, proximal steps and projections in an optimizer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import masks, penalties, projections, proximal, transforms


def descend(tx, gradient, w, steps):
    """Parameters after some steps of an optimizer, in one compiled loop."""

    def step(_, carry):
        w, state = carry
        updates, state = tx.update(gradient(w), state, w)
        return optax.apply_updates(w, updates), state

    return jax.jit(lambda w: jax.lax.fori_loop(0, steps, step, (w, tx.init(w)))[0])(w)


def test_the_step_lands_on_the_proximal_point():
    w, u = np.random.default_rng(0).normal(0, 1, (2, 10_000)).astype(np.float32)
    tx = transforms.proximal(proximal.l1, 0.5, 1.0)
    updates, _ = tx.update(jnp.asarray(u), tx.init(w), jnp.asarray(w))
    landed = np.asarray(optax.apply_updates(jnp.asarray(w), updates))
    want = np.asarray(proximal.l1(jnp.asarray(w) + u, threshold=0.5))
    assert 1000 < (want == 0).sum() < 9000
    np.testing.assert_array_equal(landed == 0, want == 0)
    # An update cannot be finer than the spacing of floats at the weight.
    np.testing.assert_array_less(abs(landed - want), 2e-7 * (abs(w) + abs(u)) + 1e-30)
    assert (landed != want).any()


def test_the_proximal_point_itself_is_a_step_on_the_parameters():
    # What the docstring of ``proximal`` says to those who want it to the bit.
    w, u = jnp.asarray(np.random.default_rng(0).normal(0, 1, (2, 10_000)), jnp.float32)
    moved = optax.apply_updates({"w": w}, {"w": u})
    landed = jax.tree.map(partial(proximal.l1, threshold=0.5), moved)
    np.testing.assert_array_equal(landed["w"], proximal.l1(w + u, threshold=0.5))


def test_scaling_after_the_step_destroys_its_zeros():
    # Why the docstrings say that nothing may follow it.
    w, u = jnp.asarray(np.random.default_rng(0).normal(0, 1, (2, 1000)), jnp.float32)
    for tx, some in (
        (transforms.proximal(proximal.l1, 0.5, 1.0), True),
        (optax.chain(transforms.proximal(proximal.l1, 0.5, 1.0), optax.scale(0.9)), False),
    ):
        landed = optax.apply_updates(w, tx.update(u, tx.init(w), w)[0])
        assert (landed == 0).any() == some
    for factory in (transforms.proximal, transforms.preconditioned_proximal):
        assert "Nothing that scales updates may follow it" in factory.__doc__


def test_the_threshold_follows_both_schedules_from_the_first_step():
    rate = optax.piecewise_constant_schedule(0.5, {2: 0.5, 4: 0.0})
    weight = optax.piecewise_constant_schedule(1.0, {1: 2.0})
    tx = optax.chain(optax.sgd(rate), transforms.proximal(proximal.l1, weight, rate))
    w, gradient = jnp.array([10.0, -10.0, 0.1]), jnp.array([1.0, 0.0, 0.0])
    state, want = tx.init(w), np.array([10.0, -10.0, 0.1])
    for step in range(7):
        updates, state = tx.update(gradient, state, w)
        w = optax.apply_updates(w, updates)
        want = want - float(rate(step)) * np.asarray(gradient)
        threshold = float(rate(step)) * float(weight(step))
        want = np.sign(want) * np.maximum(np.abs(want) - threshold, 0)
        np.testing.assert_allclose(w, want, rtol=1e-6)


def test_a_learning_rate_of_zero_leaves_parameters_as_they_are():
    w = jnp.asarray(np.random.default_rng(0).normal(0, 1, 1000), jnp.float32)
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        narrow = w.astype(dtype)
        rate = optax.constant_schedule(0.0)
        tx = optax.chain(optax.sgd(rate), transforms.proximal(proximal.l1, 3.0, rate))
        updates, _ = tx.update(jnp.ones_like(narrow), tx.init(narrow), narrow)
        landed = optax.apply_updates(narrow, updates)
        assert np.asarray(landed).tobytes() == np.asarray(narrow).tobytes()


@pytest.mark.parametrize(
    ("lift", "trajectory"),
    [
        (transforms.proximal(proximal.l1, 0.1, 1.0), 1 - 0.1 * np.arange(1, 7)),
        (transforms.independent_decay(0.1, mask=None), 0.9 ** np.arange(1, 7)),
        (transforms.decoupled_decay(0.1, learning_rate=1.0, mask=None), 0.9 ** np.arange(1, 7)),
    ],
    ids=["proximal", "independent_decay", "decoupled_decay"],
)
def test_gradient_accumulation_takes_one_step_per_k_gradients(lift, trajectory):
    # Inside MultiSteps a threshold or a decay acts once in three calls; outside, at each.
    gradient, w = jnp.zeros(2), jnp.array([1.0, 0.25])
    inside = optax.MultiSteps(optax.chain(optax.sgd(1.0), lift), 3).gradient_transformation()
    outside = optax.chain(optax.MultiSteps(optax.sgd(1.0), 3).gradient_transformation(), lift)
    once = [1, 1, trajectory[0], trajectory[0], trajectory[0], trajectory[1]]
    for tx, want in ((inside, once), (outside, trajectory)):
        v, state, update = w, tx.init(w), jax.jit(tx.update)
        for step in range(6):
            updates, state = update(gradient, state, v)
            v = optax.apply_updates(v, updates)
            np.testing.assert_allclose(v[0], want[step], rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_small_thresholds_reach_narrow_parameters(dtype):
    # One step of 1e-4 is below half the spacing of narrow numbers at 1, and rounds to nothing.
    tx = transforms.compensate_rounding(transforms.proximal(proximal.l1, 1e-4, 1.0))
    w = jnp.array([1.0, -1.0, 0.25, 0.0], dtype)
    after = np.asarray(descend(tx, jnp.zeros_like, w, 1000), np.float64)
    ulp = float(jnp.finfo(dtype).eps) / 2
    np.testing.assert_allclose(after, [0.9, -0.9, 0.15, 0], atol=ulp)
    np.testing.assert_array_equal(descend(tx, jnp.zeros_like, w, 10_500), np.zeros(4))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_zeros_stay_exactly_zero_in_narrow_parameters(dtype):
    noise = jnp.asarray(np.random.default_rng(0).uniform(-0.9, 0.9, (100, 8)), dtype)
    tx = optax.chain(optax.sgd(0.1), transforms.proximal(proximal.l1, 1.0, 0.1))
    w = jnp.zeros(8, dtype)

    def step(carry, gradient):
        w, state = carry
        updates, state = tx.update(gradient, state, w)
        w = optax.apply_updates(w, updates)
        return (w, state), w

    # Gradients below the weight of the penalty never move a zero.
    _, trajectory = jax.lax.scan(step, (w, tx.init(w)), noise)
    np.testing.assert_array_equal(trajectory, np.zeros((100, 8)))


@pytest.mark.parametrize("size", [3e-5, 1e-6, 6e-8])
def test_subnormal_float16_weights_never_grow(size):
    w = jnp.full(3, size, jnp.float16)
    tx = transforms.proximal(proximal.l1, 1e-10, 1.0)
    after = descend(tx, jnp.zeros_like, w, 20)
    assert (after <= w).all()


def test_l2_through_sgd_is_decay_and_through_adam_is_not():
    params = {"kernel": jnp.array([[1.0, -2.0], [3.0, 0.5]]), "bias": jnp.array([1.0, 2.0])}

    def trained(make):
        return descend(make, lambda p: jax.tree.map(jnp.cos, p), params, 20)

    def distance(optimizer, rate):
        lift = transforms.add_penalty_gradient(penalties.l2, 0.3)
        through = trained(optax.chain(optax.masked(lift, masks.kernels), optimizer))
        decay = transforms.decoupled_decay(0.3, learning_rate=rate)
        gaps = jax.tree.map(
            lambda a, b: abs(a - b).max(), through, trained(optax.chain(optimizer, decay))
        )
        return max(jax.tree.leaves(gaps))

    assert distance(optax.sgd(0.1), 0.1) < 1e-6
    assert distance(optax.adam(0.1), 0.1) > 0.05


def test_the_penalty_gradient_follows_its_schedule():
    tx = transforms.add_penalty_gradient(
        penalties.l1, optax.piecewise_constant_schedule(1.0, {1: 0.5})
    )
    w, state = jnp.array([3.0, -2.0]), tx.init(jnp.zeros(2))
    for want in (1.0, 0.5, 0.5):
        updates, state = tx.update(jnp.array([10.0, 10.0]), state, w)
        np.testing.assert_allclose(updates, [10 + want, 10 - want])


def test_the_gradient_of_a_complex_penalty_descends():
    w = jnp.array([3.0 + 4.0j], jnp.complex64)
    tx = optax.chain(transforms.add_penalty_gradient(penalties.l2, 1.0), optax.sgd(0.5))
    updates, _ = tx.update(jnp.zeros_like(w), tx.init(w), w)
    np.testing.assert_allclose(optax.apply_updates(w, updates), w / 2, rtol=1e-6)


# Projections.


def ball(radius):
    return transforms.project(partial(projections.max_norm, radius=radius))


@pytest.mark.parametrize("size", [1.0, 1e2, 1e4])
@pytest.mark.parametrize("radius", [1.0, 0.3])
def test_no_column_leaves_the_ball(size, radius):
    rng = np.random.default_rng(0)
    w = jnp.asarray(rng.normal(0, size * radius, (50, 200)), jnp.float32)
    tx = optax.chain(optax.sgd(0.1), ball(radius))
    state, bound = tx.init(w), radius + 2 * np.spacing(np.float32(radius))
    for _ in range(3):
        gradient = jnp.asarray(rng.normal(0, size * radius, w.shape), jnp.float32)
        updates, state = jax.jit(tx.update)(gradient, state, w)
        w = optax.apply_updates(w, updates)
        assert (np.linalg.norm(np.asarray(w, np.float64), axis=0) <= bound).all()


def test_the_projected_column_is_on_the_surface_after_small_steps():
    w = jnp.asarray(np.random.default_rng(0).normal(0, 1, (50, 20)), jnp.float32)
    tx = ball(1.0)
    updates, _ = tx.update(jnp.zeros_like(w), tx.init(w), w)
    landed = np.asarray(optax.apply_updates(w, updates), np.float64)
    np.testing.assert_allclose(np.linalg.norm(landed, axis=0), 1.0, rtol=2e-6)
    np.testing.assert_allclose(landed, w / np.linalg.norm(w, axis=0), atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_columns_stay_within_their_bound(dtype):
    w = jnp.asarray(np.random.default_rng(0).normal(0, 1, (100, 20)), dtype)
    tx = ball(1.0)
    updates, _ = tx.update(jnp.zeros_like(w), tx.init(w), w)
    assert updates.dtype == dtype
    landed = np.asarray(optax.apply_updates(w, updates).astype(jnp.float32), np.float64)
    assert (np.linalg.norm(landed, axis=0) <= 1 + 4 * float(jnp.finfo(dtype).eps)).all()


def test_inside_the_ball_the_update_is_untouched_to_the_bit():
    w = jnp.asarray(np.random.default_rng(0).normal(0, 0.01, (50, 20)), jnp.float32)
    u = jnp.asarray(np.random.default_rng(1).normal(0, 1e-9, (50, 20)), jnp.float32).at[0].set(-0.0)
    updates, _ = jax.jit(ball(1.0).update)(u, ball(1.0).init(w), w)
    assert np.asarray(updates).tobytes() == np.asarray(u).tobytes()


def test_a_model_keeps_its_other_parameters_free():
    params = {"kernel": jnp.full((4, 3), 5.0), "bias": jnp.full((3,), 5.0)}
    tx = optax.masked(ball(1.0), masks.kernels)
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    landed = optax.apply_updates(params, updates)
    np.testing.assert_allclose(jnp.linalg.norm(landed["kernel"], axis=0), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(landed["bias"], params["bias"])
