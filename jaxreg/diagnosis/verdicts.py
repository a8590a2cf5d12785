"""Measures the curves of a run and judges them by thresholds."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxreg.diagnosis import _curves
from jaxreg.diagnosis._curves import Curves, Finite
from jaxreg.diagnosis.changes import Change, Verdict, changes_after

__all__ = ["Diagnosis", "Evidence", "Thresholds", "diagnose", "diagnose_better"]


class Thresholds(NamedTuple):
    """Thresholds of the verdicts; losses are in units of the initial training loss.

    Attributes:
      epochs: Fewest epochs to judge by.
      end: Fraction of the epochs that counts as the end of a run.
      poor: Level of the training loss from which training counts as poor.
      learned: Level of the training loss below which a loss that still falls is not underfitting.
      gap: Validation loss minus training loss that is large if ``excess`` is reached as well.
      excess: Fraction of the validation loss that such a gap must be.
      wide_gap: Gap that is large for any validation loss.
      burden: Distance of the training loss above the validation loss from which the noise or the
        penalties of training are too strong.
      rise: Rise of the validation loss from its minimum that is a sign of overfitting.
      relative_rise: Such a rise, in units of the minimum (Prechelt's generalization loss).
      noises: Factor by which the rise has to exceed the noise.
      falling: Share of the whole fall in the last epochs from which a run was stopped too soon.
      noise: Standard deviation about the trend from which a run is unstable.
      jump: Rise from one epoch to the next that is an instability.
      divergence: Rise of the training loss from its minimum that is an instability.
      cost: Distance of the training loss above the baseline's from which regularization is costly.
      loss: Distance of the validation loss above the baseline's best from which regularization
        does not pay.
      memorized: Training accuracy that counts as perfect.
      accuracy_gap: Difference of the accuracies that is large if training accuracy is perfect.
    """

    epochs: int = 5
    end: float = 0.2
    poor: float = 0.5
    learned: float = 0.25
    gap: float = 0.05
    excess: float = 0.5
    wide_gap: float = 0.2
    burden: float = 0.05
    rise: float = 0.02
    relative_rise: float = 0.05
    noises: float = 2.0
    falling: float = 0.1
    noise: float = 0.1
    jump: float = 0.5
    divergence: float = 0.25
    cost: float = 0.1
    loss: float = 0.02
    memorized: float = 0.99
    accuracy_gap: float = 0.05


class Evidence(NamedTuple):
    """Measurements behind a verdict, in the units of :class:`Thresholds`; NaN means unknown.

    Attributes:
      epochs: Number of finite training losses.
      initial: Training loss at the start, as it was given.
      train: Training loss at the end, as it was given.
      validation: Validation loss at the end, as it was given.
      level: Training loss at the end.
      gap: Validation loss minus training loss at the end.
      excess: Share of the validation loss that the gap is.
      best_epoch: Epoch of the lowest validation loss.
      rise: Rise of the validation loss since then.
      relative_rise: The same rise in units of the lowest validation loss.
      train_rise: Rise of the training loss since its own minimum.
      falls: Whether the training loss fell out of its noise at all.
      falling: Share of the whole fall of the training loss that comes at the end.
      noise: Standard deviation about the trend, the larger one of both curves.
      jump: Largest rise of the training loss in one epoch.
      broke_at: First epoch from which a loss is not finite any more.
      last_epoch: Last epoch in which anything was measured.
      unmeasured: Number of epochs after that.
      counter: "epoch", or "step" if the history counts steps.
      train_accuracy: Training accuracy at the end.
      validation_accuracy: Validation accuracy at the end.
      cost: Training loss at the end above the baseline's.
      gain: Validation loss at the end below the baseline's best one.
    """

    epochs: int = 0
    initial: float = math.nan
    train: float = math.nan
    validation: float = math.nan
    level: float = math.nan
    gap: float = math.nan
    excess: float = math.nan
    best_epoch: float = math.nan
    rise: float = math.nan
    relative_rise: float = math.nan
    train_rise: float = math.nan
    falls: bool = True
    falling: float = math.nan
    noise: float = math.nan
    jump: float = math.nan
    broke_at: float = math.nan
    last_epoch: float = math.nan
    unmeasured: int = 0
    counter: str = "epoch"
    train_accuracy: float = math.nan
    validation_accuracy: float = math.nan
    cost: float = math.nan
    gain: float = math.nan


class Diagnosis(NamedTuple):
    """Result of :func:`diagnose`; ``str()`` formats it as text.

    Attributes:
      verdict: The verdict.
      reasons: Reasons for it, each with its numbers.
      changes: Changes to try, in this order.
      evidence: Measurements that the verdict is based on.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    changes: tuple[Change, ...]
    evidence: Evidence

    def __str__(self) -> str:
        """Returns the verdict, the reasons and the changes as text, one per line."""
        changes = [f"{c.what} ({c.address})" if c.address else c.what for c in self.changes]
        return "\n".join(
            [
                str(self.verdict),
                *(f"  because {reason}" for reason in self.reasons),
                *(f"  try: {change}" for change in changes),
            ]
        )


def diagnose(
    history: Any,
    *,
    baseline: Any = None,
    parts: Mapping[str, Any] | None = None,
    floor: float = 0.0,
    thresholds: Thresholds = Thresholds(),  # noqa: B008
) -> Diagnosis:
    """Diagnoses a run from its loss curves, and suggests changes.

    Args:
      history: Mapping, or any object, with ``train_loss`` and, for more than instability,
        ``validation_loss``; optionally ``train_accuracy`` and ``validation_accuracy``. Each has one
        number per epoch, None or a mask where nothing was measured, or the shape
        ``[epochs, runs]``, which is averaged over the runs. NaN after the last number is a
        divergence; NaN between numbers is a gap. Optionally ``epoch`` has the number of each epoch;
        without it, epochs count from 1. :func:`~jaxreg.diagnosis.read` and an arm of a study are
        such objects.
      baseline: History of the same model without regularization, which shows the cost of the
        regularization in training and its gain in validation.
      parts: What regularizes the run: strengths by name, such as ``{"dropout": 0.3}`` or the recipe
        of an arm. Any names do; suggestions repeat them. Without it, suggestions fit any run.
      floor: Loss of a perfect prediction; the entropy of the labels if these are noisy.
      thresholds: Values at which the verdicts begin.

    Returns:
      The diagnosis. A history that is empty, short or has no number gets the verdict
      ``NOT_ENOUGH``.

    Raises:
      TypeError: A curve does not hold numbers.
      ValueError: The curves differ in length, or there is no ``train_loss``.

    Example:
      >>> from jaxreg.diagnosis import diagnose
      >>> train = [2.3, 1.0, 0.5, 0.3, 0.2, 0.1, 0.1, 0.1]
      >>> validation = [2.3, 1.2, 0.9, 0.8, 0.9, 1.0, 1.1, 1.2]
      >>> print(diagnose({"train_loss": train, "validation_loss": validation}).verdict)
      overfitting
    """
    curves = _curves.read(history)
    other = None if baseline is None else _curves.read(baseline, "baseline")
    evidence = _measure(curves, floor, thresholds)
    if other is not None:
        evidence = _compare(evidence, curves, other, floor, thresholds)
    verdict, reasons = _judge(evidence, thresholds)
    if evidence.unmeasured:
        reasons = (
            *reasons,
            f"nothing was measured after {evidence.counter} {evidence.last_epoch}, though "
            f"{evidence.unmeasured} more follow; some programs write NaN like that",
        )
    return Diagnosis(verdict, reasons, changes_after(verdict, parts), evidence)


def diagnose_better(
    history: Any,
    *,
    baseline: Any = None,
    parts: Mapping[str, Any] | None = None,
    floor: float = 0.0,
    thresholds: Thresholds = Thresholds(),  # noqa: B008
) -> Diagnosis:
    """Diagnoses a run that scores better than its baseline, or that is the baseline.

    Such a run never has too much regularization, though its losses may rise: regularization makes a
    model less certain, and smoothed labels keep the losses up. If the losses say so beside the
    baseline, they are judged alone, and if they say the same then, there is no verdict.

    Args:
      history: As for :func:`diagnose`, and so are all others.
      baseline: History of the same model without regularization; None for itself.
      parts: What regularizes the run, strengths by name.
      floor: Loss of a perfect prediction.
      thresholds: Values at which the verdicts begin.

    Returns:
      The diagnosis, which is never ``TOO_MUCH``.

    Raises:
      TypeError: As for :func:`diagnose`.
      ValueError: As for :func:`diagnose`.

    Example:
      >>> from jaxreg.diagnosis import diagnose, diagnose_better
      >>> loss = [2.3, 0.5, 0.5, 0.8, 1.0, 1.0]
      >>> history = {"train_loss": loss, "validation_loss": loss}
      >>> print(diagnose(history).verdict, diagnose_better(history).verdict, sep=", ")
      too much regularization, no verdict
    """
    for other in (baseline, None):
        found = diagnose(history, baseline=other, parts=parts, floor=floor, thresholds=thresholds)
        if found.verdict != Verdict.TOO_MUCH:
            return found
    verdict = Verdict.UNDECIDED
    doubt = "its score is as good as the baseline's or better"
    if baseline is None:
        doubt = "this is the baseline, which has none"
    reasons = (*found.reasons, f"that looks like too much regularization, but {doubt}")
    return found._replace(verdict=verdict, reasons=reasons, changes=changes_after(verdict, parts))


def _measure(curves: Curves, floor: float, limits: Thresholds) -> Evidence:
    """Measures the evidence of one run, without a baseline."""
    train = _curves.finite(curves.train_loss)
    validation = _curves.finite(curves.validation_loss)
    evidence = _measure_extent(curves, train, validation)
    if not train.values.size:
        return evidence
    unit, known = _unit(train, validation, floor)
    at_end = _curves.end(train.values, limits.end)
    evidence = evidence._replace(
        initial=float(train.values[0]),
        train=at_end,
        level=(at_end - floor) / unit if known else math.nan,
        train_rise=_curves.turn(train, limits.end).rise / unit,
        falls=_curves.has_fallen(train.values),
        falling=_curves.fall_at_end(train.values, limits.end),
        noise=_curves.noise(train.values) / unit,
        jump=float(np.max(np.diff(train.values), initial=0.0)) / unit,
        train_accuracy=_last(curves.train_accuracy, limits),
        validation_accuracy=_last(curves.validation_accuracy, limits),
    )
    if validation.values.size < limits.epochs:
        return evidence
    turn = _curves.turn(validation, limits.end)
    value = _curves.end(validation.values, limits.end)
    above = value - floor
    least = turn.lowest - floor
    return evidence._replace(
        validation=value,
        gap=(value - at_end) / unit,
        excess=(value - at_end) / above if known and above > 0 else math.nan,
        best_epoch=_label(curves, turn.at),
        rise=turn.rise / unit,
        relative_rise=turn.rise / least if known and least > 0 else math.nan,
        noise=max(evidence.noise, _curves.noise(validation.values) / unit),
    )


def _measure_extent(curves: Curves, train: Finite, validation: Finite) -> Evidence:
    """Measures how far a run got."""
    breaks = [place for place in (train.broke_at, validation.broke_at) if place >= 0]
    losses = [curve for curve in (curves.train_loss, curves.validation_loss) if curve.size]
    measured = np.flatnonzero(~np.all([np.ma.getmaskarray(curve) for curve in losses], axis=0))
    return Evidence(
        epochs=int(train.values.size),
        broke_at=_label(curves, min(breaks)) if breaks else math.nan,
        last_epoch=_label(curves, measured[-1]) if measured.size else math.nan,
        unmeasured=int(curves.epoch.size - 1 - measured[-1]) if measured.size else 0,
        counter=curves.counter,
    )


def _label(curves: Curves, place: int) -> float:
    """Returns the number of an epoch, as an integer if it is one."""
    label = float(curves.epoch[place])
    return int(label) if label.is_integer() else label


def _unit(train: Finite, validation: Finite, floor: float) -> tuple[float, bool]:
    """Returns the unit of the losses, and whether it is the initial loss minus the floor."""
    values = np.concatenate([train.values, validation.values])
    start = float(train.values[0])
    if values.min() >= floor:
        return max(start - floor, 1e-30), True
    if _curves.has_fallen(train.values):
        return start - float(np.min(_curves.smooth(train.values))), False
    # A curve that never fell has no other unit than its own size.
    return max(float(np.ptp(values)), abs(start)), False


def _last(curve: np.ma.MaskedArray, limits: Thresholds) -> float:
    values = _curves.finite(curve).values
    return _curves.end(values, limits.end) if values.size else math.nan


def _compare(
    evidence: Evidence, curves: Curves, baseline: Curves, floor: float, limits: Thresholds
) -> Evidence:
    """Adds the cost and the gain of the regularization, in the unit of the baseline."""
    train = _curves.finite(baseline.train_loss)
    validation = _curves.finite(baseline.validation_loss)
    if not train.values.size or not curves.train_loss.size:
        return evidence
    unit, _ = _unit(train, validation, floor)
    evidence = evidence._replace(
        cost=(evidence.train - _curves.end(train.values, limits.end)) / unit
    )
    if validation.values.size < limits.epochs:
        return evidence
    lowest = _curves.turn(validation, limits.end).lowest
    return evidence._replace(gain=(lowest - evidence.validation) / unit)


_Finding = tuple[Verdict, tuple[str, ...]]


def _judge(e: Evidence, limits: Thresholds) -> _Finding:
    """Returns the verdict and reasons of the first rule that applies, instability first."""
    for rule in (_instability, _nothing, _excess, _poverty, _turn, _gap, _haste):
        found = rule(e, limits)
        if found:
            return found
    reason = f"the gap is {e.gap:.3f} of the initial loss {e.initial:.3g}"
    known = "" if math.isnan(e.level) else f", the training loss at {e.level:.3f} of it"
    return Verdict.HEALTHY, (
        f"{reason}{known}, and the validation loss ends {e.rise:.3f} above its minimum "
        f"of {e.counter} {e.best_epoch} (noise {e.noise:.3f})",
    )


def _instability(e: Evidence, limits: Thresholds) -> _Finding | None:
    reasons = []
    if not math.isnan(e.broke_at) and e.epochs:
        reasons.append(f"a loss is not finite from {e.counter} {e.broke_at} on")
    if e.epochs >= limits.epochs:
        if e.noise >= limits.noise:
            reasons.append(
                f"the losses scatter by {e.noise:.3f} of the initial loss about the trend"
            )
        if e.jump >= limits.jump:
            reasons.append(f"the training loss jumps by {e.jump:.2f} of the initial loss at once")
        if e.train_rise >= limits.divergence:
            reasons.append(f"the training loss ends {e.train_rise:.2f} of the initial loss above "
                           f"its minimum, at {e.train:.3g} from {e.initial:.3g}")  # fmt: skip
    return (Verdict.UNSTABLE, tuple(reasons)) if reasons else None


def _nothing(e: Evidence, limits: Thresholds) -> _Finding | None:
    if e.epochs < limits.epochs:
        return Verdict.NOT_ENOUGH, (
            f"{e.epochs} finite training losses are fewer than {limits.epochs}",
        )
    if math.isnan(e.validation):
        return Verdict.NOT_ENOUGH, (
            f"there are fewer than {limits.epochs} finite validation losses beside the "
            f"{e.epochs} training losses",
        )
    return None


def _excess(e: Evidence, limits: Thresholds) -> _Finding | None:
    """Finds regularization that costs more in training than it gains in validation."""
    # A run that overfits in spite of it ends above the baseline's best loss for that reason.
    if e.cost >= limits.cost and e.gain <= -limits.loss and not _rises(e, limits):
        return Verdict.TOO_MUCH, (
            f"the training loss ends {e.cost:.2f} of the initial loss above the baseline's, and "
            f"the validation loss {-e.gain:.3f} above the baseline's best one",
        )
    rises = max(limits.burden, limits.noises * e.noise)
    if e.train_rise >= rises and e.rise >= rises and e.gap < limits.gap:
        return Verdict.TOO_MUCH, (
            f"training and validation loss rise together, by {e.train_rise:.2f} and {e.rise:.2f} "
            f"of the initial loss since their minima, with a gap of {e.gap:.3f}",
        )
    return None


def _poverty(e: Evidence, limits: Thresholds) -> _Finding | None:
    """Finds a high training loss, with or without a sign that regularization is the cause."""
    burden = max(limits.burden, e.noise)
    if e.level >= limits.learned and e.gap <= -(burden if e.level >= limits.poor else 2 * burden):
        return Verdict.TOO_MUCH, (
            f"the training loss ends at {e.level:.2f} of its initial value and {-e.gap:.3f} of it "
            "above the validation loss, which has no noise and no penalty",
        )
    nothing = math.isnan(e.level) and not e.falls
    if (e.level >= limits.poor or nothing) and e.gap < limits.wide_gap and not _rises(e, limits):
        level = "nothing was learned" if nothing else f"it ends at {e.level:.2f} of its start"
        return Verdict.UNDERFITTING, (
            f"the training loss goes from {e.initial:.3g} to {e.train:.3g}: {level}; the gap is "
            f"{e.gap:.3f}, and the last fifth brings {e.falling:.2f} of the fall",
        )
    return None


def _rises(e: Evidence, limits: Thresholds) -> bool:
    """Returns whether the validation loss rises beyond its noise, above the training loss."""
    relative = math.isnan(e.relative_rise) or e.relative_rise >= limits.relative_rise
    return e.rise >= max(limits.rise, limits.noises * e.noise) and relative and e.gap > 0


def _turn(e: Evidence, limits: Thresholds) -> _Finding | None:
    reasons = []
    if _rises(e, limits):
        reasons.append(
            f"the validation loss ends {e.rise:.3f} of the initial loss above its minimum of "
            f"{e.counter} {e.best_epoch}, at {e.counter} {e.last_epoch}, with a gap of "
            f"{e.gap:.3f} (noise {e.noise:.3f})"
        )
    lead = e.train_accuracy - e.validation_accuracy
    if e.train_accuracy >= limits.memorized and lead >= limits.accuracy_gap:
        reasons.append(
            f"training accuracy is {e.train_accuracy:.3f}, validation accuracy "
            f"{e.validation_accuracy:.3f}"
        )
    if not reasons:
        return None
    # With a baseline the run is known to be regularized, only not enough.
    verdict = Verdict.OVERFITTING if math.isnan(e.cost) else Verdict.TOO_LITTLE
    return verdict, tuple(reasons)


def _gap(e: Evidence, limits: Thresholds) -> _Finding | None:
    most = e.excess >= limits.excess if not math.isnan(e.excess) else e.gap >= 2 * limits.gap
    if e.gap >= limits.wide_gap or (e.gap >= limits.gap and most):
        share = "" if math.isnan(e.excess) else f", {e.excess:.2f} of the validation loss"
        return Verdict.TOO_LITTLE, (
            f"the validation loss ends {e.gap:.3f} of the initial loss above the training loss"
            f"{share}, though it does not rise (by {e.rise:.3f} since {e.counter} "
            f"{e.best_epoch})",
        )
    return None


def _haste(e: Evidence, limits: Thresholds) -> _Finding | None:
    if e.falling >= limits.falling and not e.level < limits.learned:
        return Verdict.UNDERFITTING, (
            f"the training loss still falls: the last fifth of the epochs brings {e.falling:.2f} "
            f"of the fall from {e.initial:.3g} to {e.train:.3g}",
        )
    return None
