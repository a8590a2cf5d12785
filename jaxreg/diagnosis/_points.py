"""The curves of a run, one value per epoch, from the rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

Masked = np.ma.MaskedArray
# From fewer epochs there is no verdict, so steps are counted where they are more.
_FEW = 5


class Points(NamedTuple):
    """Curves over the same epochs or steps; what was not measured is masked."""

    labels: np.ndarray  # the epochs or steps, ascending
    curves: dict[str, Masked]
    replaced: int = 0  # training losses that later rows of the same epochs replaced


def count(counters: Sequence[Masked], curves: Mapping[str, Masked]) -> int | None:
    """Returns the index of the counter to use, or None for the number of the row.

    It is the first one that is known in every row with a loss and tells 5 epochs apart, or else the
    one that tells most apart.
    """
    measured = _is_measured(curves)
    distinct = [
        len(set(counter[measured].tolist())) if not _mask(counter)[measured].any() else 0
        for counter in counters
    ]
    best = max(distinct, default=0)
    if not best:
        return None
    return next(index for index, number in enumerate(distinct) if number >= min(best, _FEW))


def collect(counter: Masked | None, curves: Mapping[str, Masked], blank: np.ndarray) -> Points:
    """Orders the values of one run by epoch.

    Several rows of an epoch are averaged. If the count goes back, training was resumed there, and
    the later rows replace the earlier ones. Rows may begin with the newest.

    Args:
      counter: The epoch or step of every row; None if every row is an epoch.
      curves: The values of every row.
      blank: Whether nothing at all was measured in a row. At the end these are epochs, too.
    """
    if counter is None:
        size = next(iter(curves.values())).size
        return Points(np.arange(1, size + 1), dict(curves))
    labels = np.ma.getdata(counter)
    if _is_newest_first(labels, curves):
        labels = labels[::-1]
        blank = blank[::-1]
        curves = {name: curve[::-1] for name, curve in curves.items()}
    groups = {name: _by_label(labels, curve) for name, curve in curves.items()}
    found = {name: dict(pairs) for name, (pairs, _) in groups.items()}
    known = {label for values in found.values() for label in values}
    last = max(known, default=-np.inf)
    later = {label for label in labels[blank & ~_mask(counter)].tolist() if label > last}
    ordered = np.array(sorted(known | later), dtype=np.float64)
    placed = {name: _place(values, ordered) for name, values in found.items()}
    return Points(ordered, placed, groups["train_loss"][1])


def average_between_evaluations(points: Points) -> Points:
    """Returns a point per evaluation, with the mean of all training losses since the one before.

    Training that was not evaluated any more is one more point.
    """
    ends = np.flatnonzero(_is_evaluated(points.curves))
    if not ends.size:
        return points
    if ends[-1] < points.labels.size - 1:
        ends = np.append(ends, points.labels.size - 1)
    starts = np.concatenate([[0], ends[:-1] + 1])
    curves = {}
    for name, curve in points.curves.items():
        parts = [curve[a : b + 1].compressed() for a, b in zip(starts, ends, strict=True)]
        curves[name] = np.ma.masked_array(
            [part.mean() if part.size else 0.0 for part in parts],
            mask=[not part.size for part in parts],
        )
    return points._replace(labels=points.labels[ends], curves=curves)


def is_apart(points: Points) -> bool:
    """Returns whether training and validation were mostly measured at different places."""
    train = ~_mask(points.curves["train_loss"])
    tested = _is_evaluated(points.curves)
    shared = np.count_nonzero(train & tested)
    return bool(2 * shared < min(np.count_nonzero(train), np.count_nonzero(tested)))


def align(runs: Sequence[Points]) -> Points:
    """Puts several runs side by side: each curve becomes ``[epochs, runs]``."""
    labels = np.unique(np.concatenate([run.labels for run in runs]))
    curves: dict[str, Masked] = {}
    for name in runs[0].curves:
        curve = np.ma.masked_all((labels.size, len(runs)), dtype=np.float64)
        for column, run in enumerate(runs):
            rows = np.searchsorted(labels, run.labels)
            curve[rows, column] = run.curves[name]
        curves[name] = curve
    return Points(labels, curves, sum(run.replaced for run in runs))


def _is_measured(curves: Mapping[str, Masked]) -> np.ndarray:
    return np.any([~_mask(curve) for curve in curves.values()], axis=0)


def _mask(curve: Masked) -> np.ndarray:
    return np.ma.getmaskarray(curve)


def _is_newest_first(labels: np.ndarray, curves: Mapping[str, Masked]) -> bool:
    """Returns whether the count falls from row to row, more often than it rises."""
    steps = [np.sign(np.diff(labels[~_mask(curve)])).sum() for curve in curves.values()]
    return sum(steps) < 0


def _by_label(labels: np.ndarray, curve: Masked) -> tuple[list[tuple[float, float]], int]:
    """Returns epochs with their values, ascending, and how many values were replaced."""
    groups: list[tuple[float, list[float]]] = []
    replaced = 0
    good = ~_mask(curve)
    values = np.ma.getdata(curve)[good].tolist()
    for label, value in zip(labels[good].tolist(), values, strict=True):
        if groups and groups[-1][0] == label:
            groups[-1][1].append(value)
            continue
        while groups and groups[-1][0] >= label:
            replaced += len(groups.pop()[1])
        groups.append((label, [value]))
    return [(label, float(np.mean(values))) for label, values in groups], replaced


def _place(values: Mapping[float, float], labels: np.ndarray) -> Masked:
    """Returns a value per label, masked where there is none."""
    return np.ma.masked_array(
        [values.get(label, 0.0) for label in labels.tolist()],
        mask=[label not in values for label in labels.tolist()],
        dtype=np.float64,
    )


def _is_evaluated(curves: Mapping[str, Masked]) -> np.ndarray:
    train = curves["train_loss"]
    own = [~_mask(curve) for name, curve in curves.items() if name.startswith("validation")]
    return np.any([np.zeros(train.size, bool), *own], axis=0)
