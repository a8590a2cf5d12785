"""Splits arrays into training, validation and test rows by seed."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxreg.study.data.folds import Limits, row_drawer
from jaxreg.study.data.preparation import make_splitter, scale_numbers
from jaxreg.study.data.records import Split, Splitter, kind

__all__ = ["LIMITS", "Split", "stratified_split"]

LIMITS = Limits(held_out=50)


def stratified_split(x: np.ndarray, y: np.ndarray, *, train_size: int) -> Splitter:
    """Returns a function from a seed to a stratified training, validation and test split.

    The test rows are drawn once and are the same for every seed: choices are pooled over seeds, so
    no seed may validate on a row that another seed tests on. A seed splits the other rows into
    training and validation. The validation set is half of the rows that are not for training, but
    no more than ``train_size``.

    Rows are standardized with the mean and the standard deviation of the training rows, computed in
    float64: a table by feature, a series or an image by channel. Floating-point labels make a
    regression. They are standardized, too, and the rows are drawn without strata.

    Args:
      x: Finite numbers: ``[rows, features]``, or rows that are series ``[time, channels]`` or
        images ``[height, width, channels]``, which some techniques require.
      y: Integer labels ``0, 1, ..., classes - 1``, ``[rows]``; there are at least two classes, and
        each of them has at least two rows. Or finite floating-point targets, ``[rows]`` or
        ``[rows, targets]``.
      train_size: Number of training rows; at least 50 other rows must be left for each of the
        validation and the test set.

    Returns:
      Function from a seed to a :class:`Split`.

    Raises:
      ValueError: ``x``, ``y`` or ``train_size`` is not as described.

    Example:
      >>> import numpy as np
      >>> from jaxreg.study import stratified_split
      >>> x = np.arange(400.0).reshape(200, 2)
      >>> split = stratified_split(x, np.arange(200) % 2, train_size=60)
      >>> split(0).sizes
      (60, 60, 80)
    """
    x = np.asarray(x)
    y = np.asarray(y)
    _check_shapes(x, y)
    if x.dtype.kind not in "biuf":
        raise ValueError(f"`x` must be numbers, got {x.dtype}; replace words with numbers.")
    # A number too large for the type becomes infinite, which the check reports.
    with np.errstate(over="ignore"):
        _check_finite("x", x.astype(np.float32))
    if np.issubdtype(y.dtype, np.floating):
        _check_finite("y", y)
    else:
        _check_classes(y)
    draw = row_drawer(y, limits=LIMITS, train_size=train_size)
    return make_splitter(scale_numbers(x, kind(x.astype(np.float32))), y, draw)


def _check_shapes(x: Any, y: Any) -> None:
    targets = y.ndim == 2 and np.issubdtype(y.dtype, np.floating)
    if x.ndim not in (2, 3, 4) or not (y.ndim == 1 or targets) or len(x) != len(y):
        raise ValueError(
            f"`x` must be [rows, features] and `y` [rows], got shapes {x.shape} and {y.shape}; a "
            "row may also be a series [time, channels] or an image [height, width, channels]."
        )


def _check_finite(name: str, values: np.ndarray) -> None:
    count = np.count_nonzero(~np.isfinite(values))
    if count:
        raise ValueError(
            f"`{name}` must be finite, got {count} other numbers; replace them or leave out their "
            "rows."
        )


def _check_classes(y: np.ndarray) -> None:
    if not np.issubdtype(y.dtype, np.integer):
        raise ValueError(
            f"`y` must be integers, or floating-point numbers for a regression, got {y.dtype}; "
            "number the classes with `np.unique(y, return_inverse=True)[1]`."
        )
    classes, counts = np.unique(y, return_counts=True)
    if not np.array_equal(classes, np.arange(len(classes))):
        raise ValueError(
            f"`y` must be labels from 0 to classes - 1 without gaps, got {_some(classes)}; "
            "number them with `np.unique(y, return_inverse=True)[1]`."
        )
    if len(classes) < 2:
        raise ValueError(f"`y` must contain at least two classes, got {len(classes)}.")
    if counts.min() < 2:
        raise ValueError(
            "`y` must contain at least 2 rows of every class, got 1 of "
            f"{_some(classes[counts < 2])}; leave them out, or join the class with another."
        )


def _some(values: np.ndarray) -> str:
    """Formats the first five values as text."""
    text = ", ".join(map(str, values[:5].tolist()))
    return f"{text}, ..." if len(values) > 5 else text
