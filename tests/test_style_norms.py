"""Adaptive instance norm, filter response norm and unit vectors against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import normalization
from tests.references import batch_norm as reference

SIZES = [1e-30, 1e-12, 1e-3, 1.0, 1e12, 1e30]


def draw(*shape, seed=0, mean=0.0):
    return np.random.default_rng(seed).normal(mean, 1, shape).astype(np.float32)


def stylize(x, style_mean, style_std, mask=None, eps=1e-5):
    """Statistics of every example and channel in a loop over both; float64."""
    y = np.zeros(x.shape)
    for n, c in np.ndindex(x.shape[0], x.shape[-1]):
        values = x[n, ..., c].astype(np.float64)
        kept = values if mask is None else values[mask[n]]
        y[n, ..., c] = style_mean[n, c]
        if kept.size:
            normal = (values - kept.mean()) / np.sqrt(kept.var() + eps)
            y[n, ..., c] += style_std[n, c] * normal
    return y


def adapt(x, mean=None, std=None, **options):
    styles = x.shape[0], x.shape[-1]
    mean = draw(*styles, seed=7) if mean is None else mean
    std = np.exp(draw(*styles, seed=8)) if std is None else std
    return normalization.adaptive_instance_norm(x, mean, std, **options)


@pytest.mark.parametrize("shape", [(2, 5, 3), (3, 4, 5, 2), (2, 2, 3, 2, 4)])
@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.5])
def test_a_style_in_the_place_of_the_statistics(shape, eps):
    x, mean, std = (
        draw(*shape, mean=3),
        draw(shape[0], shape[-1]),
        draw(shape[0], shape[-1], seed=1),
    )
    y = jax.jit(lambda *a: adapt(*a, eps=eps))(x, mean, std)
    np.testing.assert_allclose(y, stylize(x, mean, std, eps=eps), atol=1e-5)


def test_the_result_has_the_statistics_of_the_style():
    x, mean, std = draw(2, 6, 6, 3, mean=-4), draw(2, 3), np.exp(draw(2, 3, seed=1))
    y = adapt(x, mean, std, eps=0.0)
    np.testing.assert_allclose(np.mean(y, (1, 2)), mean, atol=1e-5)
    np.testing.assert_allclose(np.std(y, (1, 2)), std, rtol=1e-5)


def test_masked_content():
    """The second example has one element, the third none."""
    x, mean, std = draw(3, 4, 4, 2, mean=2), draw(3, 2), draw(3, 2, seed=1)
    mask = np.arange(16).reshape(1, 4, 4) % 3 > 0
    mask = np.concatenate(
        [mask, np.eye(1, 16, 5, bool).reshape(1, 4, 4), np.zeros((1, 4, 4), bool)]
    )
    y = adapt(x, mean, std, where=mask)
    # One element has no variance: the others are divided by the root of eps.
    np.testing.assert_allclose(y, stylize(x, mean, std, mask), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(y[2], np.broadcast_to(mean[2], (4, 4, 2)))


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_of_content_and_style(masked):
    x, dy = draw(2, 4, 3, mean=2), draw(2, 4, 3, seed=1)
    mean, std = draw(2, 3, seed=2), draw(2, 3, seed=3)
    mask = np.array([[1, 1, 1, 1], [1, 0, 1, 1]], bool) if masked else np.ones((2, 4), bool)

    def loss(x, mean, std):
        return jnp.sum(adapt(x, mean, std, where=mask if masked else None) * dy)

    dx, dmean, dstd = jax.jit(jax.grad(loss, (0, 1, 2)))(x, mean, std)
    expected = reference.gradients(x, std, dy, (1,), mask[..., None])
    for ours, theirs in zip((dx, dstd, dmean), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("x", [np.full((2, 1, 1, 3), 5.0, "f4"), np.full((2, 4, 3), 5.0, "f4")])
@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_one_element_and_a_constant_become_the_mean_of_the_style(x, eps):
    mean = draw(2, 3)
    y, pull = jax.vjp(lambda x: adapt(x, mean, eps=eps), x)
    np.testing.assert_array_equal(
        y, np.broadcast_to(mean.reshape(2, *[1] * (x.ndim - 2), 3), x.shape)
    )
    assert jnp.isfinite(pull(jnp.asarray(draw(*x.shape)))[0]).all()


def test_content_without_elements_is_finite():
    x, mean = jnp.full((2, 4, 1), 6e4, jnp.float16), draw(2, 1)
    y, pull = jax.vjp(lambda x: adapt(x, mean, where=jnp.zeros((2, 4))), x)
    np.testing.assert_array_equal(y, np.broadcast_to(mean[:, None], x.shape).astype(np.float16))
    np.testing.assert_array_equal(pull(jnp.ones_like(y))[0], 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_padding_does_not_leak(bad):
    mask = np.array([[1, 1, 0, 1], [1, 0, 1, 0]], bool)
    zeros = np.where(mask[..., None], draw(2, 4, 3), 0).astype(np.float32)
    run = jax.jit(jax.value_and_grad(lambda x: jnp.sum(jnp.sin(adapt(x, where=mask)))))
    value, dx = run(np.where(mask[..., None], zeros, np.float32(bad)))
    value_zeros, dx_zeros = run(zeros)
    np.testing.assert_allclose(value, value_zeros, rtol=1e-6)
    np.testing.assert_allclose(dx[mask], dx_zeros[mask], rtol=1e-6)
    np.testing.assert_array_equal(dx[~mask], 0)


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3), (2, 4, 0)])
def test_empty_content(shape):
    assert adapt(jnp.zeros(shape)).shape == shape


def test_a_large_mean_keeps_the_variance_of_content():
    x, mean, std = draw(2, 4096, 1, mean=1e4), np.zeros((2, 1), "f4"), np.full((2, 1), 3.0, "f4")
    np.testing.assert_allclose(np.std(adapt(x, mean, std), 1), 3, rtol=1e-3)


def test_large_float16_content_does_not_overflow():
    x = jnp.array([[[6e4], [-6e4], [5e4], [6.5e4]]], jnp.float16)
    mean, std = np.full((1, 1), 0.5, "f4"), np.full((1, 1), 2.0, "f4")
    y = adapt(x, mean, std)
    assert y.dtype == jnp.float16
    np.testing.assert_allclose(y, stylize(np.asarray(x), mean, std), rtol=1e-3)


@pytest.mark.parametrize("shape", [(4, 3), (3,), ()])
def test_content_without_spatial_axes_raises(shape):
    with pytest.raises(ValueError, match=r"`x` must be \[batch, \*spatial, channels\], got shape"):
        normalization.adaptive_instance_norm(jnp.ones(shape), jnp.ones((4, 3)), jnp.ones((4, 3)))


@pytest.mark.parametrize("name", ["style_mean", "style_std"])
def test_a_style_of_another_shape_raises(name):
    styles = {key: jnp.ones((2, 3)) for key in ("style_mean", "style_std")} | {
        name: jnp.ones((1, 3))
    }
    message = rf"`{name}` must have the shape of the feature axes, \(2, 3\), got \(1, 3\)"
    with pytest.raises(ValueError, match=message):
        normalization.adaptive_instance_norm(jnp.ones((2, 4, 3)), **styles)


def respond(x, scale=1.0, bias=0.0, threshold=-np.inf, eps=1e-6):
    """The equations of Singh and Krishnan, in float64."""
    axes = tuple(range(1, x.ndim - 1))
    nu2 = np.mean(np.square(x.astype(np.float64)), axes, keepdims=True)
    return np.maximum(scale * x / np.sqrt(nu2 + np.abs(eps)) + bias, threshold)


@pytest.mark.parametrize("shape", [(4, 3), (2, 5, 3), (3, 4, 5, 3), (2, 1, 1, 3)])
@pytest.mark.parametrize("eps", [1e-6, -0.5, np.array([0.1, -0.2, 1e-3], np.float32), 0.0])
def test_filter_response_norm(shape, eps):
    x, scale, bias, threshold = (
        draw(*shape, mean=1),
        draw(3, seed=1),
        draw(3, seed=2),
        draw(3, seed=3),
    )
    options = {"scale": scale, "bias": bias, "threshold": threshold, "eps": eps}
    y = jax.jit(lambda x: normalization.filter_response_norm(x, **options))(x)
    np.testing.assert_allclose(y, respond(x, **options), atol=1e-5)
    assert 0 < np.mean(y == np.broadcast_to(threshold, shape)) < 1
    del options["threshold"]
    y = normalization.filter_response_norm(x, **options)
    np.testing.assert_allclose(y, respond(x, **options), atol=1e-5)


def test_gradients_of_filter_response_norm():
    """By the paper's formulas: nothing passes below the threshold, which gets what is held back."""
    x, dy = draw(2, 4, 3, mean=0.5), draw(2, 4, 3, seed=1)
    scale, bias, threshold = draw(3, seed=2), draw(3, seed=3), np.zeros(3, np.float32)
    eps = np.float32(0.1)

    def loss(x, scale, bias, threshold, eps):
        y = normalization.filter_response_norm(
            x, scale=scale, bias=bias, threshold=threshold, eps=eps
        )
        return jnp.sum(y * dy)

    gradients = jax.jit(jax.grad(loss, (0, 1, 2, 3, 4)))(x, scale, bias, threshold, eps)
    wide = x.astype(np.float64)
    root = np.sqrt(np.mean(wide**2, 1, keepdims=True) + eps)
    passed = dy * (scale * wide / root + bias > threshold)
    inner = passed * scale
    slope = np.sum(inner * wide, 1, keepdims=True)
    dx = inner / root - wide * slope / root**3 / 4
    deps = np.sum(-slope / (2 * root**3))
    held = (dy - passed).sum((0, 1))
    expected = (dx, (passed * wide / root).sum((0, 1)), passed.sum((0, 1)), held, deps)
    for ours, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("eps", [0.0, 1e-6, 1.0])
