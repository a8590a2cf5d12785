"""Random colors: factors are uniform within their limits, chances are met, members draw apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxreg import augment
from tests.augment.helpers import (
    FLOAT,
    KEY,
    assert_distribution,
    assert_independent,
    assert_rounded_once,
    different,
    hsv,
    turned,
)
from tests.helpers import assert_rate

NUMBER = 2000
PIXELS = np.array([[0.5, 0.3, 0.2], [0.3, 0.4, 0.35]], np.float32)
IMAGES = np.tile(PIXELS, (NUMBER, 1, 1, 1))
LUMA = np.array([0.299, 0.587, 0.114])


def drawn(name, **options):
    """Results of a function for many equal images, as pixels in float64."""
    function = getattr(augment, f"random_{name}")
    y = jax.jit(lambda x: function(KEY, x, **options))(IMAGES)
    assert different(y) > (1 if "probability" in options else NUMBER / 2)
    return np.asarray(y, np.float64)[:, 0]


def test_brightness_has_a_uniform_factor():
    factor = drawn("brightness", amount=0.3) / PIXELS
    np.testing.assert_allclose(factor, factor[:, :1, :1].repeat(2, 1).repeat(3, 2), rtol=1e-5)
    assert_distribution(factor[:, 0, 0], stats.uniform(0.7, 0.6))


def test_contrast_has_a_uniform_factor():
    y = drawn("contrast", amount=0.3)
    factor = (y[:, 0, 0] - y[:, 1, 0]) / (PIXELS[0, 0] - PIXELS[1, 0])
    assert_distribution(factor, stats.uniform(0.7, 0.6))
    np.testing.assert_allclose((y @ LUMA).mean(1), (PIXELS @ LUMA).mean(), atol=1e-6)


def test_saturation_has_a_uniform_factor():
    y = drawn("saturation", amount=0.3)
    factor = np.ptp(y, axis=-1) / np.ptp(PIXELS, axis=-1)
    np.testing.assert_allclose(factor[:, 0], factor[:, 1], atol=1e-5)
    assert_distribution(factor[:, 0], stats.uniform(0.7, 0.6))


def test_hue_has_a_uniform_turn():
    y = drawn("hue", shift=0.3)
    turns = turned(hsv(PIXELS)[0, 0], hsv(y[:, 0])[:, 0])
    assert_distribution(turns, stats.uniform(-0.3, 0.6))


def test_gamma_has_a_uniform_logarithm():
    power = np.log(drawn("gamma", amount=0.5)) / np.log(PIXELS)
    np.testing.assert_allclose(power[:, 0, 0], power[:, 1, 2], rtol=1e-4)
    limit = np.log(1.5)
    assert_distribution(np.log(power[:, 0, 0]), stats.uniform(-limit, 2 * limit))


GRAY = np.repeat((PIXELS @ LUMA)[:, None], 3, axis=1)
CHANCES = {
    "grayscale": ({}, GRAY),
    "invert": ({}, 1 - PIXELS),
    "solarize": ({"threshold": 0.36}, np.where(PIXELS >= 0.36, 1 - PIXELS, PIXELS)),
    "posterize": ({"bits": 2}, np.floor(np.rint(PIXELS * 255) / 64) * 64 / 255),
}


@pytest.mark.parametrize("name", CHANCES)
def test_chances_are_met(name):
    options, changed = CHANCES[name]
    y = drawn(name, probability=0.3, **options)
    happened = abs(y - changed).max((1, 2)) < 1e-6
    np.testing.assert_array_equal(y[~happened], np.float64(IMAGES[~happened, 0]))
    assert_rate(happened.mean(), 0.3, NUMBER)


def test_jitter_is_its_members_in_turn():
    """Brightness, contrast and saturation in NumPy, then a hue by the standard library."""
    x = 0.2 + 0.5 * np.stack([FLOAT[:5, :4], FLOAT[5:10, :4]])
    factors = np.array([0.7, 1.3], np.float32)
    call = jax.jit(
        lambda x, b: augment.color_jitter(x, brightness=b, contrast=1.3, saturation=0.6, hue=0.1)
    )
    expected = np.clip(factors[:, None, None, None] * x.astype(np.float64), 0, 1)
    mean = (expected @ LUMA).mean((1, 2))[:, None, None, None]
    expected = np.clip(1.3 * expected - 0.3 * mean, 0, 1)
    expected = np.clip(0.6 * expected + 0.4 * (expected @ LUMA)[..., None], 0, 1)
    before = hsv(expected)
    after = hsv(call(x, factors))
    np.testing.assert_allclose(turned(before[:, 0], after[:, 0]), 0.1, atol=1e-4)
    np.testing.assert_allclose(after[:, 1:], before[:, 1:], atol=1e-5)
    same = jax.jit(augment.color_jitter)(x)
    np.testing.assert_array_equal(same, x)


def test_jitter_is_rounded_once_at_the_end():
    options = {"brightness": 1.1, "contrast": 1.3, "saturation": 0.6, "hue": 0.1}
    assert_rounded_once(
        lambda x: augment.color_jitter(x, **options), 0.2 + 0.5 * FLOAT[None, :5, :4]
    )


def test_the_members_of_jitter_draw_apart():
    y = drawn("color_jitter", brightness=0.3, hue=0.1)
    colors = hsv(y[:, 0])
    turns = turned(hsv(PIXELS)[0, 0], colors[:, 0])
    light = colors[:, 2] / 0.5
    assert_distribution(turns, stats.uniform(-0.1, 0.2))
    assert_distribution(light, stats.uniform(0.7, 0.6))
    assert_independent(turns, light)
    y = drawn("color_jitter", contrast=0.3, saturation=0.2)
    # The difference of the lumas tells the contrast, and the range of a pixel the product.
    contrast = (y[:, 0] - y[:, 1]) @ LUMA / ((PIXELS[0] - PIXELS[1]) @ LUMA)
    saturation = np.ptp(y[:, 0], axis=-1) / np.ptp(PIXELS[0]) / contrast
    assert_distribution(contrast, stats.uniform(0.7, 0.6))
    assert_distribution(saturation, stats.uniform(0.8, 0.4))
    assert_independent(contrast, saturation)
    y = drawn("color_jitter", brightness=0.3, contrast=0.3)
    # Contrast keeps the mean luma, which tells the brightness.
    light = (y @ LUMA).mean(axis=1) / (PIXELS @ LUMA).mean()
    contrast = (y[:, 0] - y[:, 1]) @ LUMA / ((PIXELS[0] - PIXELS[1]) @ LUMA) / light
    assert_independent(light, contrast)


def test_amounts_above_1_do_not_make_a_factor_negative():
    images = np.full((NUMBER, 1, 2, 3), 0.25, np.float32)
    call = jax.jit(lambda x: augment.random_brightness(KEY, x, amount=2.0))
    factor = np.asarray(call(images), np.float64)[:, 0, 0, 0] / 0.25
    assert_distribution(factor, stats.uniform(0, 3))


def test_gradients_are_finite_at_gray_black_and_white():
    images = np.stack([np.full((3, 5, 3), v, np.float32) for v in (0, 0.5, 1)])
    options = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.1}

    @jax.jit
    @jax.grad
    def gradient(x):
        return jnp.sum(jnp.sin(augment.random_color_jitter(KEY, x, **options)))

    assert np.isfinite(gradient(images)).all()


def test_a_hue_beyond_half_a_turn_is_named():
    with pytest.raises(ValueError, match=r"`hue` must be a number in \[0, 0\.5\], got 0\.6"):
        augment.random_color_jitter(KEY, IMAGES, hue=0.6)
