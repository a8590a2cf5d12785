"""Data sets, and their splits into training, validation and test rows."""

import numpy as np
import pytest

from jaxreg.study import data
from tests.study.helpers import KINDS


@pytest.mark.parametrize("name", KINDS)
def test_the_shape_of_a_row_tells_its_kind(name):
    assert data.kind(KINDS[name][0](0).train_x) == name


@pytest.mark.parametrize("shape", [(12,), (4, 3), (2, 3, 2)])
def test_rows_of_any_shape_are_standardized_and_lead_back(shape):
    x = np.arange(2400.0).reshape(200, *shape)
    split = data.stratified_split(x, np.arange(200) % 2, train_size=60)(0)
    np.testing.assert_allclose(split.train_x.mean(axis=0), np.zeros(shape), atol=1e-5)
    back = np.concatenate([split.train_x, split.validation_x, split.test_x])
    back = back * split.stddev + split.mean
    back = back[np.argsort(back.reshape(200, -1)[:, 0])]
    np.testing.assert_allclose(back, x, rtol=1e-4, atol=1e-2)


def test_the_data_sets_of_every_kind_have_the_shapes_of_their_tasks():
    for name, task in data.TASKS.items():
        split = task.load(train_size=100)(0)
        assert split.train_x.shape == (100, *(task.shape or split.train_x.shape[1:]))
        assert set(np.unique(split.train_y)) == set(range(task.num_classes))
        assert data.kind(split.train_x) == {
            "digits": "image", "digit_rows": "series", "text": "text"
        }.get(name, "table")  # fmt: skip
    rows = data.digit_rows(train_size=100)(3)
    images = data.digits(train_size=100)(3)
    np.testing.assert_array_equal(rows.test_x[..., None], images.test_x)


def test_rows_of_other_shapes_raise():
    with pytest.raises(ValueError, match=r"Rows must be one of table .*, got shape \(\)"):
        data.kind(np.ones(3))
    with pytest.raises(ValueError, match=r"may also be a series .time, channels. or an image"):
        data.stratified_split(np.ones((200, 1, 1, 1, 1)), np.arange(200) % 2, train_size=60)


def test_splits_are_disjoint_and_keep_the_share_of_every_class():
    # The first feature is the number of the row, which standardizing keeps apart.
    y = np.repeat([0, 1, 2], [100, 200, 300])
    x = np.stack([np.arange(600.0), np.ones(600)], axis=1)
    split = data.stratified_split(x, y, train_size=120)(3)
    assert split.sizes == (120, 120, 360)
    parts = [split.train_x, split.validation_x, split.test_x]
    assert len(np.unique(np.concatenate(parts)[:, 0])) == 600
    for labels in (split.train_y, split.validation_y, split.test_y):
        np.testing.assert_allclose(np.bincount(labels) / len(labels), [1 / 6, 2 / 6, 3 / 6])
        assert labels.dtype == np.int32
    assert split.train_x.dtype == np.float32


@pytest.mark.parametrize("load", [data.digits, data.breast_cancer])
def test_no_seed_chooses_on_the_test_rows_of_another(load):
    # Undoing the scales is not exact, so rows are told apart by where they come from.
    numbers = np.stack([np.arange(600.0), np.ones(600)], axis=1)
    split = data.stratified_split(numbers, np.arange(600) % 3, train_size=120)
    chosen = set()
    tested = set()
    for seed in range(8):
        found = split(seed)
        every = np.concatenate([found.train_x, found.validation_x, found.test_x])[:, 0]
        rank = np.argsort(np.argsort(every))
        chosen |= set(rank[:240].tolist())
        tested |= set(rank[240:].tolist())
    assert len(chosen) == 240
    assert len(tested) == 360
    assert not chosen & tested
    first = load(train_size=100)(0)
    second = load(train_size=100)(1)
    np.testing.assert_array_equal(first.test_y, second.test_y)


