"""Twenty standard recipes: everything that regularizes them is found, and nothing else is said."""

import math

import pytest

from jaxreg.explain import explain
from tests.explain.recipes import RECIPES
from tests.explain.recipes.generative import vae
from tests.explain.recipes.language import t5
from tests.explain.recipes.others import elastic_net, perceptron_with_penalties, sac


def check(recipe):
    """Compares what `explain` finds with what a recipe holds: every effect, conflict and note."""
    found = explain(*recipe.arguments, **recipe.options)
    effects = sorted(found.effects, key=order)
    wanted = sorted(recipe.effects, key=order)
    assert [name_of(effect) for effect in effects] == [name_of(effect) for effect in wanted]
    for effect, (*_, strength, _) in zip(effects, wanted, strict=True):
        if math.isnan(strength):
            assert math.isnan(effect.strength), effect
        else:
            assert effect.strength == pytest.approx(strength, rel=0.01), effect
    assert {each.what: set(each.where) for each in found.conflicts} == recipe.conflicts
    assert {each.what: set(each.where) for each in found.notes} == recipe.notes


def name_of(effect):
    place, regularizer, _, unit = effect
    return place, regularizer, unit


def order(effect):
    return name_of(effect), effect[2]


FAST = (vae, t5, sac, perceptron_with_penalties, elastic_net)


@pytest.mark.programs(24)
@pytest.mark.parametrize("make", FAST, ids=lambda make: make.__name__)
def test_a_recipe_is_explained_in_full(make):
    check(make())


def test_there_are_twenty_recipes():
    assert len(RECIPES) == 20
