"""Explanations of numbers and marks."""

import dataclasses

import numpy as np

from jaxreg.study import Interval
from jaxreg.study.reports.summary import summarize
from tests.study.helpers import circles_as_published, make_study, with_arms, with_metric


def explained(study):
    return " ".join(summarize(study).explanations)


def test_the_notes_explain_the_marks_that_occur():
    text = explained(make_study())
    assert "not distinguishable: the 95% interval of the difference contains zero" in text
    assert "A part helps if the combination is worse without it." in text
    assert "never called too much" in text
    assert "and over test rows. All of them hold together with a probability of 95%" in text
    assert "diverged:" not in text
    study = make_study()
    bare = with_arms(study, study.arms[0], study.arms[1], ablation=())
    assert "not distinguishable" not in explained(bare)
    assert "ablation" not in explained(bare)
    lost = dataclasses.replace(study.arms[1], difference=Interval(np.nan, np.nan, np.nan))
    assert "diverged: the score of a seed" in explained(with_arms(study, study.arms[0], lost))


def test_fewer_than_six_seeds_tell_nothing():
    note = "fewer than 6 seeds cannot tell an arm from the baseline"
    assert note in explained(make_study(seeds=5))
    assert note not in explained(make_study())
    assert [row.mark for row in summarize(make_study(seeds=5)).rows[1:]] == [
        "not distinguishable"
    ] * 4


def test_the_notes_speak_of_the_metric():
    assert "difference: test minus the baseline's, in points, paired" in explained(make_study())
    assert "gap: train minus test." in explained(make_study())
    errors = explained(with_metric(make_study(), "rmse"))
    assert "difference: test minus the baseline's, paired" in errors
    assert "with its 95% interval (lower is better)." in errors
    assert "gap: test minus train." in errors


def test_published_figures_come_with_a_remark():
    assert "published figures differ" in summarize(circles_as_published()).remarks[-1]
    assert "published" not in " ".join(summarize(make_study()).remarks)