def test_the_sizes_of_the_default_splits():
    assert data.digits(train_size=300)(0).sizes == (300, 300, 1197)
    assert data.breast_cancer(train_size=150)(0).sizes == (150, 150, 269)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.full((200, 2), np.nan), np.arange(200) % 2, "`x` must be finite, got 400 other"),
        (np.full((200, 2), 1e300), np.arange(200) % 2, "`x` must be finite"),
        (np.ones((200, 2)), np.arange(199) % 2, "`x` must be .rows, features. and `y` .rows."),
        (np.ones((200, 2)), np.arange(200) % 2 / 1, "`y` must be integers, got float64"),
        (np.ones((200, 2)), np.arange(200) % 2 + 1, "`y` must be labels from 0 .*, got 1, 2;"),
        (np.ones((200, 2)), np.zeros(200, int), "`y` must have at least two classes, got 1"),
        (np.ones((200, 2)), np.arange(200) % 6 + 1, r"without a gap, got 1, 2, 3, 4, 5, \.\.\.;"),
        (np.ones((200, 2)), np.arange(200) % 5 + 1, "without a gap, got 1, 2, 3, 4, 5;"),
    ],
)
def test_data_that_cannot_be_split_raises(x, y, message):
    with pytest.raises(ValueError, match=message):
        data.stratified_split(x, y, train_size=60)


def test_fifty_rows_are_left_for_each_of_validation_and_test():
    x = np.random.default_rng(0).normal(size=(200, 2))
    y = np.arange(200) % 2
    assert data.stratified_split(x, y, train_size=100)(0).sizes == (100, 50, 50)
    assert data.stratified_split(x, y, train_size=70)(0).sizes == (70, 65, 65)
    with pytest.raises(ValueError, match=r"`train_size` must be from 2 to 100, .*, got 101"):
        data.stratified_split(x, y, train_size=101)


def test_text_is_split_as_other_rows_are():
    split = data.text(train_size=500)(0)
    assert split.sizes == (500, 500, 1000)
    assert split.train_x.dtype == np.int32
    assert (split.mean, split.stddev) == (0, 1)
    np.testing.assert_array_equal(split.test_x, data.text(train_size=500)(1).test_x)


def test_a_missing_module_names_the_line_that_installs_it():
    with pytest.raises(ImportError, match=r"a study needs nowhere, .*: pip install .jaxreg.study"):
        data.extra("nowhere.at_all")


def test_the_tasks_train_as_documented():
    """Numbers that published figures, the README and the cost of a study rest on."""
    found = {
        name: (t.num_classes, t.train_size, t.hidden, t.epochs, t.batch_size, t.learning_rate)
        for name, t in data.TASKS.items()
    }
    assert found == {
        "digits": (10, 300, (128, 128), 60, 50, 1e-3),
        "digit_rows": (10, 300, (128, 128), 60, 50, 1e-3),
        "text": (2, 500, (64, 64), 40, 50, 1e-3),
        "breast_cancer": (2, 150, (128, 128), 60, 50, 1e-3),
        "circles": (2, 1000, (50, 50), 50, 32, 1e-2),
    }
    assert data.TASKS["circles"].strengths == {"l1": (0.01,), "l2": (0.01,), "dropout": (0.5,)}


def test_features_are_standardized_with_the_training_rows_alone():
    x = np.random.default_rng(0).normal(5, 3, (300, 2)).astype(np.float32)
    x[:, 1] = 7
    split = data.stratified_split(x, np.arange(300) % 2, train_size=60)(0)
    np.testing.assert_allclose(split.train_x.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(split.train_x.std(axis=0), [1, 0], atol=1e-5)
    assert abs(split.test_x[:, 0].mean()) > 1e-4
    np.testing.assert_array_equal(split.test_x[:, 1], 0)


def test_small_features_are_standardized_too():
    x = np.random.default_rng(0).normal(0, 1e-3, (300, 2)).astype(np.float32)
    split = data.stratified_split(x, np.arange(300) % 2, train_size=60)(0)
    np.testing.assert_allclose(split.train_x.std(axis=0), 1, atol=1e-4)


def test_a_seed_decides_its_split():
    split = data.digits(train_size=100)
    for one, again, other in zip(split(1), split(1), split(2), strict=True):
        np.testing.assert_array_equal(one, again)
        assert one.shape == other.shape
    assert (split(1).train_y != split(2).train_y).any()


def test_circles_are_the_published_points():
    np.random.seed(42)
    points = np.random.rand(1000, 2) * 4 - 2
    split = data.circles(train_size=1000)
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


@pytest.mark.parametrize("load", [data.digits, data.breast_cancer, data.circles])
@pytest.mark.parametrize("size", [1, 1698])
def test_a_training_size_that_does_not_fit_raises(load, size):
    with pytest.raises(ValueError, match=f"`train_size` must be from 2 to .*, got {size}"):
        load(train_size=size)
