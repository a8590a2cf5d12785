"""Windows: NumPy's flips, turns and borders, PIL's resizing, crops that never leave the image."""

import jax
import numpy as np
import pytest
from PIL import Image

from jaxreg import augment
from tests.augment.helpers import CHANNEL, IMAGE, assert_rounded_once, inner, pil

BORDERS = {
    "edge": augment.borders.edge,
    "reflect": augment.borders.reflect,
    "wrap": augment.borders.wrap,
}


def test_flips_and_turns_are_numpys():
    images = np.stack([IMAGE, 1 - IMAGE])
    all_turns = (-1, 0, 1, 2, 3, 5)

    @jax.jit
    def moved(x):
        turns = [augment.rot90(x, turns=turns) for turns in all_turns]
        return augment.flip_left_right(x), augment.flip_up_down(x), turns

    left_right, up_down, turned = moved(images)
    np.testing.assert_array_equal(left_right, images[:, :, ::-1])
    np.testing.assert_array_equal(up_down, images[:, ::-1])
    for y, turns in zip(turned, all_turns, strict=True):
        np.testing.assert_array_equal(y, np.rot90(images, turns, axes=(1, 2)))


def test_a_turn_agrees_with_a_rotation():
    turned, rotated = jax.jit(
        lambda x, m: (augment.rot90(x, turns=1), augment.affine(x, m, size=(12, 9)))
    )(IMAGE, np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], np.float32))
    np.testing.assert_allclose(turned, rotated, atol=1e-5)


@pytest.mark.parametrize(("size", "box"), [((4, 5), None), ((20, 7), None), ((5, 6), (2, 1, 9, 7))])
def test_resize_is_pils(size, box):
    expected = pil(CHANNEL).resize(size[::-1], Image.Resampling.BILINEAR, box=box)

    @jax.jit
    def resized(x):
        if box is None:
            return augment.resize(x, size=size)
        left, top, right, bottom = box
        window = {"top": top, "left": left, "height": bottom - top, "width": right - left}
        return augment.resized_crop(x, **window, size=size)

    np.testing.assert_allclose(resized(CHANNEL)[..., 0], expected, rtol=0, atol=1e-6)


def test_a_resized_crop_repeats_the_border_and_flips():
    """One axis at a time, by the formula: the mean of two pixels, or a pixel."""
    line = np.arange(4, dtype=np.float32).reshape(1, 4, 1)

    @jax.jit
    def crops(x):
        wide = augment.resized_crop(x, top=0, height=1, left=-2, width=8, size=(1, 4))
        flipped = augment.resized_crop(x, top=0, height=1, left=4, width=-4, size=(1, 4))
        within = augment.resized_crop(x, top=0, height=1, left=0.5, width=3, size=(1, 3))
        return wide, flipped, within, augment.resize(x, size=(1, 4))

    wide, flipped, within, same = [np.asarray(y)[0, :, 0] for y in crops(line)]
    # Centers are 2 apart; the first, at -1.5, reads the border. Triangles are 2 wide to each side.
    triangles = np.maximum(1 - abs(np.arange(4) - np.array([[0], [0.5], [2.5], [3]])) / 2, 0)
    expected = triangles @ np.arange(4) / triangles.sum(axis=1)
    np.testing.assert_allclose(wide, expected, atol=1e-6)
    np.testing.assert_array_equal(flipped, [3, 2, 1, 0])
    np.testing.assert_allclose(within, [0.5, 1.5, 2.5], atol=1e-6)
    np.testing.assert_array_equal(same, line[0, :, 0])


def test_windows_are_one_for_each_example():
    """A resized crop that shrinks nothing is an affine map with a repeated border."""
    images = np.stack([IMAGE, IMAGE[::-1]])
    top = np.array([1.0, 2.5], np.float32)
    left = np.array([3.0, 0.5], np.float32)
    height = np.array([6.0, 5.0], np.float32)
    width = np.array([8.0, 4.0], np.float32)
    y = jax.jit(
        lambda x, *w: augment.resized_crop(
            x, top=w[0], left=w[1], height=w[2], width=w[3], size=(11, 13)
        )
    )(images, top, left, height, width)
    for i in range(2):
        rows = top[i] + (np.arange(11) + 0.5) * height[i] / 11 - 0.5
        columns = left[i] + (np.arange(13) + 0.5) * width[i] / 13 - 0.5
        for channel in range(3):
            image = images[i, ..., channel]
            wide = np.stack([np.interp(columns, np.arange(12), row) for row in image])
            expected = [np.interp(rows, np.arange(9), column) for column in wide.T]
            np.testing.assert_allclose(y[i, ..., channel], np.transpose(expected), atol=1e-5)
    assert_rounded_once(lambda x: augment.resize(x, size=(4, 20)), IMAGE)


@pytest.mark.parametrize("mode", BORDERS)
def test_padding_is_numpys(mode):
    y = jax.jit(lambda x: augment.pad(x, width=(15, 3, 0, 30), border=BORDERS[mode]))(IMAGE)
    np.testing.assert_array_equal(y, np.pad(IMAGE, ((15, 3), (0, 30), (0, 0)), mode))


def test_pad_fills_with_a_value_for_each_channel():
    images = np.stack([IMAGE, 1 - IMAGE])
    fill = np.array([0.1, 0.2, 0.3], np.float32)
    y, plain = jax.jit(
        lambda x, fill: (augment.pad(x, width=2, fill=fill), augment.pad(x, width=(1, 0, 2, 3)))
    )(images, fill)
    for i in range(2):
        np.testing.assert_array_equal(inner(y[i], 2), images[i])
    outside = np.ones((13, 16), bool)
    outside[2:-2, 2:-2] = False
    np.testing.assert_array_equal(np.asarray(y)[:, outside], np.broadcast_to(fill, (2, 100, 3)))
    np.testing.assert_array_equal(plain, np.pad(images, ((0, 0), (1, 0), (2, 3), (0, 0))))


def test_center_crop_takes_the_middle():
    sizes = ((3, 4), (4, 12), (2, 12))
    crops = jax.jit(lambda x: [augment.center_crop(x, size=size) for size in sizes])
    small, wide, low = crops(IMAGE)
    np.testing.assert_array_equal(small, IMAGE[3:6, 4:8])
    # Python rounds halves to even, as torchvision does: 2.5 to 2, and 3.5 to 4.
    np.testing.assert_array_equal(wide, IMAGE[2:6])
    np.testing.assert_array_equal(low, IMAGE[4:6])


def test_crop_reads_each_example_at_its_own_place():
    images = np.stack([IMAGE, 1 - IMAGE, IMAGE[::-1]])
    y = jax.jit(lambda x, t, s: augment.crop(x, top=t, left=s, size=(4, 5)))(
        images, np.array([0, 2, 99]), 1
    )
    for one, image, top in zip(y, images, (0, 2, 5), strict=True):
        np.testing.assert_array_equal(one, image[top : top + 4, 1:6])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: augment.resize(x, size=(0, 2)), r"`size` must be positive, got \(0, 2\)"),
        (lambda x: augment.resize(x[:0], size=(2, 2)), r"`image` must have at least one pixel"),
        (lambda x: augment.crop(x, top=0, left=0, size=(3, 13)), r"`size` must be at most the 9 x"),
        (lambda x: augment.center_crop(x, size=(10, 3)), r"enlarge the image first with augment"),
        (lambda x: augment.pad(x, width=-1), r"`width` must be a single number, zero or positive"),
        (lambda x: augment.pad(x, width=(1, 2)), r"or four numbers .*got \(1, 2\)"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(IMAGE)
