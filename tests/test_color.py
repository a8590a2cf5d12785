"""Color: PIL to the bit or within its roundings, colorsys for hue, and gradients at the corners."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage

from jaxreg import augment
from jaxreg.augment import levels as level_tables

KEY = jax.random.key(60)
RNG = np.random.default_rng(0)
LEVELS = RNG.integers(0, 256, (24, 17, 3), np.uint8)
DARK = (LEVELS // 4 + 20).astype(np.uint8)
FLOAT = np.asarray(LEVELS, np.float32) / 255
CORNERS = jnp.array([[0.0] * 3, [0.5] * 3, [1.0] * 3, [1.0, 0, 0], [0, 1.0, 1.0]])[None]


def as_pil(levels):
    return Image.fromarray(levels)


def in_levels(function, levels):
    """A function of floats, on ``uint8`` converted both ways."""
    return np.asarray(augment.to_uint8(function(augment.to_float(jnp.asarray(levels)))))


def test_levels_survive_the_way_there_and_back():
    levels = jnp.arange(256, dtype=jnp.uint8)
    for dtype in (jnp.float32, jnp.float16):
        back = augment.to_uint8(augment.to_float(levels, dtype=dtype))
        np.testing.assert_array_equal(back, levels)
    assert augment.to_float(levels).dtype == jnp.float32
    odd = jnp.array([-jnp.inf, -0.1, 1.1, jnp.inf, jnp.nan])
    np.testing.assert_array_equal(augment.to_uint8(odd), [0, 0, 255, 255, 0])


@pytest.mark.parametrize("levels", [LEVELS, DARK], ids=["full", "dark"])
@pytest.mark.parametrize(
    ("ours", "pils"),
    [
        (augment.equalize, ImageOps.equalize),
        (augment.invert, ImageOps.invert),
        *(
            (lambda x, b=b: augment.posterize(x, bits=b), lambda i, b=b: ImageOps.posterize(i, b))
            for b in (1, 3, 4, 8)
        ),
        (lambda x: augment.solarize(x, threshold=100 / 255), lambda i: ImageOps.solarize(i, 100)),
    ],
    ids=["equalize", "invert", "posterize1", "posterize3", "posterize4", "posterize8", "solarize"],
)
def test_levels_are_pils_to_the_bit(ours, pils, levels):
    np.testing.assert_array_equal(in_levels(ours, levels), np.asarray(pils(as_pil(levels))))


@pytest.mark.parametrize(
    "levels",
    [
        np.full((20, 20, 3), 77, np.uint8),
        np.where(RNG.random((40, 40, 1)) < 0.9, 10, 200).astype(np.uint8).repeat(3, -1),
        RNG.integers(0, 256, (3, 5, 3), np.uint8),
        (RNG.random((64, 64, 3)) ** 3 * 255).astype(np.uint8),
    ],
    ids=["constant", "two levels", "few pixels", "skewed"],
)
def test_equalize_is_pils_at_its_edges(levels):
    np.testing.assert_array_equal(
        in_levels(augment.equalize, levels), np.asarray(ImageOps.equalize(as_pil(levels)))
    )


def test_levels_are_counted_the_same_on_all_devices():
    drawn = jnp.asarray(np.random.default_rng(1).integers(0, 256, (2, 500, 3)))
    constant = jnp.full((2, 500, 3), 255)
    for levels in (drawn, constant, drawn[:, :0]):
        found = level_tables._by_scatter(levels)
        np.testing.assert_array_equal(found, level_tables._by_products(levels))
        counted = [
            np.bincount(line, minlength=256) for line in np.moveaxis(levels, 1, 2).reshape(6, -1)
        ]
        np.testing.assert_array_equal(found.reshape(6, 256), counted)


@pytest.mark.parametrize("shape", [(1, 5, 3), (4, 2, 3), (2, 2, 3)])
def test_a_border_without_an_inside_is_not_sharpened(shape):
    levels = RNG.integers(0, 256, shape, np.uint8)
    sharpened = ImageEnhance.Sharpness(as_pil(levels)).enhance(1.7)
    y = in_levels(lambda image: augment.sharpness(image, factor=1.7), levels)
    np.testing.assert_array_equal(y, levels)
    np.testing.assert_array_equal(np.asarray(sharpened).reshape(shape), levels)


ENHANCED = [
    (augment.brightness, ImageEnhance.Brightness),
    (augment.contrast, ImageEnhance.Contrast),
    (augment.saturation, ImageEnhance.Color),
    (augment.sharpness, ImageEnhance.Sharpness),
]


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7])
@pytest.mark.parametrize(("ours", "pils"), ENHANCED, ids=lambda f: getattr(f, "__name__", f))
def test_factors_are_pils_within_its_roundings(ours, pils, factor):
    """PIL rounds the other image, and the mean, to levels, and cuts the result off."""
    y = ours(jnp.asarray(FLOAT), factor=factor)
    expected = np.asarray(pils(as_pil(LEVELS)).enhance(factor), np.float32) / 255
    bound = (1 + 0.51 * abs(1 - factor) + 0.01) / 255
    np.testing.assert_allclose(y, expected, rtol=0, atol=bound)


def test_autocontrast_is_pils_within_its_roundings():
    y = augment.autocontrast(augment.to_float(jnp.asarray(DARK)))
    expected = np.asarray(ImageOps.autocontrast(as_pil(DARK)), np.float32) / 255
    np.testing.assert_allclose(y, expected, rtol=0, atol=1.01 / 255)
    flat = jnp.full((3, 3, 3), 0.3)
    np.testing.assert_array_equal(augment.autocontrast(flat), flat)


def test_gamma_is_a_power():
    y = augment.gamma(jnp.asarray(FLOAT), gamma=0.6)
    np.testing.assert_allclose(y, FLOAT.astype(np.float64) ** 0.6, rtol=0, atol=1e-6)
    ends = augment.gamma(jnp.array([[[-0.5, 2.0]]]), gamma=0.6)
    np.testing.assert_array_equal(ends, [[[0, 1]]])


@pytest.mark.parametrize("shift", [-1.3, -0.5, -0.1, 0.05, 0.33, 0.5, 0.9])
def test_hue_is_that_of_colorsys(shift):
    corners = np.array(list(np.ndindex(3, 3, 3))) / 2  # all ties among channels
    image = np.concatenate([FLOAT.reshape(-1, 3), corners])[None]
    expected = []
    for r, g, b in image[0].astype(float):
        h, s, v = colorsys.rgb_to_hsv(r, g, b)
        expected.append(colorsys.hsv_to_rgb((h + shift) % 1, s, v))
    y = augment.hue(jnp.asarray(image, jnp.float32), shift=shift)
    np.testing.assert_allclose(y[0], expected, rtol=0, atol=2e-6)


def test_saturation_keeps_the_hue_and_scales_the_chroma():
    image = 0.35 + 0.3 * FLOAT
    for factor in (0.5, 1.3):
        y = np.asarray(augment.saturation(jnp.asarray(image), factor=factor), np.float64)
        before = [colorsys.rgb_to_hsv(*p) for p in image.reshape(-1, 3).astype(float)]
        after = [colorsys.rgb_to_hsv(*p) for p in y.reshape(-1, 3)]
        turned = (np.array(after)[:, 0] - np.array(before)[:, 0] + 0.5) % 1 - 0.5
        np.testing.assert_allclose(turned, 0, atol=1e-4)
        np.testing.assert_allclose(np.ptp(y, -1), factor * np.ptp(image, -1), atol=1e-6)


def test_jitter_is_its_members_in_turn():
    x = jnp.asarray(np.stack([FLOAT, FLOAT[::-1]]))
    factors = jnp.array([0.7, 1.4])
    y = augment.color_jitter(x, brightness=factors, contrast=1.3, saturation=0.6, hue=0.1)
    expected = augment.brightness(x, factor=factors)
    expected = augment.contrast(expected, factor=1.3)
    expected = augment.saturation(expected, factor=0.6)
    np.testing.assert_allclose(y, augment.hue(expected, shift=0.1), atol=1e-6)


def test_blur_is_scipys():
    for border, mode in ((augment.edge, "nearest"), (augment.reflect, "mirror")):
        y = augment.gaussian_blur(jnp.asarray(FLOAT), sigma=1.3, radius=4, border=border)
        expected = ndimage.gaussian_filter(
            FLOAT.astype(np.float64), 1.3, mode=mode, radius=4, axes=(0, 1)
        )
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, 1e-30, 1e-3, 3.0])
@pytest.mark.slow
def test_a_constant_image_is_a_fixed_point_of_filters(sigma):
    """dm_pix darkens the corners of a constant image to 0.39, and is NaN at a sigma of 0."""
    image = jnp.full((9, 7, 3), 0.6)
    blurred = augment.gaussian_blur(image, sigma=sigma, radius=5)
    np.testing.assert_allclose(blurred, image, atol=1e-6)
    np.testing.assert_allclose(augment.sharpness(image, factor=1.8), image, atol=1e-6)
    slope = jax.grad(lambda s: augment.gaussian_blur(image, sigma=s, radius=5).sum())(sigma)
    assert jnp.isfinite(slope)


@pytest.mark.slow
def test_filters_of_images_smaller_than_their_kernel():
    for shape in ((1, 1, 1), (1, 5, 1), (2, 1, 3)):
        image = jnp.linspace(0.1, 0.9, int(np.prod(shape))).reshape(shape)
        np.testing.assert_array_equal(augment.sharpness(image, factor=3.0), image)
        for border in (augment.edge, augment.reflect, augment.wrap):
            y = augment.gaussian_blur(image, sigma=9.0, radius=6, border=border)
            assert y.shape == shape
            assert jnp.all((y >= 0.1 - 1e-6) & (y <= 0.9 + 1e-6))


DIFFERENTIABLE = {
    "brightness": lambda x: augment.brightness(x, factor=1.2),
    "contrast": lambda x: augment.contrast(x, factor=1.2),
    "saturation": lambda x: augment.saturation(x, factor=1.2),
    "hue": lambda x: augment.hue(x, shift=0.2),
    "gamma": lambda x: augment.gamma(x, gamma=0.5),
    "grayscale": augment.grayscale,
    "autocontrast": augment.autocontrast,
    "sharpness": lambda x: augment.sharpness(x, factor=1.5),
    "gaussian_blur": lambda x: augment.gaussian_blur(x, sigma=0.0, radius=1),
    "jitter": lambda x: augment.random_color_jitter(
        KEY, x, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1
    ),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_are_finite_at_grey_black_and_white(name):
    """augmax is NaN at grey, black and white; dm_pix's gamma has infinite slope at black."""
    for image in (*jnp.moveaxis(CORNERS, 1, 0)[:, None], CORNERS):
        gradient = jax.grad(lambda x: jnp.sum(jnp.sin(DIFFERENTIABLE[name](x))))(image)
        assert jnp.isfinite(gradient).all()


