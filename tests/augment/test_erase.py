"""Erased boxes and grids: their equations in NumPy, and where random ones lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxreg import augment
from tests.augment.helpers import KEY, assert_distribution, different
from tests.helpers import assert_rate

SIZE = (9, 8)


def boxed(row, column, height, width):
    """The pixels of a box, each end of which rounds halves up."""
    i, j = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    top = np.floor(row - height / 2 + 0.5)
    bottom = np.floor(row + height / 2 + 0.5)
    left = np.floor(column - width / 2 + 0.5)
    right = np.floor(column + width / 2 + 0.5)
    return (i >= top) & (i < bottom) & (j >= left) & (j < right)


def test_a_box_is_that_of_its_equation_cut_off_at_the_border():
    boxes = np.array([[0, 4, 4, 3], [9, 4, 4, 3], [4.5, 3.5, 3, 2], [2.3, 6.1, 2.6, 5.2],
                      [4, 4, 0, 3], [1.7, 1.2, 1, 1], [5, 3, 99, 2]], np.float32)  # fmt: skip
    noise = np.random.default_rng(0).normal(size=(7, *SIZE, 3)).astype(np.float32)

    @jax.jit
    def erased(x, row, column, height, width):
        options = {"row": row, "column": column, "height": height, "width": width}
        return augment.cutout(x, **options), augment.cutout(x, **options, fill=noise)

    zeros, filled = erased(1 + abs(noise), *boxes.T)
    for i, box in enumerate(boxes):
        mask = boxed(*box)[..., None]
        np.testing.assert_array_equal(zeros[i], np.where(mask, 0, 1 + abs(noise[i])))
        np.testing.assert_array_equal(filled[i], np.where(mask, noise[i], 1 + abs(noise[i])))


def test_the_numbers_of_a_box_may_be_one_for_all():
    y = jax.jit(lambda x: augment.cutout(x, row=3, column=5.0, height=2, width=4.0, fill=0.25))(
        np.ones((2, *SIZE, 1), np.float32)
    )
    np.testing.assert_array_equal(y[..., 0], [np.where(boxed(3, 5, 2, 4), 0.25, 1)] * 2)


def test_cutouts_are_anywhere_with_the_same_probability():
    number = 20000
    call = jax.jit(lambda x: augment.random_cutout(KEY, x, height=2, width=3, fill=0.5))
    y = call(np.ones((number, 6, 5, 1), np.float32))
    erased = np.asarray(y[..., 0] == 0.5).mean(axis=0)
    # A pixel is erased by the centers within half a height of it, less those beyond the border.
    rows = np.array([1.5, 2, 2, 2, 2, 1.5]) / 6
    columns = np.array([2, 3, 3, 3, 2]) / 5
    np.testing.assert_allclose(erased, rows[:, None] * columns, atol=5 * 0.5 / number**0.5)


def test_erased_boxes_have_the_area_and_lie_within():
    options = {"probability": 0.6, "scale": (0.1, 0.2), "ratio": (0.25, 0.8), "fill": -1.0}
    call = jax.jit(lambda x: augment.random_erasing(KEY, x, **options))
    erased = np.asarray(call(np.ones((5000, 40, 30, 1), np.float32)))[..., 0] == -1
    hit = erased.any(axis=(1, 2))
    assert_rate(hit.mean(), 0.6, 5000)
    boxes = erased[hit]
    height = boxes.any(2).sum(1)
    width = boxes.any(1).sum(1)
    area = boxes.sum(axis=(1, 2))
    np.testing.assert_array_equal(area, height * width)
    share = area / 1200
    assert share.min() > 0.1 - 0.015
    assert share.max() < 0.2 + 0.015
    np.testing.assert_allclose(share.mean(), 0.15, atol=0.003)
    # Logarithms of width over height are uniform, but for the rounding to pixels.
    ratio = np.log(width / height)
    low, high = np.log([0.25, 0.8])
    assert ratio.min() > low - 0.15
    assert ratio.max() < high + 0.15
    np.testing.assert_allclose(ratio.mean(), (low + high) / 2, atol=0.03)
    # Every place at which a box fits is as likely; both borders are reached.
    top = boxes.any(2).argmax(1)
    left = boxes.any(1).argmax(1)
    for begin, free in ((top, 40 - height), (left, 30 - width)):
        assert (begin == 0).any()
        assert (begin == free).any()
        jitter = np.random.default_rng(0).random(len(begin))
        assert_distribution((begin + jitter) / (free + 1), stats.uniform)


def test_a_box_larger_than_the_image_is_cut_to_it():
    @jax.jit
    def run(x, ratio):
        options = {"probability": 1.0, "scale": (1.0, 1.0), "ratio": (ratio, ratio)}
        return augment.random_erasing(KEY, x, **options)

    for ratio, width, height in ((4.0, 10, 5), (0.25, 5, 10)):
        erased = np.asarray(run(np.ones((50, 10, 10, 1), np.float32), ratio))[..., 0] == 0
        np.testing.assert_array_equal(erased.any(1).sum(1), [width] * 50)
        np.testing.assert_array_equal(erased.any(2).sum(1), [height] * 50)


def test_limits_of_boxes_are_right_where_they_are_traced():
    images = np.ones((50, 10, 10, 1), np.float32)

    @jax.jit
    def run(x, scale, ratio):
        options = {"probability": 1.0, "scale": (scale, scale), "ratio": (ratio, ratio)}
        return augment.random_erasing(KEY, x, **options)

    np.testing.assert_array_equal(run(images, 0.0, 1.0), images)
    assert (np.asarray(run(images, np.inf, 1.0)) == 0).all()
    # As wide as it is high times 0 or infinity: lines without an area.
    for ratio in (0.0, np.inf):
        np.testing.assert_array_equal(run(images, 0.5, ratio), images)
    everything = jax.jit(lambda x: augment.cutout(x, row=3, column=3, height=np.inf, width=2))
    assert (np.asarray(everything(images))[:, :, 2:4] == 0).all()


def test_the_ratio_is_one_over_torchvisions():
    """Here a ratio of 4 is four times as wide as high; there, and in timm, as high as wide."""
    call = jax.jit(
        lambda x: augment.random_erasing(KEY, x, probability=1.0, scale=(0.09, 0.09), ratio=(4, 4))
    )
    erased = np.asarray(call(np.ones((9, 20, 20, 1), np.float32)))[..., 0] == 0
    np.testing.assert_array_equal(erased.any(2).sum(1), [3] * 9)
    np.testing.assert_array_equal(erased.any(1).sum(1), [12] * 9)


def test_the_default_boxes_are_the_published_ones():
    """An area of 0.02 to 1/3 of the image, a ratio of 0.3 to 1 / 0.3."""
    call = jax.jit(lambda x: augment.random_erasing(KEY, x, probability=1.0))
    erased = np.asarray(call(np.ones((2000, 60, 60, 1), np.float32)))[..., 0] == 0
    height = erased.any(2).sum(1)
    width = erased.any(1).sum(1)
    share = height * width / 3600
    np.testing.assert_allclose([share.min(), share.max()], [0.02, 1 / 3], atol=0.01)
    ratio = np.log(width / height)
    np.testing.assert_allclose([ratio.min(), ratio.max()], [-1.204, 1.204], atol=0.15)
    assert abs(ratio.mean()) < 5 * ratio.std() / 2000**0.5


def test_a_grid_mask_is_that_of_its_equation():
    i, j = np.mgrid[0:11, 0:13]

    @jax.jit
    def masked(x, spacing, ratio, row, column):
        return augment.grid_mask(x, spacing=spacing, share=ratio, row=row, column=column, fill=7.0)

    images = np.ones((4, 11, 13, 2), np.float32)
    spacing = np.float32([5, 3.5, 2, 0])
    ratio = np.float32([0.4, 0.75, 1, 0.5])
    row = np.float32([1, -2, 0.5, 0])
    column = np.float32([-3, 0.25, 8, 0])
    y = np.asarray(masked(images, spacing, ratio, row, column))
    for k in range(3):
        erased = (np.mod(i - row[k], spacing[k]) < ratio[k] * spacing[k]) & (
            np.mod(j - column[k], spacing[k]) < ratio[k] * spacing[k]
        )
        np.testing.assert_array_equal(y[k], np.where(erased[..., None], 7, images[k]))
    # The third has a ratio of 1: all is erased. A spacing of 0 is finite.
    assert (y[2] == 7).all()
    assert np.isfinite(y[3]).all()
    np.testing.assert_array_equal(masked(images, 5.0, 0.0, 0.0, 0.0), images)


def test_random_grids_have_the_spacing_asked_for_and_lie_anywhere():
    number = 4000
    call = jax.jit(lambda x: augment.random_grid_mask(KEY, x, spacing=(4.0, 8.0), share=0.5))
    erased = np.asarray(call(np.ones((number, 40, 24, 1), np.float32)))[..., 0] == 0
    np.testing.assert_allclose(erased.mean(axis=0), 0.25, atol=5 * 0.5 / number**0.5)
    for axis, length in ((2, 40), (1, 24)):
        begins = np.diff(erased.any(axis=axis).astype(int), axis=1) == 1
        starts = begins.sum(axis=1)
        # One in a spacing d, which is uniform from 4 to 8: the mean of 1 / d is log(2) / 4.
        expected = (length - 1) * np.log(2) / 4
        assert abs(starts.mean() - expected) < 5 * starts.std() / number**0.5
        assert starts.min() == (length - 1) // 8
        assert starts.max() == -(-(length - 1) // 4)


ERASERS = {
    "cutout": lambda x: augment.random_cutout(KEY, x, height=3, width=3),
    "erasing": lambda x: augment.random_erasing(KEY, x, probability=1.0, scale=(0.2, 0.4)),
    "grid": lambda x: augment.random_grid_mask(KEY, x, spacing=(3.0, 6.0), share=0.4),
}


@pytest.mark.parametrize("name", ERASERS)
def test_each_example_is_erased_by_itself(name):
    x = jnp.ones((6, 12, 12, 1), jnp.bfloat16)
    y = jax.jit(ERASERS[name])(x)
    assert y.dtype == jnp.bfloat16
    assert different(y) > 3
    empty = jax.eval_shape(ERASERS[name], jax.ShapeDtypeStruct((0, 4, 4, 1), jnp.float32))
    assert empty.shape == (0, 4, 4, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: augment.cutout(x, row=1, column=1, height=1, width=-1), r"`width` must be zero"),
        (lambda x: augment.grid_mask(x, spacing=-1.0, share=0.5), r"`spacing` must be positive"),
        (lambda x: augment.random_erasing(KEY, x, probability=0.5, scale=(-1, 1)), r"`scale` must"),
        (lambda x: augment.random_erasing(KEY, x, probability=0.5, ratio=(-1, 1)), r"`ratio` must"),
        (lambda x: augment.random_grid_mask(KEY, x, spacing=(-1, 1), share=0.5), r"`spacing` must"),
        (lambda x: augment.random_grid_mask(KEY, x, spacing=(0, 1), share=0.5), r"`spacing` must"),
        (lambda x: augment.random_grid_mask(KEY, x, spacing=3.0, share=0.5), r"`spacing` .* pair"),
        (lambda x: augment.grid_mask(x, spacing=np.inf, share=0.5), r"`spacing` must be finite"),
        (lambda x: augment.random_erasing(KEY, x, probability=1, ratio=(0, 1)), r"`ratio` must be"),
        (lambda x: augment.random_erasing(KEY, x, probability=1, ratio=(1, np.inf)), r"`ratio` .*"),
        (lambda x: augment.random_erasing(KEY, x, probability=1, scale=(0, np.inf)), r"`scale` .*"),
        (lambda x: augment.random_erasing(KEY, x, probability=1, scale=0.3), r"`scale` .* pair"),
        (lambda x: augment.cutout(x, row=np.nan, column=1, height=1, width=1), r"`row` must be fi"),
        (
            lambda x: augment.cutout(x, row=1, column=1, height=1, width=1, fill=np.ones(2)),
            r"`fill` must broadcast to shape \(2, 4, 4, 3\)",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(call, np.ones((2, 4, 4, 3), np.float32))
