"""Recipes: immutable mappings from arms to strengths, and pytrees."""

import copy
import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.study import Policy, Recipe, combine
from jaxreg.study.arms import ARMS

CHEAP = ("l2", "l1", "max_norm", "early_stopping", "label_smoothing")
POLICY = Policy(("rotate", "cutout"), (0.1, 0.25), (0.5, 1.0))
SOME = Recipe({"dropout": 0.5, "l2": 0.1, "batch_norm": True, "policy": POLICY})


def test_a_recipe_is_a_mapping_of_what_is_on():
    recipe = Recipe({"dropout": 0.5, "l2": 0.1, "l1": 0.0, "max_norm": math.inf, "sam": 0,
                     "batch_norm": True, "centralize": False, "policy": None})  # fmt: skip
    assert dict(recipe) == {"l2": 0.1, "dropout": 0.5, "batch_norm": True}
    assert len(recipe) == 3
    assert list(recipe) == [name for name in ARMS if name in recipe]
    assert "l1" not in recipe
    assert (recipe["l2"], recipe.get("l1"), recipe.get("l1", 7)) == (0.1, None, 7)
    with pytest.raises(KeyError):
        recipe["l1"]
    assert Recipe() == Recipe({}) == Recipe(None) == {}
    assert not Recipe()


def test_as_an_attribute_every_arm_has_a_value():
    assert (SOME.l2, SOME.dropout, SOME.batch_norm, SOME.policy) == (0.1, 0.5, True, POLICY)
    assert (Recipe().dropout, Recipe().batch_norm, Recipe().policy) == (0.0, False, None)
    assert Recipe().max_norm == Recipe().early_stopping == math.inf
    assert Recipe({"l2": 0.1}).weight_decay == 0.1
    with pytest.raises(AttributeError, match="got 'drop_out'; did you mean dropout"):
        _ = SOME.drop_out
    assert not hasattr(SOME, "__jax_array__")


def test_an_alias_is_the_arm_itself():
    assert Recipe({"weight_decay": 0.5}) == Recipe({"l2": 0.5})
    assert list(Recipe({"patience": 3, "ema": 10.0, "lasso": 0.1})) == [
        "l1", "early_stopping", "average_steps",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="`weight_decay` must not be given with `l2`"):
        Recipe({"l2": 1.0, "weight_decay": 2.0})


def test_a_recipe_does_not_change():
    with pytest.raises(AttributeError, match="a recipe is immutable; make a new one with `l2`"):
        SOME.l2 = 3.0
    with pytest.raises(AttributeError):
        SOME.other = 3.0
    with pytest.raises(TypeError):
        SOME["l2"] = 3.0
    given = {"l2": 0.1}
    recipe = Recipe(given)
    given["l2"] = 5.0
    assert recipe.l2 == 0.1


def test_recipes_that_are_equal_are_one_key():
    first = Recipe({"dropout": 0.5, "l2": 1})
    second = Recipe({"l2": 1.0, "dropout": 0.5, "l1": 0})
    assert first == second
    assert hash(first) == hash(second)
    assert first != Recipe({"l2": 1.0})
    assert len({first, second, SOME, Recipe(dict(SOME))}) == 2


def pickled(recipe):
    return pickle.loads(pickle.dumps(recipe))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
def test_copies_are_equal(copied):
    found = copied(SOME)
    assert found == SOME
    assert hash(found) == hash(SOME)
    assert isinstance(found, Recipe)
    assert repr(found) == repr(SOME)
    assert eval(repr(found), {"Recipe": Recipe, "Policy": Policy}) == SOME


def test_the_leaves_are_the_strengths():
    leaves, structure = jax.tree.flatten(SOME)
    assert leaves == [0.1, 0.5, 0.1, 0.25, 0.5, 1.0]
    assert jax.tree.unflatten(structure, leaves) == SOME
    other = Recipe({"l2": 9.0, "dropout": 0.9, "batch_norm": True, "policy": POLICY})
    assert jax.tree.structure(other) == structure
    assert jax.tree.structure(Recipe({"l2": 1.0})) != jax.tree.structure(Recipe({"l1": 1.0}))
    # A tree of any values has the same structure: True is a leaf where a strength was.
    answers = jax.tree.map(lambda _: True, SOME)
    assert jax.tree.structure(answers) == structure
    assert jax.tree.leaves(answers) == [True] * 6


