"""The program that a study hands over: what is on is in it, and nothing else."""

import ast
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg.study import CLASSIFICATION, REGRESSION, Policy, Recipe, mlp, steps
from jaxreg.study.arms import ARMS, acting
from jaxreg.study.arms.row import GradientLink, Layer, Stop, Term, UpdateLink, Wrapper, arguments
from jaxreg.study.batch import Batch
from jaxreg.study.models import as_model
from jaxreg.study.optimizers import optimizer
from jaxreg.study.program import Origin
from tests.study.program.programs import (
    EVERYTHING,
    KINDS,
    POLICY,
    TABLE_ARMS,
    imported,
    kind_of,
    loaded,
    names_of,
    program,
    recipe_of,
)
from tests.study.rows import blobs, random_like

KEY = jax.random.wrap_key_data(np.array([0, 5], np.uint32))
SHORT = Recipe({"l2": 0.5, "early_stopping": 3.0})


@pytest.mark.parametrize("arm", ARMS.values(), ids=ARMS)
def test_an_arm_is_in_its_program_and_in_no_other(arm):
    recipe = recipe_of(arm)
    text = program(recipe, kind_of(arm))
    plain = program(Recipe(), kind_of(arm))
    assert max(map(len, text.splitlines())) <= 100
    tree = ast.parse(text)
    found = imported(tree)
    read, bound = names_of(tree)
    assert len(set(found)) == len(found)
    assert set(found) <= read
    assert read <= bound | set(found)
    if isinstance(arm.acts, Stop):
        assert "early_stopping.update(stopping, loss_now, shown, patience=6)" in text
        assert "early_stopping" not in plain
        return
    called = f"{arm.acts.function.__name__}("
    # It is defined once and called at least once.
    assert len(re.findall(rf"\b{re.escape(called)}", text)) >= 2
    assert called not in plain
    if arm.has_strength:
        assert f"{recipe[arm.name]:.7g}" in text


def test_everything_at_once_is_one_program():
    text = program(EVERYTHING)
    assert max(map(len, text.splitlines())) <= 100
    found = imported(ast.parse(text))
    read, bound = names_of(ast.parse(text))
    assert set(found) <= read <= bound | set(found)
    for arm in TABLE_ARMS:
        if arm.name in EVERYTHING and not isinstance(arm.acts, Stop):
            assert f"{arm.acts.function.__name__}(" in text, arm.name
    # Every use draws from a key of its own.
    keys = re.findall(r"keys\[(\d+)\]", text)
    assert sorted(map(int, keys)) == list(range(len(keys)))
    assert f"jax.random.split(key, {len(keys)})" in text


# Without draws, or with those of the model alone, whose key is the key of the step.
EXACT = [
    arm
    for arm in TABLE_ARMS
    if not isinstance(arm.acts, GradientLink | UpdateLink | Wrapper | Stop)
    and not (isinstance(arm.acts, Term) and {"key", "again"} & set(arguments(arm.acts.function)))
    and arm.name not in ("jitter", "mixup", "bottleneck")
]


def test_the_loss_of_a_program_is_the_one_of_the_study():
    """For every arm alone, on the same variables and batch, with flooding that acts."""
    split = blobs(0)
    x, y = split.train_x[:20], split.train_y[:20]
    recipes = {arm.name: recipe_of(arm) for arm in EXACT}
    recipes["flood"] = Recipe({"flood": 5.0})
    made = {name: as_model(KINDS["table"][2](recipe)) for name, recipe in recipes.items()}
    shapes = jax.eval_shape(
        lambda key: {name: model.init(key, x[:1]) for name, model in made.items()}, KEY
    )
    variables = {name: random_like(shape) for name, shape in shapes.items()}

    @jax.jit
    def both(variables, x):
        found = {}
        for name, recipe in recipes.items():
            own = variables[name]
            start = jax.tree.map(lambda w: w / 2, own["params"])
            batch = Batch(x, y, np.float32(0), np.float32(1), 2)
            ours, _ = steps.loss(made[name], CLASSIFICATION, recipe, own, batch, start, KEY)
            given = [start] if name == "distance" else []
            theirs, _ = loaded(program(recipe))["loss"](own["params"], own, x, y, KEY, *given)
            found[name] = ours, theirs
        return found

    found = both(variables, x)
    assert len(found) > 12
    for name, (ours, theirs) in found.items():
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, err_msg=name)
    values = [float(ours) for ours, _ in found.values()]
    assert np.isfinite(values).all()


