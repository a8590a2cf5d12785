"""Recipes: a strength for every technique, as a pytree."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from jaxreg.study import Policy, Recipe, models, recipes

ALWAYS = ("l1", "l2", "label_smoothing", "max_norm", "patience")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("l1", -1.0),
        ("l2", math.inf),
        ("dropout", 1.0),
        ("label_smoothing", 1.5),
        ("max_norm", 0.0),
        ("patience", -1),
        ("average_steps", 0.5),
        ("average_steps", math.inf),
        ("lookahead", 1.5),
        ("token_dropout", 1.0),
        ("cutout", 1.1),
        ("sam", -0.1),
        ("mixup", math.nan),
    ],
)
def test_a_strength_out_of_range_raises(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .*, got {value}"):
        Recipe(**{name: value})


def test_strengths_at_the_ends_of_their_ranges_pass():
    ends = {"label_smoothing": (0, 1), "lookahead": (0, 1), "cutout": (0, 1), "dropout": (0, 0.99)}
    ends |= {"average_steps": (0, 1), "patience": (0, math.inf), "max_norm": (1e-9, math.inf)}
    for name, values in ends.items():
        for value in values:
            assert getattr(Recipe(**{name: value}), name) == value


def test_the_leaves_of_a_recipe_are_its_strengths():
    assert len(jax.tree.leaves(Recipe())) == 38
    assert len(recipes.strength_names()) == 38
    assert jax.tree.structure(Recipe()) == jax.tree.structure(Recipe(l2=1.0, dropout=0.5))
    assert jax.tree.structure(Recipe()) != jax.tree.structure(Recipe(batch_norm=True))


def test_a_structure_names_what_changes_the_program():
    policy = Policy(("rotate", "cutout"), (0.1, 0.25), (0.5, 1.0))
    recipe = Recipe(l2=0.5, policy=policy)
    assert jax.tree.leaves(policy) == [0.1, 0.25, 0.5, 1.0]
    assert recipe.structure == ("policy rotate", "policy cutout")
    assert Recipe().structure == ()
    always = dict(zip(ALWAYS, (0.1, 1.0, 0.1, 2.0, 3.0), strict=True))
    assert Recipe(**always).structure == ()
    assert Recipe(mixup=0.2, dropout=0.1, batch_norm=True, centralize=True).structure == (
        "dropout", "mixup", "batch_norm", "centralize",
    )  # fmt: skip


def test_what_is_off_is_left_out():
    traced = jax.tree.map(np.asarray, Recipe(l2=1.0, l0=0.1, dropout=0.5))
    recipe = traced.only(("l0",))
    assert (recipe.dropout, recipe.jacobian) == (0.0, 0.0)
    for name in ("l0", *ALWAYS):
        assert isinstance(getattr(recipe, name), np.ndarray)
    assert models.mlp((4,), 2)(recipe).dropout is None


def test_a_program_has_a_place_for_what_is_traced():
    recipe = dataclasses.replace(Recipe(jitter=0.1), sam=np.zeros(()))
    assert all(recipe.has(name) for name in ("jitter", "sam", *ALWAYS))
    assert not any(recipe.has(name) for name in ("mixup", "asam", "centralize"))
    assert Recipe(centralize=True).has("centralize")


def test_combining_switches_everything_on():
    policy = Policy(("jitter",), (0.1,), (0.5,))
    joined = recipes.combine(
        [Recipe(l2=0.5), Recipe(batch_norm=True), Recipe(patience=3), Recipe(policy=policy)]
    )
    assert joined == Recipe(l2=0.5, batch_norm=True, patience=3, policy=policy)
    assert recipes.combine([Recipe(l2=0.5), Recipe(l2=1.0, l1=0.1)]) == Recipe(l2=1.0, l1=0.1)
    assert recipes.combine([]) == Recipe()


def test_a_policy_is_written_with_three_digits():
    policy = Policy(("rotate", "cutout"), (0.123456, 0.25), (0.5, 1.0))
    assert str(policy) == "rotate 0.123 (p 0.5), cutout 0.25 (p 1)"
