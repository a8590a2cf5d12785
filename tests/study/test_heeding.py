"""Finds the arms that a model ignores, by tracing it."""

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxreg.linen
import jaxreg.nnx
from jaxreg.study import Recipe, conv_net, from_nnx, heeding, mlp

TABLE = np.zeros((20, 3), np.float32)


class Partial(nn.Module):
    """Uses two arms: one with a strength, one without."""

    recipe: Recipe

    @nn.compact
    def __call__(self, x, *, train):
        if "batch_norm" in self.recipe:
            x = jaxreg.linen.BatchNorm(use_running_average=not train)(x)
        x = jaxreg.linen.Dropout(self.recipe.dropout, deterministic=not train)(x)
        return nn.Dense(2)(x)


class NnxNetwork(nnx.Module):
    def __init__(self, recipe, rngs):
        self.drop = jaxreg.nnx.Dropout(recipe.dropout, rngs=rngs)
        self.last = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(self.drop(x))


def test_built_in_networks_heed_the_arms_of_their_places():
    names = ["baseline", "dropout", "spatial_dropout", "layer_norm", "drop_path", "sam"]
    assert heeding.find_unheeded(mlp((4,), 2), names, TABLE) == ("spatial_dropout", "drop_path")
    images = np.zeros((20, 6, 6, 1), np.float32)
    assert heeding.find_unheeded(conv_net((4,), 2), ["drop_block", "drop_path", "l0"], images) == ()


@pytest.mark.parametrize(
    ("make_model", "heeded"),
    [
        (Partial, {"dropout", "batch_norm"}),
        (from_nnx(NnxNetwork), {"dropout"}),
        (lambda recipe: nn.Sequential([nn.Dense(2)]), None),
        (lambda recipe: mlp((4,), 2)(Recipe()), set()),
    ],
)
def test_a_model_of_the_user_heeds_what_it_uses(make_model, heeded):
    names = ["l2", "dropout", "batch_norm", "layer_norm", "baseline", "early_stopping"]
    if heeded is None:
        with pytest.raises(TypeError, match="train"):
            heeding.find_unheeded(make_model, names, TABLE)
        return
    left = [name for name in ("dropout", "batch_norm", "layer_norm") if name not in heeded]
    assert heeding.find_unheeded(make_model, names, TABLE) == tuple(left)


def test_every_arm_is_traced_once():
    made = []

    def counting(recipe):
        made.append(dict(recipe))
        return mlp((4,), 2)(recipe)

    for rows in (TABLE, TABLE[:9], TABLE + 1):
        heeding.find_unheeded(counting, ["dropout", "batch_norm", "l2"], rows)
    assert [list(each) for each in made] == [["dropout"], [], ["batch_norm"]]
    assert isinstance(made[0]["dropout"], jax.core.Tracer)


def test_an_arm_without_effect_is_refused():
    recipes = [Recipe(), Recipe({"l2": 1.0, "layer_norm": True}), Recipe({"dropout": 0.5})]
    with pytest.raises(
        ValueError,
        match=r"`recipes` must contain only arms that the model uses, but it is the same without "
        r"layer_norm; use `recipe.layer_norm` in `make_model`, or leave out",
    ):
        heeding.check_heeded(Partial, recipes, TABLE)
    heeding.check_heeded(Partial, [recipes[0], recipes[2]], TABLE)


def test_a_strength_that_must_be_a_number_is_named():
    """The natural first try branches on the rate, or gives it to a layer of Flax."""

    class Branching(nn.Module):
        recipe: Recipe

        @nn.compact
        def __call__(self, x, *, train):
            if self.recipe.dropout > 0:
                x = nn.Dropout(0.5, deterministic=not train)(x)
            return nn.Dense(2)(x)

    for make_model in (Branching, lambda recipe: flax_dropout(recipe.dropout)):
        with pytest.raises(TypeError, match=r"pass `recipe.dropout`, which .*, and must test"):
            heeding.find_unheeded(make_model, ["dropout"], TABLE)


def flax_dropout(rate):
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return nn.Dense(2)(nn.Dropout(rate, deterministic=not train)(x))

    return Network()
