"""Colors: PIL within its roundings, colorsys for hues, gradients at the corners of the cube."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from jaxreg import augment
from tests.augment.helpers import (
    DARK,
    FLOAT,
    KEY,
    LEVELS,
    assert_rounded_once,
    hsv,
    to_levels,
    turned,
)

LUMA = np.array([0.299, 0.587, 0.114])
ENHANCED = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}
# Black, gray, white, and two corners where channels tie: one image of each and one of all.
CORNERS = np.array([[0.0] * 3, [0.5] * 3, [1.0] * 3, [1.0, 0, 0], [0, 1.0, 1.0]], np.float32)
CORNERS = np.concatenate([np.tile(CORNERS[:, None, None], (1, 3, 5, 1)), [[CORNERS] * 3]])
COLORS = {
    "brightness": lambda x: augment.brightness(x, factor=1.2),
    "contrast": lambda x: augment.contrast(x, factor=1.2),
    "saturation": lambda x: augment.saturation(x, factor=1.2),
    "hue": lambda x: augment.hue(x, shift=0.2),
    "gamma": lambda x: augment.gamma(x, gamma=0.5),
    "grayscale": augment.grayscale,
    "invert": augment.invert,
    "solarize": lambda x: augment.solarize(x, threshold=0.5),
}


@pytest.mark.parametrize("name", ENHANCED)
def test_factors_are_pils_within_its_roundings(name):
    """PIL rounds the other image, and the mean, to levels, and cuts the result off."""
    call = jax.jit(lambda image, factor: getattr(augment, name)(image, factor=factor))
    image = Image.fromarray(LEVELS)
    for factor in (0.0, 0.4, 1.0, 1.7):
        expected = np.asarray(ENHANCED[name](image).enhance(factor), np.float32) / 255
        bound = (1 + 0.51 * abs(1 - factor) + 0.01) / 255
        np.testing.assert_allclose(call(FLOAT, factor), expected, rtol=0, atol=bound)


def test_inverted_and_solarized_levels_are_pils_to_the_bit():
    images = np.stack([LEVELS, DARK])
    call = jax.jit(lambda x: (augment.invert(x), augment.solarize(x, threshold=100 / 255)))
    inverted, solarized = call(images.astype(np.float32) / 255)
    for i, image in enumerate(map(Image.fromarray, images)):
        np.testing.assert_array_equal(to_levels(inverted[i]), ImageOps.invert(image))
        np.testing.assert_array_equal(to_levels(solarized[i]), ImageOps.solarize(image, 100))


def test_gray_is_the_luma_in_all_channels():
    y = jax.jit(augment.grayscale)(FLOAT)
    expected = np.repeat((FLOAT.astype(np.float64) @ LUMA)[..., None], 3, axis=-1)
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_gamma_is_a_power():
    image = FLOAT.copy()
    image[0, 0] = [-0.5, 2.0, 0.0]
    call = jax.jit(lambda image, gamma: augment.gamma(image, gamma=gamma))
    cut_off = np.clip(image.astype(np.float64), 0, 1)
    np.testing.assert_allclose(call(image, 0.6), cut_off**0.6, rtol=0, atol=1e-6)
    np.testing.assert_allclose(call(image, 2.5), cut_off**2.5, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(call(image, 0.0), image > 0)
    np.testing.assert_array_equal(call(image, 1.0), image)


def test_hue_is_that_of_colorsys():
    corners = np.array(list(np.ndindex(3, 3, 3))) / 2  # all ties among channels
    image = np.concatenate([FLOAT.reshape(-1, 3), corners]).astype(np.float32)[None]
    shifts = np.array([-1.3, -0.5, -0.1, 0.05, 0.33, 0.5, 0.9], np.float32)
    y = jax.jit(lambda x, shift: augment.hue(x, shift=shift))(np.stack([image] * 7), shifts)
    for one, shift in zip(y, shifts, strict=True):
        expected = [
            colorsys.hsv_to_rgb((h + shift) % 1, s, v) for h, s, v in hsv(image).astype(float)
        ]
        np.testing.assert_allclose(one[0], expected, rtol=0, atol=2e-6)


def test_saturation_keeps_the_hue_and_scales_the_chroma():
    image = 0.35 + 0.3 * FLOAT
    call = jax.jit(lambda x, factor: augment.saturation(x, factor=factor))
    for factor in (0.5, 1.3):
        y = np.asarray(call(image, factor), np.float64)
        np.testing.assert_allclose(turned(hsv(image)[:, 0], hsv(y)[:, 0]), 0, atol=1e-4)
        np.testing.assert_allclose(np.ptp(y, -1), factor * np.ptp(image, -1), atol=1e-6)


def test_gradients_are_finite_at_gray_black_and_white():
    """augmax is NaN at gray, black and white; dm_pix's gamma has infinite slope at black."""
    functions = [COLORS[name] for name in [*COLORS][:6]]

    @jax.jit
    def gradients(x):
        return [jax.grad(lambda x, f=f: jnp.sum(jnp.sin(f(x))))(x) for f in functions]

    for gradient in gradients(CORNERS):
        assert np.isfinite(gradient).all()