def test_the_optimizer_of_a_program_is_the_one_of_the_study():
    """Every link and wrapper alone, and all of them; two steps, as a metric needs one."""
    names = [arm.name for arm in acting(GradientLink, UpdateLink, Wrapper)]
    recipes = {name: recipe_of(ARMS[name]) for name in names}
    recipes["all"] = Recipe({name: recipe[name] for name, recipe in recipes.items()})
    params = {"kernel": np.sin(np.arange(12.0, dtype=np.float32)).reshape(3, 4)}

    def gradient(params):
        return jax.tree.map(lambda w: jnp.cos(3 * w), params)

    def train(chain, params):
        state = chain.init(params)
        for _ in range(2):
            given = {"grad_fn": gradient}
            updates, state = chain.update(gradient(params), state, params, **given)
            params = optax.apply_updates(params, updates)
        return params["kernel"]

    @jax.jit
    def both(params):
        found = {}
        for name, recipe in recipes.items():
            theirs = optax.with_extra_args_support(loaded(program(recipe))["make_optimizer"]())
            found[name] = train(optimizer(recipe, 0.01), params), train(theirs, params)
        return found

    found = jax.device_get(both(params))
    for name, (ours, theirs) in found.items():
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, err_msg=name)
    assert len({ours.tobytes() for ours, _ in found.values()}) > len(names) - 2


@pytest.mark.parametrize(
    ("recipe", "kept"),
    [
        ({}, ()),
        ({"l2": 1.0}, ("`make_optimizer`",)),
        ({"label_smoothing": 0.1}, ("`loss`",)),
        ({"jitter": 0.1}, ("`loss`",)),
        ({"flood": 0.1}, ("`loss`",)),
        ({"dropout": 0.1}, ("`drop_units` in the model",)),
        ({"batch_norm": True}, ("`normalize_batch` in the model",)),
        ({"early_stopping": 3.0}, ("the stopping in `main`",)),
        ({"average_steps": 30.0}, ("`make_optimizer`", "the average in `main`")),
        ({"policy": Policy(("jitter",), (0.1,), (0.5,))}, ("`loss`",)),
    ],
)
def test_a_program_says_what_of_it_to_keep(recipe, kept):
    text = ast.get_docstring(ast.parse(program(Recipe(recipe)))).replace("\n", " ")
    _, _, listed = text.partition(" keep ")
    assert tuple(re.split(", | and ", listed.rstrip("."))) == (kept or ("",))
    assert "Runs as it" in text


def test_a_program_reports_on_rows_that_it_did_not_stop_on():
    main = program(SHORT).split("def main():", 1)[1]
    loop, _, end = main.partition("shown = stopping.best_params")
    assert "evaluate(shown, split.validation_x, split.validation_y)" in loop
    assert "test" not in loop
    assert "evaluate(shown, split.test_x, split.test_y)" in end
    assert "epoch" not in end


@pytest.mark.parametrize(
    ("operation", "kind", "scaled"),
    [("cutout", "image", False), ("rotate", "image", True), ("token_dropout", "text", False)],
)
def test_a_policy_knows_the_scale_where_an_operation_asks_for_it(operation, kind, scaled):
    text = program(Recipe({"policy": Policy((operation,), (0.1,), (0.5,))}), kind)
    assert ("x = apply_policy(keys[0], POLICY, x, mean=mean, stddev=stddev)" in text) == scaled
    assert ("mean = split.mean" in text) == scaled
    found = loaded(text)["POLICY"]
    assert found == Policy((operation,), (0.1,), (0.5,))


def test_a_policy_is_as_it_was_and_comes_before_the_arms():
    text = program(Recipe({"policy": POLICY, "mixup": 0.2, "cutout": 0.3}), "image")
    assert loaded(text)["POLICY"] == POLICY
    places = [text.index(word) for word in ("x = apply_policy", "x = erase_boxes", "= mix_rows(k")]
    assert places == sorted(places)


