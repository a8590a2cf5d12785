"""The numbers of a report."""

import dataclasses

import numpy as np
import pytest

from jaxreg.study.reports.summary import mean_interval, summarize
from jaxreg.study.reports.units import recipe_text
from tests.study.helpers import (
    ALL_ON,
    circles_as_published,
    make_study,
    with_arms,
    with_metric,
)


def test_the_interval_over_seeds_is_students():
    values = np.array([0.8, 0.9, 0.85, 0.95])
    center, low, high = mean_interval(values)
    # 3.182 is the 97.5 % quantile of Student's distribution with three degrees of freedom.
    half = 3.1824463 * values.std(ddof=1) / 2
    np.testing.assert_allclose([center, low, high], [0.875, 0.875 - half, 0.875 + half], rtol=1e-7)
    assert mean_interval(values[:1]) == (0.8, 0.8, 0.8)


def test_rows_hold_the_means_of_the_arms():
    study = make_study()
    rows = summarize(study).rows
    for row, arm in zip(rows, study.arms, strict=True):
        assert (row.name, row.strength) == (arm.name, arm.strength)
        assert row.train == pytest.approx(arm.train.mean())
        assert row.validation == pytest.approx(arm.validation.mean())
        assert row.test.mean == pytest.approx(arm.test.mean())
        assert row.gap == pytest.approx(arm.train.mean() - arm.test.mean())
        assert row.difference == arm.difference
        assert row.others == arm.others
        assert row.lowest_loss == pytest.approx(arm.validation_loss.mean(axis=1).min())
        assert row.diverged == 0
    assert [row.mark for row in rows] == [
        "reference", "better", "not distinguishable", "worse", "better",
    ]  # fmt: skip
    assert [row.chosen for row in rows] == [False] * 4 + [True]
    assert [row.label for row in rows[:3]] == ["baseline", "l1 0.1", "max norm 2"]
    assert summarize(study).best is not None


def test_texts_are_the_numbers_in_their_units():
    study = make_study()
    summary = summarize(study)
    for row in summary.rows[1:]:
        texts = row.texts
        assert texts.train == f"{100 * row.train:.1f}"
        assert texts.validation == f"{100 * row.validation:.1f}"
        assert texts.test == f"{100 * row.test.mean:.1f}"
        assert texts.spread == f"{100 * (row.test.high - row.test.mean):.1f}"
        assert texts.gap == f"{100 * row.gap:.1f}"
        assert texts.others == tuple(f"{100 * value:.1f}" for value in row.others.values())
    assert [row.texts.strength for row in summary.rows] == ["", "0.1", "2", "", ""]
    assert (summary.rows[0].texts.difference, summary.rows[0].texts.interval) == ("", "")
    assert (summary.rows[1].texts.difference, summary.rows[1].texts.interval) == (
        "+1.00", "[+0.40, +1.60]",
    )  # fmt: skip


def test_smaller_errors_are_better():
    summary = summarize(with_metric(make_study(), "rmse"))
    assert [row.mark for row in summary.rows] == [
        "reference", "worse", "not distinguishable", "better", "worse",
    ]  # fmt: skip
    first = summary.rows[1]
    # A larger error on test than in training is a gap.
    assert first.gap == pytest.approx(first.test.mean - first.train)
    assert first.texts.difference == "+0.0100"
    assert [part.mark for part in summary.parts] == ["hurts", "not distinguishable", "helps"]
    assert [units.name_and_unit for units in summary.others] == ["R2 in %", "MAE"]
    assert first.texts.others == ("50.0", "0.500")


def test_parts_hold_the_ablation():
    study = make_study()
    parts = summarize(study).parts
    assert [part.difference for part in parts] == [part.difference for part in study.ablation]
    assert [(part.label, part.change, part.interval, part.mark) for part in parts] == [
        ("l1 0.03", "-1.00", "[-2.00, -0.10]", "helps"),
        ("dropout 0.25", "+0.10", "[-1.00, +1.20]", "not distinguishable"),
        ("batch norm", "+1.00", "[+0.20, +2.00]", "hurts"),
    ]


def test_responses_hold_an_interval_for_every_strength():
    study = make_study()
    responses = summarize(study).responses
    assert [response.name for response in responses] == ["l1", "max_norm"]
    arm = study.arms[1]
    assert (responses[0].chosen, responses[0].strengths) == (arm.strength, arm.strengths)
    for intervals, grid in (
        (responses[0].validation, arm.grid_validation),
        (responses[0].test, arm.grid_test),
    ):
        assert intervals == tuple(mean_interval(seeds) for seeds in grid)


def test_losses_that_are_not_finite_are_counted_and_left_out():
    study = make_study()
    loss = study.arms[1].validation_loss.copy()
    loss[:, 0] = 0.25
    loss[-1, 1:3] = np.inf
    loss[0] = np.nan
    lost = dataclasses.replace(study.arms[1], validation_loss=loss)
    nothing = dataclasses.replace(lost, validation_loss=loss * np.nan)
    first, second = summarize(with_arms(study, lost, nothing)).rows
    means = [*loss[1:-1].mean(axis=1), loss[-1][np.isfinite(loss[-1])].mean()]
    assert first.lowest_loss == pytest.approx(min(means))
    assert first.diverged == 6
    assert np.isnan(second.lowest_loss)
    loss[0] = 1.0
    assert summarize(with_arms(study, lost)).rows[0].diverged == 2


def test_published_figures_are_for_the_published_run():
    def published(study):
        return [row.published for row in summarize(study).rows]

    assert published(circles_as_published()) == [0.975, 0.970, None, None, None]
    assert published(circles_as_published(strength=0.1)) == [0.975, None, None, None, None]
    for changes in ({"epochs": 7}, {"sizes": (200, 1000, 1000)}, {"sizes": None}):
        assert set(published(circles_as_published(**changes))) == {None}
    assert set(published(make_study())) == {None}
    assert set(published(make_study("data of my own"))) == {None}
    other = circles_as_published()
    objective = other.objective.with_metric("macro_f1")
    assert set(published(dataclasses.replace(other, objective=objective))) == {None}
    assert summarize(circles_as_published()).has_published
    assert not summarize(make_study()).has_published


def test_further_metrics_tell_more_if_they_differ():
    study = make_study()
    assert not summarize(study).telling
    others = {"balanced_accuracy": study.arms[0].test.mean() - 0.02, "macro_f1": 0.9}
    imbalanced = dataclasses.replace(study.arms[0], others=others)
    assert summarize(with_arms(study, imbalanced)).telling
    # An error is no share, so it tells more even if the numbers are close.
    regression = with_metric(study, "r2")
    score = regression.arms[0].test.mean()
    close = dataclasses.replace(regression.arms[0], others={"rmse": score, "mae": score})
    assert summarize(with_arms(regression, close)).telling
    assert summarize(with_metric(study, "mae")).telling
    alone = study.objective._replace(metrics=study.objective.metrics[:1])
    bare = tuple(dataclasses.replace(arm, others={}) for arm in study.arms)
    summary = summarize(dataclasses.replace(study, objective=alone, arms=bare))
    assert (summary.telling, summary.others) == (False, ())


def test_a_combination_that_was_not_chosen_is_spelled_out():
    assert summarize(make_study()).recipe == recipe_text(ALL_ON)
    assert summarize(make_study()).remarks == ("A remark on the way.",)
    other = summarize(make_study(chosen="l1"))
    assert other.recipe == "l1 0.1"
    assert other.remarks == (f"combined = {recipe_text(ALL_ON)}", "A remark on the way.")
