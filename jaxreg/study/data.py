"""Data sets, and their splits into training, validation and test rows by seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from jaxreg.study.sentences import LENGTH, WORDS, sentences
from jaxreg.study.technique_rows import KINDS

_LEAST_HELD_OUT = 50
# An array of NumPy on the host, and of JAX in a compiled program.
Array = Any


class Split(NamedTuple):
    """Rows ``[rows, ...]`` and integer labels ``[rows]`` for training, validation and test.

    The shape of a row gives its kind: a table ``[features]``, a series ``[time, channels]`` or an
    image ``[height, width, channels]`` of numbers, or a text ``[length]`` of integers.

    Attributes:
      train_x: Training rows.
      train_y: Training labels.
      validation_x: Validation rows.
      validation_y: Validation labels.
      test_x: Test rows.
      test_y: Test labels.
      mean: Mean subtracted from the rows to standardize them, with the shape of a row, or 0.
      stddev: Standard deviation that the rows were divided by, with the shape of a row, or 1.
    """

    train_x: Array
    train_y: Array
    validation_x: Array
    validation_y: Array
    test_x: Array
    test_y: Array
    mean: Array = np.float32(0)
    stddev: Array = np.float32(1)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Numbers of rows in the training, validation and test sets."""
        return len(self.train_y), len(self.validation_y), len(self.test_y)


Splitter = Callable[[int], Split]


def kind(x: Array) -> str:
    """Returns the kind of the rows (table, series, image or text) from their shape and dtype.

    Args:
      x: Rows, ``[rows, ...]``.

    Returns:
      A name of ``KINDS``.

    Raises:
      ValueError: A row has no axis, or more than three.
    """
    if np.issubdtype(x.dtype, np.integer) and x.ndim == 2:
        return "text"
    if not 2 <= x.ndim <= 4:
        listed = ", ".join(f"{name} {shape}" for name, shape in KINDS.items())
        raise ValueError(f"Rows must be one of {listed}, got shape {x.shape[1:]}.")
    return ("table", "series", "image")[x.ndim - 2]


def extra(module: str) -> Any:
    """Imports an optional dependency that ``pip install "jaxreg[study]"`` installs.

    Args:
      module: Full name of the module.

    Returns:
      The module.

    Raises:
      ImportError: The module is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f'a study needs {package}, which is not installed; write: pip install "jaxreg[study]"'
        ) from error


def stratified_split(x: np.ndarray, y: np.ndarray, *, train_size: int) -> Splitter:
    """Returns a function from a seed to a stratified training, validation and test split.

    The test rows are drawn once and are the same for every seed: choices are pooled over seeds, so
    no seed may validate on a row that another seed tests on. A seed splits the other rows into
    training and validation. The validation set is half of the rows that are not for training, but
    no more than ``train_size``. Features are standardized with the mean and the standard deviation
    of the training rows.

    Args:
      x: Finite numbers: ``[rows, features]``, or rows that are series ``[time, channels]`` or
        images ``[height, width, channels]``, which some techniques require.
      y: Integer labels ``0, 1, ..., classes - 1``, ``[rows]``; there are at least two classes, and
        each of them occurs.
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
    x, y = _check_rows(x, y)
    draw = _row_drawer(y, train_size)

    def make_split(seed: int) -> Split:
        parts = draw(seed)
        train_x = x[parts[0]]
        mean = train_x.mean(axis=0)
        stddev = train_x.std(axis=0)
        # Dividing by one keeps a feature finite that is constant in the training rows.
        stddev = np.where(stddev > 0, stddev, 1)
        sets = (((x[rows] - mean) / stddev, y[rows]) for rows in parts)
        return Split(*chain.from_iterable(sets), mean=mean, stddev=stddev)

    return make_split