def test_an_average_is_read_where_it_is_kept():
    text = program(Recipe({"average_steps": 30.0, "sam": 0.1, "lookahead": 0.5}))
    read = 'transforms.read_average(state.inner_state[-1], variables["params"])'
    assert f"average = {read}\n" in text
    assert 'shown = {**variables, "params": average}' in text
    assert "updates, state = optimizer.update(grads, state, params, grad_fn=grad_fn)" in text
    assert "grad_fn" not in program(Recipe({"average_steps": 30.0}))


def test_a_program_of_a_regression_has_its_loss_and_metric():
    recipe = Recipe({"mixup": 0.2, "l2": 0.5})
    origin = Origin("from tests.study.rows import numbers", "numbers", 20, 0.01,
                    network=mlp((8,), 1)(recipe))  # fmt: skip
    text = program(recipe, objective=REGRESSION.with_metric("mae"), origin=origin)
    assert "value = squared_error(outputs, labels)" in text
    assert "return value, mae(outputs, labels)" in text
    assert "num_classes=None" in text
    assert "cross_entropy" not in text
    assert "validation mae" in text


def test_a_program_of_the_users_model_imports_it():
    """Its recipe has the layers alone; what the loss and the optimizer do is printed."""
    recipe = Recipe({"dropout": 0.25, "batch_norm": True, "l2": 0.5, "jacobian": 0.1})
    origin = Origin(
        "from my_data import load", "load", 20, 0.01,
        model_import="from my_models import make", model_code="make",
    )  # fmt: skip
    text = program(recipe, origin=origin)
    assert "from my_models import make\n" in text
    assert "from my_data import load\n" in text
    assert "    return load(0)\n" in text
    assert 'RECIPE = Recipe({"batch_norm": True, "dropout": 0.25})' in text
    assert "model = as_model(make(RECIPE))" in text
    assert "outputs, updated = model.train(variables, x, keys[0])" in text
    assert "return model.predict(variables, x)" in text
    assert 'value += sum(jax.tree.leaves(updated.pop("losses", {})))' in text
    assert "variables = model.init(jax.random.key(0), split.train_x[:1])\n" in text
    assert "\nclass " not in text
    assert "decay_weights(0.5, learning_rate=LEARNING_RATE)" in text
    found = imported(ast.parse(text))
    assert set(found) <= names_of(ast.parse(text))[0]


def test_what_came_from_outside_stays_in_its_comment():
    text = program(Recipe(), remarks=["mine\nimport os\x00", "lengthy " * 40])
    assert "\nimport os" not in text
    assert "\n# mine import os\n" in text
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("lengthy") == 40


def test_a_program_loads_its_data_and_evaluates_its_model():
    names = loaded(program(SHORT))
    split = names["load_data"]()
    assert len(split.train_y) == 60
    assert (names["LEARNING_RATE"], names["BATCH_SIZE"], names["EPOCHS"]) == (0.01, 20, 2)
    x, labels = split.train_x, split.train_y
    shapes = jax.eval_shape(lambda key: names["model"].init(key, x[:1], train=False), KEY)
    variables = random_like(shapes)
    logits = np.float64(x)
    for index in range(2):
        layer = variables["params"][f"Dense_{index}"]
        logits = logits @ np.float64(layer["kernel"]) + layer["bias"]
        logits = np.maximum(logits, 0) if index < 1 else logits
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    loss, accuracy = names["evaluate"](variables, x, labels)
    np.testing.assert_allclose(loss, -log_p[np.arange(60), labels].mean(), rtol=1e-5)
    np.testing.assert_allclose(accuracy, (log_p.argmax(axis=1) == labels).mean(), rtol=1e-6)


def test_layers_of_a_recipe_are_called_in_the_network():
    """Each once for a network with one hidden layer."""
    for arm in acting(Layer):
        text = program(recipe_of(arm), kind_of(arm))
        body = text.split("class " + type(KINDS[kind_of(arm)][2](Recipe())).__name__, 1)[1]
        lines = [line for line in body.splitlines() if f"= {arm.acts.function.__name__}(" in line]
        assert lines
        assert "self.layers" not in text