def test_grey_is_a_fixed_point_of_hue_and_saturation():
    grey = jnp.linspace(0, 1, 12).reshape(3, 4, 1) * jnp.ones(3)
    np.testing.assert_array_equal(augment.hue(grey, shift=0.37), grey)
    np.testing.assert_allclose(augment.saturation(grey, factor=1.9), grey, atol=1e-6)


COLORS = {
    **DIFFERENTIABLE,
    "invert": augment.invert,
    "solarize": lambda x: augment.solarize(x, threshold=0.5),
    "posterize": lambda x: augment.posterize(x, bits=2),
    "equalize": augment.equalize,
}


@pytest.mark.parametrize("name", COLORS)
def test_range_shape_and_dtype_are_kept(name):
    for shape in ((7, 4, 1), (2, 3, 5, 3), (0, 5, 4, 3), (2, 0, 4, 3)):
        for dtype in (jnp.float32, jnp.bfloat16):
            image = jnp.asarray(RNG.random(shape), dtype)
            y = COLORS[name](image)
            assert (y.shape, y.dtype) == (shape, dtype)
            assert jnp.all((y >= 0) & (y <= 1))


def test_contrast_moves_about_the_mean_of_the_luma():
    image = RNG.random((3, 9, 7, 3)) * np.array([1.0, 0.3, 0.1])
    mean = (image @ [0.299, 0.587, 0.114]).mean((1, 2))[:, None, None, None]
    expected = np.clip(0.4 * image + 0.6 * mean, 0, 1)
    y = augment.contrast(jnp.asarray(image, jnp.float32), factor=0.4)
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_a_single_channel_is_grey():
    image = jnp.asarray(FLOAT[..., :1])
    for same in (
        augment.hue(image, shift=0.3),
        augment.saturation(image, factor=0.2),
        augment.grayscale(image),
    ):
        np.testing.assert_allclose(same, image, atol=1e-7)
    expected = np.asarray(0.3 * FLOAT[..., :1] + 0.7 * FLOAT[..., :1].mean())
    np.testing.assert_allclose(augment.contrast(image, factor=0.3), expected, atol=1e-6)


