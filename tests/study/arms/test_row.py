"""Rows of the arms: names, ranges and grids, places, and what a function may ask for."""

import importlib
import math

import pytest

from jaxreg.study import Recipe, arms
from jaxreg.study.arms import row

# Names that the function of an arm may ask for, by the place where it acts.
ALLOWED = {
    row.Term: {"params", "start", "x", "logits", "predict", "again", "key"},
    row.Criterion: {"logits", "labels", "strength"},
    row.LossChange: {"value", "strength"},
    row.GradientLink: {"strength"},
    row.UpdateLink: {"strength", "learning_rate"},
    row.Wrapper: {"inner", "strength", "learning_rate"},
    row.BatchChange: {"key", "x", "labels", "strength", "mean", "stddev", "num_classes"},
    row.Layer: {"x", "strength", "train"},
}
# Places whose functions get the strength; the loss multiplies a term by its strength.
WITH_STRENGTH = tuple(set(ALLOWED) - {row.Term})


@pytest.mark.parametrize("arm", arms.ARMS.values(), ids=arms.ARMS)
def test_every_row_is_whole(arm):
    assert arm.summary
    assert arm.kinds
    assert set(arm.kinds) <= set(arms.KINDS)
    assert set(arm.tasks) <= set(arms.TASKS)
    assert set(arm.needs) <= set(arms.ARMS)
    module, _, name = arm.source.partition("(")[0].rpartition(".")
    assert getattr(importlib.import_module(module), name).__doc__
    if isinstance(arm.acts, row.Stop):
        return
    asked = set(row.arguments(arm.acts.function))
    assert asked <= ALLOWED[type(arm.acts)]
    assert arm.acts.function.__doc__
    if isinstance(arm.acts, WITH_STRENGTH):
        assert ("strength" in asked) == (arm.has_strength)
    if isinstance(arm.acts, row.Layer):
        assert arm.acts.place in arms.PLACES
    if arm.grid is not None:
        assert arm.rule.holds(arm.grid.low)
        assert arm.rule.holds(arm.grid.high)
        assert arm.grid.low < arm.grid.high
        assert not arm.rule.holds(math.nan)


def test_names_and_aliases_mean_one_arm():
    assert ("baseline", *arms.ARMS, "combined") == arms.ARM_NAMES
    assert not set(arms.ALIASES) & set(arms.ARM_NAMES)
    assert sum(len(arm.aliases) for arm in arms.ARMS.values()) == len(arms.ALIASES)
    assert arms.find("weight_decay") is arms.find("l2") is arms.ARMS["l2"]
    assert arms.DEFAULT_ARMS == (
        "baseline", "l2", "l1", "max_norm", "batch_norm", "dropout", "early_stopping",
        "label_smoothing", "combined",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("drop_out", "did you mean dropout"),
        ("weight_decai", "did you mean weight_decay"),
        ("ridge_of_hills", "`jaxreg list` prints them"),
    ],
)
def test_an_unknown_name_has_a_hint(name, hint):
    with pytest.raises(ValueError, match=f"`name` must be an arm of a study, got '{name}'; {hint}"):
        arms.find(name)


def test_arms_act_in_the_order_of_their_files():
    names = {kind: [arm.name for arm in arms.acting(kind)] for kind in (row.Stop, *ALLOWED)}
    assert sum(len(found) for found in names.values()) == len(arms.ARMS)
    assert names[row.GradientLink] == ["gradient_clipping", "centralize"]
    assert names[row.UpdateLink][0] == "cautious_decay"
    assert names[row.UpdateLink][-3:] == ["l1", "sparse_units", "max_norm"]
    assert names[row.Wrapper] == ["adaptive_l1", "lookahead", "average_steps", "asam", "sam"]
    assert names[row.BatchChange][-2:] == ["cutmix", "mixup"]
    assert names[row.Layer].index("dropout") > names[row.Layer].index("decorrelation")
    both = [arm.name for arm in arms.acting(row.UpdateLink, row.GradientLink)]
    assert both == names[row.GradientLink] + names[row.UpdateLink]


def test_strengths_of_a_grid_are_even_on_a_logarithmic_scale():
    grid = row.LogGrid(0.1, 10.0)
    assert grid.strengths(1) == [1.0]
    assert grid.strengths(2) == [0.1, 10.0]
    assert grid.strengths(5) == [0.1, 0.32, 1.0, 3.2, 10.0]
    assert row.LogGrid(2.0, 20.0, digits=0).strengths(3) == [2, 6, 20]


@pytest.mark.parametrize(
    ("name", "strength", "weaker"),
    [
        ("l2", 0.8, 0.2),
        ("max_norm", 2.0, 8.0),
        ("lookahead", 0.2, 0.8),
        ("average_steps", 2.0, 2.0),
        ("rand_augment", 20.0, 5.0),
    ],
)
def test_a_weaker_strength_is_nearer_to_the_one_that_is_off(name, strength, weaker):
    """A quarter of the way is left; an average over half a step would be out of range."""
    assert arms.ARMS[name].weaken(strength, 0.25) == pytest.approx(weaker)


@pytest.mark.parametrize("arm", arms.ARMS.values(), ids=arms.ARMS)
def test_off_is_off(arm):
    assert Recipe({arm.name: arm.off}) == Recipe()
    assert getattr(Recipe(), arm.name) == arm.off


@pytest.mark.parametrize(
    ("rule", "inside", "outside"),
    [
        (row.WEIGHT, (0, 1e9), (-1e-9, math.inf)),
        (row.RATE, (0, 0.999), (-1e-9, 1)),
        (row.SHARE, (0, 1), (-1e-9, 1.001)),
        (arms.ARMS["max_norm"].rule, (1e-9, math.inf), (0,)),
        (arms.ARMS["gradient_clipping"].rule, (1e-9, math.inf), (0,)),
        (arms.ARMS["average_steps"].rule, (0, 1), (0.5, math.inf)),
        (arms.ARMS["early_stopping"].rule, (0, math.inf), (-1,)),
        (arms.ARMS["rand_augment"].rule, (0, 30), (30.1,)),
    ],
)
def test_rules_hold_at_their_ends(rule, inside, outside):
    assert [rule.holds(value) for value in inside] == [True] * len(inside)
    assert [rule.holds(value) for value in outside] == [False] * len(outside)


def test_a_function_gets_what_it_asks_for():
    def function(x, strength=3):
        return x, strength

    assert row.arguments(function) == ("x", "strength")
    assert row.call(function, {"x": 1, "strength": 2, "key": 5}) == (1, 2)
