"""Filters: SciPy's blur, PIL's sharpness, constant images, and images smaller than a kernel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import ndimage, stats

from jaxreg import augment
from tests.augment.helpers import (
    FLOAT,
    KEY,
    LEVELS,
    assert_distribution,
    assert_rounded_once,
    to_levels,
)

MODES = {
    "nearest": augment.borders.edge,
    "mirror": augment.borders.reflect,
    "grid-wrap": augment.borders.wrap,
}


def test_blur_is_scipys():
    @jax.jit
    def blurred(image):
        return [
            augment.gaussian_blur(image, sigma=1.3, radius=4, border=border)
            for border in MODES.values()
        ] + [augment.gaussian_blur(image, sigma=1.3, radius=4)]

    results = blurred(FLOAT)
    for y, mode in zip(results, (*MODES, "nearest"), strict=True):
        expected = ndimage.gaussian_filter(
            FLOAT.astype(np.float64), 1.3, mode=mode, radius=4, axes=(0, 1)
        )
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6)


def test_a_constant_image_is_a_fixed_point_of_filters():
    """dm_pix darkens the corners of a constant image to 0.39, and is NaN at a sigma of 0."""
    image = np.full((9, 7, 3), 0.6, np.float32)

    @jax.jit
    def run(image, sigma):
        def total(s):
            y = augment.gaussian_blur(image, sigma=s, radius=5)
            return y.sum(), y

        (_, y), slope = jax.value_and_grad(total, has_aux=True)(sigma)
        return y, augment.sharpness(image, factor=1.8), slope

    for sigma in (0.0, 1e-30, 1e-3, 3.0):
        blurred, sharpened, slope = run(image, sigma)
        np.testing.assert_allclose(blurred, image, atol=1e-6)
        np.testing.assert_allclose(sharpened, image, atol=1e-6)
        assert np.isfinite(slope)


def test_a_blur_of_nothing_is_the_identity_and_each_example_has_its_sigma():
    images = np.stack([FLOAT] * 3)
    sigma = np.array([0.0, 0.7, 2.0], np.float32)
    y = jax.jit(lambda x, s: augment.gaussian_blur(x, sigma=s, radius=3))(images, sigma)
    np.testing.assert_array_equal(y[0], FLOAT)
    for one, width in zip(y[1:], (0.7, 2.0), strict=True):
        expected = ndimage.gaussian_filter(
            FLOAT.astype(np.float64), width, mode="nearest", radius=3, axes=(0, 1)
        )
        np.testing.assert_allclose(one, expected, rtol=0, atol=1e-6)


def test_sharpness_is_pils_within_its_roundings():
    """PIL rounds the other image to levels, and cuts the result off."""
    call = jax.jit(lambda image, factor: augment.sharpness(image, factor=factor))
    enhancer = ImageEnhance.Sharpness(Image.fromarray(LEVELS))
    for factor in (0.0, 0.4, 1.0, 1.7):
        expected = np.asarray(enhancer.enhance(factor), np.float32) / 255
        bound = (1 + 0.51 * abs(1 - factor) + 0.01) / 255
        np.testing.assert_allclose(call(FLOAT, factor), expected, rtol=0, atol=bound)
    # The rule itself, where PIL's rounding hides nothing.
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]])[..., None] / 13
    smooth = ndimage.convolve(FLOAT.astype(np.float64), kernel)
    smooth[[0, -1]] = FLOAT[[0, -1]]
    smooth[:, [0, -1]] = FLOAT[:, [0, -1]]
    expected = np.clip(1.7 * FLOAT - 0.7 * smooth, 0, 1)
    np.testing.assert_allclose(call(FLOAT, 1.7), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 5, 3), (4, 2, 3)], ids=str)
def test_a_border_without_an_inside_is_not_sharpened(shape):
    levels = LEVELS[: shape[0], : shape[1]]
    y = jax.jit(lambda x: augment.sharpness(x, factor=1.7))(levels.astype(np.float32) / 255)
    np.testing.assert_array_equal(to_levels(y), levels)
    sharpened = ImageEnhance.Sharpness(Image.fromarray(levels)).enhance(1.7)
    np.testing.assert_array_equal(np.asarray(sharpened).reshape(shape), levels)


def test_images_may_be_smaller_than_the_kernel():
    shape = (2, 1, 3)
    image = np.linspace(0.1, 0.9, 6, dtype=np.float32).reshape(shape)

    @jax.jit
    def blurred(image):
        return [
            augment.gaussian_blur(image, sigma=9.0, radius=6, border=border)
            for border in MODES.values()
        ]

    for y, mode in zip(blurred(image), MODES, strict=True):
        expected = ndimage.gaussian_filter(
            image.astype(np.float64), 9.0, mode=mode, radius=6, axes=(0, 1)
        )
        np.testing.assert_allclose(y, expected, atol=1e-6)


def test_a_radius_of_0_and_empty_images_change_nothing():
    def blur(x, radius):
        return augment.gaussian_blur(x, sigma=1.0, radius=radius)

    np.testing.assert_allclose(jax.jit(blur, static_argnums=1)(FLOAT, 0), FLOAT, rtol=1e-6)
    for shape in ((0, 5, 4, 3), (2, 0, 4, 3), (2, 4, 0, 1)):
        empty = jax.ShapeDtypeStruct(shape, jnp.bfloat16)
        for y in (
            jax.eval_shape(lambda x: blur(x, 2), empty),
            jax.eval_shape(lambda x: augment.sharpness(x, factor=0.3), empty),
        ):
            assert (y.shape, y.dtype) == (shape, jnp.bfloat16)


def test_gradients_are_finite_and_narrow_images_are_rounded_once():
    functions = (
        lambda x: augment.sharpness(x, factor=1.5),
        lambda x: augment.gaussian_blur(x, sigma=0.0, radius=1),
        lambda x: augment.gaussian_blur(x, sigma=1.1, radius=2),
    )
    images = np.stack([np.full((3, 5, 3), v, np.float32) for v in (0, 0.5, 1)])

    @jax.jit
    def gradients(x):
        return [jax.grad(lambda x, f=f: jnp.sum(jnp.sin(f(x))))(x) for f in functions]

    for gradient in gradients(images):
        assert np.isfinite(gradient).all()
    assert_rounded_once(lambda x: [f(x) for f in functions], FLOAT[:5, :4])


def test_random_widths_and_factors_are_uniform_within_their_limits():
    """Of an image with one bright pixel the middle tells the width and the factor."""
    point = np.zeros((2000, 3, 3, 1), np.float32)
    point[:, 1, 1] = 0.5

    @jax.jit
    def drawn(x):
        blurred = augment.random_gaussian_blur(KEY, x, sigma=(0.5, 2.0), radius=1)
        return (
            blurred,
            augment.random_sharpness(KEY, x, amount=0.3),
            augment.random_sharpness(KEY, x, amount=1.5),
        )

    blurred, sharpened, strong = np.asarray(drawn(point), np.float64)[..., 0]
    beside = blurred[:, 1, 0] / blurred[:, 1, 1]
    assert_distribution((-2 * np.log(beside)) ** -0.5, stats.uniform(0.5, 1.5))
    # The middle is 1/2 plus (factor - 1) of 8/13 of it.
    assert_distribution(1 + (sharpened[:, 1, 1] * 2 - 1) * 13 / 8, stats.uniform(0.7, 0.6))
    factor = 1 + (strong[:, 1, 1] * 2 - 1) * 13 / 8
    inside = factor[factor < 2]  # No factor is negative, and above 2.625 the pixel is cut off.
    assert_distribution(inside, stats.uniform(0, 2))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (ValueError, {"radius": -1}, r"`radius` must be zero or positive, got -1"),
        (TypeError, {"radius": 1.5}, r"`radius` must be an integer"),
        (ValueError, {"sigma": -1.0}, r"`sigma` must be zero or positive"),
    ],
)
def test_wrong_arguments_are_named(kind, options, message):
    with pytest.raises(kind, match=message):
        augment.gaussian_blur(FLOAT, **{"sigma": 1.0, "radius": 2} | options)
    with pytest.raises(TypeError, match=r"augment\.to_float"):
        augment.gaussian_blur(LEVELS, sigma=1.0, radius=2)
