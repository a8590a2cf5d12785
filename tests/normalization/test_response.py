"""Filter response norm and unit vectors against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import normalization
from tests.helpers import few
from tests.normalization.helpers import (
    assert_all_close,
    assert_all_finite,
    compiled,
    draw,
    refuses,
    refuses_wrong_shapes,
    with_gradients,
)

SIZES = [1e-30, 1e-12, 1e-3, 1.0, 1e12, 1e30]
frn = normalization.filter_response_norm
EPS = [-0.5, np.array([0.1, -0.2, 1e-3], np.float32), 1e-6, 0.0]


def respond(x, scale=1.0, bias=0.0, threshold=-np.inf, eps=1e-6):
    """The equations of Singh and Krishnan, in float64."""
    axes = tuple(range(1, x.ndim - 1))
    nu2 = np.mean(np.square(x.astype(np.float64)), axes, keepdims=True)
    return np.maximum(scale * x / np.sqrt(nu2 + np.abs(eps)) + bias, threshold)


@few("shape", [(3, 4, 5, 3), (4, 3), (2, 5, 3), (2, 1, 1, 3)])
@few("eps", EPS, ids=["negative", "channels", "small", "zero"])
def test_filter_response_norm(shape, eps):
    x = draw(*shape, mean=1)
    threshold = draw(3, seed=3)
    options = {"scale": draw(3, seed=1), "bias": draw(3, seed=2), "eps": eps}
    y = compiled(frn, x, threshold=threshold, **options)
    np.testing.assert_allclose(y, respond(x, threshold=threshold, **options), atol=1e-5)
    assert 0 < np.mean(y == np.broadcast_to(threshold, shape)) < 1
    np.testing.assert_allclose(compiled(frn, x, **options), respond(x, **options), atol=1e-5)


def test_eps_is_1e_minus_6_by_default():
    x = 1e-3 * draw(2, 5, 3)
    np.testing.assert_allclose(compiled(frn, x), respond(x), rtol=1e-5)


def test_gradients_of_filter_response_norm():
    """By the paper's formulas: nothing passes below the threshold, which gets what is held back."""
    x = draw(2, 4, 3, mean=0.5)
    dy = draw(2, 4, 3, seed=1)
    scale = draw(3, seed=2)
    bias = draw(3, seed=3)
    threshold = np.zeros(3, np.float32)
    eps = np.float32(0.1)

    def function(x, scale, bias, threshold, eps):
        return frn(x, scale=scale, bias=bias, threshold=threshold, eps=eps)

    _, gradients = with_gradients(function, dy, x, scale, bias, threshold, eps)
    wide = x.astype(np.float64)
    root = np.sqrt(np.mean(wide**2, 1, keepdims=True) + eps)
    passed = dy * (scale * wide / root + bias > threshold)
    inner = passed * scale
    slope = np.sum(inner * wide, 1, keepdims=True)
    dx = inner / root - wide * slope / root**3 / 4
    deps = np.sum(-slope / (2 * root**3))
    held = (dy - passed).sum((0, 1))
    expected = (dx, (passed * wide / root).sum((0, 1)), passed.sum((0, 1)), held, deps)
    assert_all_close(gradients, expected, rtol=1e-4, atol=1e-5)


@few("eps", [0.0, 1e-6, 1.0])
def test_filter_response_norm_of_any_magnitude(eps):
    """Squares of 1e-30 are 0 in float32, squares of 1e30 infinite."""

    @jax.jit
    def run(x, dy):
        y, pull = jax.vjp(lambda x: frn(x, eps=eps), x)
        return y, pull(dy)[0]

    dy = draw(2, 5, 3, seed=1)
    for size in SIZES:
        x = (draw(2, 5, 3) * size).astype(np.float32)
        y, gradient = run(x, dy)
        np.testing.assert_allclose(y, respond(x, eps=eps), rtol=1e-5)
        wide = x.astype(np.float64)
        root = np.sqrt(np.mean(wide**2, 1, keepdims=True) + eps)
        dx = dy / root - wide * np.mean(dy * wide, 1, keepdims=True) / root**3
        np.testing.assert_allclose(gradient, dx, rtol=1e-4, atol=1e-5 * np.abs(dx).max())


@few("dtype", [jnp.bfloat16, jnp.float32, jnp.float16])
@few("eps", [0.0, 1e-6])
def test_filter_response_norm_at_zero(dtype, eps):
    x = np.zeros((2, 4, 3), dtype)
    bias = draw(3)
    y, (dx,) = with_gradients(lambda x: frn(x, bias=bias, eps=eps), np.ones_like(x), x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, np.broadcast_to(bias.astype(dtype), x.shape))
    assert_all_finite(dx)


def test_filter_response_norm_of_large_float16_numbers():
    x = np.array([[[6e4], [-6e4], [5e4], [6.5e4]]], np.float16)
    np.testing.assert_allclose(compiled(frn, x), respond(x), rtol=1e-3)


