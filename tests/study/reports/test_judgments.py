"""Verdicts on scores and losses, which never contradict each other."""

import dataclasses

import numpy as np
import pytest

from jaxreg.diagnosis import Verdict, diagnose
from jaxreg.study import Interval
from jaxreg.study.objectives import CLASSIFICATION, REGRESSION
from jaxreg.study.reports.judgments import PARTS, diagnose_arm, judge, shorten
from jaxreg.study.reports.units import units_of
from tests.study.helpers import SEEDS, make_study, with_arms

ACCURACY = units_of(CLASSIFICATION.metric, [0.9])
RMSE = units_of(REGRESSION.with_metric("rmse").metric, [0.9])
FALLING = [2.3, 1.0, 0.5, 0.3, 0.2, 0.1]
FLAT = [2.3] * 6
# Beside FALLING this is too much regularization, and by itself it is healthy.
BURDENED = [2.3, 1.4, 0.9, 0.6, 0.5, 0.5]
# Both losses rise together: too much regularization even by itself.
ROSE = [2.3, 0.5, 0.5, 0.8, 1.0, 1.0]


@pytest.mark.parametrize(
    ("interval", "mark", "of_errors"),
    [
        ((0.01, 0.0, 0.02), "not distinguishable", "not distinguishable"),
        ((0.01, 1e-6, 0.02), "better", "worse"),
        ((-0.01, -0.02, 0.0), "not distinguishable", "not distinguishable"),
        ((-0.01, -0.02, -1e-6), "worse", "better"),
        ((np.nan, np.nan, np.nan), "diverged", "diverged"),
        ((np.inf, 0.1, np.inf), "diverged", "diverged"),
    ],
)
def test_an_interval_that_touches_zero_tells_nothing(interval, mark, of_errors):
    assert judge(Interval(*interval), 6, ACCURACY) == mark
    assert judge(Interval(*interval), 6, RMSE) == of_errors
    few = judge(Interval(*interval), 5, ACCURACY)
    assert few == ("diverged" if mark == "diverged" else "not distinguishable")


def with_losses(arm, losses, *, score):
    loss = np.repeat(np.float32(losses)[:, None], SEEDS, axis=1)
    scores = np.full(SEEDS, score)
    return dataclasses.replace(
        arm, train_loss=loss, validation_loss=loss, validation=scores, test=scores
    )


def diagnose_second(losses, *, score, units=ACCURACY):
    """The verdict on an arm beside a baseline whose loss falls and whose score is 0.9."""
    study = make_study()
    good = with_losses(study.arms[0], FALLING, score=0.9)
    other = with_losses(study.arms[1], losses, score=score)
    study = with_arms(study, good, other)
    assert diagnose_arm(good, study, units) == Verdict.HEALTHY
    return diagnose_arm(other, study, units), diagnose(other, baseline=good).verdict


def test_losses_are_judged_beside_the_baselines():
    assert diagnose_second(FLAT, score=0.5) == (Verdict.TOO_MUCH, Verdict.TOO_MUCH)
    study = make_study()
    alone = with_arms(study, with_losses(study.arms[1], FLAT, score=0.5))
    assert diagnose_arm(alone.arms[0], alone, ACCURACY) == Verdict.UNDERFITTING


def test_an_arm_with_a_better_score_is_never_called_too_much():
    assert diagnose_second(BURDENED, score=0.9) == (Verdict.TOO_MUCH, Verdict.TOO_MUCH)
    assert diagnose_second(BURDENED, score=0.91) == (Verdict.HEALTHY, Verdict.TOO_MUCH)
    assert diagnose_second(ROSE, score=0.91) == (Verdict.UNDECIDED, Verdict.TOO_MUCH)
    # Of an error, the smaller one is better.
    assert diagnose_second(BURDENED, score=0.91, units=RMSE)[0] == Verdict.TOO_MUCH
    assert diagnose_second(BURDENED, score=0.89, units=RMSE)[0] == Verdict.HEALTHY


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_better_score_on_validation_or_on_test_is_enough(part):
    study = make_study()
    good = with_losses(study.arms[0], FALLING, score=0.9)
    other = with_losses(study.arms[1], BURDENED, score=0.8)
    other = dataclasses.replace(other, **{part: np.full(SEEDS, 0.95)})
    assert diagnose_arm(other, with_arms(study, good, other), ACCURACY) == Verdict.HEALTHY


def test_the_baseline_has_nothing_that_could_be_too_much():
    study = make_study()
    alone = with_arms(study, with_losses(study.arms[0], ROSE, score=0.9))
    assert diagnose(alone.arms[0]).verdict == Verdict.TOO_MUCH
    assert diagnose_arm(alone.arms[0], alone, ACCURACY) == Verdict.UNDECIDED


def test_a_part_helps_if_the_score_is_worse_without_it():
    assert (PARTS["worse"], PARTS["better"]) == ("helps", "hurts")


def test_verdicts_fit_a_column():
    assert shorten(Verdict.TOO_LITTLE) == "too little"
    assert shorten(Verdict.TOO_MUCH) == "too much"
    assert shorten(Verdict.NOT_ENOUGH) == "no verdict"
    assert shorten(Verdict.HEALTHY) == "healthy"
