"""Splits of arrays into training, validation and test rows."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from jaxreg.study import stratified_split

Y = np.arange(200) % 2


@pytest.mark.parametrize("shape", [(12,), (4, 3), (2, 3, 2)])
def test_rows_of_any_shape_are_standardized_and_lead_back(shape):
    x = np.arange(2400.0).reshape(200, *shape)
    split = stratified_split(x, Y, train_size=60)(0)
    back = np.concatenate([split.train_x, split.validation_x, split.test_x])
    back = back * split.stddev + split.mean
    back = back[np.argsort(back.reshape(200, -1)[:, 0])]
    np.testing.assert_allclose(back, x, rtol=1e-4, atol=1e-2)
    assert split.train_x.dtype == split.mean.dtype == split.stddev.dtype == np.float32


def test_features_are_standardized_with_the_training_rows_alone():
    x = np.random.default_rng(0).normal(5, 3, (300, 2))
    x[:, 1] *= 1e-3
    split = stratified_split(x, np.arange(300) % 2, train_size=60)(0)
    np.testing.assert_allclose(split.train_x.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(split.train_x.std(axis=0), 1, atol=1e-4)
    assert (abs(split.test_x.mean(axis=0)) > 1e-4).all()


@pytest.mark.parametrize("shape", [(5, 3), (4, 5, 3)])
def test_series_and_images_are_standardized_by_channel(shape):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (200, *shape)).astype(np.uint8)
    x[..., 1] //= 4
    x[..., 2] = 7
    split = stratified_split(x, Y, train_size=60)(0)
    want = StandardScaler().fit(split.train_x.reshape(-1, 3) * split.stddev.ravel())
    axes = tuple(range(len(shape)))
    np.testing.assert_allclose(split.train_x.mean(axis=axes), 0, atol=1e-5)
    np.testing.assert_allclose(split.train_x.std(axis=axes), [1, 1, 0], atol=1e-5)
    np.testing.assert_allclose(split.stddev.ravel(), want.scale_, rtol=1e-5)
    assert split.mean.shape == (*(1,) * len(shape[:-1]), 3)
    # The pixels of a channel keep their differences.
    assert (np.diff(split.train_x[..., :1], axis=0).std(axis=0) != 1).any()


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e8 / 3])
def test_a_constant_feature_becomes_zero(value):
    x = np.random.default_rng(0).normal(size=(240, 2))
    x[:, 1] = value
    split = stratified_split(x, np.arange(240) % 2, train_size=100)(0)
    for part in (split.train_x, split.validation_x, split.test_x):
        np.testing.assert_allclose(part[:, 1], 0, atol=1e-6)


def test_numbers_as_labels_make_a_regression():
    x = np.random.default_rng(0).normal(size=(200, 2))
    y = 7 + 3 * x[:, 0]
    split = stratified_split(x, y, train_size=60)(1)
    np.testing.assert_allclose(split.train_y.mean(), 0, atol=1e-6)
    np.testing.assert_allclose(split.train_y.std(), 1, atol=1e-6)
    assert split.train_y.dtype == np.float32
    assert split.sizes == (60, 60, 80)
    # Rows and labels stay together, and both lead back.
    for rows, labels in ((split.train_x, split.train_y), (split.test_x, split.test_y)):
        back = labels * split.target_stddev + split.target_mean
        own = rows[:, 0] * split.stddev[0] + split.mean[0]
        np.testing.assert_allclose(back, 7 + 3 * own, rtol=1e-5, atol=1e-5)


def test_several_targets_are_standardized_each():
    x = np.random.default_rng(0).normal(size=(200, 2))
    split = stratified_split(x, np.stack([x[:, 0], 1e3 * x[:, 1], x[:, 0] * 0], 1), train_size=60)
    split = split(0)
    np.testing.assert_allclose(split.train_y.std(axis=0), [1, 1, 0], atol=1e-5)
    assert split.target_mean.shape == split.target_stddev.shape == (3,)


def test_a_class_of_two_rows_is_divided_as_well_as_it_can_be():
    x = np.random.default_rng(0).normal(size=(240, 4))
    y = np.arange(240) % 2
    y[:2] = 2
    for seed in range(4):
        split = stratified_split(x, y, train_size=60)(seed)
        assert split.sizes == (60, 60, 120)
        labels = np.concatenate([split.train_y, split.validation_y, split.test_y])
        np.testing.assert_array_equal(np.bincount(labels), [119, 119, 2])


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.full((200, 2), np.nan), Y, "`x` must be finite, got 400 other"),
        (np.full((200, 2), 1e300), Y, "`x` must be finite"),
        (np.full((200, 2), "a"), Y, "`x` must be numbers, got <U1"),
        (np.ones((200, 2)), Y[1:], "`x` must be .rows, features. and `y` .rows."),
        (np.ones((200, 1, 1, 1, 1)), Y, r"may also be a series .time, channels. or an image"),
        (np.ones((200, 2)), np.full(200, np.inf), "`y` must be finite, got 200 other"),
        (np.ones((200, 2)), Y + 1, "`y` must be labels from 0 .*, got 1, 2;"),
        (np.ones((200, 2)), np.zeros(200, int), "`y` must contain at least two classes, got 1"),
        (np.ones((200, 2)), np.minimum(np.arange(200), 2), "2 rows of every class, got 1 of 0, 1"),
        (np.ones((200, 2)), np.arange(200) % 6 + 1, r"without gaps, got 1, 2, 3, 4, 5, \.\.\.;"),
        (np.ones((200, 2)), np.arange(200) % 5 + 1, "without gaps, got 1, 2, 3, 4, 5;"),
    ],
)
def test_data_that_cannot_be_split_raises(x, y, message):
    with pytest.raises(ValueError, match=message):
        stratified_split(x, y, train_size=60)


def test_words_as_labels_raise_with_the_way_to_number_them():
    with pytest.raises(ValueError, match=r"`y` must be integers.*return_inverse") as error:
        stratified_split(np.ones((200, 2)), np.array(["no", "yes"])[Y], train_size=60)
    assert "astype(int)" not in str(error.value)
