"""Operations: PIL at every published strength, and the published ranges of the sets."""

import jax
import numpy as np
import pytest
from PIL import Image, ImageOps

from jaxreg import augment
from jaxreg.augment import operations
from tests.augment.helpers import FLOAT, LEVELS, to_levels
from tests.augment.policies import NAMES, PILS, RANGES, WIDE, excess

# Once up and once down, from nothing to the largest: images that are stacked for one program.
MAGNITUDES = np.arange(0, 31, 3)
IMAGES = np.stack([FLOAT] * 2 * len(MAGNITUDES))


@pytest.mark.parametrize("name", PILS)
def test_operations_are_pils_at_all_published_strengths(name):
    published = getattr(operations, name.upper())
    low, high = RANGES.get(name, (0, 0))
    assert (published.low, published.high) == pytest.approx((low, high))
    signs = (1, -1) if published.signed else (1, 1)

    @jax.jit
    def run(images, strengths):
        if isinstance(published, operations.Operation):
            return published.function(images, strengths)
        matrix = published.matrix(images, strengths)
        return augment.affine(images, matrix, sample=augment.sampling.nearest)

    for top in dict.fromkeys([high, WIDE.get(name, high)]):
        levels = low + (top - low) * MAGNITUDES / 30
        strengths = np.concatenate([sign * levels for sign in signs]).astype(np.float32)
        for y, strength in zip(run(IMAGES, strengths), strengths, strict=True):
            assert excess(y, name, float(strength)) < 1, strength
    assert published.signed == (name in RANGES and name not in ("posterize", "solarize"))


def test_the_published_sets_have_the_published_ranges():
    assert len(operations.RAND_AUGMENT) == len(operations.TRIVIAL_AUGMENT_WIDE) == 14
    names = [NAMES[id(one)] for one in operations.RAND_AUGMENT]
    assert set(names) == set(PILS) - {"invert"}
    for name, one, wide in zip(
        names, operations.RAND_AUGMENT, operations.TRIVIAL_AUGMENT_WIDE, strict=True
    ):
        assert (one.low, one.high) == pytest.approx(RANGES.get(name, (0, 0)))
        assert wide.signed == one.signed
        if name in ("translate_x", "translate_y"):
            assert (wide.low, wide.high) == (0, 32)
        else:
            assert wide == one._replace(high=WIDE.get(name, one.high))
    kinds = (
        "auto_contrast equalize posterize rotate solarize shear_x shear_y translate_x translate_y"
    )
    ranges = dict(RANGES, posterize=(4, 0), translate_x=(0, 1 / 3), translate_y=(0, 1 / 3))
    assert [(one.low, one.high) for one in operations.AUG_MIX] == [
        pytest.approx(ranges.get(name, (0, 0))) for name in kinds.split()
    ]
    for name, one in zip(kinds.split(), operations.AUG_MIX, strict=True):
        assert one.signed == getattr(operations, name.upper()).signed
        if name != "posterize":
            assert one._replace(high=0) == getattr(operations, name.upper())._replace(high=0)


def test_the_wide_shift_and_the_posterize_of_aug_mix_are_whole():
    """Pixels and lost bits are cut off to integers, as ``int`` of the published code does."""
    wide_x, wide_y = operations.TRIVIAL_AUGMENT_WIDE[3], operations.TRIVIAL_AUGMENT_WIDE[4]
    posterize = operations.AUG_MIX[2]

    @jax.jit
    def run(pixels, images, bits):
        moved = wide_x.matrix(None, pixels), wide_y.matrix(None, pixels)
        return moved, posterize.function(images, bits)

    pixels = np.float32([-3.9, 0.9, 2.0])
    lost = np.float32([0.0, 0.9, 1.1])
    (x, y), kept = run(pixels, IMAGES[:3], 4 - lost)
    np.testing.assert_array_equal(x[:, :2, 2], [[-3, 0], [0, 0], [2, 0]])
    np.testing.assert_array_equal(y[:, :2, 2], [[0, -3], [0, 0], [0, 2]])
    for found, bits in zip(kept, (4, 4, 3), strict=True):
        expected = np.asarray(ImageOps.posterize(Image.fromarray(LEVELS), bits))
        np.testing.assert_array_equal(to_levels(found), expected)