def test_filter_response_norm_of_any_magnitude(size, eps):
    """Squares of 1e-30 are 0 in float32, those of 1e30 infinite."""
    x, dy = (draw(2, 5, 3) * size).astype(np.float32), draw(2, 5, 3, seed=1)
    y, pull = jax.vjp(lambda x: normalization.filter_response_norm(x, eps=eps), x)
    np.testing.assert_allclose(y, respond(x, eps=eps), rtol=1e-5)
    wide = x.astype(np.float64)
    root = np.sqrt(np.mean(wide**2, 1, keepdims=True) + eps)
    dx = dy / root - wide * np.mean(dy * wide, 1, keepdims=True) / root**3
    np.testing.assert_allclose(pull(dy)[0], dx, rtol=1e-4, atol=1e-5 * np.abs(dx).max())


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("eps", [0.0, 1e-6])
def test_filter_response_norm_at_zero(dtype, eps):
    x, bias = jnp.zeros((2, 4, 3), dtype), draw(3)
    y, pull = jax.vjp(lambda x: normalization.filter_response_norm(x, bias=bias, eps=eps), x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, np.broadcast_to(jnp.asarray(bias, dtype), x.shape))
    assert jnp.isfinite(pull(jnp.ones_like(y))[0]).all()


def test_filter_response_norm_of_large_float16_numbers():
    x = jnp.array([[[6e4], [-6e4], [5e4], [6.5e4]]], jnp.float16)
    np.testing.assert_allclose(
        normalization.filter_response_norm(x), respond(np.asarray(x)), rtol=1e-3
    )


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3), (2, 4, 0)])
def test_filter_response_norm_of_nothing(shape):
    y = normalization.filter_response_norm(jnp.zeros(shape), bias=jnp.ones(shape[-1]))
    assert y.shape == shape