def _row_drawer(y: np.ndarray, train_size: int) -> Callable[[int], tuple[np.ndarray, ...]]:
    """Returns a function from a seed to the indices of training, validation and test rows."""
    train_test_split = extra("sklearn.model_selection").train_test_split
    most = len(y) - 2 * _LEAST_HELD_OUT
    if not 2 <= train_size <= most:
        raise ValueError(
            f"`train_size` must be from 2 to {most}, so that {_LEAST_HELD_OUT} rows are left for "
            f"each of validation and test, got {train_size}."
        )
    pool_size = train_size + min(train_size, (len(y) - train_size) // 2)
    pool, test = train_test_split(
        np.arange(len(y)), train_size=pool_size, stratify=y, random_state=0
    )

    def draw(seed: int) -> tuple[np.ndarray, ...]:
        train, validation = train_test_split(
            pool, train_size=train_size, stratify=y[pool], random_state=seed
        )
        return train, validation, test

    return draw


def _check_rows(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns float32 rows and int32 labels, or raises ValueError if either is invalid."""
    # A number too large for the type becomes infinite, which the check below reports.
    with np.errstate(over="ignore"):
        x = np.asarray(x, np.float32)
    y = np.asarray(y)
    if x.ndim not in (2, 3, 4) or y.ndim != 1 or len(x) != len(y):
        raise ValueError(
            f"`x` must be [rows, features] and `y` [rows], got shapes {x.shape} and {y.shape}; a "
            "row may also be a series [time, channels] or an image [height, width, channels]."
        )
    if not np.isfinite(x).all():
        raise ValueError(
            f"`x` must be finite, got {np.count_nonzero(~np.isfinite(x))} other numbers; "
            "replace them or leave out their rows."
        )
    if not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"`y` must be integers, got {y.dtype}; convert it with `y.astype(int)`.")
    classes = np.unique(y)
    if not np.array_equal(classes, np.arange(len(classes))):
        raise ValueError(
            f"`y` must be labels from 0 to classes - 1 without a gap, got {_some(classes)}; "
            "number them with `np.unique(y, return_inverse=True)[1]`."
        )
    if len(classes) < 2:
        raise ValueError(f"`y` must have at least two classes, got {len(classes)}.")
    return x, y.astype(np.int32)


def _some(values: np.ndarray) -> str:
    """Formats the first five values as text."""
    text = ", ".join(map(str, values[:5].tolist()))
    return f"{text}, ..." if len(values) > 5 else text


def digits(*, train_size: int) -> Splitter:
    """Loads scikit-learn's 1797 handwritten digits: images of 8 x 8 pixels, ten classes."""
    x, y = extra("sklearn.datasets").load_digits(return_X_y=True)
    return stratified_split(x.reshape(-1, 8, 8, 1), y, train_size=train_size)


def digit_rows(*, train_size: int) -> Splitter:
    """Loads scikit-learn's digits as series: 8 time steps (rows of pixels) of 8 channels."""
    x, y = extra("sklearn.datasets").load_digits(return_X_y=True)
    return stratified_split(x.reshape(-1, 8, 8), y, train_size=train_size)


def text(*, train_size: int) -> Splitter:
    """Generates 2000 sentences with :mod:`jaxreg.study.sentences`, labeled by sentiment.

    One label in ten is flipped, in all three sets.
    """
    tokens, y = sentences(2000, seed=0, noise=0.1)
    draw = _row_drawer(y, train_size)

    def make_split(seed: int) -> Split:
        return Split(*chain.from_iterable((tokens[rows], y[rows]) for rows in draw(seed)))

    return make_split


def breast_cancer(*, train_size: int) -> Splitter:
    """Loads scikit-learn's 569 breast-cancer cases: 30 measurements, two classes."""
    x, y = extra("sklearn.datasets").load_breast_cancer(return_X_y=True)
    return stratified_split(x, y, train_size=train_size)


def circles(*, train_size: int) -> Splitter:
    r"""Draws points of a square, labeled by whether they lie outside a circle.

    .. math::

      x \sim U([-2, 2]^2), \qquad y = [\, x_1^2 + x_2^2 > 5 \,]

    The training rows are the first ``train_size`` of 1000 fixed points, and the test rows are 1000
    other fixed points. The seed draws 1000 points for validation.

    Args:
      train_size: Number of training rows, from 2 to 1000.

    Returns:
      Function from a seed to a :class:`Split`.
    """
    if not 2 <= train_size <= 1000:
        raise ValueError(f"`train_size` must be from 2 to 1000, got {train_size}.")
    # The published points were drawn with NumPy's legacy generator.
    points = np.random.RandomState(42).rand(1000, 2)[:train_size] * 4 - 2
    test = np.random.default_rng(42).random((1000, 2)) * 4 - 2

    def make_split(seed: int) -> Split:
        # The second number keeps this stream apart from the one of the test points.
        validation = np.random.default_rng((seed, 1)).random((1000, 2)) * 4 - 2
        return Split(*_with_labels(points), *_with_labels(validation), *_with_labels(test))

    return make_split


def _with_labels(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return points.astype(np.float32), (np.square(points).sum(axis=1) > 5).astype(np.int32)


@dataclass(frozen=True)
class Task:
    """A data set with default settings for its model and its training.

    Attributes:
      load: Function from ``train_size`` to a function from a seed to a :class:`Split`.
      num_classes: Number of classes.
      train_size: Default number of training rows.
      hidden: Widths of the hidden layers.
      epochs: Default number of epochs.
      batch_size: Rows of a batch.
      learning_rate: Learning rate of Adam.
      strengths: Strengths by arm, which replace the default grids.
      shape: Shape of a row; empty for a table.
      vocabulary: Number of words of a text; 0 for other rows.
    """

    load: Callable[..., Splitter]
    num_classes: int
    train_size: int
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    learning_rate: float
    strengths: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    vocabulary: int = 0


TASKS: Mapping[str, Task] = {
    "digits": Task(
        load=digits,
        num_classes=10,
        train_size=300,
        hidden=(128, 128),
        epochs=60,
        batch_size=50,
        learning_rate=1e-3,
        shape=(8, 8, 1),
    ),
    "digit_rows": Task(
        load=digit_rows,
        num_classes=10,
        train_size=300,
        hidden=(128, 128),
        epochs=60,
        batch_size=50,
        learning_rate=1e-3,
        shape=(8, 8),
    ),
    "text": Task(
        load=text,
        num_classes=2,
        train_size=500,
        hidden=(64, 64),
        epochs=40,
        batch_size=50,
        learning_rate=1e-3,
        shape=(LENGTH,),
        vocabulary=len(WORDS),
    ),
    "breast_cancer": Task(
        load=breast_cancer,
        num_classes=2,
        train_size=150,
        hidden=(128, 128),
        epochs=60,
        batch_size=50,
        learning_rate=1e-3,
    ),
    "circles": Task(
        load=circles,
        num_classes=2,
        train_size=1000,
        hidden=(50, 50),
        epochs=50,
        batch_size=32,
        learning_rate=1e-2,
        strengths={"l1": (0.01,), "l2": (0.01,), "dropout": (0.5,)},
    ),
}
