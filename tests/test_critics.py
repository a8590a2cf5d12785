"""Gradient penalties: closed forms in float64, torch, zero gradients, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import smoothness
from tests.test_smoothness import TORCH, draw, network

KEY = jax.random.key(3)


def quadratic(a, x):
    """A critic whose gradient is ``a * x``."""
    return 0.5 * a * jnp.sum(x * x, axis=-1)


def closed_form(a, x, target):
    """Value, and first and second derivative with respect to ``a``."""
    norm = np.linalg.norm(x, axis=1)
    gap = a * norm - target
    return np.mean(gap**2), np.mean(2 * gap * norm), np.mean(2 * norm**2)


@pytest.mark.parametrize("target", [0.0, 1.0, 2.5])
@pytest.mark.slow
def test_gradient_penalty_twice_differentiated_is_the_closed_form(target):
    """With equal ends every point between them is the same."""
    with jax.enable_x64(True):
        x, a = jnp.asarray(draw(6, 3)), 0.7

        def value(a):
            return smoothness.gradient_penalty(
                lambda x: quadratic(a, x), x, x, key=KEY, target=target
            )

        got = [f(a) for f in (value, jax.grad(value), jax.grad(jax.grad(value)))]
        np.testing.assert_allclose(got, closed_form(a, np.asarray(x), target), rtol=1e-7)
        zero = smoothness.zero_centered_penalty(lambda x: quadratic(a, x), x)
        np.testing.assert_allclose(zero, a**2 * np.mean(np.sum(x**2, axis=1)), rtol=1e-12)


@pytest.mark.parametrize("keep", [False, True], ids=["[batch]", "[batch, 1]"])
@pytest.mark.slow
def test_penalties_equal_torch(keep):
    x, params = jnp.float32(TORCH["x"]), [jnp.float32(w) for w in TORCH["params"]]

    def critic(params, x):
        return network(params, x)[:, :1] if keep else network(params, x)[:, 0]

    def gradient_penalty(params):
        return smoothness.gradient_penalty(lambda x: critic(params, x), x, x, key=KEY)

    def zero_centered_penalty(params):
        return smoothness.zero_centered_penalty(lambda x: critic(params, x), x)

    for penalty in (gradient_penalty, zero_centered_penalty):
        value, gradients = jax.value_and_grad(penalty)(params)
        want = TORCH[penalty.__name__]
        np.testing.assert_allclose(value, want["value"], rtol=1e-5)
        for got, expected in zip(gradients, want["gradients"], strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_points_are_spread_evenly_between_each_pair():
    """The norm of a gradient that is the point itself tells where the point is."""
    number = 4000
    real, fake = jnp.full((number, 1), 3.0), jnp.full((number, 1), 1.0)

    def position(row):
        return smoothness.gradient_penalty(
            lambda x: quadratic(1.0, x), real, fake, key=KEY, target=row
        )

    # E (z - t)^2 with z uniform on [1, 3] is 1/3 + (2 - t)^2.
    for target in (0.0, 2.0, 3.0):
        want, spread = 1 / 3 + (2 - target) ** 2, 2.2 / np.sqrt(number)
        assert abs(position(target) - want) < 5 * spread
    one = smoothness.gradient_penalty(lambda x: quadratic(1.0, x), real, fake, key=KEY, target=0.0)
    other = jax.random.key(4)
    two = smoothness.gradient_penalty(
        lambda x: quadratic(1.0, x), real, fake, key=other, target=0.0
    )
    assert one != two


@pytest.mark.slow
def test_each_example_has_one_point_on_its_line():
    """All coordinates of an example mix alike: between corners the difference stays constant."""
    real, fake = jnp.ones((50, 2)), jnp.zeros((50, 2))

    def critic(x):
        return (x[:, 0] - x[:, 1]) ** 2

    # On the diagonal the gradient is zero.
    assert smoothness.gradient_penalty(critic, real, fake, key=KEY, target=0.0) == 0


@pytest.mark.parametrize(
    "dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda d: d.__name__
)
@pytest.mark.slow
def test_a_head_of_zeros_is_finite(dtype):
    """Row 6 of the failure modes: the norm's derivative at a zero gradient is NaN in plain JAX.

    With it the gradient of the penalty; torch gives 0, and so do we.
    """
    real, fake = jnp.ones((4, 3), dtype), jnp.zeros((4, 3), dtype)

    def value(head):
        return smoothness.gradient_penalty(
            lambda x: jnp.sin(x) @ head, real, fake, key=KEY, target=1.0
        )

    def naive(head):
        slope = jax.grad(lambda x: jnp.sum(jnp.sin(x) @ head))(real)
        return jnp.mean((jnp.linalg.norm(slope, axis=1) - 1) ** 2)

    head = jnp.zeros(3, dtype)
    assert value(head) == 1
    assert np.array_equal(jax.grad(value)(head), np.zeros(3))
    assert np.isfinite(np.asarray(jax.jit(jax.hessian(value))(head), np.float32)).all()
    assert np.isnan(np.asarray(jax.grad(naive)(head), np.float32)).any()
    zero = lambda head: smoothness.zero_centered_penalty(lambda x: jnp.sin(x) @ head, real)  # noqa: E731
    assert zero(head) == 0
    assert np.array_equal(jax.grad(zero)(head), np.zeros(3))


def test_identical_points_and_a_batch_of_one():
    x = jnp.ones((1, 2, 2))
    value = smoothness.gradient_penalty(lambda x: x.sum(axis=(1, 2)), x, x, key=KEY)
    np.testing.assert_allclose(value, 1.0)  # The slope is 2, over all axes of the example.
    assert smoothness.gradient_penalty(lambda x: x.sum(axis=(1, 2)), x[:0], x[:0], key=KEY) == 0
    assert smoothness.zero_centered_penalty(lambda x: x.sum(axis=(1, 2)), x[:0]) == 0


@pytest.mark.parametrize("slope", [1e-30, 1e18])
def test_slopes_of_any_size_have_norms(slope):
    """Squares of these leave the range of float32."""
    x = jnp.ones((2, 3))
    value = smoothness.gradient_penalty(
        lambda x: jnp.float32(slope) * x.sum(axis=1), x, x, key=KEY, target=0.0
    )
    with jax.enable_x64(True):
        want = min(3 * slope**2, np.finfo(np.float32).max)
    np.testing.assert_allclose(value, want if want > 1e-38 else 0.0, rtol=1e-5)


def test_narrow_data_is_mixed_in_float32():
    """As of bfloat16 alone, weights that are near one would all be one."""
    x = jnp.full((1000, 1), 1.0, jnp.bfloat16)
    value = smoothness.gradient_penalty(lambda x: 0.5 * x[:, 0] ** 2, x, 3 * x, key=KEY, target=0.0)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, 13 / 3, rtol=0.1)


def test_dragan_is_noise_around_the_real_examples():
    x = jnp.asarray(draw(2000, 2), jnp.float32)
    noise = 0.5 * x.std() * jax.random.uniform(KEY, x.shape)
    value = smoothness.gradient_penalty(lambda x: x.sum(axis=1), x, x + noise, key=KEY)
    np.testing.assert_allclose(value, (np.sqrt(2) - 1) ** 2, rtol=1e-5)


def test_errors_name_the_argument():
    x = jnp.ones((3, 4))
    penalty = smoothness.gradient_penalty
    with pytest.raises(
        ValueError, match=r"`fake` must have the shape and dtype of `real`.*\(3, 5\)"
    ):
        penalty(quadratic, x, jnp.ones((3, 5)), key=KEY)
    with pytest.raises(ValueError, match=r"`fake` must have .*float32, got.*bfloat16"):
        penalty(quadratic, x, x.astype(jnp.bfloat16), key=KEY)
    with pytest.raises(TypeError, match=r"`fake` must have a floating-point dtype, got int32"):
        penalty(quadratic, x, jnp.ones((3, 4), jnp.int32), key=KEY)
    with pytest.raises(ValueError, match=r"`target` must be a number in \[0, inf\], got -1"):
        penalty(quadratic, x, x, key=KEY, target=-1.0)
    with pytest.raises(TypeError, match=r"`key` must be a PRNG key"):
        penalty(quadratic, x, x, key=0)
    for call in (
        lambda critic: penalty(critic, x, x, key=KEY),
        lambda critic: smoothness.zero_centered_penalty(critic, x),
    ):
        with pytest.raises(ValueError, match=r"`critic` must return one number.*\(3, 4\)"):
            call(lambda x: x)
        with pytest.raises(ValueError, match=r"`critic` must return one row for each of the 3"):
            call(lambda x: jnp.mean(x))
