"""Labels: the task, the classes, and rows without a label."""

import numpy as np
import pandas as pd
import pytest

from jaxreg.study.data.targets import read_targets

ROWS = np.arange(60)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array(["yes", "no"])[ROWS % 2], ("no", "yes")),
        (ROWS % 3 + 1, ("1", "2", "3")),
        (ROWS % 2 == 1, ("False", "True")),
        (ROWS % 3 * 2.0 + 8, ("8", "10", "12")),
        (ROWS % 2 - 1, ("-1", "0")),
        (pd.Series(ROWS % 3, dtype="Int64"), ("0", "1", "2")),
        (pd.Series(ROWS % 11 * 10, dtype="category"), tuple(map(str, range(0, 110, 10)))),
        (list(" a" if i % 2 else "b " for i in ROWS), ("a", "b")),
        (np.eye(3)[ROWS % 3], ("0", "1", "2")),
        ((ROWS % 2)[:, None], ("0", "1")),
    ],
)
def test_classes_are_numbered_in_the_order_of_their_names(labels, classes):
    found = read_targets(labels, None)
    assert (found.task, found.classes, found.outputs) == ("classification", classes, len(classes))
    assert found.values.dtype == np.int32
    assert found.kept.all()
    names = np.asarray(labels) if np.ndim(labels) == 1 else np.argmax(labels, axis=1)
    for name, own in zip(names, np.array(classes)[found.values], strict=True):
        if np.ndim(labels) == 1:
            assert str(name).strip().removesuffix(".0") == own
    if np.shape(labels) == (60, 3):
        np.testing.assert_array_equal(found.values, names)


@pytest.mark.parametrize(
    ("numbers", "task", "says_so"),
    [
        (ROWS * 1.5, "regression", False),
        (ROWS * 1.0, "regression", True),
        (ROWS % 12 + 1, "classification", False),
        (ROWS % 12 + 3, "classification", True),
        (ROWS % 13 + 3, "regression", True),
        (np.arange(900) % 90, "classification", True),
        (np.arange(900) % 90 + 17, "regression", True),
        (np.arange(899) % 90, "regression", True),
    ],
)
def test_the_task_of_numbers_follows_from_how_many_differ(numbers, task, says_so):
    found = read_targets(numbers, None)
    assert found.task == task
    told = [note for note in found.notes if note.startswith(f"Assumed {task}")]
    assert len(told) == says_so
    other = "regression" if task == "classification" else "classification"
    assert all(f"`task` {other}" in note for note in told)


def test_the_task_can_be_asked_for():
    assert read_targets(ROWS % 3, "regression").task == "regression"
    assert read_targets(ROWS % 3, "regression").classes == ()
    assert read_targets(ROWS % 3 / 2, "classification").classes == ("0", "0.5", "1")
    assert read_targets(np.array(["1.5", "2", "7"])[ROWS % 3], "regression").values.max() == 7
    with pytest.raises(ValueError, match="`task` must be classification for labels such as 'no'"):
        read_targets(np.array(["no", "yes"])[ROWS % 2], "regression")
    with pytest.raises(ValueError, match=r"`task` must be regression for labels of shape .60, 2"):
        read_targets(np.random.default_rng(0).normal(size=(60, 2)), "classification")


def test_rows_without_a_label_are_left_out():
    labels = pd.Series(np.array(["a", "b"], object)[ROWS % 2])
    labels[[3, 8]] = None
    found = read_targets(labels, None)
    assert found.values.shape == (58,)
    assert np.flatnonzero(~found.kept).tolist() == [3, 8]
    assert found.classes == ("a", "b")
    assert "Left out 2 rows without a label." in found.notes
    numbers = np.stack([ROWS * 1.5, -ROWS], axis=1)
    numbers[4, 0] = np.nan
    found = read_targets(numbers, None)
    assert (found.values.shape, found.outputs) == ((59, 2), 2)
    with pytest.raises(ValueError, match="`target` must contain labels, but all"):
        read_targets(np.full(60, np.nan), None)


def test_unequal_and_small_classes_are_named_with_their_shares():
    labels = np.where(ROWS < 54, "often", "rare")
    notes = read_targets(labels, None).notes
    assert any("Unequal classes: often 90.0%, rare 10.0%" in note for note in notes)
    assert any("Few rows of rare (6)" in note for note in notes)
    assert read_targets(ROWS % 2, None).notes == ()


def test_labels_far_from_the_others_are_named():
    numbers = np.random.default_rng(0).normal(size=200)
    assert read_targets(numbers, None).notes == ()
    numbers[0] = 1e4
    assert "14 standard deviations" in read_targets(numbers, None).notes[0]


@pytest.mark.parametrize(
    ("labels", "task", "message"),
    [
        (np.full(60, "a"), None, "`target` must contain at least two classes, got only a"),
        (
            np.append(ROWS[:59] % 2, 7),
            None,
            "`target` must contain at least 2 rows of .*, got 1 of 7;",
        ),
        (ROWS.astype(str), "classification", "got 1 of 60 of 60 classes, such as 0; .*`task` regr"),
        (np.full(60, 1.5), None, "`target` must vary between rows, got 1.5"),
        (np.stack([ROWS * 1.5, ROWS * 0 + 7], axis=1), None, "vary between rows, got 7 in all"),
        (np.append(ROWS[:59] * 1.5, np.inf), None, "`target` must be finite, got 1 other number;"),
        (
            np.zeros((60, 2, 2)),
            None,
            r"`target` must be one label per row, got shape .60, 2, 2",
        ),
        (np.full((60, 2), "a"), None, r"`target` must be one label per row, got shape .60, 2"),
    ],
)
def test_labels_that_fit_no_task_raise(labels, task, message):
    with pytest.raises(ValueError, match=message):
        read_targets(labels, task)
