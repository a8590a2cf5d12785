"""The programs that studies write, run unchanged, and checked by ruff."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxreg.study import REGRESSION, Recipe, apply_policy, mlp
from jaxreg.study.arms import ARMS
from jaxreg.study.program import Origin
from tests.study.program.programs import EVERYTHING, POLICY, kind_of, loaded, program, recipe_of

ROOT = Path(__file__).parents[3]
IMAGES = Recipe({"augmentation": 0.1, "cutout": 0.3, "cutmix": 0.5, "mixup": 0.2, "patience": 3,
                 "rand_augment": 9.0, "label_smoothing": 0.1, "policy": POLICY})  # fmt: skip
RECIPES = {
    **{name: (recipe_of(arm), kind_of(arm)) for name, arm in ARMS.items()},
    "baseline": (Recipe(), "table"),
    "everything": (EVERYTHING, "table"),
    "images": (IMAGES, "image"),
    "policy": (Recipe({"policy": POLICY}), "image"),
    "r_drop of texts": (Recipe({"r_drop": 1.0, "dropout": 0.2, "token_dropout": 0.1}), "text"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_program_runs(name, capsys):
    recipe, kind = RECIPES[name]
    loaded(program(recipe, kind))["main"]()
    losses = [float(loss) for loss in re.findall(r"loss (\S+?)[,\s]", capsys.readouterr().out)]
    assert len(losses) == 3
    assert np.isfinite(losses).all()


MODELS = """
from flax import nnx
from flax import linen as nn
import jaxreg.linen, jaxreg.nnx

class Network(nnx.Module):
    def __init__(self, recipe, rngs):
        self.inner = nnx.Linear(2, 8, rngs=rngs)
        self.drop = jaxreg.nnx.Dropout(recipe.dropout, rngs=rngs)
        self.outer = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        return self.outer(self.drop(nnx.relu(self.inner(x))))

class Linen(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.relu(nn.Dense(8)(x))
        return nn.Dense(2)(jaxreg.linen.Dropout(self.rate, deterministic=not train)(x))

def make(recipe):
    return Linen(recipe.dropout)
"""


@pytest.mark.parametrize(
    ("imports", "code"),
    [
        ("from jaxreg.study import from_nnx\nfrom my_models import Network", "from_nnx(Network)"),
        ("from my_models import make", "make"),
    ],
)
def test_a_program_runs_the_users_model(imports, code, tmp_path):
    """In a process of its own, where warnings are errors."""
    (tmp_path / "my_models.py").write_text(MODELS, encoding="utf-8")
    origin = Origin(
        "from jaxreg.study.data.builtin import circles", "circles(train_size=60)", 20, 0.01,
        model_import=imports, model_code=code,
    )  # fmt: skip
    recipe = Recipe({"dropout": 0.2, "r_drop": 0.1, "l2": 0.5, "average_steps": 10.0})
    path = tmp_path / "recipe.py"
    path.write_text(program(recipe, origin=origin), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "error", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    assert "test loss" in result.stdout


def test_a_program_of_a_regression_runs(capsys):
    recipe = Recipe({"mixup": 0.2, "l2": 0.5, "early_stopping": 2})
    origin = Origin("from tests.study.rows import numbers", "numbers", 20, 0.01,
                    network=mlp((8,), 1)(recipe))  # fmt: skip
    text = program(recipe, objective=REGRESSION, origin=origin, epochs=20)
    loaded(text)["main"]()
    (score,) = re.findall(r"test r2 (\S+)", capsys.readouterr().out)
    assert float(score) > 0.3


def test_a_program_changes_a_batch_by_the_policy():
    names = loaded(program(Recipe({"policy": POLICY}), "image"))
    split = jax.tree.map(np.asarray, names["load_data"]())
    x, labels, key = split.train_x[:20], split.train_y[:20], jax.random.key(3)
    variables = names["model"].init(jax.random.key(0), x, train=False)
    given = (x, labels, key, split.mean, split.stddev)
    value, _ = names["loss"](variables["params"], variables, *given)
    own, _ = jax.random.split(key)
    moved = apply_policy(own, POLICY, x, mean=split.mean, stddev=split.stddev)
    expected, _ = names["evaluate"](variables, moved, labels)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert abs(expected - names["evaluate"](variables, x, labels)[0]) > 1e-4


def test_ruff_finds_nothing_in_the_programs(tmp_path):
    pytest.importorskip("ruff")
    for index, (recipe, kind) in enumerate(RECIPES.values()):
        (tmp_path / f"recipe_{index}.py").write_text(program(recipe, kind), encoding="utf-8")
    command = [
        sys.executable, "-m", "ruff", "check", "--no-cache", "--isolated", "--select", "E,F,I",
        "--line-length", "100", "--config", 'lint.isort.known-first-party=["jaxreg"]', tmp_path,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
