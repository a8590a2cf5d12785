"""The numbers and the sentences of a report."""

import dataclasses

import numpy as np
import pytest

from jaxreg.diagnosis import Verdict
from jaxreg.study import Interval, Policy, Recipe, page, summary
from tests.study.helpers import ALL_ON, Page, circles_as_published, make_study, printed


def test_the_interval_over_seeds_is_students():
    values = np.array([0.8, 0.9, 0.85, 0.95])
    center, low, high = summary.mean_interval(values)
    # 3.182 is the 97.5 % quantile of Student's distribution with three degrees of freedom.
    half = 3.1824463 * values.std(ddof=1) / 2
    np.testing.assert_allclose([center, low, high], [0.875, 0.875 - half, 0.875 + half], rtol=1e-7)
    assert summary.mean_interval(values[:1]) == (0.8, 0.8, 0.8)


def test_an_arm_at_another_strength_has_no_published_figure():
    rows = summary.rows(circles_as_published(strength=0.1))
    assert [row.published for row in rows] == [0.975, None, None, None, None]


def test_fewer_than_six_seeds_tell_nothing():
    study = make_study(seeds=5)
    assert [row.mark for row in summary.rows(study)] == [summary.REFERENCE] + [summary.UNCLEAR] * 4
    note = "fewer than 6 seeds cannot tell an arm from the baseline"
    assert note in printed(study)
    assert note in "".join(Page(page.html(study)).text)
    assert "not distinguishable" in summary.verdict(study)
    assert note not in printed(make_study())


def test_the_verdict_admits_what_it_does_not_know():
    assert "not distinguishable" in summary.verdict(make_study(chosen="max_norm"))
    assert "2.00 points below the baseline" in summary.verdict(make_study(chosen="batch_norm"))
    assert "2.00 points above the baseline" in summary.verdict(make_study())


def test_rows_hold_the_means_of_the_arms():
    study = make_study()
    for row, arm in zip(summary.rows(study), study.arms, strict=True):
        assert (row.name, row.strength, row.chosen) == (
            arm.name, arm.strength, arm.name == "combined",
        )  # fmt: skip
        assert row.train == pytest.approx(arm.train.mean())
        assert row.validation == pytest.approx(arm.validation.mean())
        assert row.test.mean == pytest.approx(arm.test.mean())
        assert row.gap == pytest.approx(arm.train.mean() - arm.test.mean())
        assert row.difference == arm.difference
    assert [row.mark for row in summary.rows(study)] == [
        "reference", "higher", "not distinguishable", "lower", "higher",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("interval", "mark"),
    [
        ((0.01, 0.0, 0.02), "not distinguishable"),
        ((0.01, 1e-6, 0.02), "higher"),
        ((-0.01, -0.02, 0.0), "not distinguishable"),
        ((-0.01, -0.02, -1e-6), "lower"),
    ],
)
def test_an_interval_that_touches_zero_tells_nothing(interval, mark):
    study = make_study()
    arm = dataclasses.replace(study.arms[1], difference=Interval(*interval))
    assert summary.mark(arm, study) == mark
    assert summary.mark(arm, dataclasses.replace(study, seeds=6)) == mark
    assert summary.mark(arm, dataclasses.replace(study, seeds=5)) == "not distinguishable"


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        (Recipe(), "no regularization"),
        (Recipe(l2=0.5, batch_norm=True), "l2 0.5 + batch_norm"),
        (Recipe(max_norm=2.0, patience=3), "max_norm 2 + early_stopping 3"),
        (Recipe(l1=0.12345), "l1 0.123"),
        (
            Recipe(l2=0.5, policy=Policy(("rotate", "cutout"), (0.1, 0.25), (0.5, 1.0))),
            "l2 0.5 + policy (rotate 0.1 (p 0.5), cutout 0.25 (p 1))",
        ),
    ],
)
def test_a_recipe_in_one_line(recipe, text):
    assert summary.recipe_text(recipe) == text


def test_techniques_come_with_their_strengths_and_switches_last():
    found = summary.techniques(ALL_ON)
    assert found[-1] == ("batch_norm", None)
    assert dict(found[:-1]) == {
        "l1": 0.03, "l2": 0.5, "dropout": 0.25, "max_norm": 2.0, "label_smoothing": 0.1,
        "early_stopping": 3.0,
    }  # fmt: skip
    study = make_study()
    assert summary.combinations(study) == [f"combined = {summary.recipe_text(ALL_ON)}"]


def test_numbers_are_written_with_their_digits():
    assert summary.number(None) == ""
    assert summary.number(0.012345) == "0.0123"
    assert summary.percent(0.98765) == "98.8"
    assert summary.points(0.0123456) == "+1.23"
    assert summary.points(-0.01) == "-1.00"
    assert summary.interval_points(Interval(0.01, -0.002, 0.022)) == "+1.00 [-0.20, +2.20]"
    assert summary.short(Verdict.TOO_LITTLE) == "too little"
    assert summary.short(Verdict.TOO_MUCH) == "too much"
    assert summary.short(Verdict.NOT_ENOUGH) == "no verdict"
    assert summary.short(Verdict.HEALTHY) == "healthy"


def test_the_verdict_names_the_arm_its_accuracy_and_its_interval():
    study = make_study()
    test = f"{100 * study.arms[-1].test.mean():.1f}% on test"
    text = summary.recipe_text(ALL_ON).replace("_", " ")
    assert summary.verdict(study) == (
        f"Validation chose combined ({text}): {test}, 2.00 points above the baseline "
        "(95% interval +1.00 to +3.00)."
    )
    test = f"{100 * study.arms[1].test.mean():.1f}% on test"
    assert summary.verdict(make_study(chosen="l1")).startswith(
        f"Validation chose l1 (0.1): {test}, 1.00 points above"
    )
    assert summary.verdict(make_study(chosen="batch_norm")).startswith(
        "Validation chose batch norm: "
    )
    test = f"{100 * study.arms[0].test.mean():.1f}% on test"
    assert summary.verdict(make_study(chosen="baseline")) == (
        f"Validation chose the baseline: no technique did better there; {test}."
    )
    alone = dataclasses.replace(study, arms=study.arms[:1], chosen="baseline")
    assert summary.verdict(alone) == f"The baseline is the only arm: {test}."
    assert "against the baseline" in summary.verdict(make_study(chosen="max_norm"))


def test_published_figures_are_for_the_published_run():
    rows = summary.rows(circles_as_published())
    assert [row.published for row in rows] == [0.975, 0.970, None, None, None]
    for changes in ({"epochs": 1}, {"sizes": (200, 1000, 1000)}):
        rows = summary.rows(circles_as_published(**changes))
        assert {row.published for row in rows} == {None}
    assert {row.published for row in summary.rows(make_study())} == {None}


def test_a_diagnosis_is_made_beside_the_baseline():
    study = make_study()
    falling = np.repeat(np.float32([2.3, 1.0, 0.5, 0.3, 0.2, 0.1])[:, None], 6, axis=1)
    flat = np.full_like(falling, 2.3)
    good = dataclasses.replace(study.arms[0], train_loss=falling, validation_loss=falling)
    poor = dataclasses.replace(study.arms[1], train_loss=flat, validation_loss=flat)
    study = dataclasses.replace(study, arms=(good, poor))
    assert summary.diagnosis(good, study) == Verdict.HEALTHY
    assert summary.diagnosis(poor, study) == Verdict.TOO_MUCH
    alone = dataclasses.replace(study, arms=(poor,))
    assert summary.diagnosis(poor, alone) == Verdict.UNDERFITTING
