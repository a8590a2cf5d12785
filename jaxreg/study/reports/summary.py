"""Computes everything that the table, the page, the figures and the files show, once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxreg.diagnosis import Verdict
from jaxreg.study.data import DATA_SETS
from jaxreg.study.objectives import Metric
from jaxreg.study.records import Ablation, ArmResult, Interval, Study
from jaxreg.study.reports import notes, sentences
from jaxreg.study.reports.judgments import (
    PARTS,
    REFERENCE,
    diagnose_arm,
    judge,
    shorten,
)
from jaxreg.study.reports.units import Units, number, recipe_text, units_of

# A further metric is printed if it differs from the score by more than this for some arm. With
# classes of equal size, the metrics of a classification are almost equal.
_TELLING = 0.01


class Texts(NamedTuple):
    """The formatted numbers of a row; empty if there is nothing to show."""

    strength: str
    train: str
    validation: str
    test: str
    spread: str  # half of the interval of the test score
    gap: str
    difference: str
    interval: str  # of the difference, in brackets
    diagnosis: str  # in one or two words
    published: str
    others: tuple[str, ...]


class Row(NamedTuple):
    """An arm of the table. Scores are averaged over seeds.

    Attributes:
      name: Name of the arm.
      label: Name in words, with the strength.
      strength: The chosen strength; None for an arm without strengths.
      train: Training score.
      validation: Validation score.
      test: Test score with its 95% interval over seeds.
      gap: By how much the score is worse on test rows than on training rows.
      difference: Test score minus the baseline's, paired by seed, with its 95% interval.
      others: Mean test score of each further metric, by its name.
      mark: The arm against the baseline: reference, better, worse, not distinguishable, diverged.
      diagnosis: Verdict on the losses.
      chosen: Whether validation chose the arm.
      published: Published score with the same settings; None if there is none.
      lowest_loss: Lowest mean validation loss of an epoch; NaN if no loss is finite.
      diverged: Number of seeds with a loss that is not finite.
      texts: The numbers as texts.
    """

    name: str
    label: str
    strength: float | None
    train: float
    validation: float
    test: Interval
    gap: float
    difference: Interval
    others: Mapping[str, float]
    mark: str
    diagnosis: Verdict
    chosen: bool
    published: float | None
    lowest_loss: float
    diverged: int
    texts: Texts


class Part(NamedTuple):
    """A part of the combination, and how the test score changes without it.

    Attributes:
      name: Name of the arm that is left out.
      label: Name in words, with the strength.
      difference: Test score without the part minus the score of the combination.
      mark: Helps, hurts, not distinguishable, or diverged.
      change: The difference as text.
      interval: Its interval as text, in brackets.
    """

    name: str
    label: str
    difference: Interval
    mark: str
    change: str
    interval: str


class Response(NamedTuple):
    """Scores of an arm at every strength of its grid, with 95% intervals over seeds."""

    name: str
    label: str
    chosen: float | None
    strengths: tuple[float, ...]
    validation: tuple[Interval, ...]
    test: tuple[Interval, ...]


class Summary(NamedTuple):
    """The contents of a report.

    Attributes:
      study: The study, for its settings and its arrays.
      units: Units of the scores.
      others: Units of the further metrics.
      telling: Whether the further metrics tell more than the score does.
      rows: The arms; the baseline is first.
      parts: The ablation; empty without a combination.
      responses: The arms that were trained at more than one strength.
      title: Data, metric and sizes in one line.
      headline: A sentence on the chosen arm.
      recipe: The chosen recipe in one line.
      remarks: Sentences about this study.
      explanations: Sentences that explain the numbers and the marks.
    """

    study: Study
    units: Units
    others: tuple[Units, ...]
    telling: bool
    rows: tuple[Row, ...]
    parts: tuple[Part, ...]
    responses: tuple[Response, ...]
    title: str
    headline: str
    recipe: str
    remarks: tuple[str, ...]
    explanations: tuple[str, ...]

    @property
    def best(self) -> Row:
        """The row of the chosen arm."""
        return next(row for row in self.rows if row.chosen)

    @property
    def has_published(self) -> bool:
        """Returns whether an arm has a published score."""
        return any(row.published is not None for row in self.rows)


def summarize(study: Study) -> Summary:
    """Computes the contents of a report.

    Args:
      study: The study.

    Returns:
      The summary, which is the same for the same study.

    Example:
      >>> import numpy as np
      >>> from jaxreg.study import ArmResult, Interval, Recipe, Study
      >>> ones = np.ones(6)
      >>> arm = ArmResult(
      ...     "baseline", Recipe(), None, ones, ones, ones, np.ones((5, 6)), np.ones((5, 6)), (),
      ...     np.ones((0, 6)), np.ones((0, 6)), Interval(0.0, 0.0, 0.0)
      ... )
      >>> summarize(Study((arm,), "baseline")).headline
      'The baseline is the only arm: accuracy 100.0% on test.'
    """
    shown = [score for arm in study.arms for score in (mean(arm.train), mean(arm.test))]
    units = units_of(study.objective.metric, shown)
    others = tuple(_units_on_test(metric, study) for metric in study.objective.metrics[1:])
    rows = tuple(_row(arm, study, units, others) for arm in study.arms)
    parts = tuple(_part(part, study, units) for part in study.ablation)
    return Summary(
        study=study,
        units=units,
        others=others,
        telling=_tells_more(study),
        rows=rows,
        parts=parts,
        responses=tuple(_response(arm) for arm in study.arms if len(arm.strengths) > 1),
        title=sentences.title(study, units),
        headline=sentences.headline(study, units, rows),
        recipe=recipe_text(study.best.recipe),
        remarks=(*_combinations(study), *study.notes, *notes.on_published(rows)),
        explanations=notes.explanations(study, units, rows, parts),
    )


def _units_on_test(metric: Metric, study: Study) -> Units:
    """Returns the units of a further metric."""
    scores = [arm.others[metric.name] for arm in study.arms if metric.name in arm.others]
    return units_of(metric, scores)


def _row(arm: ArmResult, study: Study, units: Units, others: tuple[Units, ...]) -> Row:
    difference = Interval(*map(float, arm.difference))
    mark = REFERENCE if arm is study.baseline else judge(difference, study.seeds, units)
    finite = np.isfinite(arm.train_loss) & np.isfinite(arm.validation_loss)
    row = Row(
        name=arm.name,
        label=_label(arm.name, arm.strength),
        strength=arm.strength,
        train=mean(arm.train),
        validation=mean(arm.validation),
        test=mean_interval(arm.test),
        gap=units.gain(mean(arm.train) - mean(arm.test)),
        difference=difference,
        others={name: float(value) for name, value in arm.others.items()},
        mark=mark,
        diagnosis=diagnose_arm(arm, study, units),
        chosen=arm.name == study.chosen,
        published=_published_score(arm, study),
        lowest_loss=_lowest(arm.validation_loss),
        diverged=int((~finite).any(axis=0).sum()),
        texts=_NO_TEXTS,
    )
    return row._replace(texts=_texts(row, study, units, others))


_NO_TEXTS = Texts("", "", "", "", "", "", "", "", "", "", ())


def _texts(row: Row, study: Study, units: Units, others: tuple[Units, ...]) -> Texts:
    is_reference = row.mark == REFERENCE
    names = [metric.name for metric in study.objective.metrics[1:]]
    return Texts(
        strength=number(row.strength),
        train=units.score(row.train),
        validation=units.score(row.validation),
        test=units.score(row.test.mean),
        spread=units.score(row.test.high - row.test.mean),
        gap=units.score(row.gap),
        difference="" if is_reference else units.change(row.difference.mean),
        interval="" if is_reference else units.interval(row.difference),
        diagnosis=shorten(row.diagnosis),
        published="" if row.published is None else units.score(row.published),
        others=tuple(
            own.score(row.others[name]) if name in row.others else ""
            for own, name in zip(others, names, strict=True)
        ),
    )


def _part(part: Ablation, study: Study, units: Units) -> Part:
    difference = Interval(*map(float, part.difference))
    return Part(
        name=part.name,
        label=_label(part.name, part.strength),
        difference=difference,
        mark=PARTS[judge(difference, study.seeds, units)],
        change=units.change(difference.mean),
        interval=units.interval(difference),
    )


def _response(arm: ArmResult) -> Response:
    return Response(
        name=arm.name,
        label=_label(arm.name, arm.strength),
        chosen=arm.strength,
        strengths=arm.strengths,
        validation=tuple(mean_interval(seeds) for seeds in arm.grid_validation),
        test=tuple(mean_interval(seeds) for seeds in arm.grid_test),
    )


def _label(name: str, strength: float | None) -> str:
    return f"{name.replace('_', ' ')} {number(strength)}".strip()


def _published_score(arm: ArmResult, study: Study) -> float | None:
    """Returns the published accuracy if the arm used the published settings, else None."""
    data_set = DATA_SETS.get(study.data)
    if data_set is None or study.sizes is None or study.objective.metric.name != "accuracy":
        return None
    strength = () if arm.strength is None else (arm.strength,)
    settings = (study.epochs, study.sizes[0], strength)
    published = (data_set.epochs, data_set.train_size, data_set.strengths.get(arm.name, ()))
    return data_set.published.get(arm.name) if settings == published else None


def _tells_more(study: Study) -> bool:
    """Returns whether a further metric differs from the score, or is not in percent."""
    metric, *others = study.objective.metrics
    if not metric.percent or any(not other.percent for other in others):
        return bool(others)
    return any(
        abs(value - mean(arm.test)) > _TELLING
        for arm in study.arms
        for value in arm.others.values()
    )


def _combinations(study: Study) -> list[str]:
    """Returns a line with the recipe of each arm that combines arms and was not chosen."""
    return [
        f"{arm.name} = {recipe_text(arm.recipe)}"
        for arm in study.arms
        if len(arm.recipe) > 1 and arm.name != study.chosen
    ]


def _lowest(loss: np.ndarray) -> float:
    """Returns the lowest loss of an epoch, averaged over the seeds whose loss is finite."""
    finite = np.isfinite(loss)
    sums = np.where(finite, loss, 0).sum(axis=1, dtype=np.float64)
    counts = finite.sum(axis=1)
    return float(min(sums[counts > 0] / counts[counts > 0], default=math.nan))


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