RANDOM = {
    "brightness": lambda x: augment.random_brightness(KEY, x, amount=0.3),
    "contrast": lambda x: augment.random_contrast(KEY, x, amount=0.3),
    "saturation": lambda x: augment.random_saturation(KEY, x, amount=0.3),
    "hue": lambda x: augment.random_hue(KEY, x, shift=0.3),
    "gamma": lambda x: augment.random_gamma(KEY, x, amount=0.3),
    "sharpness": lambda x: augment.random_sharpness(KEY, x, amount=0.3),
    "gaussian_blur": lambda x: augment.random_gaussian_blur(KEY, x, sigma=(0.1, 2.0), radius=4),
    "jitter": DIFFERENTIABLE["jitter"],
}


@pytest.mark.parametrize("name", RANDOM)
def test_each_example_has_a_draw_of_its_own(name):
    y = np.asarray(RANDOM[name](jnp.asarray(np.stack([FLOAT] * 5))))
    assert len({image.tobytes() for image in y}) == 5


def test_the_members_of_jitter_draw_apart():
    image = jnp.tile(jnp.array([0.5, 0.3, 0.2]), (2000, 1, 1, 1))
    value = augment.random_color_jitter(KEY, image, brightness=0.3, hue=0.1)
    hsv = np.array([colorsys.rgb_to_hsv(*p) for p in np.asarray(value, float).reshape(-1, 3)])
    turned = (hsv[:, 0] - colorsys.rgb_to_hsv(0.5, 0.3, 0.2)[0] + 0.5) % 1 - 0.5
    lit = hsv[:, 2] / 0.5 - 1
    for drawn, bound in ((turned, 0.1), (lit, 0.3)):
        assert abs(drawn).max() <= bound + 1e-5
        np.testing.assert_allclose(drawn.std(), bound / np.sqrt(3), rtol=0.06)
    assert abs(np.corrcoef(turned, lit)[0, 1]) < 5 / np.sqrt(2000)


