"""Computes the numbers and sentences that the table, the HTML page and the recipe share."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from jaxreg.diagnosis import Verdict, diagnose
from jaxreg.study.data import TASKS
from jaxreg.study.recipes import Recipe
from jaxreg.study.records import Arm, Interval, Study
from jaxreg.study.techniques import PUBLISHED, TECHNIQUES

REFERENCE = "reference"
HIGHER = "higher"
LOWER = "lower"
UNCLEAR = "not distinguishable"

ONLY_BASELINE = "The baseline is the only arm"
# With fewer seeds, chance alone would put all of them on one side of the baseline in more than 5%
# of studies (its probability is 2 / 2^seeds).
_LEAST_SEEDS = 6
_UNCLEAR_NOTE = (
    "not distinguishable: the 95% interval of the difference contains zero, so the arm may be "
    "no better than the baseline."
)
_FEW_SEEDS_NOTE = (
    f"not distinguishable: fewer than {_LEAST_SEEDS} seeds cannot tell an arm from the baseline."
)
SELECTION_NOTE = (
    "Strengths, stopping epochs and the final recipe were chosen on validation. The test rows are "
    "the same for all seeds and took no part in any choice. The intervals are over seeds (initial "
    "weights, batches, and re-splits of training and validation rows), not over new test data, and "
    "are not adjusted for the number of arms: the best of many arms looks better than it is."
)
PUBLISHED_NOTE = (
    "The published figures differ because their script evaluates on its training points; compare "
    "them with the train column. Here L1 is a proximal step, L2 is decoupled decay, and every "
    "figure is a mean over seeds."
)
DIAGNOSIS_NOTE = (
    "diagnosis: too little or too much regularization, overfitting or underfitting, judged by the "
    "losses alone; jaxreg diagnose shows the numbers. Smoothed and mixed labels raise the losses, "
    "so they can read as too much even if accuracy rises."
)
_SHORT_VERDICTS = {
    Verdict.TOO_LITTLE: "too little",
    Verdict.TOO_MUCH: "too much",
    Verdict.NOT_ENOUGH: "no verdict",
}


class Row(NamedTuple):
    """One row of the table; accuracies are fractions, averaged over seeds."""

    name: str
    strength: float | None
    train: float
    validation: float
    test: Interval
    gap: float
    difference: Interval
    diagnosis: Verdict
    mark: str
    chosen: bool
    published: float | None


def rows(study: Study) -> list[Row]:
    """Returns the rows of a study's table, one per arm, the baseline first."""
    return [
        Row(
            name=arm.name,
            strength=arm.strength,
            train=mean(arm.train),
            validation=mean(arm.validation),
            test=mean_interval(arm.test),
            gap=mean(arm.train) - mean(arm.test),
            difference=Interval(*map(float, arm.difference)),
            diagnosis=diagnosis(arm, study),
            mark=mark(arm, study),
            chosen=arm.name == study.chosen,
            published=_published_accuracy(arm, study),
        )
        for arm in study.arms
    ]


def _published_accuracy(arm: Arm, study: Study) -> float | None:
    """Returns the published accuracy if the arm used the published settings, else None."""
    figure = PUBLISHED.get(study.data, {}).get(arm.name)
    if figure is None:
        return None
    task = TASKS[study.data]
    strength = () if arm.strength is None else (arm.strength,)
    settings = (study.epochs, study.sizes[0], strength)
    published = (task.epochs, task.train_size, task.strengths.get(arm.name, ()))
    return figure if settings == published else None


