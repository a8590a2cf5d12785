"""Title and headline of a report."""

import dataclasses

import numpy as np

from jaxreg.study import Interval
from jaxreg.study.reports.summary import summarize
from tests.study.helpers import make_study, with_arms, with_metric


def headline(study):
    return summarize(study).headline


def test_the_title_has_the_settings():
    assert summarize(make_study()).title == (
        "digits: accuracy in %, mean of 6 seeds, 5 epochs, rows 300/300/1197"
    )
    study = with_metric(make_study(sizes=None), "rmse")
    assert summarize(study).title == "digits: RMSE, mean of 6 seeds, 5 epochs"
    loss = np.ones((1, 6))
    arm = dataclasses.replace(study.arms[0], train_loss=loss, validation_loss=loss)
    assert summarize(with_arms(study, arm)).title.endswith(", 1 epoch")


def test_the_headline_names_the_arm_its_score_and_its_interval():
    study = make_study()
    test = f"accuracy {100 * study.arms[-1].test.mean():.1f}% on test"
    assert headline(study) == (
        f"Validation chose combined: {test}, 2.00 points above the baseline "
        "(95% interval +1.00 to +3.00)."
    )
    assert headline(make_study(chosen="l1")).startswith("Validation chose l1 0.1: ")
    assert "2.00 points below the baseline" in headline(make_study(chosen="batch_norm"))


def test_the_headline_says_first_if_nothing_beat_the_baseline():
    study = make_study(chosen="max_norm")
    # Another arm did.
    assert headline(study).startswith("Validation chose max norm 2: ")
    told = (
        "+0.10 points against the baseline (95% interval -1.00 to +1.20), "
        "which is not distinguishable from zero."
    )
    assert headline(study).endswith(told)
    test = f"accuracy {100 * study.arms[2].test.mean():.1f}% on test"
    unclear = with_arms(study, *study.arms[:4:2])
    assert headline(unclear) == (
        f"Nothing beat the baseline clearly. Validation chose max norm 2: {test}, {told}"
    )
    worse = headline(with_arms(study, *study.arms[:4:3]))
    assert worse.startswith("Nothing beat the baseline clearly. Validation chose batch norm: ")
    assert "2.00 points below the baseline" in worse
    test = f"accuracy {100 * study.arms[0].test.mean():.1f}% on test"
    chosen = make_study(chosen="baseline")
    assert headline(chosen) == f"Nothing beat the baseline on validation: {test}."
    alone = with_arms(study, study.arms[0])
    assert headline(alone) == f"The baseline is the only arm: {test}."


def test_few_seeds_are_said_first():
    found = headline(make_study(seeds=5))
    assert found.startswith("5 seeds are too few to tell an arm from the baseline. Validation ")
    assert "distinguishable" not in found


def test_a_smaller_error_is_not_called_worse():
    study = with_metric(make_study(chosen="batch_norm"), "rmse")
    error = study.arms[3].test.mean()
    assert headline(study) == (
        f"Validation chose batch norm: RMSE {error:.3f} on test, 0.0200 below the baseline "
        "(95% interval -0.0300 to -0.0100; lower is better)."
    )


def test_scores_that_are_no_numbers_are_not_compared():
    study = make_study()
    lost = dataclasses.replace(
        study.arms[1], test=np.full(6, np.nan), difference=Interval(np.nan, np.nan, np.nan)
    )
    assert headline(with_arms(study, study.arms[0], lost)).endswith(
        "accuracy nan% on test, nan points against the baseline (95% interval nan to nan)."
    )