def test_gray_is_a_fixed_point_of_hue_and_saturation():
    gray = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4, 1).repeat(3, -1)
    turn = jax.jit(lambda x: (augment.hue(x, shift=0.37), augment.saturation(x, factor=1.9)))
    hue, saturation = turn(gray)
    np.testing.assert_array_equal(hue, gray)
    np.testing.assert_allclose(saturation, gray, atol=1e-6)


@pytest.mark.parametrize("shape", [(7, 4, 1), (2, 3, 5, 3), (0, 5, 4, 3), (2, 0, 4, 3)], ids=str)
def test_shape_and_dtype_are_kept(shape):
    for dtype in (jnp.float32, jnp.bfloat16):
        image = jax.ShapeDtypeStruct(shape, dtype)
        for function in COLORS.values():
            y = jax.eval_shape(function, image)
            assert (y.shape, y.dtype) == (shape, dtype)


def test_the_range_is_kept_and_narrow_images_are_rounded_once():
    image = FLOAT[:5, :4] * np.array([1.0, 0.7, 0.4], np.float32)
    # On the side of the threshold where a rounding of the image leaves it.
    functions = [f for name, f in COLORS.items() if name != "solarize"]
    assert_rounded_once(lambda x: [f(x) for f in functions], image)
    for y in jax.jit(lambda x: [f(x) for f in COLORS.values()])(image):
        assert ((y >= 0) & (y <= 1)).all()


def test_contrast_moves_about_the_mean_of_the_luma():
    image = np.random.default_rng(0).random((3, 9, 7, 3)) * np.array([1.0, 0.3, 0.1])
    mean = (image @ LUMA).mean((1, 2))[:, None, None, None]
    expected = np.clip(0.4 * image + 0.6 * mean, 0, 1)
    y = jax.jit(lambda x: augment.contrast(x, factor=0.4))(image.astype(np.float32))
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_a_single_channel_is_grey():
    image = FLOAT[..., :1]

    @jax.jit
    def all_of(x):
        same = augment.hue(x, shift=0.3), augment.saturation(x, factor=0.2), augment.grayscale(x)
        return same, augment.contrast(x, factor=0.3)

    same, contrast = all_of(image)
    for y in same:
        np.testing.assert_allclose(y, image, atol=1e-7)
    np.testing.assert_allclose(contrast, 0.3 * image + 0.7 * image.mean(), atol=1e-6)


def test_normalize_takes_numbers_or_one_for_each_channel():
    mean = np.array([0.1, 0.2, 0.3], np.float32)
    stddev = np.array([0.5, 0.6, 0.7], np.float32)
    call = jax.jit(lambda x, mean, stddev: augment.normalize(x, mean=mean, stddev=stddev))
    np.testing.assert_allclose(call(FLOAT, mean, stddev), (FLOAT - mean) / stddev, atol=1e-6)
    np.testing.assert_allclose(call(FLOAT, 0.25, stddev), (FLOAT - 0.25) / stddev, atol=1e-6)
    with pytest.raises(
        ValueError, match=r"`mean` must broadcast to shape \(3,\), got shape \(2,\)"
    ):
        augment.normalize(FLOAT, mean=mean[:2], stddev=1.0)


@pytest.mark.parametrize("name", COLORS)
def test_whole_levels_never_wrap(name):
    with pytest.raises(TypeError, match=r"got uint8; convert it first with augment\.to_float"):
        COLORS[name](LEVELS)


