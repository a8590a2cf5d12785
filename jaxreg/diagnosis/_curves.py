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
    """The curves of one run, one number per epoch; a missing curve is an empty array.

    What was not measured is masked.
    """

    train_loss: np.ma.MaskedArray
    validation_loss: np.ma.MaskedArray
    train_accuracy: np.ma.MaskedArray
    validation_accuracy: np.ma.MaskedArray
    epoch: np.ndarray  # the number of each epoch, or of each step
    counter: str  # "epoch" or "step"


class Finite(NamedTuple):
    """The finite values of a curve, and where it diverged."""

    at: np.ndarray  # places in the curve
    values: np.ndarray
    broke_at: int  # first place of values that never became finite again, or -1


class Turn(NamedTuple):
    """The minimum of a curve, and the rise from there to the end."""

    at: int  # place in the curve
    lowest: float
    rise: float


def read(history: Any, name: str = "history") -> Curves:
    """Reads the curves from a mapping, or from the attributes of an object.

    Epochs are counted from 1 if the history has no ``epoch``.

    Raises:
      TypeError: A curve is not an array of numbers.
      ValueError: There is a history but no ``train_loss``, or lengths differ.
    """
    is_mapping = isinstance(history, Mapping)
    found = {
        field: history.get(field) if is_mapping else getattr(history, field, None)
        for field in (*CURVE_NAMES, "epoch", "counter")
    }
    counter = found.pop("counter")
    epoch = found.pop("epoch")
    if found["train_loss"] is None and not (is_mapping and not history):
        known = list(history) if is_mapping else type(history).__name__
        raise ValueError(
            f"`{name}` must have a `train_loss`, one number per epoch, got {known}; the names are "
            f"{', '.join(CURVE_NAMES)}; jaxreg.diagnosis.read finds others."
        )
    curves = {field: _curve(value, field) for field, value in found.items()}
    size = curves["train_loss"].size
    labels = np.arange(1, size + 1) if epoch is None else np.ma.getdata(_as_masked(epoch, "epoch"))
    for field, curve in {**curves, "epoch": labels}.items():
        if curve.size != size and (curve.size or field == "epoch"):
            raise ValueError(
                f"`{field}` must have one number per epoch as `train_loss` has, got {curve.size} "
                f"and {size}; put None where nothing was measured."
            )
    return Curves(**curves, epoch=labels, counter="epoch" if counter is None else counter)


def _curve(value: Any, name: str) -> np.ma.MaskedArray:
    """Returns a curve with one float64 per epoch; averages several runs, ``[epochs, runs]``."""
    if value is None:
        return np.ma.masked_all(0)
    curve = _as_masked(value, name)
    if curve.ndim > 2:
        raise ValueError(
            f"`{name}` must have the shape [epochs] or [epochs, runs], got {curve.shape}."
        )
    if curve.ndim == 2:
        curve = _average(curve) if curve.shape[1] else np.ma.masked_all(0)
    return curve.reshape(-1)


def _as_masked(value: Any, name: str) -> np.ma.MaskedArray:
    """Converts to float64; masked values and None stay masked."""
    try:
        given = np.ma.asarray(value)
        mask = np.ma.getmaskarray(given)
        data = np.ma.getdata(given)
        if data.dtype == object:
            missing = np.fromiter((item is None for item in data.flat), bool, data.size)
            mask = mask | missing.reshape(data.shape)
            data = np.where(mask, np.nan, data)
        numbers = data.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must hold numbers, got {value!r:.60}.") from error
    return np.ma.masked_array(numbers, mask=mask)


def _average(curves: np.ma.MaskedArray) -> np.ma.MaskedArray:
    """Returns the mean over runs, ``[epochs, runs]``.

    Where a run has ended, the mean goes on with the changes of the others, so it does not jump.
    """
    pauses = np.stack([_is_pause(curve) for curve in curves.T], axis=1)
    known = ~pauses.all(axis=1)
    found = np.ma.masked_all(known.size, dtype=np.float64)
    if not known.any():
        return found
    values = np.ma.getdata(curves)[known]
    is_there = ~pauses[known]
    goes_on = is_there[1:] & is_there[:-1]
    with np.errstate(invalid="ignore"):
        if is_there.all() or not goes_on.any(axis=1).all():
            found[known] = _mean(values, is_there)
        else:
            changes = _mean(np.diff(values, axis=0), goes_on)
            start = _mean(values[:1], is_there[:1])
            found[known] = np.concatenate([start, start + np.cumsum(changes)])
    return found


def _mean(values: np.ndarray, is_there: np.ndarray) -> np.ndarray:
    """Returns the mean over the last axis; masked means of NumPy would mask NaN as well."""
    return np.where(is_there, values, 0.0).sum(axis=-1) / is_there.sum(axis=-1)


def _is_pause(curve: np.ma.MaskedArray) -> np.ndarray:
    """Returns where nothing was measured: masked values, and NaNs that are no divergence."""
    found = finite(curve)
    is_nan = np.isnan(np.ma.getdata(curve))
    if found.broke_at >= 0:
        is_nan[found.broke_at :] = False
    # A run that was never finite diverged at once.
    mask = np.ma.getmaskarray(curve)
    return mask | is_nan if found.at.size else mask


def finite(curve: np.ma.MaskedArray) -> Finite:
    """Returns the finite values of a curve, and the place at which the run diverged, or -1.

    The run diverged at its first infinite value, or at NaNs that last until the end, if no earlier
    gap between measurements was as long. A masked value was not measured, and is no sign.
    """
    data = np.ma.getdata(curve)
    measured = np.flatnonzero(~np.ma.getmaskarray(curve))
    good = np.flatnonzero(np.isfinite(data[measured]))
    at = measured[good]
    infinite = measured[np.isinf(data[measured])]
    if infinite.size:
        return Finite(at, data[at], int(infinite[0]))
    last = int(good[-1]) if good.size else measured.size
    # The longest pause between two measurements, if not every epoch is measured.
    usual = int(np.diff(good).max()) - 1 if good.size > 1 else 0
    broke = measured.size - 1 - last > usual
    return Finite(at, data[at], int(measured[last + 1]) if broke else -1)


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
    """Returns whether a curve fell by more than its noise explains."""
    fall = float(values[0] - np.min(smooth(values)))
    return fall > max(_NOISES * noise(values), 0.0)


def turn(curve: Finite, share: float) -> Turn:
    """Returns the minimum of the smoothed curve, and the rise since; 0 for a minimum at the end."""
    smoothed = smooth(curve.values)
    at = int(np.argmin(smoothed))
    lowest = float(smoothed[at])
    is_end = at >= curve.values.size - window(curve.values.size, share)
    rise = 0.0 if is_end else end(curve.values, share) - lowest
    return Turn(int(curve.at[at]), lowest, rise)


def fall_at_end(values: np.ndarray, share: float) -> float:
    """Returns the linear fall over the last epochs, as a fraction of the whole fall."""
    size = window(values.size, share)
    slope = np.polyfit(np.arange(size), values[-size:], 1)[0] if size > 1 else 0.0
    whole = float(values[0] - np.min(smooth(values)))
    return float(-slope * size / whole) if whole > 0 else 0.0
