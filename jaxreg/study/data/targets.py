"""Reads the labels of a study: finds the task, numbers the classes, drops rows without a label."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxreg.study.data.extras import extra
from jaxreg.study.data.wording import count_of, enumerate_names

TASKS = ("classification", "regression")
# Whole numbers are classes if there are few, or many rows of each.
_FEW_CLASSES = 20
_FEW_ROWS = 10
_UNEQUAL = 3


class Targets(NamedTuple):
    """Labels of the rows that have one.

    Attributes:
      values: Class ids, int32 ``[rows]``; or targets, float64 ``[rows]`` or ``[rows, targets]``.
      kept: Whether each row has a label.
      task: One of ``TASKS``.
      classes: Names of the classes; empty for a regression.
      notes: Remarks.
    """

    values: np.ndarray
    kept: np.ndarray
    task: str
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def outputs(self) -> int:
        """Number of classes, or of targets."""
        return len(self.classes) or int(np.prod(self.values.shape[1:], dtype=int))


def read_targets(y: Any, task: str | None) -> Targets:
    """Reads labels.

    Args:
      y: A column of words or numbers ``[rows]``, or numbers ``[rows, targets]``.
      task: One of ``TASKS``, or None to infer it.

    Raises:
      ValueError: The labels fit no task, or not the requested one.
    """
    y = y if hasattr(y, "isna") and hasattr(y, "dtype") else np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = np.asarray(y)[:, 0]
    if y.ndim == 2:
        return _read_matrix(np.asarray(y), task)
    if y.ndim != 1:
        raise ValueError(f"`target` must be one label per row, got shape {y.shape}.")
    pandas = extra("pandas")
    column = pandas.Series(y).reset_index(drop=True)
    kept = column.notna().to_numpy()
    column = column[kept]
    notes = _note_missing(kept)
    numbers = _numbers(pandas, column)
    if numbers is None or task == "classification":
        if task == "regression":
            word = str(column.iloc[0])
            raise ValueError(f"`task` must be classification for labels such as {word!r}.")
        return _number_classes(column, kept, notes)
    if task is None:
        task, remark = _guess_task(numbers)
        notes += remark
    if task == "classification":
        return _number_classes(column, kept, notes)
    return Targets(numbers, kept, task, notes=notes + _check_numbers(numbers))


def _note_missing(kept: np.ndarray) -> tuple[str, ...]:
    missing = int(np.count_nonzero(~kept))
    if missing == len(kept):
        raise ValueError("`target` must contain labels, but all of its cells are empty.")
    if not missing:
        return ()
    return (f"Left out {count_of(missing, 'row')} without a label.",)


def _numbers(pandas: Any, column: Any) -> np.ndarray | None:
    """Returns a column as numbers; None if it holds words, truth values or dates."""
    types = pandas.api.types
    if isinstance(column.dtype, pandas.CategoricalDtype) or types.is_bool_dtype(column.dtype):
        return None
    if types.is_datetime64_any_dtype(column.dtype):
        return None
    if types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64)
    if all(isinstance(value, bool | np.bool_) for value in column):
        return None
    found = pandas.to_numeric(column.astype(str).str.strip(), errors="coerce")
    return found.to_numpy(dtype=np.float64) if found.notna().all() else None


def _guess_task(numbers: np.ndarray) -> tuple[str, tuple[str, ...]]:
    """Returns the task of a column of numbers, with a note that says why."""
    values = np.unique(numbers)
    if not np.isfinite(values).all() or (values != np.round(values)).any():
        return "regression", ()
    distinct = len(values)
    in_a_row = values[0] in (0, 1) and values[-1] == values[0] + distinct - 1
    few = distinct <= _FEW_CLASSES and len(numbers) >= 5 * distinct
    many_rows = in_a_row and len(numbers) >= _FEW_ROWS * distinct
    task = "classification" if few or many_rows or distinct <= 2 else "regression"
    if distinct <= 2 or (few and in_a_row):
        return task, ()
    other = TASKS[task == "classification"]
    return task, (
        f"Assumed {task}, because the labels are {distinct} different whole numbers in "
        f"{count_of(len(numbers), 'row')}; `task` {other} would read them otherwise.",
    )


def _check_numbers(values: np.ndarray) -> tuple[str, ...]:
    """Raises ValueError if targets are infinite or constant; returns remarks."""
    count = int(np.count_nonzero(~np.isfinite(values)))
    if count:
        raise ValueError(
            f"`target` must be finite, got {count_of(count, 'other number')}; leave out such rows."
        )
    same = np.atleast_1d(np.ptp(values, axis=0) == 0)
    if same.any():
        value = np.atleast_1d(values[0])[same][0]
        raise ValueError(f"`target` must vary between rows, got {value:g} in all of them.")
    deviations = abs(values - values.mean(axis=0)) / values.std(axis=0)
    if deviations.max() < 8:
        return ()
    return (
        f"A label is {deviations.max():.0f} standard deviations from the mean; a few such rows "
        "decide the squared error. Its logarithm may be a better target.",
    )


def _read_matrix(y: np.ndarray, task: str | None) -> Targets:
    """Reads targets ``[rows, targets]``; one-hot columns become class ids."""
    if y.dtype.kind not in "biuf":
        raise ValueError(f"`target` must be one label per row, got shape {y.shape}.")
    ones = np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()
    kept = np.atleast_1d(np.isfinite(y).all(axis=1))
    notes = _note_missing(kept)
    if ones and task != "regression":
        column = extra("pandas").Series(y.argmax(axis=1))
        return _number_classes(column, kept, ("The labels are one column for each class.",))
    if task == "classification":
        raise ValueError(f"`task` must be regression for labels of shape {y.shape}.")
    values = y[kept].astype(np.float64)
    return Targets(values, kept, "regression", notes=notes + _check_numbers(values))


def _number_classes(column: Any, kept: np.ndarray, notes: tuple[str, ...]) -> Targets:
    """Numbers the classes of a column without missing cells."""
    names, ids = np.unique([_class_name(value) for value in column], return_inverse=True)
    names, ids = _in_order(names, ids)
    counts = np.bincount(ids)
    _check_counts(names, counts)
    notes += _class_notes(names, counts)
    return Targets(ids.astype(np.int32), kept, "classification", tuple(names), notes)


def _class_name(value: Any) -> str:
    """Returns a label as text: 1 for 1.0, and words without blanks around them."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _in_order(names: np.ndarray, ids: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Sorts names that are numbers by their values."""
    try:
        order = np.argsort(names.astype(float), kind="stable")
    except ValueError:
        order = np.arange(len(names))
    return [str(name) for name in names[order]], np.argsort(order)[ids]


