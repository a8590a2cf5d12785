"""Records of a study's data: the split of a seed, and the loaded data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

# Kinds of rows, which follow from their shape and dtype.
KINDS = {
    "table": "numbers [features]",
    "series": "numbers [time, channels]",
    "image": "numbers [height, width, channels]",
    "text": "integers [length]",
}

# An array of NumPy on the host, and of JAX in a compiled program.
Array = Any


class Split(NamedTuple):
    """Rows ``[rows, ...]`` and their labels for training, validation and test.

    Labels are integers ``[rows]`` for classification, and floating-point numbers ``[rows]`` or
    ``[rows, targets]`` for regression. The shape of a row gives its kind: a table ``[features]``, a
    series ``[time, channels]`` or an image ``[height, width, channels]`` of numbers, or a text
    ``[length]`` of integers.

    Attributes:
      train_x: Training rows.
      train_y: Training labels.
      validation_x: Validation rows.
      validation_y: Validation labels.
      test_x: Test rows.
      test_y: Test labels.
      mean: Mean subtracted from the rows to standardize them; it broadcasts to a row.
      stddev: Standard deviation that the rows were divided by; it broadcasts to a row.
      target_mean: Mean subtracted from the labels of a regression, or 0.
      target_stddev: Standard deviation that the labels of a regression were divided by, or 1.
    """

    train_x: Array
    train_y: Array
    validation_x: Array
    validation_y: Array
    test_x: Array
    test_y: Array
    mean: Array = np.float32(0)
    stddev: Array = np.float32(1)
    target_mean: Array = np.float32(0)
    target_stddev: Array = np.float32(1)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Numbers of rows in the training, validation and test sets."""
        return len(self.train_y), len(self.validation_y), len(self.test_y)


Splitter = Callable[[int], Split]


@dataclass(frozen=True)
class Loaded:
    """Data of a study.

    Attributes:
      split: Function from a seed to a :class:`Split`; the splits of all seeds have the same sizes.
      kind: Kind of the rows, a key of ``KINDS``.
      task: ``"classification"`` or ``"regression"``.
      outputs: Number of classes, or of targets.
      data_import: Import statement for the name that ``data_code`` calls.
      data_code: Expression that evaluates to ``split``.
      vocabulary: Number of words of a text; 0 for other rows.
      classes: Names of the classes; empty for regression.
      notes: Remarks on how the data was read.
    """

    split: Splitter
    kind: str
    task: str
    outputs: int
    data_import: str
    data_code: str
    vocabulary: int = 0
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def kind(x: Array) -> str:
    """Returns the kind of the rows (table, series, image or text) from their shape and dtype.

    Args:
      x: Rows, ``[rows, ...]``.

    Returns:
      A key of ``KINDS``.

    Raises:
      ValueError: A row has no axis, or more than three.
    """
    if np.issubdtype(x.dtype, np.integer) and x.ndim == 2:
        return "text"
    if not 2 <= x.ndim <= 4:
        listed = ", ".join(f"{name} {shape}" for name, shape in KINDS.items())
        raise ValueError(f"`x` must contain rows of {listed}, got shape {x.shape[1:]}.")
    return ("table", "series", "image")[x.ndim - 2]
