"""Adaptive instance norm against a float64 loop over examples and channels."""

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
    with_gradients,
)
from tests.references import batch_norm as reference


def stylize(x, style_mean, style_stddev, mask=None, eps=1e-5):
    """Statistics of every example and channel in a loop over both; float64."""
    y = np.zeros(x.shape)
    for n, c in np.ndindex(x.shape[0], x.shape[-1]):
        values = x[n, ..., c].astype(np.float64)
        kept = values if mask is None else values[mask[n]]
        y[n, ..., c] = style_mean[n, c]
        if kept.size:
            normal = (values - kept.mean()) / np.sqrt(kept.var() + eps)
            y[n, ..., c] += style_stddev[n, c] * normal
    return y


def adapt(x, mean=None, std=None, **options):
    styles = x.shape[0], x.shape[-1]
    mean = draw(*styles, seed=7) if mean is None else mean
    std = np.exp(draw(*styles, seed=8)) if std is None else std
    return normalization.adaptive_instance_norm(x, mean, std, **options)


@few("shape", [(2, 5, 3), (3, 4, 5, 2), (2, 2, 3, 2, 4)])
@few("eps", [0.5, 0.0, 1e-5])
def test_a_style_in_the_place_of_the_statistics(shape, eps):
    x, styles = draw(*shape, mean=3), (shape[0], shape[-1])
    mean = draw(*styles)
    std = draw(*styles, seed=1)
    y = compiled(adapt, x, mean, std, eps=eps)
    np.testing.assert_allclose(y, stylize(x, mean, std, eps=eps), atol=1e-5)


def test_eps_is_1e_minus_5_by_default():
    x = 1e-3 * draw(2, 5, 3)
    mean = draw(2, 3)
    std = draw(2, 3, seed=1)
    np.testing.assert_allclose(compiled(adapt, x, mean, std), stylize(x, mean, std), atol=1e-5)


def test_the_result_has_the_statistics_of_the_style():
    x = draw(2, 6, 6, 3, mean=-4)
    mean = draw(2, 3)
    std = np.exp(draw(2, 3, seed=1))
    y = compiled(adapt, x, mean, std, eps=0.0)
    np.testing.assert_allclose(np.mean(y, (1, 2)), mean, atol=1e-5)
    np.testing.assert_allclose(np.std(y, (1, 2)), std, rtol=1e-5)


def test_masked_content():
    """The second example has one element, the third none."""
    x = draw(3, 4, 4, 2, mean=2)
    mean = draw(3, 2)
    std = draw(3, 2, seed=1)
    some = np.arange(16).reshape(4, 4) % 3 > 0
    one = np.eye(1, 16, 5, bool).reshape(4, 4)
    mask = np.stack([some, one, np.zeros((4, 4), bool)])
    y = compiled(adapt, x, mean, std, where=mask[..., None])
    # One element has no variance: the others are divided by the root of eps.
    np.testing.assert_allclose(y, stylize(x, mean, std, mask), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(y[2], np.broadcast_to(mean[2], (4, 4, 2)))


@few("masked", [True, False])
def test_gradients_of_content_and_style(masked):
    x = draw(2, 4, 3, mean=2)
    dy = draw(2, 4, 3, seed=1)
    mean = draw(2, 3, seed=2)
    std = draw(2, 3, seed=3)
    mask = np.array([[1, 1, 1, 1], [1, 0, 1, 1]], bool) if masked else np.ones((2, 4), bool)

    def function(x, mean, std):
        return adapt(x, mean, std, where=mask[..., None] if masked else None)

    _, (dx, dmean, dstd) = with_gradients(function, dy, x, mean, std)
    expected = reference.gradients(x, std, dy, (1,), mask[..., None])
    assert_all_close((dx, dstd, dmean), expected, rtol=1e-4, atol=1e-5)


@few("shape", [(2, 4, 3), (2, 1, 1, 3)])
@few("eps", [0.0, 1e-5])
def test_one_element_and_a_constant_become_the_mean_of_the_style(shape, eps):
    x = np.full(shape, 5.0, np.float32)
    mean = draw(2, 3)
    y, (dx,) = with_gradients(lambda x: adapt(x, mean, eps=eps), draw(*shape), x)
    wide = mean.reshape(2, *[1] * (x.ndim - 2), 3)
    np.testing.assert_array_equal(y, np.broadcast_to(wide, shape))
    assert_all_finite(dx)


def test_content_without_elements_is_finite():
    x = np.full((2, 4, 1), 6e4, np.float16)
    mean = draw(2, 1)
    dy = np.ones((2, 4, 1), np.float16)
    mask = np.zeros((2, 4, 1))
    y, (dx,) = with_gradients(lambda x: adapt(x, mean, where=mask), dy, x)
    np.testing.assert_array_equal(y, np.broadcast_to(mean[:, None], x.shape).astype(np.float16))
    np.testing.assert_array_equal(dx, 0)


@few("bad", [np.nan, np.inf])
def test_padding_does_not_leak(bad):
    mask = np.array([[1, 1, 0, 1], [1, 0, 1, 0]], bool)
    zeros = np.where(mask[..., None], draw(2, 4, 3), 0).astype(np.float32)
    run = jax.jit(jax.value_and_grad(lambda x: jnp.sum(jnp.sin(adapt(x, where=mask[..., None])))))
    value, dx = run(np.where(mask[..., None], zeros, np.float32(bad)))
    value_zeros, dx_zeros = run(zeros)
    np.testing.assert_allclose(value, value_zeros, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(dx)[mask], np.asarray(dx_zeros)[mask], rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(dx)[~mask], 0)


@few("shape", [(0, 4, 3), (2, 0, 3), (2, 4, 0)])
def test_empty_content(shape):
    assert compiled(adapt, np.zeros(shape, np.float32)).shape == shape


def test_a_large_mean_keeps_the_variance_of_content():
    x = draw(2, 4096, 1, mean=1e4)
    mean = np.zeros((2, 1), "f4")
    std = np.full((2, 1), 3.0, "f4")
    np.testing.assert_allclose(np.std(compiled(adapt, x, mean, std), 1), 3, rtol=1e-3)


def test_large_float16_content_does_not_overflow():
    x = np.array([[[6e4], [-6e4], [5e4], [6.5e4]]], np.float16)
    mean = np.full((1, 1), 0.5, "f4")
    std = np.full((1, 1), 2.0, "f4")
    y = compiled(adapt, x, mean, std)
    assert y.dtype == np.float16
    np.testing.assert_allclose(y, stylize(x, mean, std), rtol=1e-3)


@pytest.mark.parametrize("shape", [(4, 3), (3,), ()])
def test_content_without_spatial_axes_raises(shape):
    message = r"`x` must have axes \[batch, \*spatial, channels\], got shape"
    x = np.ones(shape, "f4")
    styles = np.ones((2, 4, 3), "f4")
    refuses(ValueError, message, normalization.adaptive_instance_norm, x, *styles)


def test_wrong_arguments_raise():
    x = np.ones((2, 4, 3), np.float32)
    for name in ("style_mean", "style_stddev"):
        styles = {key: np.ones((2, 3)) for key in ("style_mean", "style_stddev")}
        styles[name] = np.ones((1, 3))
        message = rf"`{name}` must have the same shape as the feature axes, \(2, 3\), got \(1, 3\)"
        refuses(ValueError, message, normalization.adaptive_instance_norm, x, **styles)
    refuses(TypeError, "`x` must have a real dtype, got complex64", adapt, x.astype("c8"))
    refuses(ValueError, "`eps` must be zero or positive, got -1", adapt, x, eps=-1)
