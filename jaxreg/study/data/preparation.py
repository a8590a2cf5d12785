"""Prepares rows with statistics of the training rows only, and makes the splits of all seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxreg.study.data.extras import extra
from jaxreg.study.data.folds import Draw
from jaxreg.study.data.records import Array, Split, Splitter


class Encoding(NamedTuple):
    """Rows as a model sees them, prepared with statistics of some training rows.

    Attributes:
      encode: Function from the indices of rows to the prepared rows.
      mean: Mean that was subtracted; it broadcasts to a row.
      stddev: Standard deviation that was divided by; it broadcasts to a row.
    """

    encode: Callable[[np.ndarray], np.ndarray]
    mean: Array = np.float32(0)
    stddev: Array = np.float32(1)


class Preparation(NamedTuple):
    """Preparation of rows.

    Attributes:
      kind: Kind of the prepared rows, a key of ``KINDS``.
      fit: Function from the indices of the training rows to an :class:`Encoding`.
      vocabulary: Number of words of a text; 0 for other rows.
      notes: Remarks on how the rows were read.
    """

    kind: str
    fit: Callable[[np.ndarray], Encoding]
    vocabulary: int = 0
    notes: tuple[str, ...] = ()


def scale_numbers(x: np.ndarray, kind: str) -> Preparation:
    """Standardizes numbers ``[rows, ..., n]``, separately at each index of the last axis.

    A table is standardized by feature, a series and an image by channel, because the steps of a
    series and the pixels of an image share a unit.
    """
    shape = (1,) * (x.ndim - 2) + x.shape[-1:]

    def fit(rows: np.ndarray) -> Encoding:
        # In float64, rounding does not give a feature that is 0.1 everywhere a deviation.
        flat = x[rows].reshape(-1, x.shape[-1]).astype(np.float64)
        scaler = extra("sklearn.preprocessing").StandardScaler().fit(flat)
        mean = scaler.mean_.reshape(shape)
        stddev = scaler.scale_.reshape(shape)
        return Encoding(
            lambda rows: ((x[rows] - mean) / stddev).astype(np.float32),
            mean.astype(np.float32),
            stddev.astype(np.float32),
        )

    return Preparation(kind, fit)


def keep_tokens(tokens: np.ndarray, vocabulary: int) -> Preparation:
    """Leaves texts of word ids ``[rows, length]`` as they are."""
    return Preparation("text", lambda _: Encoding(lambda rows: tokens[rows]), vocabulary)


def make_splitter(preparation: Preparation, y: np.ndarray, draw: Draw) -> Splitter:
    """Returns a function from a seed to a :class:`Split`.

    Args:
      preparation: Preparation of the rows.
      y: Labels, ``[rows, ...]``: integers, or numbers to standardize.
      draw: Function from a seed to the indices of the rows.
    """

    def make_split(seed: int) -> Split:
        train, validation, test = draw(seed)
        encoding = preparation.fit(train)
        labels, mean, stddev = _scale_targets(y, train)
        return Split(
            train_x=encoding.encode(train),
            train_y=labels[train],
            validation_x=encoding.encode(validation),
            validation_y=labels[validation],
            test_x=encoding.encode(test),
            test_y=labels[test],
            mean=encoding.mean,
            stddev=encoding.stddev,
            target_mean=mean,
            target_stddev=stddev,
        )

    return make_split


def _scale_targets(y: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, Array, Array]:
    """Returns integers as they are, or standardized numbers; and the mean and the deviation."""
    if np.issubdtype(y.dtype, np.integer):
        return y.astype(np.int32), np.float32(0), np.float32(1)
    known = y[rows].astype(np.float64)
    mean = known.mean(axis=0)
    stddev = np.where(np.ptp(known, axis=0) > 0, known.std(axis=0), 1.0)
    scaled = ((y - mean) / stddev).astype(np.float32)
    return scaled, np.float32(mean), np.float32(stddev)
