"""Chooses strengths on validation, and compares arms with the baseline on test, by seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxreg.study.arms import ARMS
from jaxreg.study.data import extra
from jaxreg.study.grids import Grid
from jaxreg.study.objectives import CLASSIFICATION, Objective
from jaxreg.study.recipes import POLICY, Recipe, combine
from jaxreg.study.records import Ablation, ArmResult, Interval, Study
from jaxreg.study.runner import Runs

Train = Callable[[Sequence[Recipe]], Runs]

# With fewer seeds, chance alone would put all of them on one side of the baseline in more than 5%
# of studies (the probability is 2 / 2^seeds).
LEAST_SEEDS = 6
# Joint strengths of a combination, as shares of the strengths that are best alone.
JOINT_SHARES = (1.0, 0.5)
# Most arms in a combination. Every number of arms is a program to compile, and what ranks lower
# hardly beats the baseline.
MOST_JOINED = 8
_RESAMPLES = 10_000
_LEAST_RESAMPLES = 20
# Decimal places to compare: finer than the share of one row, coarser than the error of float32.
_DIGITS = 6


def best(validation: np.ndarray, loss: np.ndarray, *, lower_is_better: bool = False) -> int:
    """Returns the index of the best mean validation score; the lowest loss breaks ties.

    Means are compared to six decimal places. If rows tie in both, the first row wins.

    Args:
      validation: Validation score, ``[rows, seeds]``.
      loss: Validation loss, ``[rows, seeds]``.
      lower_is_better: Whether a smaller score is better.

    Returns:
      Index of the row.

    Example:
      >>> import numpy as np
      >>> from jaxreg.study import selection
      >>> selection.best(np.array([[0.8], [0.9], [0.9]]), np.array([[0.1], [0.4], [0.3]]))
      2
    """
    # Scores are float32, so equal counts of right answers may differ in the seventh digit.
    score = np.round(np.mean(validation, axis=1, dtype=np.float64), _DIGITS)
    worse = np.nan_to_num(score if lower_is_better else -score, nan=np.inf)
    mean_loss = np.round(np.mean(loss, axis=1, dtype=np.float64), _DIGITS)
    return int(np.lexsort((np.nan_to_num(mean_loss, nan=np.inf), worse))[0])


def paired_difference(
    values: np.ndarray,
    baseline: np.ndarray,
    *,
    rows: np.ndarray | None = None,
    comparisons: int = 1,
) -> Interval:
    r"""Returns the mean of paired differences and its 95% interval.

    Over seeds it is the expanded percentile bootstrap: it ends at the quantiles :math:`\alpha` and
    :math:`1 - \alpha` of the means of resampled pairs. Resampling :math:`n` pairs makes the mean
    look more certain than it is. So :math:`\alpha` is smaller than 0.025, by as much as Student's
    interval is wider than the normal one (Hesterberg 2015, What Teachers Should Know About the
    Bootstrap):

    .. math::

      \alpha = \Phi\left(-\sqrt{n / (n - 1)} \; t_{0.975, n - 1}\right)

    All seeds test on the same rows, but other rows could have been drawn. Half the width of a
    normal interval for the mean over rows is therefore added to both sides, as the root of the sum
    of squares.

    Args:
      values: One value per seed, ``[seeds]``; at least 2 seeds.
      baseline: The baseline's values for the same seeds, ``[seeds]``.
      rows: Difference for every test row, averaged over seeds, ``[rows]``; None ignores the
        uncertainty from the choice of rows.
      comparisons: Number of intervals that should hold simultaneously; each has the level
        ``1 - 0.05 / comparisons`` (Bonferroni).

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
        raise ValueError(f"`values` must contain at least 2 seeds, got {count}.")
    tail = 0.025 / comparisons
    mean = float(differences.mean())
    low, high = _ends_over_seeds(differences, tail)
    spread = 0.0 if rows is None else _half_width_over_rows(rows, tail)
    return Interval(
        mean, mean - math.hypot(mean - low, spread), mean + math.hypot(high - mean, spread)
    )


def _ends_over_seeds(differences: np.ndarray, tail: float) -> tuple[float, float]:
    """Returns the ends of the interval over seeds, each with the probability ``tail``."""
    count = len(differences)
    share = _tail_share(count, tail)
    if share * _RESAMPLES < _LEAST_RESAMPLES:
        # Too few resamples are beyond the ends, so Student's interval is used instead.
        quantile = float(extra("scipy.stats").t.ppf(1 - tail, count - 1))
        half = quantile * float(differences.std(ddof=1)) / math.sqrt(count)
        return float(differences.mean()) - half, float(differences.mean()) + half
    picks = np.random.default_rng(0).integers(count, size=(_RESAMPLES, count))
    low, high = np.quantile(differences[picks].mean(axis=1), [share, 1 - share])
    return float(low), float(high)


