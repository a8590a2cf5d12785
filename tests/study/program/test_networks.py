"""The source of a network, with the layers of a recipe in its places."""

import re

import jax
import numpy as np
import pytest
from flax import linen as nn

from jaxreg.study import Recipe, conv_net, mlp, transformer
from jaxreg.study.arms import ARMS
from jaxreg.study.program import networks
from tests.study.rows import random_like

NETWORKS = {
    "MLP": (mlp((8, 4), 3), np.ones((2, 5), np.float32)),
    "ConvNet": (conv_net((4,), 3), np.ones((2, 4, 4, 1), np.float32)),
    "Transformer": (transformer(8, 1, 3, vocabulary=7), np.arange(10).reshape(2, 5) % 7),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_is_printed_is_the_one_of_the_study(name):
    """Without layers, with the same variables; its fields have their values as defaults."""
    make, x = NETWORKS[name]
    text = networks.network(make(Recipe()), Recipe())
    assert "layers:" not in text
    assert "self.layers" not in text
    names = {"nn": nn, "jax": jax, "Sequence": tuple}
    exec(text.replace("Sequence[int]", "tuple"), names)
    ours = make(Recipe())
    theirs = names[name]()
    key = jax.random.wrap_key_data(np.zeros(2, np.uint32))
    shapes = jax.eval_shape(lambda key: ours.init(key, x, train=False), key)
    variables = random_like(shapes)

    @jax.jit
    def both(variables, x):
        return [module.apply(variables, x, train=False) for module in (ours, theirs)]

    first, second = both(variables, x)
    np.testing.assert_array_equal(first, second)
    for field, value in vars(ours).items():
        if field in type(ours).__annotations__ and field != "layers":
            assert getattr(theirs, field) == value


def test_layers_take_their_places_in_order():
    recipe = Recipe({"dropout": 0.5, "activity_l1": 0.1, "batch_norm": True, "bottleneck": 0.01})
    text = networks.network(mlp((8,), 3)(recipe), recipe)
    body = [line.strip() for line in text.split("for width in self.hidden:")[1].splitlines()]
    assert body[1:] == [
        "x = nn.Dense(width)(x)",
        "x = normalize_batch(x, train=train)",
        "x = nn.relu(x)",
        "x = penalize_activity(x, 0.1)",
        "x = drop_units(x, 0.5, train=train)",
        "x = squeeze_information(x, 0.01, train=train)",
        "return nn.Dense(self.outputs)(x)",
    ]


def test_a_place_of_a_branch_is_its_own():
    recipe = Recipe({"drop_path": 0.25, "layer_norm": True})
    text = networks.network(conv_net((8,), 3)(recipe), recipe)
    assert "            branch = drop_branch(branch, 0.25, train=train)\n" in text
    assert len(re.findall(r"normalize_layer\((x|branch)\)", text)) == 2


@pytest.mark.parametrize(
    ("name", "strength", "call"),
    [
        ("dropout", 0.123456789, "drop_units(x, 0.1234568, train=train)"),
        ("activity_l1", 1e-05, "penalize_activity(x, 1e-05)"),
        ("layer_norm", True, "normalize_layer(x)"),
    ],
)
def test_a_call_gives_what_the_function_asks_for(name, strength, call):
    assert networks.layer_call(ARMS[name], "x", Recipe({name: strength})) == call
