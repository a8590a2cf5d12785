"""Gradient penalties: closed forms in float64, torch, points between pairs, zero gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import smoothness
from tests.arrays import DTYPES, assert_finite, normal
from tests.helpers import few
from tests.smoothness.helpers import TORCH_PARAMS, TORCH_X, assert_equals_torch, network

KEY = jax.random.key(3)
OTHER_KEY = jax.random.key(4)


def quadratic(a, x):
    """A critic whose gradient is ``a * x``."""
    return 0.5 * a * jnp.sum(x * x, axis=-1)


def closed_form(a, x, target):
    """Value, and first and second derivative with respect to ``a``."""
    norm = np.linalg.norm(x, axis=1)
    gap = a * norm - target
    return np.mean(gap**2), np.mean(2 * gap * norm), np.mean(2 * norm**2)


@jax.jit
def of_quadratic(key, real, fake, target):
    return smoothness.gradient_penalty(
        lambda x: quadratic(1.0, x), real, fake, key=key, target=target
    )


def test_the_gradient_penalty_twice_differentiated_is_the_closed_form():
    """With equal ends every point between them is the same."""
    x, a = normal(6, 3), 0.7

    def value(a, target):
        return smoothness.gradient_penalty(lambda x: quadratic(a, x), x, x, key=KEY, target=target)

    @jax.jit
    def values(a, target):
        return [f(a, target) for f in (value, jax.grad(value), jax.grad(jax.grad(value)))]

    @jax.jit
    def default(a):
        paper = smoothness.gradient_penalty(lambda x: quadratic(a, x), x, x, key=KEY)
        return paper, smoothness.zero_centered_penalty(lambda x: quadratic(a, x), x)

    with jax.enable_x64(True):
        for target in (0.0, 1.0, 2.5):
            want = closed_form(a, x, target)
            np.testing.assert_allclose(values(a, target), want, rtol=1e-7)
        want = closed_form(a, x, 1.0)[0], closed_form(a, x, 0.0)[0]
        np.testing.assert_allclose(default(a), want, rtol=1e-7)


@few("keep", [True, False], ids=["[batch, 1]", "[batch]"])
@pytest.mark.parametrize("name", ["gradient_penalty", "zero_centered_penalty"])
def test_penalties_equal_torch(name, keep):
    def penalty(params, x):
        critic = lambda x: network(params, x)[:, :1] if keep else network(params, x)[:, 0]  # noqa: E731
        if name == "gradient_penalty":
            return smoothness.gradient_penalty(critic, x, x, key=KEY)
        return smoothness.zero_centered_penalty(critic, x)

    assert_equals_torch(jax.jit(jax.value_and_grad(penalty))(TORCH_PARAMS, TORCH_X), name)


def test_points_are_spread_evenly_between_each_pair():
    """The norm of a gradient that is the point itself tells where the point is."""
    real = np.full((4000, 1), 3.0, np.float32)
    fake = np.full((4000, 1), 1.0, np.float32)
    # E (z - t)^2 with z uniform on [1, 3] is 1/3 + (2 - t)^2.
    for target in (0.0, 2.0, 3.0):
        want, spread = 1 / 3 + (2 - target) ** 2, 2.2 / np.sqrt(len(real))
        assert abs(of_quadratic(KEY, real, fake, target) - want) < 5 * spread
    assert of_quadratic(KEY, real, fake, 0.0) != of_quadratic(OTHER_KEY, real, fake, 0.0)


def test_each_example_has_one_point_on_its_line():
    """All coordinates of an example mix alike: between corners the difference stays constant."""
    real = np.ones((50, 2), np.float32)
    fake = np.zeros((50, 2), np.float32)

    def critic(x):
        return (x[:, 0] - x[:, 1]) ** 2

    # On the diagonal the gradient is zero.
    value = jax.jit(
        lambda real, fake: smoothness.gradient_penalty(critic, real, fake, key=KEY, target=0.0)
    )
    assert value(real, fake) == 0


@few("dtype", DTYPES, ids=str)
def test_a_head_of_zeros_is_finite(dtype):
    """The norm's derivative at a zero gradient is NaN in plain JAX; torch gives 0, and so do we."""
    real = np.ones((4, 3), dtype)
    fake = np.zeros((4, 3), dtype)

    def value(head):
        return smoothness.gradient_penalty(
            lambda x: jnp.sin(x) @ head, real, fake, key=KEY, target=1.0
        )

    def zero(head):
        return smoothness.zero_centered_penalty(lambda x: jnp.sin(x) @ head, real)

    @jax.jit
    def derivatives(head):
        return [(f(head), jax.grad(f)(head), jax.hessian(f)(head)) for f in (value, zero)]

    for (cost, slope, curvature), want in zip(derivatives(np.zeros(3, dtype)), (1, 0), strict=True):
        assert (cost, cost.dtype) == (want, np.float32)
        np.testing.assert_array_equal(np.float32(slope), 0)
        assert_finite(curvature)


