"""Images, references and distributions that the tests of augmentations share."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from scipy import stats

KEY = jax.random.key(50)
# Even sizes, so that after a turn by 90 degrees no pixel is between two others.
LEVELS = np.random.default_rng(0).integers(0, 256, (24, 18, 3), np.uint8)
DARK = (LEVELS // 4 + 20).astype(np.uint8)
FLOAT = LEVELS.astype(np.float32) / 255
IMAGE = np.random.default_rng(0).random((9, 12, 3)).astype(np.float32)
CHANNEL = IMAGE[..., :1]


def to_levels(image):
    """The ``uint8`` levels of an image of floats."""
    return np.rint(np.clip(np.asarray(image, np.float64), 0, 1) * 255).astype(np.uint8)


def pil(image):
    """A PIL image of 32-bit floats, which PIL does not round."""
    return Image.fromarray(np.asarray(image)[..., 0])


def inner(y, margin=1):
    return np.asarray(y)[margin:-margin, margin:-margin]


def hsv(pixels):
    """Hue, saturation and value of each pixel, by the standard library."""
    return np.array([colorsys.rgb_to_hsv(*p) for p in np.asarray(pixels, float).reshape(-1, 3)])


def turned(before, after):
    """The turns of hues in [-1/2, 1/2)."""
    return (np.asarray(after) - before + 0.5) % 1 - 0.5


def different(images):
    """Counts the images that differ in their bytes."""
    return len({image.tobytes() for image in np.asarray(images)})


def assert_rounded_once(function, *arrays):
    """A result in bfloat16 is the result in float32 of the same numbers, rounded once."""
    narrow = [jnp.asarray(np.asarray(a, np.float32)).astype(jnp.bfloat16) for a in arrays]
    single = [np.asarray(a, np.float32) for a in narrow]
    rounded, exact = jax.jit(lambda a, b: (function(*a), function(*b)))(narrow, single)
    pairs = zip(jax.tree.leaves(rounded), jax.tree.leaves(exact), strict=True)
    for one, other in pairs:
        assert one.dtype == jnp.bfloat16
        assert other.dtype == jnp.float32
        # One rounding by half a step, 2^-8, after one in float32.
        np.testing.assert_allclose(np.float64(one), np.float64(other), rtol=1.01 * 2**-8, atol=1e-6)


def assert_distribution(sample, distribution):
    assert stats.kstest(np.asarray(sample, np.float64).ravel(), distribution.cdf).pvalue > 1e-6


def assert_as_likely(rows, number):
    """The rows have this number of different values, all with the same probability."""
    counts = np.unique(np.asarray(rows), axis=0, return_counts=True)[1]
    assert len(counts) == number
    assert stats.chisquare(counts).pvalue > 1e-6


def assert_independent(one, other):
    """Two samples have no correlation, within 5 standard errors."""
    assert abs(np.corrcoef(np.ravel(one), np.ravel(other))[0, 1]) < 5 / np.size(one) ** 0.5