def _check_counts(names: list[str], counts: np.ndarray) -> None:
    if len(names) < 2:
        raise ValueError(f"`target` must contain at least two classes, got only {names[0]}.")
    alone = [name for name, count in zip(names, counts, strict=True) if count < 2]
    if len(alone) > len(names) / 2:
        raise ValueError(
            f"`target` must contain at least 2 rows of every class, got 1 of {len(alone)} of "
            f"{len(names)} classes, such as {alone[0]}; is it a number to predict (`task` "
            "regression), or another column?"
        )
    if alone:
        raise ValueError(
            "`target` must contain at least 2 rows of every class, got 1 of "
            f"{enumerate_names(alone)}; leave out such rows, or join the class with another."
        )


def _class_notes(names: list[str], counts: np.ndarray) -> tuple[str, ...]:
    """Returns remarks on classes of unequal sizes and of few rows."""
    notes = []
    order = np.argsort(-counts, kind="stable")
    if counts.max() >= _UNEQUAL * counts.min():
        shown = order if len(order) <= 6 else order[[0, 1, -2, -1]]
        shares = ", ".join(f"{names[i]} {counts[i] / counts.sum():.1%}" for i in shown)
        notes.append(
            f"Unequal classes: {shares}. `metric` balanced_accuracy or macro_f1 gives each class "
            "the same weight."
        )
    few = [f"{names[i]} ({counts[i]})" for i in order if counts[i] < _FEW_ROWS]
    if few:
        notes.append(
            f"Few rows of {enumerate_names(few)}: a set may have none of them, and scores say "
            "little about them."
        )
    return tuple(notes)