def test_a_stack_of_recipes_is_a_recipe():
    @jax.jit
    def double(recipe):
        assert isinstance(recipe.l2, jax.core.Tracer)
        assert recipe.batch_norm is True
        assert "dropout" in recipe
        return jax.tree.map(lambda strength: 2 * strength, recipe)

    grid = [Recipe({"l2": w, "dropout": 0.25, "batch_norm": True}) for w in (0.5, 1.0)]
    stacked = jax.tree.map(lambda *strengths: np.float32(strengths), *grid)
    found = double(stacked)
    assert isinstance(found, Recipe)
    np.testing.assert_array_equal(found.l2, [1, 2])
    np.testing.assert_array_equal(found.dropout, [0.5, 0.5])
    assert Recipe({"l2": found.l2}).l2 is found.l2


@pytest.mark.parametrize(
    ("name", "value"),
    [("l1", -1.0), ("l2", math.inf), ("dropout", 1.0), ("label_smoothing", 1.5),
     ("max_norm", 0.0), ("early_stopping", -1), ("average_steps", 0.5), ("lookahead", 1.5),
     ("token_dropout", 1.0), ("cutout", 1.1), ("sam", -0.1), ("mixup", math.nan),
     ("patience", -1), ("rand_augment", 31)],
)  # fmt: skip
def test_a_strength_out_of_range_raises(name, value):
    message = f"`{name.replace('patience', 'early_stopping')}` must be .*, got {value}; leave it"
    with pytest.raises(ValueError, match=message):
        Recipe({name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("batch_norm", 1.0, "`batch_norm` must be True or False, got 1.0"),
        ("l2", True, "`l2` must be a number, finite and at least 0, got True"),
        ("l2", "0.5", "`l2` must be a number, finite and at least 0, got '0.5'"),
        ("l2", None, "`l2` must be a number, finite and at least 0, got None"),
        ("policy", 0.5, "`policy` must be a jaxreg.study.Policy or None, got 0.5"),
        ("baseline", 1.0, "`name` must be an arm of a study, got 'baseline'"),
        ("weigth_decay", 1.0, "did you mean weight_decay"),
    ],
)
def test_what_is_no_strength_raises(name, value, message):
    with pytest.raises(ValueError, match=message):
        Recipe({name: value})


def test_a_structure_names_what_changes_the_program():
    cheap = dict(zip(CHEAP, (0.1, 1.0, 2.0, 3.0, 0.2), strict=True))
    assert {name for name, arm in ARMS.items() if arm.cheap} == set(CHEAP)
    assert Recipe(cheap).structure == Recipe().structure == ()
    assert SOME.structure == ("batch_norm", "dropout", "policy rotate", "policy cutout")
    weaker = Policy(POLICY.names, (0.2, 0.1), (1.0, 0.5))
    assert Recipe({**SOME, "policy": weaker}).structure == SOME.structure


def test_recipes_of_one_structure_share_a_program():
    both = [Recipe({"dropout": 0.5, "l2": 0.1}), Recipe({"dropout": 0.1, "max_norm": 2.0})]
    first, second = [recipe.with_cheap() for recipe in both]
    assert jax.tree.structure(first) == jax.tree.structure(second)
    assert set(first) == {*CHEAP, "dropout"}
    assert (first.l2, first.max_norm, first.l1, first.early_stopping) == (
        0.1, math.inf, 0.0, math.inf,
    )  # fmt: skip
    # All strengths are there, also those that are off.
    assert "l1" in first
    # A run alone is traced with numbers of the same names.
    traced = jax.tree.map(jnp.asarray, first)
    assert list(traced) == list(first)


def test_combining_switches_everything_on():
    joined = combine([Recipe({"l2": 0.5}), Recipe({"batch_norm": True}),
                      Recipe({"patience": 3}), Recipe({"policy": POLICY})])  # fmt: skip
    assert joined == Recipe({"l2": 0.5, "batch_norm": True, "patience": 3, "policy": POLICY})
    assert combine([Recipe({"l2": 0.5}), Recipe({"l2": 1.0, "l1": 0.1})]) == Recipe(
        {"l2": 1.0, "l1": 0.1}
    )
    assert combine([]) == Recipe()


def test_one_norm_takes_the_place_of_another():
    norms = [Recipe({name: True}) for name in ("batch_norm", "layer_norm", "ghost_batch_norm")]
    assert combine([Recipe({"l2": 0.5, "batch_norm": True}), *norms[1:]]) == Recipe(
        {"l2": 0.5, "ghost_batch_norm": True}
    )
    assert combine(norms[::-1]) == norms[0]


def test_a_policy_is_written_with_three_digits():
    policy = Policy(("rotate", "cutout"), (0.123456, 0.25), (0.5, 1.0))
    assert str(policy) == "rotate 0.123 (p 0.5), cutout 0.25 (p 1)"
    assert jax.tree.leaves(policy) == [0.123456, 0.25, 0.5, 1.0]
