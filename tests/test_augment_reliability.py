"""Rows 54 to 64 of the known failures: augmentation and its peers, each by its number."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxreg import augment

pytestmark = pytest.mark.slow
KEY = jax.random.key(0)
IMAGES = jax.random.uniform(jax.random.key(1), (3, 6, 10, 3))
LABELS = jnp.array([0, 4, 2])
COLORS = {
    "brightness": partial(augment.brightness, factor=1.5),
    "contrast": partial(augment.contrast, factor=1.5),
    "saturation": partial(augment.saturation, factor=1.5),
    "hue": partial(augment.hue, shift=0.1),
    "gamma": partial(augment.gamma, gamma=0.5),
    "grayscale": augment.grayscale,
    "solarize": partial(augment.solarize, threshold=0.5),
    "gaussian_blur": partial(augment.gaussian_blur, sigma=1.0, radius=2),
}


def test_row_54_integer_labels_need_the_number_of_classes():
    mixed = augment.random_mixup(KEY, IMAGES, LABELS, alpha=1.0, num_classes=5)
    assert mixed.labels.shape == (3, 5)
    np.testing.assert_allclose(mixed.labels.sum(-1), 1, rtol=1e-6)
    with pytest.raises(ValueError, match=r"`num_classes`"):
        augment.random_mixup(KEY, IMAGES, LABELS, alpha=1.0)
    with pytest.raises(ValueError, match=r"`labels`"):
        augment.random_mixup(KEY, IMAGES, jnp.zeros((3, 6, 10), int), alpha=1.0, num_classes=5)


@pytest.mark.parametrize("shape", [(4, 4), (7, 7), (1, 9), (9, 1), (6, 10)])
def test_row_55_the_weight_of_a_label_is_the_area(shape):
    number = 64
    ones, labels = jnp.ones((number, *shape, 1)), jnp.arange(number)
    center = jax.random.uniform(KEY, (2, number)) * jnp.array(shape)[:, None]
    share = jax.random.uniform(jax.random.key(2), (number,))
    mixed = augment.cutmix(
        ones, labels, 0 * ones, labels[::-1], share=share, center=tuple(center), num_classes=number
    )
    area = np.asarray(mixed.x, np.float64).mean((1, 2, 3))
    np.testing.assert_allclose(mixed.labels[jnp.arange(number), labels], area, atol=1e-6)
    assert len(np.unique(area)) > 3


def test_row_56_channels_are_last_and_batches_odd():
    mixed = jax.jit(partial(augment.random_cutmix, alpha=1.0, num_classes=5))(KEY, IMAGES, LABELS)
    assert mixed.x.shape == IMAGES.shape
    changed = jnp.any(mixed.x != IMAGES, axis=-1)
    # A box of pixels, all of whose channels change: rows and columns make it up.
    for one in np.asarray(changed):
        rows, columns = one.any(1), one.any(0)
        np.testing.assert_array_equal(one, rows[:, None] & columns)
    with pytest.raises(TypeError, match=r"uint8"):
        augment.random_cutmix(KEY, jnp.uint8(255 * IMAGES), LABELS, alpha=1.0, num_classes=5)


def test_row_57_a_box_of_a_series_has_its_share_of_the_steps():
    steps, number = 100, 2000
    levels = jnp.linspace(0, 1, number)[:, None, None, None]
    series = jnp.broadcast_to(levels, (number, 1, steps, 1))
    mix = jax.jit(partial(augment.random_cutmix, alpha=1.0, num_classes=2))
    mixed = mix(KEY, series, jnp.zeros(number, int))
    other = jnp.mean(mixed.x != series, axis=(1, 2, 3))
    moved = np.asarray(other) > 0
    np.testing.assert_allclose(1 - mixed.share[moved], other[moved], atol=1e-6)


def test_row_58_hue_at_grey():
    turned = partial(augment.hue, shift=0.3)
    for level in (0.0, 0.5, 1.0):
        grey = jnp.full((1, 2, 2, 3), level)
        np.testing.assert_array_equal(turned(grey), grey)
        assert jnp.isfinite(jax.grad(lambda x: jnp.sum(turned(x) ** 2))(grey)).all()


def test_row_59_gamma_at_black_and_a_blur_of_nothing():
    black = jnp.zeros((1, 2, 2, 3))
    assert jnp.isfinite(jax.grad(lambda x: jnp.sum(augment.gamma(x, gamma=0.5)))(black)).all()
    np.testing.assert_array_equal(augment.gaussian_blur(IMAGES, sigma=0.0, radius=2), IMAGES)
    even = jnp.full((1, 5, 7, 3), 0.7)
    np.testing.assert_allclose(augment.gaussian_blur(even, sigma=2.0, radius=3), even, rtol=1e-6)


@pytest.mark.parametrize("name", COLORS)
def test_row_60_whole_levels_never_wrap(name):
    with pytest.raises(TypeError, match=r"got uint8; convert it first with augment.to_float"):
        COLORS[name](jnp.full((2, 2, 3), 250, jnp.uint8))


def test_row_61_images_that_are_not_square():
    image = IMAGES[0]
    turned = augment.rotate(image, degrees=30.0)
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width] - np.array([(height - 1) / 2, (width - 1) / 2])[:, None, None]
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    places = np.stack([sin * x + cos * y + (height - 1) / 2, cos * x - sin * y + (width - 1) / 2])
    for channel in range(3):
        padded = np.pad(np.asarray(image[..., channel], np.float64), 1)
        expected = ndimage.map_coordinates(padded, places + 1, order=1)
        np.testing.assert_allclose(turned[..., channel], expected, atol=2e-6)
    assert augment.rot90(image, turns=1).shape == (width, height, 3)


@pytest.mark.parametrize(
    ("border", "mode"),
    [(augment.edge, "nearest"), (augment.reflect, "mirror"), (augment.wrap, "grid-wrap")],
)
def test_row_62_borders_are_scipys(border, mode):
    image = IMAGES[0, ..., :1]
    places = np.random.default_rng(0).uniform(-4, 13, (2, 5, 9))
    expected = ndimage.map_coordinates(
        np.asarray(image[..., 0], np.float64), places, order=1, mode=mode
    )
    y, x = jnp.float32(places)
    actual = augment.bilinear(image, x, y, border=border)[..., 0]
    np.testing.assert_allclose(actual, expected, atol=2e-6)


@pytest.mark.parametrize(
    "function",
    [
        partial(augment.random_crop, size=(3, 5)),
        partial(augment.random_brightness, amount=0.5),
        partial(augment.random_rotate, degrees=90.0),
        partial(augment.random_cutout, height=2, width=2),
        partial(augment.rand_augment, magnitude=25),
    ],
)
def test_row_63_each_example_has_a_draw_of_its_own(function):
    same = jnp.broadcast_to(IMAGES[:1], (16, *IMAGES.shape[1:]))
    changed = np.asarray(jax.jit(function)(KEY, same))
    assert len(np.unique(changed.reshape(16, -1), axis=0)) > 3


def _pipeline(key, images):
    keys = jax.random.split(key, 4)
    matrix = augment.chain(
        augment.random_window(keys[0], images, size=(6, 10)),
        augment.random_rotation(keys[1], images, degrees=15.0),
    )
    images = augment.affine(images, matrix)
    images = augment.random_color_jitter(keys[2], images, contrast=0.2, hue=0.1)
    return jnp.sum(augment.random_elastic(keys[3], images, strength=1.0, sigma=1.0, radius=2))


@pytest.mark.parametrize("bits", [32, 64])
def test_row_64_strict_modes(bits):
    with (
        jax.enable_x64(bits == 64),
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
        jax.check_tracer_leaks(True),
    ):
        for dtype in (jnp.float32, jnp.float64)[: bits // 32]:
            gradient = jax.jit(jax.grad(_pipeline, argnums=1))
            result = gradient(jax.random.key(0), IMAGES.astype(dtype))
            assert result.dtype == dtype
            assert jnp.isfinite(result).all()


@pytest.mark.parametrize("degrees", [4.0, 17.0, 33.0])
def test_a_rotation_taken_back_has_the_gradient_of_the_identity(degrees):
    """Positions are on pixels but for rounding, where an index and its weight may not part."""
    images = 0.5 + 0.4 * jnp.sin(jnp.arange(8.0 * 9 * 7 * 2)).reshape(8, 9, 7, 2)

    @jax.jit
    def gradient(images, degrees):
        there_and_back = augment.chain(augment.rotation(degrees), augment.rotation(-degrees))
        weights = jnp.cos(jnp.arange(images.size)).reshape(images.shape)
        there = jax.grad(lambda x: jnp.sum(weights * augment.affine(x, there_and_back)))
        return there(images), weights

    found, weights = gradient(images, jnp.linspace(degrees, degrees + 8, 8))
    np.testing.assert_allclose(found, weights, atol=1e-5)
