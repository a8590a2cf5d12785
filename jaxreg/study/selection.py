"""Chooses strengths on validation, and compares arms with the baseline on test, by seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxreg.study.data import extra
from jaxreg.study.recipes import Recipe, combine
from jaxreg.study.records import Arm, Interval
from jaxreg.study.runner import Runs
from jaxreg.study.techniques import Grid

Train = Callable[[Sequence[Recipe]], Runs]

_RESAMPLES = 10_000
# Decimal places to compare: finer than the share of one row, coarser than the error of float32.
_DIGITS = 6


class Comparison(NamedTuple):
    """The arms of a study, the name of the arm chosen on validation, and remarks."""

    arms: tuple[Arm, ...]
    chosen: str
    notes: tuple[str, ...]


def best(validation: np.ndarray, loss: np.ndarray) -> int:
    """Returns the index of the best mean validation accuracy; the lowest loss breaks ties.

    Means are compared to six decimal places. If rows tie in both, the first row wins.

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
    # Accuracies are float32, so equal counts of right answers may differ in the seventh digit.
    accuracy = np.round(np.mean(validation, axis=1, dtype=np.float64), _DIGITS)
    mean_loss = np.round(np.mean(loss, axis=1, dtype=np.float64), _DIGITS)
    return int(np.lexsort((np.nan_to_num(mean_loss, nan=np.inf), -accuracy))[0])


def paired_difference(values: np.ndarray, baseline: np.ndarray) -> Interval:
    r"""Returns the mean of paired differences and its 95% expanded percentile bootstrap interval.

    The interval ends at the quantiles :math:`\alpha` and :math:`1 - \alpha` of the means of
    resampled pairs. Resampling :math:`n` pairs makes the mean look more certain than it is. So
    :math:`\alpha` is smaller than 0.025, by as much as Student's interval is wider than the normal
    one (Hesterberg 2015, What Teachers Should Know About the Bootstrap):

    .. math::

      \alpha = \Phi\left(-\sqrt{n / (n - 1)} \; t_{0.975, n - 1}\right)

    Args:
      values: One value per seed, ``[seeds]``; at least 2 seeds.
      baseline: The baseline's values for the same seeds, ``[seeds]``.

    Returns:
      The mean with its interval, deterministic for the same inputs.

    Raises:
      ValueError: There are fewer than two seeds.

    Example:
      >>> import numpy as np
      >>> from jaxreg.study import selection
      >>> interval = selection.paired_difference(np.array([2.0, 3.0, 4.0]), np.ones(3))
      >>> interval.low <= interval.mean == 2 <= interval.high
      True
    """
    # Rounding makes runs with the same number of right answers differ by exactly 0.
    differences = np.round(
        np.asarray(values, np.float64) - np.asarray(baseline, np.float64), _DIGITS
    )
    count = len(differences)
    if count < 2:
        raise ValueError(f"`values` must have at least 2 seeds, got {count}.")
    share = _tail_share(count)
    picks = np.random.default_rng(0).integers(count, size=(_RESAMPLES, count))
    low, high = np.quantile(differences[picks].mean(axis=1), [share, 1 - share])
    return Interval(float(differences.mean()), float(low), float(high))


def _tail_share(count: int) -> float:
    """Returns the bootstrap tail probability of the 95% interval for ``count`` pairs."""
    stats = extra("scipy.stats")
    quantile = stats.t.ppf(0.975, count - 1)
    return float(stats.norm.cdf(-np.sqrt(count / (count - 1)) * quantile))


def compare(train: Train, grids: Sequence[Grid], *, combined: bool = False) -> Comparison:
    """Trains all arms, chooses each arm's strength on validation, and compares them on test.

    Every arm gets the strength with the best mean validation accuracy over seeds. The combined arm
    joins arms that beat the baseline on validation, at their chosen strengths: the best two, the
    best three, and so on. Validation also chooses among these combinations. The test set takes no
    part in any choice.

    Args:
      train: Function from recipes to their :class:`jaxreg.study.Runs`, such as
        ``functools.partial(run, make_model, data, seeds=16, epochs=60)``.
      grids: The arms, the baseline first.
      combined: Whether to add the combined arm, which needs two techniques.

    Returns:
      The arms in the order of ``grids``, then the combined arm.

    Raises:
      ValueError: The first grid is not the baseline, ``combined`` has fewer than two techniques to
        join, or ``train`` used fewer than two seeds.

    Example:
      >>> from functools import partial
      >>> import numpy as np
      >>> from jaxreg.study import compare, grid, mlp, run, stratified_split
      >>> x = np.random.default_rng(0).normal(size=(200, 2))
      >>> split = stratified_split(x, (x[:, 0] > 0).astype(int), train_size=60)
      >>> train = partial(run, mlp((4,), 2), split, seeds=2, epochs=1)
      >>> found = compare(train, [grid("baseline"), grid("l2")])
      >>> found.arms[1].grid_validation.shape
      (5, 2)
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
    """Returns an arm at its best strength on validation, and its validation loss per seed."""
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
    """Returns recipes that combine the best 2, 3, ... arms that beat the baseline, and notes."""
    baseline, *others = arms
    gains = np.array([_gain(arm.validation, baseline.validation) for arm in others])
    # A stable sort keeps the order of the table for equal gains.
    ranked = [others[i] for i in np.argsort(-gains, kind="stable")]
    beating = int((gains > 0).sum())
    joined = [combine([arm.recipe for arm in ranked[:n]]) for n in range(2, max(beating, 2) + 1)]
    noun = "combinations" if len(joined) > 1 else "combination"
    notes = [f"combined: the best of {len(joined)} {noun} on validation."]
    if beating < 2:
        notes.append(
            f"Fewer than two arms ({beating}) beat the baseline on validation; the combined arm "
            f"joins the best two anyway: {ranked[0].name} and {ranked[1].name}."
        )
    return joined, tuple(notes)


def _gain(values: np.ndarray, baseline: np.ndarray) -> float:
    """Returns the mean of ``values - baseline``, free of float32 rounding error."""
    difference = np.asarray(values, np.float64) - np.asarray(baseline, np.float64)
    return float(np.round(difference.mean(), _DIGITS))