def _tail_share(count: int, tail: float) -> float:
    """Returns the share of bootstrap means beyond an end of the interval for ``count`` pairs."""
    stats = extra("scipy.stats")
    quantile = stats.t.ppf(1 - tail, count - 1)
    return float(stats.norm.cdf(-np.sqrt(count / (count - 1)) * quantile))


def _half_width_over_rows(rows: np.ndarray, tail: float) -> float:
    """Returns half the width of the normal interval for a mean over test rows."""
    rows = np.asarray(rows, np.float64)
    if len(rows) < 2:
        return math.inf
    error = float(rows.std(ddof=1)) / math.sqrt(len(rows))
    return float(extra("scipy.stats").norm.ppf(1 - tail)) * error


class _Baseline(NamedTuple):
    """The runs to compare with, and the number of comparisons of a study."""

    runs: Runs
    comparisons: int

    def difference(self, runs: Runs) -> Interval:
        """Returns how the test score of ``runs`` differs from the baseline's, with an interval."""
        rows = None
        if runs.test_rows is not None and self.runs.test_rows is not None:
            rows = np.asarray(runs.test_rows - self.runs.test_rows, np.float64).mean(axis=-1)
        return paired_difference(runs.test, self.runs.test, rows=rows, comparisons=self.comparisons)


class _Chosen(NamedTuple):
    """An arm at its best strength on validation, and its validation loss per seed."""

    result: ArmResult
    loss: np.ndarray


