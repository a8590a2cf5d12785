"""The programs that studies write, run unchanged."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxreg.study import apply_policy, recipe_code
from tests.study.helpers import with_recipe
from tests.study.programs import RECIPES, STORED

ROOT = Path(__file__).parents[3]
OTHERS = [
    ("all on", "circles"),
    ("all on", "digits"),
    ("layers and statistics", "circles"),
    ("policy of words", "text"),
    ("noise", "breast_cancer"),
    ("statistics", "data of my own\n\x00"),
    ("stopping at once", "digits"),
    ("some terms", "digits"),
    ("all terms", "circles"),
    ("all terms and noise", "digits"),
    ("layers", "digits"),
    ("links", "circles"),
    ("policy", "digits"),
    ("policy of a table", "circles"),
]


def test_the_program_changes_a_batch_by_the_policy():
    policy = RECIPES["policy"].policy
    program = {"__name__": "recipe"}
    exec(recipe_code.source(with_recipe(RECIPES["policy"])), program)
    x, labels, *_, mean, stddev = program["load_data"]()
    x, labels, key = x[:20], labels[:20], jax.random.key(3)
    variables = program["model"].init(jax.random.key(0), x)
    value = program["loss"](variables["params"], x, labels, key, mean, stddev)
    moved = apply_policy(key, policy, x, mean=mean, stddev=stddev)
    expected, _ = program["evaluate"](variables, moved, labels)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert abs(expected - program["evaluate"](variables, x, labels)[0]) > 1e-3


@pytest.mark.parametrize(("recipe", "data"), [*STORED.items(), *OTHERS])
def test_the_recipe_runs_as_it_stands(recipe, data, tmp_path):
    path = tmp_path / "recipe.py"
    path.write_text(recipe_code.source(with_recipe(RECIPES[recipe], data)), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "error", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    losses = [float(loss) for loss in re.findall(r"loss (\d+\.\d+)", result.stdout)]
    assert losses
    assert np.isfinite(losses).all()
