"""Grids: an arm over its strengths."""

import pytest

from jaxreg.study import Grid, Recipe, grid
from jaxreg.study.arms import ARMS


@pytest.mark.parametrize("arm", ARMS.values(), ids=ARMS)
def test_every_arm_has_a_grid_of_its_own(arm):
    found = grid(arm.name, count=4)
    assert found.name == arm.name
    assert found.strengths == tuple(sorted(found.strengths))
    assert len(found.strengths) == (4 if arm.has_strength else 0)
    for recipe, strength in zip(found.recipes, found.strengths or (True,), strict=True):
        assert recipe == {**arm.needs, arm.name: strength}


def test_the_baseline_has_nothing_on():
    assert grid("baseline") == Grid("baseline", (), (Recipe(),))
    assert grid("batch_norm", count=9).recipes == (Recipe({"batch_norm": True}),)


def test_one_strength_is_the_middle_of_the_range():
    assert grid("l2", count=1).strengths == (1.0,)
    assert grid("l2", strengths=[3, 2, 3]).strengths == (2.0, 3.0)
    assert grid("l2").strengths == (0.1, 0.32, 1.0, 3.2, 10.0)
    stopping = grid("early_stopping", count=4).strengths
    assert stopping == tuple(map(round, stopping))


def test_an_alias_gives_the_grid_of_its_arm():
    assert grid("weight_decay") == grid("l2")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ridge", {}, "`name` must be an arm of a study, got 'ridge'"),
        ("combined", {}, "`name` must be an arm of a study, got 'combined'"),
        ("l2", {"count": 0}, "`count` must be at least 1, got 0"),
        ("dropout", {"strengths": [0.5, 1.0]}, r"`dropout` must be in \[0, 1\), got 1.0"),
    ],
)
def test_grids_say_what_is_wrong(name, options, message):
    with pytest.raises(ValueError, match=message):
        grid(name, **options)