def compare(
    train: Train,
    grids: Sequence[Grid],
    *,
    combined: bool = False,
    objective: Objective = CLASSIFICATION,
) -> Study:
    """Trains all arms, chooses each arm's strength on validation, and compares them on test.

    Every arm gets the strength with the best mean validation score over seeds. The combined arm
    joins arms that beat the baseline on validation: the best two, the best three, and so on up to
    eight. Each of these combinations is trained twice: at the chosen strengths of its arms, and
    with each strength weakened by half. Validation also chooses among them. The chosen combination
    is then trained without each of its parts. The test set takes no part in any choice.

    Args:
      train: Function from recipes to their :class:`jaxreg.study.Runs`, such as
        ``functools.partial(run, make_model, data, seeds=16, epochs=60)``.
      grids: The arms, the baseline first.
      combined: Whether to add the combined arm, which needs two arms besides the baseline.
      objective: The objective that ``train`` uses, for the direction of its metric.

    Returns:
      The study: arms in the order of ``grids``, then the combined arm.

    Raises:
      ValueError: The first grid is not the baseline, ``combined`` is True with fewer than two arms
        besides the baseline, or ``train`` used fewer than two seeds or another objective.

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
        raise ValueError(
            "`combined` must have at least two arms to join besides the baseline, got "
            f"{len(grids) - 1}; pass more grids, or combined=False."
        )
    memo = _Memo(train)
    runs = memo([recipe for grid in grids for recipe in grid.recipes])
    _check_objective(objective, runs)
    against = _Baseline(pick(runs, 0), max(1, len(grids) - 1 + combined))
    chosen, start = [], 0
    for grid in grids:
        stop = start + len(grid.recipes)
        chosen.append(_choose(grid, runs.rows(start, stop), against, objective))
        start = stop
    notes = _edge_notes(each.result for each in chosen)
    ablation: tuple[Ablation, ...] = ()
    if combined:
        candidates, remarks = _candidates([each.result for each in chosen], objective)
        joined = Grid("combined", (), tuple(candidates))
        chosen.append(_choose(joined, memo(candidates), against, objective))
        notes += remarks
        ablation = _ablate(memo, chosen[-1].result)
    winner = best(
        np.stack([each.result.validation for each in chosen]),
        np.stack([each.loss for each in chosen]),
        lower_is_better=objective.metric.lower_is_better,
    )
    return Study(
        arms=tuple(each.result for each in chosen),
        chosen=chosen[winner].result.name,
        notes=notes,
        ablation=ablation,
        objective=objective,
    )


def _check_objective(objective: Objective, runs: Runs) -> None:
    known = {metric.name for metric in objective.metrics[1:]}
    others = [name for name in runs.others if name not in known]
    if others:
        raise ValueError(
            f"`objective` must be the one that `train` uses, got {objective.task} with "
            f"{objective.metric.name}, but the runs have {', '.join(others)} as a further metric; "
            "pass the same objective to `compare`, such as jaxreg.study.REGRESSION."
        )


class _Memo:
    """Trains every recipe once."""

    def __init__(self, train: Train) -> None:
        self._train = train
        self._known: dict[Recipe, Runs] = {}

    def __call__(self, recipes: Sequence[Recipe]) -> Runs:
        new = [recipe for recipe in dict.fromkeys(recipes) if recipe not in self._known]
        if new:
            runs = self._train(new)
            for index, recipe in enumerate(new):
                self._known[recipe] = pick(runs, index)
        return jax.tree.map(lambda *rows: np.stack(rows), *(self._known[r] for r in recipes))


def pick(runs: Runs, index: int) -> Runs:
    """Returns the results of one recipe."""
    return jax.tree.map(lambda array: array[index], runs)


def _choose(grid: Grid, rows: Runs, against: _Baseline, objective: Objective) -> _Chosen:
    """Returns an arm at its best strength on validation."""
    index = best(rows.validation, rows.loss, lower_is_better=objective.metric.lower_is_better)
    listed = len(grid.strengths)
    result = ArmResult(
        name=grid.name,
        recipe=grid.recipes[index],
        strength=grid.strengths[index] if listed else None,
        train=rows.train[index],
        validation=rows.validation[index],
        test=rows.test[index],
        train_loss=rows.train_loss[index],
        validation_loss=rows.validation_loss[index],
        strengths=grid.strengths,
        grid_validation=rows.validation[:listed],
        grid_test=rows.test[:listed],
        difference=against.difference(pick(rows, index)),
        others={
            name: float(np.mean(values[index], dtype=np.float64))
            for name, values in rows.others.items()
        },
    )
    return _Chosen(result, rows.loss[index])


def _edge_notes(results: Iterable[ArmResult]) -> tuple[str, ...]:
    """Returns a note on the arms whose chosen strength is at an end of a grid of three or more."""
    edges = [
        f"{result.name} {result.strength:.3g}"
        for result in results
        if len(result.strengths) > 2
        and result.strength in (result.strengths[0], result.strengths[-1])
    ]
    if not edges:
        return ()
    return (
        f"At the edge of its grid, so that a strength beyond may be better: {', '.join(edges)}.",
    )


def _candidates(
    arms: Sequence[ArmResult], objective: Objective
) -> tuple[list[Recipe], tuple[str, ...]]:
    """Returns recipes that combine the best 2, 3, ... arms that beat the baseline, and notes."""
    baseline, *others = arms
    sign = -1 if objective.metric.lower_is_better else 1
    gains = np.array([sign * _gain(arm.validation, baseline.validation) for arm in others])
    # A stable sort keeps the order of the table for equal gains.
    ranked = [others[i] for i in np.argsort(-gains, kind="stable")]
    beating = int((gains > 0).sum())
    # The best comes last, so that its strengths and its norm take precedence.
    joined = [
        weaken(combine([arm.recipe for arm in reversed(ranked[:n])]), share)
        for n in range(2, min(max(beating, 2), MOST_JOINED) + 1)
        for share in JOINT_SHARES
    ]
    joined = list(dict.fromkeys(joined))
    noun = "combinations" if len(joined) > 1 else "combination"
    notes = [f"combined: the best of {len(joined)} {noun} on validation."]
    if beating < 2:
        notes.append(
            f"Fewer than two arms ({beating}) beat the baseline on validation; the combined arm "
            f"joins the best two anyway: {ranked[0].name} and {ranked[1].name}."
        )
    return joined, tuple(notes)


def weaken(recipe: Recipe, share: float) -> Recipe:
    """Returns a recipe with every strength weakened to a share; other arms are unchanged."""
    weaker = {}
    for name, value in recipe.items():
        has_strength = name != POLICY and ARMS[name].has_strength
        weaker[name] = ARMS[name].weaken(value, share) if has_strength else value
    return Recipe(weaker)


def _ablate(train: Train, combined: ArmResult) -> tuple[Ablation, ...]:
    """Returns the change of the combination's test score without each of its parts."""
    parts = list(combined.recipe)
    if len(parts) < 2:
        return ()
    without = [Recipe({n: v for n, v in combined.recipe.items() if n != name}) for name in parts]
    runs = train([combined.recipe, *without])
    against = _Baseline(pick(runs, 0), len(parts))
    return tuple(
        Ablation(
            name=name,
            strength=combined.recipe[name] if _is_number(combined.recipe[name]) else None,
            difference=against.difference(pick(runs, index)),
        )
        for index, name in enumerate(parts, start=1)
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _gain(values: np.ndarray, baseline: np.ndarray) -> float:
    """Returns the mean of ``values - baseline``, free of float32 rounding error."""
    difference = np.asarray(values, np.float64) - np.asarray(baseline, np.float64)
    return float(np.round(difference.mean(), _DIGITS))
