"""Data sets that need no download."""

import numpy as np
import pytest

from jaxreg.study.data import DATA_SETS, kind
from jaxreg.study.data.builtin import breast_cancer, circles, digit_rows, digits, text, xor


def test_every_set_has_the_shape_that_its_row_says():
    for name, own in DATA_SETS.items():
        split = own.load(train_size=100)(0)
        assert split.train_x.shape == (100, *(own.shape or split.train_x.shape[1:]))
        assert set(np.unique(split.train_y)) == set(range(own.num_classes))
        assert kind(split.train_x) == {
            "digits": "image", "digit_rows": "series", "text": "text"
        }.get(name, "table")  # fmt: skip


def test_the_sizes_of_the_default_splits():
    assert digits(train_size=300)(0).sizes == (300, 300, 1197)
    assert breast_cancer(train_size=150)(0).sizes == (150, 150, 269)
    assert text(train_size=500)(0).sizes == (500, 500, 1000)


def test_rows_of_digits_are_their_pixels():
    rows = digit_rows(train_size=100)(3)
    images = digits(train_size=100)(3)
    rows = rows.test_x * rows.stddev + rows.mean
    images = images.test_x * images.stddev + images.mean
    np.testing.assert_allclose(rows[..., None], images, atol=1e-4)


def test_texts_are_split_as_other_rows_are():
    split = text(train_size=500)(0)
    assert split.train_x.dtype == np.int32
    assert (split.mean, split.stddev) == (0, 1)
    np.testing.assert_array_equal(split.test_x, text(train_size=500)(1).test_x)


@pytest.mark.parametrize("load", [digits, xor])
def test_a_seed_decides_its_split(load):
    split = load(train_size=100)
    for one, again, other in zip(split(1), split(1), split(2), strict=True):
        np.testing.assert_array_equal(one, again)
        assert one.shape == other.shape
    assert (split(1).train_y != split(2).train_y).any()
    np.testing.assert_array_equal(split(1).test_y, split(2).test_y)


def test_the_sets_train_as_documented():
    """Numbers that published figures, the README and the cost of a study rest on."""
    found = {
        name: (s.num_classes, s.train_size, s.hidden, s.epochs, s.batch_size, s.learning_rate)
        for name, s in DATA_SETS.items()
    }
    assert found == {
        "digits": (10, 300, (128, 128), 60, 50, 1e-3),
        "digit_rows": (10, 300, (128, 128), 60, 50, 1e-3),
        "text": (2, 500, (64, 64), 40, 50, 1e-3),
        "breast_cancer": (2, 150, (128, 128), 60, 50, 1e-3),
        "circles": (2, 1000, (50, 50), 50, 32, 1e-2),
        "xor": (2, 200, (8,), 60, 20, 1e-2),
    }
    assert DATA_SETS["circles"].strengths == {"l1": (0.01,), "l2": (0.01,), "dropout": (0.5,)}
    assert DATA_SETS["xor"].strengths == {"l2": (0.01,), "dropout": (0.5,)}


def test_circles_are_the_published_points():
    np.random.seed(42)
    points = np.random.rand(1000, 2) * 4 - 2
    split = circles(train_size=1000)
    first = split(0)
    second = split(1)
    np.testing.assert_array_equal(first.train_x, points.astype(np.float32))
    np.testing.assert_array_equal(first.train_y, points[:, 0] ** 2 + points[:, 1] ** 2 > 5)
    np.testing.assert_array_equal(first.train_x, second.train_x)
    assert first.sizes == (1000, 1000, 1000)
    assert (first.validation_x != second.validation_x).all()
    np.testing.assert_array_equal(first.test_x, second.test_x)
    for one, other in ((first.validation_x, first.test_x), (first.train_x, first.test_x)):
        assert (one != other).all()
        assert abs(one).max() <= 2
    np.testing.assert_array_equal(first.test_y, (first.test_x.astype(float) ** 2).sum(axis=1) > 5)


def test_points_of_exclusive_or_lie_around_their_corners():
    split = xor(train_size=1000)(3)
    assert split.sizes == (1000, 1000, 1000)
    parts = ((split.train_x, split.train_y), (split.test_x, split.test_y))
    for points, labels in parts:
        told = (points > 0).sum(axis=1) == 1
        assert 0.97 < (told == labels).mean() < 1
        np.testing.assert_allclose(abs(points).mean(axis=0), 1, atol=0.05)
        np.testing.assert_allclose(points.std(axis=0), np.sqrt(1 + 0.4**2), atol=0.05)
    assert (split.train_x != split.validation_x).all()
    assert (split.train_x != split.test_x).all()
    assert (xor(train_size=1000)(0).validation_x != split.test_x).all()


@pytest.mark.parametrize("load", [digits, breast_cancer, circles])
@pytest.mark.parametrize("size", [1, 1698])
def test_a_training_size_that_does_not_fit_raises(load, size):
    with pytest.raises(ValueError, match=f"`train_size` must be from 2 to .*, got {size}"):
        load(train_size=size)


def test_exclusive_or_needs_two_points():
    with pytest.raises(ValueError, match="`train_size` must be at least 2, got 1"):
        xor(train_size=1)
