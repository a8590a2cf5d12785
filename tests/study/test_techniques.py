"""The arms of a study: each technique over its strengths."""

import re

import pytest

from jaxreg.study import Recipe, techniques


@pytest.mark.parametrize("technique", techniques.TECHNIQUES, ids=lambda technique: technique.name)
def test_every_arm_has_a_grid_that_sets_its_technique_alone(technique):
    arm = techniques.grid(technique.name, count=4)
    assert arm.strengths == tuple(sorted(arm.strengths))
    assert len(arm.recipes) == max(len(arm.strengths), 1)
    assert len(arm.strengths) in (0, 4)
    for recipe in arm.recipes:
        changed = [
            name for name in vars(recipe) if getattr(recipe, name) != getattr(Recipe(), name)
        ]
        assert set(changed) == {technique.field, *dict(technique.needs)}


def test_one_strength_is_the_middle_of_the_range():
    assert techniques.grid("l2", count=1).strengths == (1.0,)
    assert techniques.grid("l2", strengths=[3, 2, 3]).strengths == (2.0, 3.0)


def test_grids_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"`name` must be one of baseline, .*, got ridge"):
        techniques.grid("ridge")
    with pytest.raises(ValueError, match="`count` must be at least 1, got 0"):
        techniques.grid("l2", count=0)


def test_strengths_are_spaced_evenly_on_a_logarithmic_scale():
    assert techniques.grid("l2").strengths == (0.1, 0.32, 1.0, 3.2, 10.0)
    assert techniques.grid("l2", count=2).strengths == (0.1, 10.0)
    found = techniques.grid("early_stopping", count=4).strengths
    assert found == tuple(map(round, found))
    assert techniques.grid("baseline") == techniques.Grid("baseline", (), (Recipe(),))
    assert techniques.grid("batch_norm").recipes == (Recipe(batch_norm=True),)


def test_the_arms_have_the_order_of_the_table():
    names = [technique.name for technique in techniques.TECHNIQUES]
    assert ("baseline", *names, "combined") == techniques.ARM_NAMES
    assert techniques.DEFAULT_ARMS == (
        "baseline", "l1", "l2", "dropout", "batch_norm", "max_norm", "label_smoothing",
        "early_stopping", "combined",
    )  # fmt: skip
    assert len(set(names)) == len(names)
    for technique in techniques.TECHNIQUES:
        assert re.search(r"jaxreg\.\w+", technique.function)
        assert technique.summary
        assert set(technique.kinds) <= set(techniques.KINDS)


def test_published_figures_are_those_of_the_circles():
    assert techniques.PUBLISHED == {
        "circles": {"baseline": 0.975, "l1": 0.970, "l2": 0.972, "dropout": 0.968}
    }