@pytest.mark.parametrize("name", ["contrast", "saturation", "hue", "grayscale"])
def test_five_channels_are_no_colors(name):
    with pytest.raises(ValueError, match=r"`image` must have one channel or three.* got 5"):
        COLORS[name](np.ones((2, 2, 5), np.float32))


def test_opacity_stays_and_changes_no_color():
    """PIL keeps the opacity in its enhancers, too."""
    opacity = np.linspace(-1, 2, 24 * 18, dtype=np.float32).reshape(24, 18, 1)
    opacity[0, 0] = np.nan

    @jax.jit
    def run(image, opacity):
        gray = image[..., :1]
        pairs = [(image, jnp.concatenate([image, opacity], -1))]
        pairs += [(gray, jnp.concatenate([gray, opacity], -1))]
        return [[[f(x) for x in pair] for f in COLORS.values()] for pair in pairs]

    for results in run(FLOAT, opacity):
        for (plain, both), name in zip(results, COLORS, strict=True):
            assert np.asarray(both)[..., -1:].tobytes() == opacity.tobytes(), name
            np.testing.assert_allclose(both[..., :-1], plain, atol=1e-6, err_msg=name)


def test_what_lies_outside_the_range_is_cut_off_as_the_module_says():
    image = np.float32([[[-0.5, 0.5, 1.5], [0.2, 0.4, 0.6]]] * 3)

    @jax.jit
    def run(x):
        cuts = [
            augment.brightness(x, factor=1.1),
            augment.contrast(x, factor=0.9),
            augment.saturation(x, factor=1.2),
            augment.sharpness(x[:, [0, 1, 0]], factor=1.1),
            augment.gamma(x, gamma=0.5),
            augment.posterize(x, bits=4),
            augment.equalize(x),
        ]
        keeps = [
            augment.hue(x, shift=0.1),
            augment.invert(x),
            augment.solarize(x, threshold=0.5),
        ]
        return cuts, keeps, augment.brightness(x, factor=1.0)

    cuts, keeps, same = run(image)
    for y in cuts:
        assert np.min(y) >= 0
        assert np.max(y) <= 1
    for y in keeps:
        assert np.min(y) < -0.1
        assert np.isfinite(y).all()
    np.testing.assert_array_equal(same, image)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: augment.normalize(x, mean=0.0, stddev=0.0),
            r"`stddev` must be positive, got 0\.0",
        ),
        (
            lambda x: augment.normalize(x, mean=0, stddev=np.float32([1, 0, 1])),
            r"`stddev` must be pos",
        ),
        (lambda x: augment.normalize(x, mean=0, stddev=(1, -1, 1)), r"`stddev` must be positive"),
        (
            lambda x: augment.normalize(x, mean=0, stddev=np.inf),
            r"`stddev` must be finite, got inf",
        ),
        (lambda x: augment.normalize(x, mean=(0, np.nan, 0), stddev=1), r"`mean` must be finite"),
        (lambda x: augment.brightness(x, factor=np.inf), r"`factor` must be finite, got inf"),
        (lambda x: augment.saturation(x, factor=np.inf), r"`factor` must be finite, got inf"),
        (lambda x: augment.hue(x, shift=np.nan), r"`shift` must be finite, got nan"),
        (lambda x: augment.sharpness(x, factor=np.inf), r"`factor` must be finite, got inf"),
        (lambda x: augment.random_brightness(KEY, x, amount=np.inf), r"`amount` must be finite"),
        (lambda x: augment.random_gamma(KEY, x, amount=np.inf), r"`amount` must be finite"),
    ],
)
def test_strengths_that_are_not_finite_or_not_positive_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(call, FLOAT)


def test_limits_of_powers_and_deviations():
    image = np.float32([[[0.0, 0.25, 1.0]]])

    @jax.jit
    def run(x, stddev):
        powers = [augment.gamma(x, gamma=g) for g in (0.0, np.inf)]
        return *powers, augment.normalize(x, mean=(0.0, 0.25, 0.0), stddev=stddev)

    flat, steep, normalized = run(image, 0.0)
    np.testing.assert_array_equal(flat, [[[0, 1, 1]]])
    np.testing.assert_array_equal(steep, [[[0, 0, 1]]])
    # A traced deviation of 0 counts as 1.
    np.testing.assert_array_equal(normalized, [[[0, 0, 1]]])
