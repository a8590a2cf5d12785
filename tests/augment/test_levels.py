"""Whole levels: exactly PIL's, counted alike on all devices, and converted there and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps

from jaxreg import augment
from jaxreg.augment import levels as level_tables
from tests.augment.helpers import DARK, FLOAT, LEVELS, assert_rounded_once, to_levels

RNG = np.random.default_rng(0)
CONSTANT = np.full(LEVELS.shape, 77, np.uint8)
TWO_LEVELS = np.where(RNG.random((24, 18, 1)) < 0.9, 10, 200).astype(np.uint8).repeat(3, -1)
SKEWED = (RNG.random(LEVELS.shape) ** 3 * 255).astype(np.uint8)
LARGE = (RNG.random((60, 50, 3)) ** 2 * 255).astype(np.uint8)


def as_floats(levels):
    return levels.astype(np.float32) / 255


def test_levels_survive_the_way_there_and_back():
    levels = np.arange(256, dtype=np.uint8)

    @jax.jit
    def there_and_back(levels, odd):
        floats = [augment.to_float(levels, dtype=dtype) for dtype in (jnp.float32, jnp.float16)]
        return floats, [augment.to_uint8(x) for x in floats], augment.to_uint8(odd)

    odd = np.array([-np.inf, -0.1, 1.1, np.inf, np.nan, 0.6 / 255, 254.4 / 255], np.float32)
    floats, back, strange = there_and_back(levels, odd)
    for x, same, dtype in zip(floats, back, (np.float32, np.float16), strict=True):
        assert x.dtype == dtype
        np.testing.assert_allclose(x, levels / 255, rtol=np.finfo(dtype).eps)
        np.testing.assert_array_equal(same, levels)
    assert strange.dtype == np.uint8
    np.testing.assert_array_equal(strange, [0, 0, 255, 255, 0, 1, 254])
    assert jax.eval_shape(augment.to_float, levels).dtype == jnp.float32


def test_lost_bits_are_pils():
    images = np.stack([LEVELS, DARK])
    call = jax.jit(lambda x, bits: augment.posterize(x, bits=bits))
    for bits in (1, 3, 4, 8):
        # The number of bits is rounded.
        for near in (bits, bits - 0.4):
            y = to_levels(call(as_floats(images), near))
            for one, image in zip(y, map(Image.fromarray, images), strict=True):
                np.testing.assert_array_equal(one, ImageOps.posterize(image, bits))
    odd = FLOAT[None].repeat(2, 0) * np.float32(0.999)
    np.testing.assert_array_equal(call(odd, 8.0), odd)
    np.testing.assert_array_equal(call(odd, 0.0), np.zeros_like(odd))
    # Traced numbers beyond the range are cut off, and NaN keeps nothing.
    np.testing.assert_array_equal(call(odd, 11.0), odd)
    np.testing.assert_array_equal(call(odd, -3.0), np.zeros_like(odd))
    np.testing.assert_array_equal(call(odd, np.nan), np.zeros_like(odd))


def test_equalized_levels_are_pils():
    images = np.stack([LEVELS, DARK, CONSTANT, TWO_LEVELS, SKEWED])
    y = to_levels(jax.jit(augment.equalize)(as_floats(images)))
    for one, image in zip(y, map(Image.fromarray, images), strict=True):
        np.testing.assert_array_equal(one, ImageOps.equalize(image))


def test_equalized_levels_of_many_pixels_are_rounded_like_pils():
    y = to_levels(jax.jit(augment.equalize)(as_floats(LARGE)))
    np.testing.assert_array_equal(y, ImageOps.equalize(Image.fromarray(LARGE)))


def test_few_pixels_stay_as_they_are():
    few = LEVELS[:3, :5]
    y = to_levels(jax.jit(augment.equalize)(as_floats(few)))
    np.testing.assert_array_equal(y, ImageOps.equalize(Image.fromarray(few)))
    np.testing.assert_array_equal(y, few)


def test_levels_are_counted_the_same_on_all_devices():
    levels = np.random.default_rng(1).integers(0, 256, (3, 500, 3)).astype(np.int32)
    levels[1] = 255
    count = jax.jit(lambda x: (level_tables._by_scatter(x), level_tables._by_products(x)))
    expected = [np.bincount(x, minlength=256) for x in np.moveaxis(levels, 1, 2).reshape(9, -1)]
    for found in count(levels):
        np.testing.assert_array_equal(np.reshape(found, (9, 256)), expected)
    for found in count(levels[:, :0]):
        np.testing.assert_array_equal(found, np.zeros((3, 3, 256)))


def test_autocontrast_is_pils_within_its_roundings():
    images = np.stack([DARK, CONSTANT, LEVELS // 2])
    y = jax.jit(augment.autocontrast)(as_floats(images))
    for one, image in zip(y, map(Image.fromarray, images), strict=True):
        expected = np.asarray(ImageOps.autocontrast(image), np.float32) / 255
        np.testing.assert_allclose(one, expected, rtol=0, atol=1.01 / 255)
    np.testing.assert_array_equal(y[1], as_floats(CONSTANT))


def test_autocontrast_stretches_each_channel_by_itself_from_0_to_1():
    image = 0.2 + FLOAT[:5, :4] * np.array([0.6, 0.3, 0.1], np.float32)
    low = image.min((0, 1))
    high = image.max((0, 1))
    y = jax.jit(augment.autocontrast)(image)
    np.testing.assert_allclose(y, (image - low) / (high - low), atol=1e-6)
    assert_rounded_once(augment.autocontrast, image)


def test_gradients_are_finite_where_an_image_is_flat():
    images = np.stack([np.full((3, 5, 3), v, np.float32) for v in (0, 0.5, 1)])
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(augment.autocontrast(x)))))(images)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("shape", [(7, 4, 1), (2, 3, 5, 3), (0, 5, 4, 3), (2, 0, 4, 3)], ids=str)
def test_range_shape_and_dtype_are_kept(shape):
    functions = (
        augment.equalize,
        augment.autocontrast,
        lambda x: augment.posterize(x, bits=2),
    )
    image = jnp.asarray(RNG.random(shape), jnp.bfloat16)
    for y in jax.jit(lambda x: [f(x) for f in functions])(image):
        assert (y.shape, y.dtype) == (shape, jnp.bfloat16)
        assert ((y >= 0) & (y <= 1)).all()


@pytest.mark.parametrize(
    ("kind", "call", "message"),
    [
        (TypeError, lambda: augment.to_float(FLOAT), r"`image` must be an array of uint8, got flo"),
        (TypeError, lambda: augment.to_float([3]), r"`image` must be an array of uint8, got list"),
        (TypeError, lambda: augment.to_float(LEVELS, dtype=int), r"`dtype` must be floating-point"),
        (TypeError, lambda: augment.to_uint8(LEVELS), r"`image` must have a floating-point dtype"),
        (TypeError, lambda: augment.equalize(LEVELS), r"augment\.to_float"),
        (TypeError, lambda: augment.autocontrast(LEVELS), r"augment\.to_float"),
        (TypeError, lambda: augment.posterize(LEVELS, bits=3), r"augment\.to_float"),
        (ValueError, lambda: augment.posterize(FLOAT, bits=-1), r"`bits` must be .*got -1"),
    ],
)
def test_wrong_arguments_are_named(kind, call, message):
    with pytest.raises(kind, match=message):
        call()
