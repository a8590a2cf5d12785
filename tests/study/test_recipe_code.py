"""The program that a study hands over: what is on is in it, and nothing else."""

import ast
import math
import re

import jax
import numpy as np
import pytest

from jaxreg.study import data, recipe_code, summary
from jaxreg.study.recipes import Policy, Recipe
from jaxreg.study.techniques import TECHNIQUES
from tests.study.helpers import ALL_ON, make_study, with_recipe
from tests.study.programs import RECIPES, STORED, path, program


@pytest.mark.parametrize("name", STORED)
def test_the_program_is_the_one_that_was_read_and_run(name):
    """tests/exhaustive/study runs them all; write them with `python -m tests.study.programs`."""
    assert program(name) == path(name).read_text(encoding="utf-8")


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
    with_code = recipe_code.source(with_recipe(recipe)).split("# Made by", 1)[1]
    without = recipe_code.source(with_recipe(Recipe())).split("# Made by", 1)[1]
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


@pytest.mark.parametrize("name", ["cutout", "jitter", "rotate"])
def test_the_program_knows_the_scale_where_an_operation_asks_for_it(name):
    code = recipe_code.source(with_recipe(Recipe(policy=Policy((name,), (0.1,), (0.5,)))))
    assert ("mean, stddev" in code.split("EPOCHS", 1)[1]) == (name == "rotate")


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
    assert f"# Replace the data, here {named}, and the small network by your own." in code
    own = recipe_code.source(with_recipe(RECIPES[recipe], named))
    middle = own.split("EPOCHS", 1)[1].split("class ", 1)[1].split("def load_data", 1)[0]
    assert middle in code


def test_the_head_says_what_was_measured():
    code = recipe_code.source(make_study())
    head = re.sub(r"\n# ", " ", code.split("import jax", 1)[0])
    arm = make_study().arms[-1]
    assert f"Test accuracy {100 * arm.test.mean():.1f}%, mean over 6 seeds." in head
    assert "with its 95% interval: +2.00 [+1.00, +3.00]." in head
    assert "Made by: jaxreg study --seeds 4" in head
    assert "95% interval" not in recipe_code.source(make_study(chosen="baseline"))


def test_what_came_from_outside_stays_in_its_comment():
    code = recipe_code.source(make_study(data="mine\nimport os", command="a\x00b"))
    assert "\nimport os" not in code
    assert "# Made by: a b" in code


def test_a_program_loads_its_data_and_evaluates_its_model():
    names = {"__name__": "recipe"}
    exec(recipe_code.source(with_recipe(Recipe(), "circles")), names)
    x, labels, test_x, test_labels = names["load_data"]()
    known = data.circles(train_size=300)(0)
    np.testing.assert_array_equal(x, known.train_x)
    np.testing.assert_array_equal(labels, known.train_y)
    assert test_x.shape == (1000, 2)
    np.testing.assert_array_equal(test_labels, (np.float64(test_x) ** 2).sum(axis=1) > 5)
    assert not set(map(tuple, np.asarray(test_x))) & set(map(tuple, np.asarray(x)))
    shapes = jax.eval_shape(names["model"].init, jax.random.key(0), np.asarray(x)[:1])
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: np.float32(rng.normal(size=leaf.shape) / 4), shapes)
    logits = np.float64(x)
    for index in range(3):
        layer = variables["params"][f"Dense_{index}"]
        logits = logits @ np.float64(layer["kernel"]) + layer["bias"]
        logits = np.maximum(logits, 0) if index < 2 else logits
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    loss, accuracy = names["evaluate"](variables, x, labels)
    np.testing.assert_allclose(loss, -log_p[np.arange(300), labels].mean(), rtol=1e-5)
    np.testing.assert_allclose(accuracy, (log_p.argmax(axis=1) == labels).mean(), rtol=1e-6)
