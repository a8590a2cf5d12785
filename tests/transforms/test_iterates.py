"""Places of decay, proximal steps and projections in optimizers with their own iterates."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import projections, proximal, transforms
from tests.helpers import few
from tests.transforms.helpers import trajectory

RATE = 0.1
BETA = 0.9
W = np.float32([[1.0, -2.0], [0.5, 0.3], [-0.05, 3.0]])
GRADIENTS = np.random.default_rng(0).normal(0, 1, (6, 3, 2)).astype(np.float32)


def schedule_free(base):
    return optax.contrib.schedule_free(base, RATE, b1=BETA)


def schedule_free_of_the_paper(after):
    """Points x, y and z after each step of section 2 with equal weights, by NumPy in float64.

    ``after`` makes the next z of the previous one, of y and of a step.
    """
    z = x = y = np.float64(W)
    path = []
    for number, gradient in enumerate(np.float64(GRADIENTS), start=1):
        z = after(z, y, -RATE * gradient)
        x = x + (z - x) / number
        y = (1 - BETA) * z + BETA * x
        path.append((x, y, z))
    return path


@partial(jax.jit, static_argnums=0)
def points(tx, gradients):
    """Points x, y and z after each step of a schedule-free optimizer."""
    y = jnp.asarray(W)
    state = tx.init(y)
    found = []
    for gradient in gradients:
        updates, state = tx.update(gradient, state, y)
        y = optax.apply_updates(y, updates)
        found.append((optax.contrib.schedule_free_eval_params(state, y), y, state.z))
    return found


def assert_path(found, want):
    for ours, theirs in zip(found, want, strict=True):
        for point, expected in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(point, expected, rtol=1e-5, atol=1e-5)


def test_decay_in_the_base_of_schedule_free_is_that_of_optax():
    """Their AdamW decays at y, where the gradient is."""
    adam = optax.scale_by_rms(decay=0.999, eps_in_sqrt=False, bias_correction=True)
    decay = transforms.decoupled_decay(0.5, learning_rate=RATE, mask=None)
    tx = schedule_free(optax.chain(adam, optax.scale(-RATE), decay))
    theirs = optax.contrib.schedule_free_adamw(RATE, b1=BETA, weight_decay=0.5)
    for ours, expected in zip(points(tx, GRADIENTS), points(theirs, GRADIENTS), strict=True):
        for point, other in zip(ours, expected, strict=True):
            np.testing.assert_allclose(point, other, rtol=1e-5, atol=1e-6)


def test_a_proximal_step_in_the_base_of_schedule_free_keeps_its_zeros():
    soft = lambda v, t: np.sign(v) * np.maximum(abs(v) - t, 0)  # noqa: E731
    want = schedule_free_of_the_paper(lambda z, _, u: soft(z + u, RATE * 0.5))
    chain = optax.chain(optax.sgd(RATE), transforms.proximal(proximal.l1, 0.5, RATE))
    found = points(schedule_free(transforms.own_iterates(chain)), GRADIENTS)
    assert_path(found, want)
    zeros = [np.count_nonzero(z == 0) for _, _, z in found]
    assert zeros == [np.count_nonzero(z == 0) for _, _, z in want]
    assert max(zeros) > 0
    # Without the wrapper the step is one of y, and z loses its zeros.
    assert np.count_nonzero(points(schedule_free(chain), GRADIENTS)[-1][2] == 0) < zeros[-1]


def test_a_projection_in_the_base_of_schedule_free_bounds_all_three_points():
    def after(z, _, u):
        moved = z + u
        return moved / np.maximum(np.linalg.norm(moved, axis=0), 1)

    ball = transforms.project(partial(projections.max_norm, radius=1.0))
    chain = optax.chain(optax.sgd(RATE), ball)
    found = points(schedule_free(transforms.own_iterates(chain)), GRADIENTS)
    assert_path(found, schedule_free_of_the_paper(after))
    start = found[2:]  # The initial parameters are outside, and leave the averages slowly.
    assert all(np.linalg.norm(z, axis=0).max() < 1 + 1e-6 for _, _, z in start)
    # Without the wrapper z is somewhere else.
    assert abs(points(schedule_free(chain), GRADIENTS)[-1][2] - found[-1][2]).max() > 0.01


def test_own_iterates_are_the_parameters_where_nothing_else_moves_them():
    chain = optax.chain(optax.adam(RATE), transforms.independent_decay(0.1, mask=None))
    for dtype in (np.float32, jnp.bfloat16):
        w = W.astype(dtype)
        gradients = GRADIENTS.astype(dtype)
        plain = trajectory(chain, w, gradients)
        np.testing.assert_array_equal(
            trajectory(transforms.own_iterates(chain), w, gradients), plain
        )
    with pytest.raises(ValueError, match="`params` must be given to the update of `own_iterates`"):
        transforms.own_iterates(chain).update(W, transforms.own_iterates(optax.sgd(1.0)).init(W))


@few("name", ["decay", "proximal", "project"])
def test_inside_of_lookahead_each_fast_step_has_its_own(name):
    """By NumPy: the slow weights go half of the way every second step."""
    lifts = {
        "decay": (transforms.independent_decay(0.2, mask=None), lambda w, v: v - 0.2 * w),
        "proximal": (
            transforms.proximal(proximal.l1, 0.5, RATE),
            lambda _, v: np.sign(v) * np.maximum(abs(v) - 0.5 * RATE, 0),
        ),
        "project": (
            transforms.project(partial(projections.max_norm, radius=1.0)),
            lambda _, v: v / np.maximum(np.linalg.norm(v, axis=0), 1),
        ),
    }
    lift, after = lifts[name]
    tx = transforms.lookahead(optax.chain(optax.sgd(RATE), lift), period=2, step_size=0.5)
    path = trajectory(tx, W, GRADIENTS)
    slow = w = np.float64(W)
    for number, gradient in enumerate(np.float64(GRADIENTS), start=1):
        w = after(w, w - RATE * gradient)
        if number % 2 == 0:
            slow = w = slow + 0.5 * (w - slow)
        np.testing.assert_allclose(path[number - 1], w, rtol=1e-5, atol=1e-6)