@few("shape", [(0, 4, 3), (2, 0, 3), (2, 4, 0)])
def test_filter_response_norm_of_nothing(shape):
    y = compiled(frn, np.zeros(shape, "f4"), bias=np.ones(shape[-1], "f4"))
    assert y.shape == shape


def test_wrong_arguments_of_filter_response_norm_raise():
    for shape in ((3,), ()):
        message = r"`x` must have axes \[batch, \*spatial, channels\], got shape"
        refuses(ValueError, message, frn, np.ones(shape, "f4"))
    x = draw(2, 4, 3)
    refuses_wrong_shapes(frn, x, ("scale", "bias", "threshold"))
    refuses(ValueError, r"`eps` must broadcast to shape \(3,\)", frn, x, eps=np.ones(2, "f4"))
    refuses(TypeError, "`x` must have a real dtype, got complex64", frn, x.astype("c8"))


# Unit vectors.


@few("axis", [(0, 2), -1, 0, (1, 2, 0)])
def test_unit_vectors_of_any_magnitude(axis):
    """The plain quotient has a NaN gradient at 1e-30, where the square of the length is 0."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    dy = draw(3, 4, 2, seed=1)

    @jax.jit
    def run(x, dy):
        y, pull = jax.vjp(lambda x: normalization.l2_normalize(x, axis=axis), x)
        return y, pull(dy)[0]

    for size in SIZES:
        x = (draw(3, 4, 2) * size).astype(np.float32)
        y, gradient = run(x, dy)
        wide = x.astype(np.float64)
        length = np.sqrt(np.sum(wide**2, axes, keepdims=True))
        unit = wide / length
        np.testing.assert_allclose(y, unit, rtol=1e-6)
        dx = (dy - unit * np.sum(dy * unit, axes, keepdims=True)) / length
        np.testing.assert_allclose(gradient, dx, rtol=1e-4, atol=1e-5 * np.abs(dx).max())


def test_the_axis_of_unit_vectors_is_the_last_by_default():
    x = draw(3, 4)
    expected = x / np.linalg.norm(x.astype(np.float64), axis=-1, keepdims=True)
    np.testing.assert_allclose(compiled(normalization.l2_normalize, x), expected, rtol=1e-6)


@few("dtype", [jnp.complex64, jnp.float32, jnp.bfloat16, jnp.float16])
def test_a_zero_vector_stays_zero(dtype):
    x = np.array([[0, 0], [3, 4]]).astype(dtype)

    @jax.jit
    def run(x):
        y, pull = jax.vjp(normalization.l2_normalize, x)
        return y, pull(jnp.ones_like(y))[0]

    y, dx = run(x)
    assert y.dtype == dtype
    np.testing.assert_allclose(np.asarray(y, "c8"), [[0, 0], [0.6, 0.8]], rtol=5e-3)
    np.testing.assert_array_equal(dx[0], 0)
    np.testing.assert_allclose(np.asarray(dx[1], "c8"), [0.032, -0.024], atol=5e-4)


def test_second_derivatives_at_a_zero_vector_are_finite():
    x = np.array([[0, 0], [3, 4]], np.float32)
    hessian = jax.hessian(lambda x: jnp.sum(normalization.l2_normalize(x)[:, 0]))
    assert_all_finite(compiled(hessian, x))


@few(("dtype", "size"), [(np.float16, 6e4), (jnp.bfloat16, 1e30), (jnp.bfloat16, 1e-30)])
def test_narrow_vectors_near_the_ends_of_the_range(dtype, size):
    x = np.full((2, 16), size).astype(dtype)
    dy = draw(2, 16).astype(dtype)
    y, (dx,) = with_gradients(normalization.l2_normalize, dy, x)
    np.testing.assert_array_equal(y, np.full((2, 16), 0.25, dtype))
    assert_all_finite(dx)


def test_subnormal_vectors_and_those_whose_length_overflows():
    run = jax.jit(jax.value_and_grad(lambda x: jnp.sum(normalization.l2_normalize(x))))
    value, dx = run(np.full((1, 4), 3e38, np.float32))
    np.testing.assert_allclose(value, 2, rtol=1e-6)
    assert_all_finite(dx)
    assert_all_finite(run(np.full((1, 4), 1e-45, np.float32))[0])


@few("shape", [(0,), (2, 0), (0, 2)])
def test_empty_vectors(shape):
    y = compiled(normalization.l2_normalize, np.zeros(shape, "f4"))
    assert y.shape == shape


def test_normalizing_twice_changes_nothing():
    y = compiled(normalization.l2_normalize, draw(64, 7))
    np.testing.assert_allclose(compiled(normalization.l2_normalize, y), y, rtol=2e-7)


@pytest.mark.parametrize("axis", [2, -3])
def test_wrong_arguments_of_unit_vectors_raise(axis):
    message = rf"`axis` must lie in \[-2, 2\), got {axis}"
    refuses(ValueError, message, normalization.l2_normalize, draw(2, 3), axis=axis)
    message = "`x` must have a floating-point dtype"
    refuses(TypeError, message, normalization.l2_normalize, np.ones(3, np.int32))
