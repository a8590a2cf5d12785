"""Judges arms by their scores, against the baseline, and by their losses."""

from __future__ import annotations

import math

import numpy as np

from jaxreg.diagnosis import Verdict, diagnose, diagnose_better
from jaxreg.study.records import ArmResult, Interval, Study
from jaxreg.study.reports.units import Units
from jaxreg.study.selection import LEAST_SEEDS

REFERENCE = "reference"
BETTER = "better"
WORSE = "worse"
UNCLEAR = "not distinguishable"
DIVERGED = "diverged"
HELPS = "helps"
HURTS = "hurts"

# A part helps if the combination is worse without it.
PARTS = {WORSE: HELPS, BETTER: HURTS, UNCLEAR: UNCLEAR, DIVERGED: DIVERGED}
_SHORT_VERDICTS = {
    Verdict.TOO_LITTLE: "too little",
    Verdict.TOO_MUCH: "too much",
    Verdict.NOT_ENOUGH: "no verdict",
}


def judge(difference: Interval, seeds: int, units: Units) -> str:
    """Returns whether a score is better or worse, given the interval of its difference.

    Args:
      difference: The score minus the score to compare with, and its 95% interval.
      seeds: Number of seeds; with fewer than ``LEAST_SEEDS``, the result is ``UNCLEAR``.
      units: Units of the score.

    Returns:
      ``BETTER``, ``WORSE`` or ``UNCLEAR``; ``DIVERGED`` if a score is not finite.
    """
    if not all(map(math.isfinite, difference)):
        return DIVERGED
    if seeds < LEAST_SEEDS:
        return UNCLEAR
    ends = (units.gain(difference.low), units.gain(difference.high))
    if min(ends) > 0:
        return BETTER
    return WORSE if max(ends) < 0 else UNCLEAR


def diagnose_arm(arm: ArmResult, study: Study, units: Units) -> Verdict:
    """Returns the verdict on an arm's losses, compared with the baseline's.

    Losses may rise while scores improve, because regularization makes a model less certain. So
    "too much" is never the verdict on the baseline, or on an arm whose mean score is better than
    the baseline's, on validation or on test. Its losses are then judged without the baseline's, and
    if the verdict is again "too much", there is none.
    """
    baseline = None if arm is study.baseline else study.baseline
    if baseline is None or _is_better(arm, baseline, units):
        return diagnose_better(arm, baseline=baseline).verdict
    return diagnose(arm, baseline=baseline).verdict


def _is_better(arm: ArmResult, baseline: ArmResult, units: Units) -> bool:
    pairs = ((arm.validation, baseline.validation), (arm.test, baseline.test))
    changes = (np.mean(own - other, dtype=np.float64) for own, other in pairs)
    return any(units.gain(change) > 0 for change in changes)


def shorten(verdict: Verdict) -> str:
    """Returns a verdict in one or two words, to fit a column."""
    return _SHORT_VERDICTS.get(verdict, str(verdict))
