import ast
import dataclasses
import math
import os
import pathlib
import re
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import (
    information,
    masks,
    penalties,
    projections,
    proximal,
    smoothness,
    transforms,
)
from jaxreg.study import (
    apply_policy,
    optimizers,
    recipe_code,
    recipe_optimizer,
    recipe_parts,
    summary,
    terms,
)
from jaxreg.study.data import TASKS
from jaxreg.study.recipes import Policy, Recipe
from jaxreg.study.techniques import TECHNIQUES
from tests.studies import ALL_ON, with_recipe

SOME = {"l1": 0.01, "elastic_net": 1e-3, "distance": 1e-3, "flood": 0.01}
TERMS = dict.fromkeys((name for name in terms.TERMS if name != "r_drop"), 1e-3)
LAYERS = dict.fromkeys(("activity_l1", "decorrelation", "l0", "bottleneck"), 1e-3)
LINKS = {"centralize": True, "cautious_decay": 0.1, "independent_decay": 1e-3, "sparse_units": 0.1}
WRAPPERS = {"adaptive_l1": 1e-3, "lookahead": 0.5, "average_steps": 30.0, "sam": 0.05, "asam": 0.5}
IMAGES = {"augmentation": 0.1, "cutout": 0.3, "cutmix": 0.5}
RECIPES = {
    "images": Recipe(**IMAGES, mixup=0.2, patience=3.0),
    "series": Recipe(magnitude_warp=0.2, time_warp=0.2, jitter=0.1, sam=0.1),
    "words": Recipe(token_dropout=0.2, patience=3.0),
    "policy": Recipe(policy=Policy(("rotate", "cutout"), (0.1, 0.25), (0.5, 1.0))),
    "policy and others": Recipe(
        policy=Policy(("jitter", "shear"), (0.1, 0.2), (0.5, 0.5)), mixup=0.2, dropout=0.2
    ),
    "policy of words": Recipe(policy=Policy(("token_dropout",), (0.2,), (0.5,)), patience=3.0),
    "policy of a table": Recipe(policy=Policy(("jitter",), (0.2,), (0.5,))),
    "mixed": Recipe(mixup=0.2, label_smoothing=0.1, dropout=0.2, batch_norm=True),
    "some terms": Recipe(**SOME),
    "all terms": Recipe(**TERMS),
    "all terms and noise": Recipe(**TERMS, r_drop=0.5, dropout=0.2),
    "layers": Recipe(**LAYERS),
    "layers and statistics": Recipe(**LAYERS, batch_norm=True, r_drop=0.1),
    "everything": dataclasses.replace(ALL_ON, **TERMS, **LAYERS, r_drop=0.1, flood=0.01),
    "off": Recipe(),
    "all on": ALL_ON,
    "noise": Recipe(dropout=0.5),
    "statistics": Recipe(batch_norm=True, l2=1.0),
    "stopping at once": Recipe(patience=0.0, label_smoothing=0.2),
    "constraint": Recipe(max_norm=1.5),
    "links": Recipe(**LINKS),
    "wrappers": Recipe(**WRAPPERS),
    "the optimizer": dataclasses.replace(ALL_ON, **LINKS, **WRAPPERS),
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_recipe_has_what_is_on_and_nothing_else(recipe):
    code = recipe_code.source(with_recipe(recipe))
    tree = ast.parse(code)
    words = {
        "decoupled_decay": recipe.l2 > 0,
        "proximal": max(recipe.l1, recipe.sparse_units, recipe.adaptive_l1) > 0,
        "Dropout": recipe.dropout > 0,
        "smoothed_cross_entropy": recipe.label_smoothing > 0 and recipe.mixup == 0,
        "smooth_labels": recipe.label_smoothing > 0 and recipe.mixup > 0,
        "max_norm": math.isfinite(recipe.max_norm),
        "early_stopping": math.isfinite(recipe.patience),
        "BatchNorm": recipe.batch_norm,
    }
    body = code.split("# Made by", 1)[1]
    assert {word: word in body for word in words} == words
    imported = [
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert {name.split(".")[0] for name in imported} <= used
    assert max(map(len, code.splitlines())) <= 100


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda technique: technique.name)
def test_every_technique_is_named_and_has_its_code_in_the_recipe(technique):
    recipe = technique.recipe(technique.low)
    assert re.search(rf"\b{technique.name}\b", summary.recipe_text(recipe))
    with_code, without = (
        recipe_code.source(with_recipe(each)).split("# Made by", 1)[1]
        for each in (recipe, Recipe())
    )
    addresses = re.findall(r"\bjaxreg\.([\w.]+)", technique.function)
    assert addresses
    for address in addresses:
        # The last two parts, as the program imports the module of a function by its name.
        name = ".".join(address.split(".")[-2:]).replace("training.", "")
        assert re.search(rf"\b{name}\b", with_code), name
        assert not re.search(rf"\b{name}\b", without), name
    if technique.low is not None:
        assert f"{technique.low:.4g}" in with_code


@pytest.mark.parametrize(
    ("recipe", "kept"),
    [
        (Recipe(), ()),
        (Recipe(l2=1.0), ("`make_optimizer`",)),
        (Recipe(label_smoothing=0.1), ("`loss`",)),
        (Recipe(dropout=0.1), ("`loss`", "`step`", "`evaluate`", "the dropout of `Model`")),
        (
            Recipe(batch_norm=True),
            ("`loss`", "`step`", "`evaluate`", "the batch normalization of `Model`"),
        ),
        (Recipe(patience=3.0), ("the stopping in `main`",)),
        (
            Recipe(policy=Policy(("jitter",), (0.1,), (0.5,))),
            ("`POLICY`", "`loss`", "`step`"),
        ),
    ],
)
def test_the_recipe_says_what_of_it_to_keep(recipe, kept):
    text = ast.get_docstring(ast.parse(recipe_code.source(with_recipe(recipe))))
    assert text is not None
    _, _, listed = text.replace("\n", " ").partition(" keep ")
    assert tuple(re.split(", | and ", listed.rstrip("."))) == (kept or ("",))


@pytest.mark.parametrize("data", ["digits", "circles"])
def test_the_recipe_reports_on_rows_that_it_did_not_stop_on(data):
    code = recipe_code.source(with_recipe(ALL_ON, data))
    main = code.split("def main():", 1)[1]
    loop, _, end = main.partition("variables = stopping.best_params")
    assert "evaluate(variables, validation_x, validation_labels)" in loop
    assert "accuracy" not in loop
    assert "test_" not in loop.split("load_data()", 1)[1]
    assert "evaluate(variables, test_x, test_labels)" in end
    assert "epoch" not in end


def _view() -> terms.View:
    params = {"kernel": jnp.sin(jnp.arange(12.0)).reshape(3, 4), "bias": jnp.ones(4)}
    start = jax.tree.map(lambda w: w / 2, params)
    x = jnp.cos(jnp.arange(15.0)).reshape(5, 3)

    def predict(x):
        return jnp.tanh(x @ params["kernel"] + params["bias"])

    return terms.View(params, start, x, predict(x), predict, predict(2 * x), jax.random.key(0))


@pytest.mark.parametrize("name", terms.TERMS)
def test_a_term_of_the_program_is_that_of_the_study(name):
    view = _view()
    modules = {"information": information, "masks": masks, "penalties": penalties}
    names = {**modules, "smoothness": smoothness, "jax": jax, "partial": partial}
    term = terms.TERMS[name]
    expected = term.penalty(view)
    assert expected.shape == ()
    assert expected != 0
    assert eval(f"({term.code})", {**names, **view._asdict()}) == expected


@pytest.mark.parametrize("name", [*optimizers.BEFORE, *optimizers.AFTER, *optimizers.AROUND])
def test_a_link_of_the_program_is_that_of_the_study(name):
    params = {"kernel": jnp.sin(jnp.arange(12.0)).reshape(3, 4), "bias": jnp.ones(4)}
    strengths = {"centralize": True, "average_steps": 5.0}
    recipe = Recipe(**{name: strengths.get(name, 0.5)})

    def gradient(params):
        return jax.tree.map(lambda w: 0.1 * jnp.cos(3 * w), params)

    def train(tx, recipe):
        now, state = params, tx.init(params)
        for _ in range(6):
            updates, state = tx.update(gradient(now), state, now, grad_fn=gradient)
            now = optax.apply_updates(now, updates)
        return optimizers.evaluated(recipe, state, now)

    parts = recipe_parts.Parts(dict(summary.techniques(recipe)), TASKS["digits"], "digits", 9, 9, 1)
    modules = {"masks": masks, "optax": optax, "projections": projections, "proximal": proximal}
    names = {**modules, "partial": partial, "transforms": transforms, "LEARNING_RATE": 0.1}
    exec(recipe_optimizer.optimizer(parts), names)
    written = optax.with_extra_args_support(names["make_optimizer"]())
    expected = train(optimizers.optimizer(recipe, 0.1), recipe)
    jax.tree.map(np.testing.assert_array_equal, train(written, recipe), expected)
    plain = train(optimizers.optimizer(Recipe(), 0.1), Recipe())
    assert (np.abs(expected["kernel"] - plain["kernel"]) > 1e-4).any()


@pytest.mark.parametrize("name", ["cutout", "jitter", "rotate"])
def test_the_program_knows_the_scale_where_an_operation_asks_for_it(name):
    code = recipe_code.source(with_recipe(Recipe(policy=Policy((name,), (0.1,), (0.5,)))))
    assert ("deviation" in code.split("EPOCHS", 1)[1]) == (name == "rotate")


def test_the_program_changes_a_batch_by_the_policy():
    policy = RECIPES["policy"].policy
    program = {"__name__": "recipe"}
    exec(recipe_code.source(with_recipe(RECIPES["policy"])), program)
    x, labels, *_, mean, deviation = program["load_data"]()
    x, labels, key = x[:20], labels[:20], jax.random.key(3)
    variables = program["model"].init(jax.random.key(0), x)
    value = program["loss"](variables["params"], x, labels, key, mean, deviation)
    moved = apply_policy(key, policy, x, mean=mean, deviation=deviation)
    expected, _ = program["evaluate"](variables, moved, labels)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert abs(expected - program["evaluate"](variables, x, labels)[0]) > 1e-3


@pytest.mark.parametrize(
    ("recipe", "named"),
    [
        ("policy", "digits"),
        ("policy of words", "text"),
        ("off", "digits"),
        ("images", "digits"),
        ("series", "digit_rows"),
        ("words", "text"),
    ],
)
def test_what_stands_in_for_other_data_has_rows_of_its_kind(recipe, named):
    code = recipe_code.source(with_recipe(RECIPES[recipe], "data of my own"))
    assert f"# For the data stand in {named}, for the model a small network." in code
    own = recipe_code.source(with_recipe(RECIPES[recipe], named))
    middle = own.split("EPOCHS", 1)[1].split("class ", 1)[1].split("def load_data", 1)[0]
    assert middle in code


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "data"),
    [
        ("off", "circles"),
        ("all on", "digits"),
        ("all on", "circles"),
        ("noise", "breast_cancer"),
        ("statistics", "data of my own\n\x00"),
        ("stopping at once", "digits"),
        ("some terms", "digits"),
        ("all terms", "circles"),
        ("all terms and noise", "digits"),
        ("layers", "digits"),
        ("layers and statistics", "circles"),
        ("everything", "digits"),
        ("links", "circles"),
        ("wrappers", "circles"),
        ("the optimizer", "digits"),
        ("images", "digits"),
        ("policy", "digits"),
        ("policy and others", "digits"),
        ("policy of words", "text"),
        ("policy of a table", "circles"),
        ("mixed", "circles"),
        ("series", "digit_rows"),
        ("words", "text"),
    ],
)
def test_the_recipe_runs_as_it_stands(recipe, data, tmp_path):
    path = tmp_path / "recipe.py"
    path.write_text(recipe_code.source(with_recipe(RECIPES[recipe], data)), encoding="utf-8")
    root = str(pathlib.Path(recipe_code.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "error", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    losses = [float(loss) for loss in re.findall(r"loss (\d+\.\d+)", result.stdout)]
    assert losses
    assert np.isfinite(losses).all()