def mean_interval(values: np.ndarray) -> Interval:
    """Returns the mean over seeds with its 95% Student interval, of width 0 for one seed."""
    # SciPy is slow to import, and only a finished study needs it.
    from scipy import stats

    center = mean(values)
    if len(values) < 2:
        return Interval(center, center, center)
    error = float(np.std(values, ddof=1, dtype=np.float64)) / math.sqrt(len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return Interval(center, center - half, center + half)


def mean(values: np.ndarray) -> float:
    """Returns the mean over seeds, accumulated in float64."""
    return float(np.mean(values, dtype=np.float64))


def mark(arm: Arm, study: Study) -> str:
    """Compares an arm to the baseline: "reference", "higher", "lower" or "not distinguishable"."""
    if arm is study.arms[0]:
        return REFERENCE
    if study.seeds < _LEAST_SEEDS:
        return UNCLEAR
    if arm.difference.low > 0:
        return HIGHER
    if arm.difference.high < 0:
        return LOWER
    return UNCLEAR


def diagnosis(arm: Arm, study: Study) -> Verdict:
    """Returns the diagnosis of an arm from its losses and the baseline's losses."""
    baseline = study.arms[0]
    return diagnose(arm, baseline=None if arm is baseline else baseline).verdict


def short(verdict: Verdict) -> str:
    """Returns a verdict in one or two words, to fit a column."""
    return _SHORT_VERDICTS.get(verdict, str(verdict))


def unclear_note(study: Study) -> str:
    """Returns the note that explains the mark "not distinguishable"."""
    return _FEW_SEEDS_NOTE if study.seeds < _LEAST_SEEDS else _UNCLEAR_NOTE


def chosen_arm(study: Study) -> Arm:
    """Returns the arm with the best validation accuracy."""
    return next(arm for arm in study.arms if arm.name == study.chosen)


def techniques(recipe: Recipe) -> list[tuple[str, float | None]]:
    """Returns the arm name and the strength (None if it has none) of each active technique."""
    off = Recipe()
    on = [each for each in TECHNIQUES if getattr(recipe, each.field) != getattr(off, each.field)]
    with_strength = [(each.name, float(getattr(recipe, each.field))) for each in on if each.low]
    return [*with_strength, *((each.name, None) for each in on if not each.low)]


def recipe_text(recipe: Recipe) -> str:
    """Formats the active techniques of a recipe and their strengths on one line.

    Example:
      >>> from jaxreg.study import Recipe
      >>> print(recipe_text(Recipe(l2=0.5, batch_norm=True)))
      l2 0.5 + batch_norm
    """
    parts = [f"{name} {number(value)}".strip() for name, value in techniques(recipe)]
    if recipe.policy:
        parts.append(f"policy ({recipe.policy})")
    return " + ".join(parts) or "no regularization"


def number(value: float | None) -> str:
    """Formats a strength with three significant digits; None becomes an empty string."""
    return "" if value is None else f"{value:.3g}"


def percent(value: float) -> str:
    """Formats a fraction as a percentage with one decimal, without the percent sign."""
    return f"{100 * value:.1f}"


def points(value: float) -> str:
    """Formats a difference of fractions as percentage points, always with a sign."""
    return f"{100 * value:+.2f}"


def interval_points(interval: Interval) -> str:
    """Formats a difference and its interval in percentage points."""
    return f"{points(interval.mean)} [{points(interval.low)}, {points(interval.high)}]"


def verdict(study: Study) -> str:
    """Returns a sentence that names the chosen arm, its gain and the gain's interval."""
    arm = chosen_arm(study)
    test = f"{percent(mean(arm.test))}% on test"
    if len(study.arms) == 1:
        return f"{ONLY_BASELINE}: {test}."
    if arm is study.arms[0]:
        return f"Validation chose the baseline: no technique did better there; {test}."
    name = arm.name.replace("_", " ")
    detail = number(arm.strength) or recipe_text(arm.recipe).replace("_", " ")
    label = name if detail == name else f"{name} ({detail})"
    low = points(arm.difference.low)
    high = points(arm.difference.high)
    interval = f"(95% interval {low} to {high})"
    side = {HIGHER: "above", LOWER: "below"}.get(mark(arm, study))
    if side is None:
        change = (
            f"{points(arm.difference.mean)} points against the baseline {interval}, "
            "which is not distinguishable from zero"
        )
    else:
        change = f"{abs(100 * arm.difference.mean):.2f} points {side} the baseline {interval}"
    return f"Validation chose {label}: {test}, {change}."


def combinations(study: Study) -> list[str]:
    """Returns a line with the recipe of each arm that has more than one technique."""
    return [
        f"{arm.name} = {recipe_text(arm.recipe)}"
        for arm in study.arms
        if len(techniques(arm.recipe)) > 1
    ]
