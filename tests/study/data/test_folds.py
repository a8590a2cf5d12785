"""Rows for training, validation and test by seed."""

import numpy as np
import pytest

from jaxreg.study.data.folds import Limits, row_drawer

LIMITS = Limits(held_out=10)
RNG = np.random.default_rng(0)


def sets(draw, seeds=6):
    """The rows of all seeds, which are disjoint and of the same sizes."""
    found = [draw(seed) for seed in range(seeds)]
    assert len({tuple(len(part) for part in parts) for parts in found}) == 1
    for parts in found:
        rows = np.concatenate(parts)
        assert len(np.unique(rows)) == len(rows)
    return found


def test_sets_keep_the_share_of_every_class():
    y = np.repeat([0, 1, 2], [100, 200, 300])
    for parts in sets(row_drawer(y, limits=LIMITS, train_size=120)):
        assert [len(part) for part in parts] == [120, 120, 360]
        for part in parts:
            np.testing.assert_allclose(np.bincount(y[part]) / len(part), [1 / 6, 2 / 6, 3 / 6])


def test_no_seed_chooses_on_the_test_rows_of_another():
    found = sets(row_drawer(np.arange(600) % 3, limits=LIMITS, train_size=120))
    chosen = set(np.concatenate([np.concatenate(parts[:2]) for parts in found]))
    tested = set(np.concatenate([parts[2] for parts in found]))
    assert len(tested) == 360
    assert not chosen & tested
    assert set(found[0][0]) != set(found[1][0])


@pytest.mark.parametrize(
    ("limits", "train_size", "sizes"),
    [
        (Limits(50), 100, (100, 50, 50)),
        (Limits(50), 70, (70, 65, 65)),
        (Limits(10), None, (120, 40, 40)),
        (Limits(10, train=80), None, (80, 60, 60)),
        (Limits(10, train=80), 90, (90, 55, 55)),
        (Limits(10, train=50, validation=20, test=30), None, (50, 20, 30)),
    ],
)
def test_sizes_follow_the_limits(limits, train_size, sizes):
    draw = row_drawer(RNG.normal(size=200), limits=limits, train_size=train_size)
    assert tuple(len(part) for part in sets(draw)[0]) == sizes


@pytest.mark.parametrize("size", [1, 181])
def test_a_training_size_that_does_not_fit_raises(size):
    with pytest.raises(ValueError, match=f"`train_size` must be from 2 to 180, .*, got {size}"):
        row_drawer(np.arange(200) % 2, limits=LIMITS, train_size=size)


def test_too_few_rows_raise():
    with pytest.raises(ValueError, match="must contain more rows: 21 can be used and 22 are"):
        row_drawer(np.arange(21) % 2, limits=LIMITS)
    with pytest.raises(ValueError, match="must contain more rows: 18 can be used and 22 are"):
        row_drawer(np.arange(20) % 2, limits=LIMITS, groups=np.arange(20) // 2)
    with pytest.raises(ValueError, match="must contain more rows: 11 can be used and 12 are"):
        row_drawer(np.arange(22) % 2, limits=LIMITS, folds=2)


def test_more_classes_than_a_set_has_rows_are_drawn_by_chance():
    draw = row_drawer(np.arange(60) % 30, limits=LIMITS, train_size=40)
    assert [len(part) for part in sets(draw)[0]] == [40, 10, 10]


@pytest.mark.parametrize("y", [np.arange(103) % 2, RNG.normal(size=103)])
def test_folds_test_every_row_once(y):
    found = sets(row_drawer(y, limits=LIMITS, folds=4), seeds=8)
    tested = np.concatenate([parts[2] for parts in found[:4]])
    assert len(np.unique(tested)) == len(tested) >= 100
    for first, second in zip(found[:4], found[4:], strict=True):
        np.testing.assert_array_equal(first[2], second[2])
        assert set(first[0]) != set(second[0])


def test_folds_are_stratified_whatever_the_order_of_the_rows():
    y = np.repeat([0, 1], [150, 50])
    for parts in sets(row_drawer(y, limits=LIMITS, folds=5)):
        for part in parts:
            np.testing.assert_allclose(y[part].mean(), 0.25, atol=0.01)


def test_folds_take_classes_with_fewer_rows_than_folds():
    y = np.arange(100) % 2
    y[:2] = 2
    sets(row_drawer(y, limits=LIMITS, folds=5))


@pytest.mark.parametrize("folds", [1, 3])
@pytest.mark.parametrize("y", [np.arange(240) // 120, RNG.normal(size=240)])
def test_a_group_is_in_one_set_alone(folds, y):
    groups = np.arange(240) // 6
    groups[:20] = 0
    found = sets(row_drawer(y, limits=LIMITS, groups=np.array(groups, str), folds=folds))
    for parts in found:
        owned = [set(groups[part]) for part in parts]
        assert not owned[0] & owned[1]
        assert not owned[0] & owned[2]
        assert not owned[1] & owned[2]
        # At most two sets of whole groups are filled up with rows that are then left out.
        assert sum(len(part) for part in parts) >= 240 - 2 * 20 - 3 * folds
    assert set(found[0][0]) != set(found[folds][0])


def test_groups_of_every_class_get_into_every_set():
    y = np.repeat([0, 1], [160, 40])
    groups = np.arange(200) // 4
    for parts in sets(row_drawer(y, limits=LIMITS, groups=groups)):
        for part in parts:
            assert 0.1 < y[part].mean() < 0.3


def test_groups_of_very_different_sizes_give_sets_of_the_same_sizes():
    sizes = np.array([30, 1, 1, 2, 5, 9, 40, 3, 20, 20, 25, 7, 12, 25])
    groups = np.repeat(np.arange(len(sizes)), sizes)
    sets(row_drawer(np.arange(200) % 2, limits=LIMITS, groups=groups), seeds=100)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.arange(100) // 50, "`groups` must contain at least 3 groups, .*, got 2"),
        (np.maximum(np.arange(100) - 60, 0), "`groups` must be small enough .* with 61 of the 100"),
    ],
)
def test_groups_that_fill_no_three_sets_raise(groups, message):
    with pytest.raises(ValueError, match=message):
        row_drawer(np.arange(100) % 2, limits=LIMITS, groups=groups)


@pytest.mark.parametrize(
    ("folds", "groups", "message"),
    [
        (11, None, "`folds` must be from 1 to 10 with so few rows, got 11"),
        (5, np.arange(100) // 25, "`folds` must be from 1 to 4 with so few groups and rows, got 5"),
        (4, np.repeat(np.arange(4), [32, 32, 31, 5]), "`folds` must leave at least 10 rows"),
    ],
)
def test_too_many_folds_raise(folds, groups, message):
    with pytest.raises(ValueError, match=message):
        row_drawer(np.arange(100) % 2, limits=LIMITS, folds=folds, groups=groups)
