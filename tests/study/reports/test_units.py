"""Numbers as texts, in the units of a metric."""

import math

import pytest

from jaxreg.study import Interval, Metric, Policy, Recipe
from jaxreg.study.objectives import CLASSIFICATION, REGRESSION
from jaxreg.study.reports.units import name_in_words, number, recipe_text, units_of

ACCURACY = units_of(CLASSIFICATION.metric, [0.9])


def test_percentages_and_points():
    assert ACCURACY._asdict() == {
        "name": "accuracy", "percent": True, "lower_is_better": False, "decimals": 1,
    }  # fmt: skip
    assert ACCURACY.score(0.98765) == "98.8"
    assert ACCURACY.score_and_unit(0.98765) == "accuracy 98.8%"
    assert ACCURACY.change(0.0123456) == "+1.23"
    assert ACCURACY.change_and_unit(-0.01) == "-1.00 points"
    assert ACCURACY.size(0.01) == ACCURACY.size(-0.01) == "1.00 points"
    interval = Interval(0.01, -0.002, 0.022)
    assert ACCURACY.change_and_interval(interval) == "+1.00 [-0.20, +2.20]"
    assert ACCURACY.heading == "Accuracy in %"
    assert ACCURACY.direction == ""
    assert ACCURACY.gain(0.1) == 0.1


def test_errors_have_no_unit_and_are_better_if_smaller():
    units = units_of(REGRESSION.with_metric("rmse").metric, [0.4, 0.25])
    assert units.score_and_unit(0.4123) == "RMSE 0.412"
    assert units.change_and_unit(-0.01234) == "-0.0123"
    assert units.size(-0.01234) == "0.0123"
    assert units.heading == "RMSE"
    assert units.direction == "lower is better"
    assert units.gain(0.1) == -0.1


@pytest.mark.parametrize(
    ("scores", "text"),
    [
        ([0.02, 0.31], "0.310"),
        ([1.0, 0.31], "0.310"),
        ([9.99], "0.310"),
        ([math.nan, 31.4, math.inf], "0.31"),
        ([4e7], "0"),
        ([0.031], "0.3100"),
        ([1e-9], "0.310000"),
        ([0.0], "0.310"),
        ([], "0.310"),
    ],
)
def test_an_error_has_three_or_four_digits_of_the_largest(scores, text):
    metric = Metric("mae", lambda outputs, labels: outputs, lower_is_better=True)
    assert units_of(metric, scores).score(0.31) == text


def test_numbers_that_are_hardly_numbers_stay_short():
    assert ACCURACY.score(math.nan) == "nan"
    assert ACCURACY.change(math.nan) == "nan"
    assert ACCURACY.change(-math.inf) == "-inf"
    assert ACCURACY.score(-1e30) == "-1.00e+32"
    assert ACCURACY.score(9999.0) == "999900.0"


def test_names_of_metrics_are_words():
    assert name_in_words("macro_f1") == "macro F1"
    assert name_in_words("balanced_accuracy") == "balanced accuracy"
    assert name_in_words("r2") == "R2"


def test_strengths_have_three_digits():
    assert number(None) == ""
    assert number(0.012345) == "0.0123"


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        (Recipe(), "no regularization"),
        (Recipe({"batch_norm": True, "l2": 0.5}), "l2 0.5 + batch_norm"),
        (Recipe({"early_stopping": 3, "l1": 0.12345}), "l1 0.123 + early_stopping 3"),
        (
            Recipe({"l2": 0.5, "policy": Policy(("rotate", "cutout"), (0.1, 0.25), (0.5, 1.0))}),
            "l2 0.5 + policy (rotate 0.1 (p 0.5), cutout 0.25 (p 1))",
        ),
    ],
)
def test_a_recipe_in_one_line(recipe, text):
    assert recipe_text(recipe) == text
