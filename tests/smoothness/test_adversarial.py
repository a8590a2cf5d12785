"""Virtual adversarial training: an eigenvector in float64, known directions, and standstill."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, rel_entr, softmax

from jaxreg import smoothness
from tests.arrays import DTYPES, float64, normal
from tests.helpers import few

KEY = jax.random.key(5)


@partial(jax.jit, static_argnames="steps")
def linear(w, x, radius, steps=1):
    """The penalty of a linear classifier, and its gradient with respect to the kernel."""

    def value(w):
        return smoothness.virtual_adversarial(
            lambda x: x @ w, x, key=KEY, radius=radius, steps=steps
        )

    return jax.value_and_grad(value)(w)


def divergence(w, x, moved):
    return rel_entr(softmax(x @ w, axis=-1), softmax(moved @ w, axis=-1)).sum()


def curvature(w, x):
    """The Hessian of the divergence of one example at distance 0."""
    p = softmax(x @ w)
    return w @ (np.diag(p) - np.outer(p, p)) @ w.T


def ends(w, x, radius):
    """Both ends of a step from one example along the first eigenvector."""
    first = np.linalg.eigh(curvature(w, x))[1][:, -1]
    return [x + sign * radius * first for sign in (-1, 1)]


def test_many_steps_reach_the_first_eigenvector():
    w = normal(4, 3)
    rows = normal(6, 4, seed=1)
    with jax.enable_x64(True):
        for radius in (0.0, 0.1, 2.0):
            for x in rows:
                value, _ = linear(w, x[None], radius, steps=300)
                assert value.dtype == np.float64
                worst = [divergence(w, x, moved) for moved in ends(w, x, radius)]
                assert min(abs(value - both) for both in worst) < 1e-9


def test_one_step_is_one_product_with_the_curvature():
    """From a direction that is known: with no steps, the divergence tells which it was."""
    w = normal(2, 3)
    x = normal(1, 2, seed=1)
    angles = np.linspace(0, 2 * np.pi, 200_001)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    p = softmax(x @ w)
    log_p = log_softmax(x @ w)
    values = np.sum(p * (log_p - log_softmax((x + 0.5 * circle) @ w, axis=-1)), axis=-1)
    with jax.enable_x64(True):
        start = float(linear(w, x, 0.5, steps=0)[0])
        after = float(linear(w, x, 0.5, steps=1)[0])
    crossings = np.flatnonzero(np.diff(np.sign(values - start)))
    stepped = circle[crossings] @ curvature(w, x[0])
    stepped /= np.linalg.norm(stepped, axis=1, keepdims=True)
    moved = [divergence(w, x, x + 0.5 * d) for d in stepped]
    assert min(abs(after - m) for m in moved) < 1e-3 * after
    assert after > start


@pytest.mark.exhaustive
def test_more_steps_find_worse_directions():
    w = np.float32(normal(20, 5))
    x = np.float32(normal(64, 20, seed=1))
    values = [float(linear(w, x, 0.3, steps=steps)[0]) for steps in (0, 1, 2, 3)]
    assert 0 < values[0] < values[1] < values[2] < values[3]


def test_one_step_is_taken_unless_told():
    w = np.float32(normal(20, 5))
    x = np.float32(normal(8, 20, seed=1))

    @jax.jit
    def values(x):
        call = partial(smoothness.virtual_adversarial, lambda x: x @ w, x, key=KEY, radius=0.3)
        return call(), call(steps=1), call(steps=2)

    default, one, two = values(x)
    np.testing.assert_allclose(default, one, rtol=1e-6)
    assert two > default * 1.01


def test_the_gradient_holds_the_direction_and_the_left_side():
    w = normal(4, 3)
    x = normal(1, 4, seed=1)
    with jax.enable_x64(True):
        gradient = np.asarray(linear(w, x, 0.5, steps=300)[1])
    p = softmax(x @ w, axis=-1)
    candidates = [
        moved[None].T @ (softmax(moved[None] @ w, axis=-1) - p) for moved in ends(w, x[0], 0.5)
    ]
    assert min(abs(gradient - c).max() for c in candidates) < 1e-7


def test_the_mean_runs_over_examples():
    w = normal(4, 3)
    x = normal(6, 4, seed=1)
    with jax.enable_x64(True):
        value = float(linear(w, x, 0.5, steps=300)[0])
    # Each example may have gone to either end.
    both = np.array([[divergence(w, row, moved) for moved in ends(w, row, 0.5)] for row in x])
    assert both.min(axis=1).mean() - 1e-9 <= value <= both.max(axis=1).mean() + 1e-9


def test_positions_count_like_examples():
    w = np.float32(normal(4, 3))
    x = np.float32(normal(2, 5, 4, seed=1))

    @jax.jit
    def values(x):
        call = partial(smoothness.virtual_adversarial, x=x, key=KEY, radius=0.5)
        return call(lambda x: x @ w), call(lambda x: jnp.repeat((x @ w)[:, None], 2, axis=1))

    once, twice = values(x)
    np.testing.assert_allclose(twice, once, rtol=1e-5)


@few("dtype", DTYPES, ids=str)
def test_a_head_of_zeros_is_finite(dtype):
    """The product with the curvature is zero."""
    x = np.ones((3, 4), dtype)
    value, slope = linear(np.zeros((4, 2), dtype), x, 1.0, steps=2)
    assert (value, value.dtype) == (0, np.float32)
    np.testing.assert_array_equal(np.float32(slope), 0)


def test_the_direction_stays_where_the_curvature_is_zero():
    """Saturated in float32, the classifier is still asked far away."""
    x = np.full((20, 2), 200.0, np.float32)
    far = jax.jit(
        lambda x: smoothness.virtual_adversarial(
            lambda x: x * jnp.array([1.0, -1.0]), x, key=KEY, radius=500.0
        )
    )(x)
    assert np.isfinite(far)
    assert far > 1


def test_one_class_and_no_examples():
    x = np.ones((1, 3), np.float32)

    @jax.jit
    def values(x):
        call = partial(smoothness.virtual_adversarial, key=KEY, radius=1.0)
        return call(lambda x: x[:, :1], x), call(lambda x: x, x[:0]), call(lambda x: x[:, :0], x)

    np.testing.assert_array_equal(values(x), [0, 0, 0])


def test_excluded_classes_contribute_nothing():
    """A logit of minus infinity has no share on both sides."""
    w = np.float32(normal(4, 3))
    x = np.float32(normal(5, 4, seed=1))

    def excluded(x):
        return jnp.concatenate([x @ w, jnp.full((len(x), 1), -jnp.inf)], axis=1)

    @jax.jit
    def measured(x):
        return [
            jax.value_and_grad(
                lambda x, f=f: smoothness.virtual_adversarial(f, x, key=KEY, radius=0.5)
            )(x)
            for f in (excluded, lambda x: x @ w)
        ]

    (value, gradient), (want, expected) = measured(x)
    np.testing.assert_allclose(value, want, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-6)


def test_directions_are_of_the_length_of_the_radius_over_all_axes():
    """Logits that are linear along one direction, so that the divergence tells the distance."""
    x = np.zeros((500, 2, 3), np.float32)
    weight = float64(np.arange(6.0).reshape(2, 3))

    @jax.jit
    def moves(x):
        def f(x):
            score = jnp.sum(x * np.float32(weight), axis=(1, 2))
            return jnp.stack([score, -score], axis=1) * 1e-2

        call = partial(smoothness.virtual_adversarial, f, x, key=KEY, radius=1.5)
        return call(steps=0), call(steps=1)

    free, steepest = moves(x)
    # Half of the squared difference of logits times p (1 - p), and p is one half.
    longest = (2e-2 * 1.5 * np.linalg.norm(weight)) ** 2 / 8
    np.testing.assert_allclose(steepest, longest, rtol=1e-2)
    # A random unit vector has a sixth of its square along any direction.
    np.testing.assert_allclose(free, longest / 6, rtol=0.25)


def test_wrong_arguments_are_named():
    x = np.ones((3, 4), np.float32)

    def trace(f=jnp.sin, x=x, **options):
        options = {"key": KEY, "radius": 1.0} | options
        return jax.eval_shape(lambda x: smoothness.virtual_adversarial(f, x, **options), x)

    with pytest.raises(ValueError, match=r"`radius` must be a number in \[0, inf\], got -1"):
        trace(radius=-1.0)
    with pytest.raises(ValueError, match=r"`steps` must be at least 0, got -1"):
        trace(steps=-1)
    with pytest.raises(TypeError, match=r"`steps` must be an integer, got float 1\.0"):
        trace(steps=1.0)
    with pytest.raises(ValueError, match=r"`logits_fn` must return \[batch, \.\.\., classes\]"):
        trace(lambda x: x.sum(axis=1))
    with pytest.raises(ValueError, match=r"`logits_fn` must return one row for each of the 3"):
        trace(lambda x: x.sum(axis=0))
    with pytest.raises(TypeError, match=r"`key` must be a PRNG key"):
        trace(key=0)
    with pytest.raises(TypeError, match=r"floating-point dtype, got int32"):
        trace(x=x.astype(np.int32))