@pytest.mark.parametrize("shape", [(3,), ()])
def test_filter_response_norm_without_a_batch_raises(shape):
    with pytest.raises(ValueError, match=r"`x` must be \[batch, \*spatial, channels\], got shape"):
        normalization.filter_response_norm(jnp.ones(shape))


@pytest.mark.parametrize("axis", [-1, 0, (0, 2), (1, 2, 0)])
@pytest.mark.parametrize("size", SIZES)
def test_unit_vectors_of_any_magnitude(axis, size):
    """The plain quotient has a NaN gradient at 1e-30, where the square of the length is 0."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    x, dy = (draw(3, 4, 2) * size).astype(np.float32), draw(3, 4, 2, seed=1)
    y, pull = jax.vjp(jax.jit(lambda x: normalization.l2_normalize(x, axis=axis)), x)
    wide = x.astype(np.float64)
    length = np.sqrt(np.sum(wide**2, axes, keepdims=True))
    unit = wide / length
    np.testing.assert_allclose(y, unit, rtol=1e-6)
    dx = (dy - unit * np.sum(dy * unit, axes, keepdims=True)) / length
    np.testing.assert_allclose(pull(dy)[0], dx, rtol=1e-4, atol=1e-5 * np.abs(dx).max())


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16, jnp.complex64])
@pytest.mark.slow
def test_a_zero_vector_stays_zero(dtype):
    x = jnp.array([[0, 0], [3, 4]], dtype)
    y, pull = jax.vjp(normalization.l2_normalize, x)
    assert y.dtype == dtype
    np.testing.assert_allclose(np.asarray(y, "c8"), [[0, 0], [0.6, 0.8]], rtol=5e-3)
    (dx,) = pull(jnp.ones_like(y))
    np.testing.assert_array_equal(dx[0], 0)
    np.testing.assert_allclose(np.asarray(dx[1], "c8"), [0.032, -0.024], atol=5e-4)
    hessian = jax.hessian(lambda x: jnp.sum(normalization.l2_normalize(x)[:, 0].real))
    if dtype == jnp.float32:
        assert jnp.isfinite(hessian(x)).all()


@pytest.mark.parametrize(
    ("dtype", "size"), [("float16", 6e4), ("bfloat16", 1e30), ("bfloat16", 1e-30)]
)
def test_narrow_vectors_near_the_ends_of_the_range(dtype, size):
    x = jnp.full((2, 16), size, dtype)
    y, pull = jax.vjp(normalization.l2_normalize, x)
    np.testing.assert_array_equal(y, jnp.full((2, 16), 0.25, dtype))
    assert jnp.isfinite(pull(jnp.asarray(draw(2, 16), dtype))[0]).all()


@pytest.mark.parametrize("size", [1e-45, 3e38])
def test_subnormal_vectors_and_those_whose_length_overflows(size):
    y, pull = jax.vjp(normalization.l2_normalize, jnp.full((1, 4), size, jnp.float32))
    assert jnp.isfinite(y).all()
    if size > 1:
        np.testing.assert_allclose(y, np.full((1, 4), 0.5), rtol=1e-6)
        assert jnp.isfinite(pull(jnp.ones((1, 4)))[0]).all()


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 2)])
def test_empty_vectors(shape):
    assert normalization.l2_normalize(jnp.zeros(shape)).shape == shape


def test_normalizing_twice_changes_nothing():
    y = normalization.l2_normalize(draw(64, 7))
    np.testing.assert_allclose(normalization.l2_normalize(y), y, rtol=2e-7)


@pytest.mark.parametrize(
    "function", [lambda x: adapt(x), normalization.filter_response_norm], ids=["adapt", "respond"]
)
def test_complex_input_raises(function):
    with pytest.raises(TypeError, match="`x` must have a real dtype, got complex64"):
        function(jnp.ones((2, 4, 3), jnp.complex64))
