"""Measurements on the loss curves of a run."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

CURVE_NAMES = ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy")
# The median of |x| of a standard normal variable is 1 / 1.4826.
_MAD = 1.4826
# The minimum of independent noise about a constant is a few deviations below its first value.
_NOISES = 5.0


class Curves(NamedTuple):
    """The curves of one run, one number per epoch; a missing curve is an empty array."""

    train_loss: np.ndarray
    validation_loss: np.ndarray
    train_accuracy: np.ndarray
    validation_accuracy: np.ndarray


class Finite(NamedTuple):
    """The finite values of a curve, and the epoch at which it diverged."""

    epochs: np.ndarray  # counted from 1
    values: np.ndarray
    broke_at: int  # first epoch of values that never became finite again, or 0


class Turn(NamedTuple):
    """The minimum of a curve, and the rise from there to the end."""

    epoch: int  # counted from 1
    lowest: float
    rise: float


def read(history: Any, name: str = "history") -> Curves:
    """Reads the curves from a mapping, or from the attributes of an object.

    Raises:
      TypeError: A curve is not an array of numbers.
      ValueError: There is a history but no ``train_loss``, or lengths differ.
    """
    is_mapping = isinstance(history, Mapping)
    found = {
        field: history.get(field) if is_mapping else getattr(history, field, None)
        for field in CURVE_NAMES
    }
    if found["train_loss"] is None and not (is_mapping and not history):
        known = list(history) if is_mapping else type(history).__name__
        raise ValueError(
            f"`{name}` must have a `train_loss`, one number per epoch, got {known}; the names are "
            f"{', '.join(CURVE_NAMES)}."
        )
    curves = Curves(**{field: _curve(value, field) for field, value in found.items()})
    for field, curve in curves._asdict().items():
        if curve.size not in (0, curves.train_loss.size):
            raise ValueError(
                f"`{field}` must have one number per epoch as `train_loss` has, got {curve.size} "
                f"and {curves.train_loss.size}; put NaN where nothing was measured."
            )
    return curves


def _curve(value: Any, name: str) -> np.ndarray:
    """Returns a curve with one float64 per epoch; averages several runs, ``[epochs, runs]``."""
    if value is None:
        return np.zeros(0)
    try:
        curve = np.asarray(value).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must hold numbers, got {value!r:.60}.") from error
    if curve.ndim > 2:
        raise ValueError(
            f"`{name}` must have the shape [epochs] or [epochs, runs], got {curve.shape}."
        )
    if curve.ndim == 2:
        curve = curve.mean(axis=1) if curve.shape[1] else np.zeros(0)
    return np.atleast_1d(curve)


def finite(curve: np.ndarray) -> Finite:
    """Returns the finite values of a curve, and the epoch at which the run diverged, or 0.

    The run diverged at its first infinite value, or at NaNs that last until the end, if no earlier
    gap between measurements was as long.
    """
    good = np.isfinite(curve)
    epochs = np.flatnonzero(good) + 1
    values = curve[good]
    infinite = np.flatnonzero(np.isinf(curve))
    if infinite.size:
        return Finite(epochs, values, int(infinite[0]) + 1)
    trailing = curve.size - (int(epochs[-1]) if epochs.size else 0)
    # The longest pause between two measurements, if not every epoch is measured.
    usual = int(np.diff(epochs).max()) - 1 if epochs.size > 1 else 0
    broke = trailing > usual and epochs.size > 0
    return Finite(epochs, values, int(epochs[-1]) + 1 if broke else 0)


def window(count: int, share: float) -> int:
    """Returns ``share * count`` epochs, rounded up, at least 3 and at most ``count``."""
    return min(count, max(3, math.ceil(share * count)))


def end(values: np.ndarray, share: float) -> float:
    """Returns the value at the end of a curve: the median of its last epochs."""
    return float(np.median(values[-window(values.size, share) :]))


def smooth(values: np.ndarray) -> np.ndarray:
    """Returns the running median over 3 epochs, or over a tenth of a long run."""
    half = max(1, values.size // 20)
    padded = np.pad(values, half, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)


def noise(values: np.ndarray) -> float:
    """Estimates the standard deviation of a curve about its trend, from second differences.

    They vanish on straight lines. For independent noise they have six times its variance.
    """
    if values.size < 4:
        return 0.0
    second = np.diff(values, 2)
    return float(_MAD * np.median(np.abs(second - np.median(second))) / math.sqrt(6))


def has_fallen(values: np.ndarray) -> bool:
    """Tells whether a curve fell by more than its noise explains."""
    fall = float(values[0] - np.min(smooth(values)))
    return fall > max(_NOISES * noise(values), 0.0)


def turn(curve: Finite, share: float) -> Turn:
    """Returns the minimum of the smoothed curve, and the rise since; 0 for a minimum at the end."""
    smoothed = smooth(curve.values)
    at = int(np.argmin(smoothed))
    lowest = float(smoothed[at])
    is_end = at >= curve.values.size - window(curve.values.size, share)
    rise = 0.0 if is_end else end(curve.values, share) - lowest
    return Turn(int(curve.epochs[at]), lowest, rise)


def fall_at_end(values: np.ndarray, share: float) -> float:
    """Returns the linear fall over the last epochs, as a fraction of the whole fall."""
    size = window(values.size, share)
    slope = np.polyfit(np.arange(size), values[-size:], 1)[0] if size > 1 else 0.0
    whole = float(values[0] - np.min(smooth(values)))
    return float(-slope * size / whole) if whole > 0 else 0.0
