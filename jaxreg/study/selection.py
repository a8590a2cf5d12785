"""The protocol: choose on validation, report on test, compare with the baseline by seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxreg.study.recipes import Grid, Recipe, combine
from jaxreg.study.records import Arm, Interval
from jaxreg.study.runner import Runs

Train = Callable[[Sequence[Recipe]], Runs]

_RESAMPLES = 10_000


class Comparison(NamedTuple):
    """The arms of a study, the name of the one with the best validation accuracy, and remarks."""

    arms: tuple[Arm, ...]
    chosen: str
    notes: tuple[str, ...]


def best(validation: np.ndarray, loss: np.ndarray) -> int:
    """Returns the row with the best mean validation accuracy, of equal ones the lowest loss.

    Args:
      validation: Validation accuracy, ``[rows, seeds]``.
      loss: Validation loss, ``[rows, seeds]``.

    Returns:
      Index of the row.

    Example:
      >>> import numpy as np
      >>> from jaxreg.study import selection
      >>> selection.best(np.array([[0.8], [0.9], [0.9]]), np.array([[0.1], [0.4], [0.3]]))
      2
    """
    # Sums of whole numbers of rows may differ in the last bit of a float for the same total.
    accuracy = np.round(np.mean(validation, axis=1, dtype=np.float64), 9)
    mean_loss = np.mean(loss, axis=1, dtype=np.float64)
    return int(np.lexsort((np.nan_to_num(mean_loss, nan=np.inf), -accuracy))[0])


def paired_difference(values: np.ndarray, baseline: np.ndarray) -> Interval:
    """Mean of paired differences with a 95 % percentile bootstrap interval over the pairs.

    Args:
      values: One value per seed, ``[seeds]``.
      baseline: Those of the baseline for the same seeds, ``[seeds]``.

    Returns:
      The interval; the same numbers always give the same one.

    Example:
      >>> import numpy as np
      >>> from jaxreg.study import selection
      >>> interval = selection.paired_difference(np.array([2.0, 3.0, 4.0]), np.ones(3))
      >>> interval.low <= interval.mean == 2 <= interval.high
      True
    """
    differences = np.asarray(values, np.float64) - np.asarray(baseline, np.float64)
    count = len(differences)
    picks = np.random.default_rng(0).integers(count, size=(_RESAMPLES, count))
    low, high = np.quantile(differences[picks].mean(axis=1), [0.025, 0.975])
    return Interval(float(differences.mean()), float(low), float(high))


def compare(train: Train, grids: Sequence[Grid], *, combined: bool = False) -> Comparison:
    """Runs the protocol over arms.

    Every arm gets the strength with the best mean validation accuracy over seeds. The combined
    arm joins the arms that beat the baseline on validation, at their strengths, the best two, the
    best three, and so on; validation chooses among these too. The test set takes no part in any
    choice.

    Args:
      train: Function from recipes to their :class:`jaxreg.study.Runs`, such as
        ``functools.partial(run, make_model, data, seeds=16, epochs=60)``.
      grids: The arms, the baseline first.
      combined: Whether to add the combined arm; it needs two techniques.

    Returns:
      The arms in the order of ``grids``, then the combined one.
    """
    if not grids or grids[0].name != "baseline":
        raise ValueError(f"`grids` must start with the baseline, got {[g.name for g in grids]}.")
    if combined and len(grids) < 3:
        raise ValueError(f"`combined` needs at least two techniques, got {len(grids) - 1}.")
    runs = train([recipe for grid in grids for recipe in grid.recipes])
    baseline = runs.test[0]
    arms, start = [], 0
    for grid in grids:
        rows = Runs(*(array[start : start + len(grid.recipes)] for array in runs))
        start += len(grid.recipes)
        arms.append(_choose(grid, rows, baseline))
    notes: tuple[str, ...] = ()
    if combined:
        candidates, notes = _candidates([arm for arm, _ in arms])
        joined = Grid("combined", (), tuple(candidates))
        arms.append(_choose(joined, train(candidates), baseline))
    winner = best(
        np.stack([arm.validation for arm, _ in arms]), np.stack([loss for _, loss in arms])
    )
    return Comparison(tuple(arm for arm, _ in arms), arms[winner][0].name, notes)


def _choose(grid: Grid, rows: Runs, baseline: np.ndarray) -> tuple[Arm, np.ndarray]:
    """Returns an arm at the strength that validation chooses, and its validation loss."""
    chosen = best(rows.validation, rows.loss)
    listed = len(grid.strengths)
    arm = Arm(
        name=grid.name,
        recipe=grid.recipes[chosen],
        strength=grid.strengths[chosen] if listed else None,
        train=rows.train[chosen],
        validation=rows.validation[chosen],
        test=rows.test[chosen],
        train_loss=rows.train_loss[chosen],
        validation_loss=rows.validation_loss[chosen],
        strengths=grid.strengths,
        grid_validation=rows.validation[:listed],
        grid_test=rows.test[:listed],
        difference=paired_difference(rows.test[chosen], baseline),
    )
    return arm, rows.loss[chosen]


def _candidates(arms: Sequence[Arm]) -> tuple[list[Recipe], tuple[str, ...]]:
    """Joins the best two, the best three, ... of the arms that beat the baseline."""
    baseline, *others = arms
    gains = [float(np.mean(arm.validation - baseline.validation)) for arm in others]
    ranked = [others[i] for i in np.argsort(gains, kind="stable")[::-1]]
    beating = sum(gain > 0 for gain in gains)
    notes: tuple[str, ...] = ()
    if beating < 2:
        notes = (
            f"Fewer than two arms ({beating}) beat the baseline on validation, so the combined arm "
            f"joins the best two all the same: {ranked[0].name} and {ranked[1].name}.",
        )
    last = max(beating, 2)
    return [combine([arm.recipe for arm in ranked[:n]]) for n in range(2, last + 1)], notes