def test_amounts_above_1_do_not_make_a_factor_negative():
    images = jnp.full((500, 1, 1, 1), 0.25)
    y = augment.random_brightness(KEY, images, amount=2.0)
    factor = np.asarray(y).ravel() / 0.25
    assert factor.min() < 0.05
    assert factor.max() > 2.9
    np.testing.assert_allclose(factor.mean(), 1.5, atol=5 * 3 / np.sqrt(12 * 500))


def test_normalize_takes_numbers_or_one_for_each_channel():
    mean, std = np.array([0.1, 0.2, 0.3], np.float32), np.array([0.5, 0.6, 0.7], np.float32)
    y = augment.normalize(jnp.asarray(FLOAT), mean=mean, std=std)
    np.testing.assert_allclose(y, (FLOAT - mean) / std, atol=1e-6)
    with pytest.raises(
        ValueError, match=r"`mean` must broadcast to shape \(3,\), got shape \(2,\)"
    ):
        augment.normalize(jnp.asarray(FLOAT), mean=mean[:2], std=1.0)


@pytest.mark.parametrize(
    ("kind", "call", "message"),
    [
        (TypeError, lambda: augment.hue(jnp.asarray(LEVELS), shift=0.1), r"augment\.to_float"),
        (TypeError, lambda: augment.to_float(FLOAT), r"`image` must be an array of uint8, got flo"),
        (TypeError, lambda: augment.to_float(LEVELS, dtype=int), r"`dtype` must be floating-point"),
        (TypeError, lambda: augment.to_uint8(LEVELS), r"`image` must have a floating-point dtype"),
        (ValueError, lambda: augment.hue(jnp.ones((2, 2, 4)), shift=0.1), r"one channel or three"),
        (
            ValueError,
            lambda: augment.gaussian_blur(jnp.ones((2, 2, 1)), sigma=1.0, radius=-1),
            r"`radius` must be zero or positive, got -1",
        ),
    ],
)
def test_what_cannot_be_is_named(kind, call, message):
    with pytest.raises(kind, match=message):
        call()