def test_single_examples_of_several_axes_and_none():
    x = np.ones((1, 2, 2), np.float32)

    @jax.jit
    def values(x):
        critic = lambda x: x.sum(axis=(1, 2))  # noqa: E731
        return (
            smoothness.gradient_penalty(critic, x, x, key=KEY),
            smoothness.gradient_penalty(critic, x[:0], x[:0], key=KEY),
            smoothness.zero_centered_penalty(critic, x),
            smoothness.zero_centered_penalty(critic, x[:0]),
        )

    # The slope is 2, over all axes of the example.
    np.testing.assert_allclose(values(x), [1.0, 0.0, 4.0, 0.0], rtol=1e-6)


def test_slopes_of_any_size_have_norms():
    """Squares of these leave the range of float32."""
    x = np.ones((2, 3), np.float32)

    @jax.jit
    def value(x, slope):
        critic = lambda x: slope * x.sum(axis=1)  # noqa: E731
        return smoothness.gradient_penalty(critic, x, x, key=KEY, target=0.0)

    np.testing.assert_allclose(value(x, np.float32(1e18)), 3e36, rtol=1e-5)
    assert value(x, np.float32(1e-30)) == 0


def test_narrow_data_is_mixed_in_float32():
    """As of bfloat16 alone, weights that are near one would all be one."""
    x = np.full((1000, 1), 1.0, jnp.bfloat16)
    value = of_quadratic(KEY, x, 3 * x, 0.0)
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, 13 / 3, rtol=0.1)


def test_dragan_is_noise_around_the_real_examples():
    x = np.float32(normal(2000, 2))
    noise = np.float32(0.5 * x.std() * np.random.default_rng(1).uniform(size=x.shape))
    value = jax.jit(
        lambda x, y: smoothness.gradient_penalty(lambda x: x.sum(axis=1), x, y, key=KEY)
    )
    np.testing.assert_allclose(value(x, x + noise), (np.sqrt(2) - 1) ** 2, rtol=1e-5)


def test_wrong_arguments_are_named():
    x = np.ones((3, 4), np.float32)
    penalty = smoothness.gradient_penalty
    with pytest.raises(
        ValueError, match=r"`fake` must have the same shape and dtype as `real`.*\(3, 5\)"
    ):
        penalty(quadratic, x, np.ones((3, 5), np.float32), key=KEY)
    with pytest.raises(ValueError, match=r"`fake` must have .*float32, got.*bfloat16"):
        penalty(quadratic, x, x.astype(jnp.bfloat16), key=KEY)
    with pytest.raises(TypeError, match=r"`fake` must have a floating-point dtype, got int32"):
        penalty(quadratic, x, np.ones((3, 4), np.int32), key=KEY)
    with pytest.raises(TypeError, match=r"`real` must have a floating-point dtype, got int32"):
        penalty(quadratic, np.ones((3, 4), np.int32), x, key=KEY)
    with pytest.raises(ValueError, match=r"`real` must have axes \[batch, \.\.\.\]"):
        penalty(quadratic, np.float32(1), np.float32(1), key=KEY)
    with pytest.raises(ValueError, match=r"`target` must be a number in \[0, inf\], got -1"):
        penalty(quadratic, x, x, key=KEY, target=-1.0)
    with pytest.raises(TypeError, match=r"`key` must be a PRNG key"):
        penalty(quadratic, x, x, key=0)
    with pytest.raises(TypeError, match=r"`x` must have a floating-point dtype, got int32"):
        smoothness.zero_centered_penalty(quadratic, np.ones((3, 4), np.int32))


@pytest.mark.parametrize("name", ["gradient_penalty", "zero_centered_penalty"])
def test_wrong_critics_are_named(name):
    def trace(critic):
        def value(x):
            if name == "gradient_penalty":
                return smoothness.gradient_penalty(critic, x, x, key=KEY)
            return smoothness.zero_centered_penalty(critic, x)

        return jax.eval_shape(value, np.ones((3, 4), np.float32))

    with pytest.raises(ValueError, match=r"`critic` must return one number.*\(3, 4\)"):
        trace(lambda x: x)
    with pytest.raises(ValueError, match=r"`critic` must return one row for each of the 3"):
        trace(lambda x: jnp.mean(x))
