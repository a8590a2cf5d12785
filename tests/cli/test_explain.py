"""The explanation of a user's function and of a recipe."""

import json
import re
import sys

import jax
import numpy as np
import pytest

from jaxreg import explain
from jaxreg.study import models
from tests.cli.helpers import run_command

SETUP = """
import jax, jax.numpy as jnp, optax
from flax import linen as nn
from flax.training.train_state import TrainState

PARAMS = {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}

def make():
    return None, optax.adamw(0.1, weight_decay=0.5), PARAMS

def named():
    return {"optimizer": optax.sgd(0.1), "params": PARAMS, "penalty": lambda p: (p["kernel"] ** 2).sum()}

def number():
    return 3

def wrong():
    return None, 3, PARAMS

def misspelled():
    return {"optim": optax.sgd(0.1)}

def pair():
    return nn.Dense(2), optax.sgd(0.1)

def breaks():
    return 1 / 0

def of_one(size):
    return None

model = nn.Dropout(0.5, deterministic=False)
whole = {"model": model, "params": {}, "inputs": jnp.ones((3, 2))}
state = TrainState.create(apply_fn=model.apply, params=PARAMS, tx=optax.sgd(0.1))
constant = 3
"""  # noqa: E501


@pytest.mark.programs(24)  # An optimizer is tried one operation at a time.
def test_explain_takes_a_function(folder, capsys, monkeypatch):
    (folder / "advice_setup.py").write_text(SETUP)
    monkeypatch.delitem(sys.modules, "advice_setup", raising=False)
    text = run_command(capsys, "explain", "advice_setup:make")
    assert re.search(r"^kernel +decay +0\.05  of the weight per step$", text, re.M)
    assert "note: decay on biases or scales of norms" in text
    found = json.loads(run_command(capsys, "explain", "advice_setup:named", "--json"))
    effects = {row["place"]: (row["regularizer"], row["strength"]) for row in found["effects"]}
    assert effects["kernel"] == ("L2 penalty", pytest.approx(2.0))
    assert effects["bias"] == ("none", None)
    assert found["conflicts"] == found["notes"] == []
    assert str(folder) not in sys.path


@pytest.mark.programs(24)
def test_explain_takes_an_object(folder, capsys, monkeypatch):
    (folder / "advice_setup.py").write_text(SETUP)
    monkeypatch.delitem(sys.modules, "advice_setup", raising=False)
    text = run_command(capsys, "explain", "advice_setup.py:whole")
    assert re.search(r"^model +Dropout +0\.5  rate$", text, re.M)
    assert "note: the optimizer was not given" in text
    text = run_command(capsys, "explain", "advice_setup:state")
    assert re.search(r"^kernel +none$", text, re.M)
    assert "note: the model was not called" in text


def test_explain_looks_at_the_model_of_a_recipe(capsys, monkeypatch):
    given = {}

    def record(*arguments, **options):
        given.update(arguments=arguments, options=options)
        return explain.Explanation((), (), (), 0)

    def from_linen(module):
        given["module"] = module
        return models.Model(
            lambda key, x: {"params": x}, lambda variables, x, key: ("logits", {}), None
        )

    monkeypatch.setattr(explain, "explain", record)
    monkeypatch.setattr(models, "from_linen", from_linen)
    run_command(capsys, "explain", "--recipe", " l2=0.5, dropout=0.25,batch_norm")
    module = given["module"]
    assert (module.hidden, module.outputs) == ((50, 50), 2)
    layers = module.layers.by_place
    assert [strength for _, strength in layers["units"]] == [0.25]
    assert [function.__name__ for function, _ in layers["normalization"]] == ["normalize_batch"]
    model, chain, variables, x = given["arguments"]
    assert isinstance(model, models.Model)
    assert x.shape == (32, 2)
    np.testing.assert_array_equal(variables["params"], x)
    assert given["options"]["call"](variables, x) == "logits"
    params = {"kernel": np.ones((2, 2), np.float32)}
    moved, _ = jax.jit(chain.update)(
        {"kernel": np.zeros((2, 2), np.float32)}, jax.jit(chain.init)(params), params
    )
    np.testing.assert_allclose(moved["kernel"], -0.01 * 0.5, rtol=1e-6)
