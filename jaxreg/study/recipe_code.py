"""The chosen recipe as a program that runs as it stands and is short enough to paste."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from textwrap import wrap

from jaxreg.study import models, recipe_data, recipe_loss, recipe_optimizer, summary
from jaxreg.study.data import TASKS
from jaxreg.study.recipe_parts import Parts, kinds, literal
from jaxreg.study.records import Study

# Data of the user's own is not in reach of a program to paste; what stands in has rows of its kind.
_STAND_INS = {"digits": "image", "digit_rows": "series", "text": "text"}
_PURE = (
    "augment", "dropout", "information", "linen", "masks", "noise", "penalties",
    "projections", "proximal", "smoothness", "targets", "transforms",
)  # fmt: skip


def source(study: Study) -> str:
    """Writes the program of the chosen recipe; only what the recipe switches on is in it."""
    arm = summary.chosen_arm(study)
    known = study.data in TASKS
    on = dict(summary.techniques(arm.recipe))
    data = study.data if known else _stand_in(kinds(on, arm.recipe.policy))
    parts = Parts(
        on=on,
        task=TASKS[data],
        data=data,
        train_size=study.sizes[0] if known else TASKS[data].train_size,
        validation_size=study.sizes[1] if known else TASKS[data].train_size,
        epochs=study.epochs,
        policy=arm.recipe.policy,
    )
    blocks = [
        _constants(parts),
        *_layers(parts),
        _model(parts),
        recipe_optimizer.optimizer(parts),
        "model = Model()\noptimizer = make_optimizer()",
        recipe_loss.loss(parts),
        recipe_optimizer.step(parts),
        _evaluate(parts),
        recipe_data.loader(parts),
        _main(parts),
        'if __name__ == "__main__":\n    main()',
    ]
    body = "\n\n\n".join(blocks)
    return "\n\n".join((_head(study, parts), _imports(parts, body), body)) + "\n"


def _stand_in(suited: Sequence[tuple[str, ...]]) -> str:
    return next(data for data, kind in _STAND_INS.items() if all(kind in each for each in suited))


def _head(study: Study, parts: Parts) -> str:
    arm = summary.chosen_arm(study)
    lines = [
        f"Data: {study.data}. Recipe: {summary.recipe_text(arm.recipe)}.",
        f"Test accuracy {summary.percent(summary.mean(arm.test))}%, mean over {study.seeds} seeds.",
    ]
    if arm is not study.arms[0]:
        lines.append(
            f"Difference to the baseline in points, with its 95% interval: "
            f"{summary.interval_points(arm.difference)}."
        )
    if study.data not in TASKS:
        lines.append(f"For the data stand in {parts.data}, for the model a small network.")
    lines.append(f"Made by: {study.command}")
    lines = [part for line in lines for part in wrap(_one_line(line), 96)]
    doc = "\n".join(wrap(_use(parts), 96))
    return (
        f'"""The regularization recipe that a study chose on validation, ready to paste.\n\n{doc}\n'
        '"""\n\n'
    ) + "\n".join(f"# {line}" for line in lines)


def _use(parts: Parts) -> str:
    """Says what of the program carries the recipe to another model and other data."""
    on = parts.on
    kept = ["`make_optimizer`"] * bool(parts.links or parts.wrappers)
    kept += ["`POLICY`"] * bool(parts.policy)
    kept += ["`loss`"] * bool(
        on.keys() & {"label_smoothing", "flood"}
        or parts.inputs
        or parts.policy
        or parts.terms
        or parts.modes
    )
    kept += ["`step`"] * bool(parts.modes or parts.arguments or parts.perturbed)
    kept += ["`evaluate`"] * parts.modes
    kept += ["the dropout of `Model`"] * ("dropout" in on)
    kept += ["the batch normalization of `Model`"] * ("batch_norm" in on)
    kept += ["the penalties in `Model`"] * parts.sown
    kept += ["the average in `main`"] * parts.averaging
    kept += ["the stopping in `main`"] * ("early_stopping" in on)
    if not kept:
        return "Runs as it stands; no regularization is on."
    *others, last = kept
    listed = f"{', '.join(others)} and {last}" if others else last
    return f"Runs as it stands; for another model and other data keep {listed}."


def _one_line(text: str) -> str:
    """Makes text from outside safe to stand in a comment."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _imports(parts: Parts, body: str) -> str:
    """Imports what the program uses."""
    ours = [name for name in _PURE if re.search(rf"\b{name}\.", body)]
    lines = ["from functools import partial"] * ("partial(" in body)
    lines += ["from typing import Any"] * ("Any" in body)
    lines += [""] * bool(lines) + ["import jax", "import jax.numpy as jnp"]
    lines += ["import numpy as np"] * (parts.data == "circles")
    lines += ["import optax", "from flax import linen as nn"]
    generated = parts.data in ("circles", "text")
    lines += [f"from sklearn.datasets import load_{parts.source}"] * (not generated)
    lines += ["from sklearn.model_selection import train_test_split"] * (parts.data != "circles")
    lines += ["from sklearn.preprocessing import StandardScaler"] * (not generated)
    names = ", ".join(ours)
    # The line would be longer than most formatters have it.
    names = names if len(names) <= 80 else "(\n    " + ",\n    ".join(ours) + ",\n)"
    added = [f"from jaxreg import {names}"] * bool(ours)
    added += ["from jaxreg.augment import series"] * ("series." in body)
    added += ["from jaxreg.study import Policy, apply_policy"] * bool(parts.policy)
    added += ["from jaxreg.study.sentences import sentences"] * (parts.data == "text")
    added += ["from jaxreg.training import early_stopping"] * ("early_stopping" in parts.on)
    return "\n".join(lines + [""] * bool(added) + added)


def _constants(parts: Parts) -> str:
    batch = min(parts.task.batch_size, parts.train_size)
    return (
        f"LEARNING_RATE = {parts.task.learning_rate:g}\n"
        f"BATCH_SIZE = {batch}\n"
        f"EPOCHS = {parts.epochs}" + _policy(parts)
    )


def _policy(parts: Parts) -> str:
    """Writes the operations, each on a line."""
    if parts.policy is None:
        return ""
    names, magnitudes, probabilities = (
        "".join(f"        {value},\n" for value in column)
        for column in (
            map(repr, parts.policy.names),
            map(literal, parts.policy.magnitudes),
            map(literal, parts.policy.probabilities),
        )
    )
    return (
        f"\nPOLICY = Policy(\n    names=(\n{names}    ),\n    magnitudes=(\n{magnitudes}    ),\n"
        f"    probabilities=(\n{probabilities}    ),\n)"
    )


def _layers(parts: Parts) -> list[str]:
    """Layers of the study's model that are in no framework, as they stand there."""
    used = {"l0": models.Gates, "bottleneck": models.Bottleneck}
    return [inspect.getsource(layer).rstrip() for name, layer in used.items() if name in parts.on]


def _model(parts: Parts) -> str:
    on = {name: literal(value) for name, value in parts.on.items() if value is not None}
    layers = ["x = nn.Dense(width)(x)"]
    if "batch_norm" in parts.on:
        layers.append("x = linen.BatchNorm(use_running_average=not train)(x)")
    layers.append("x = nn.relu(x)")
    if "l0" in on:
        layers.append(f"x = Gates({on['l0']})(x, train=train)")
    if "activity_l1" in on:
        penalty = "penalties.per_example(penalties.l1)"
        layers.append(f"x = linen.ActivityPenalty({penalty}, {on['activity_l1']})(x)")
    if "decorrelation" in on:
        weight = on["decorrelation"]
        layers.append(f"x = linen.ActivityPenalty(penalties.decorrelation, {weight})(x)")
    if "dropout" in on:
        layers.append(f"x = linen.Dropout({on['dropout']}, deterministic=not train)(x)")
    last = ""
    if "bottleneck" in on:
        code = f"Bottleneck(self.hidden[-1], {on['bottleneck']})(x, train=train)"
        last = f"        x = {code}\n"
    # A model without noise and statistics is the same in training and in evaluation.
    signature = "self, x, *, train" if parts.modes else "self, x"
    flat = "        x = x.reshape(len(x), -1)\n" * parts.shaped
    if parts.task.vocabulary:
        flat = f"        x = nn.Embed({parts.task.vocabulary}, {models.EMBEDDING})(x)\n{flat}"
    body = "\n            ".join(layers)
    return f"""class Model(nn.Module):
    hidden: tuple[int, ...] = {parts.task.hidden}
    num_classes: int = {parts.task.num_classes}

    @nn.compact
    def __call__({signature}):
{flat}        for width in self.hidden:
            {body}
{last}        return nn.Dense(self.num_classes)(x)"""


def _evaluate(parts: Parts) -> str:
    mode = ", train=False" if parts.modes else ""
    return f"""@jax.jit
def evaluate(variables, x, labels):
    logits = model.apply(variables, x{mode})
    value = {recipe_loss.CROSS_ENTROPY}
    return value, jnp.mean(logits.argmax(axis=-1) == labels)"""


def _main(parts: Parts) -> str:
    stopping = "early_stopping" in parts.on
    mode = ", train=False" if parts.modes else ""
    given = parts.arguments.replace("key", "noise_key")
    lines = [
        f"{recipe_data.names(parts)} = load_data()",
        f"variables = model.init(jax.random.key(0), x[:1]{mode})",
        'state = optimizer.init(variables["params"])',
        *(["stopping = early_stopping.init(variables)"] * stopping),
        *(['start = variables["params"]'] * ("start" in given)),
        "key = jax.random.key(1)",
        "steps = len(x) // BATCH_SIZE",
        "for epoch in range(1, EPOCHS + 1):",
        "    key, order_key = jax.random.split(key)",
        "    order = jax.random.permutation(order_key, len(x))[: steps * BATCH_SIZE]",
        "    for rows in order.reshape(steps, BATCH_SIZE):",
        *(["        key, noise_key = jax.random.split(key)"] * ("key" in given)),
        "        variables, state, value = step(",
        f"            variables, state, x[rows], labels[rows]{given}",
        "        )",
        *_watch_lines(parts),
        *(_stopping_lines(parts) if stopping else []),
    ]
    return "def main():\n    " + "\n    ".join(lines)


def _watch_lines(parts: Parts) -> list[str]:
    rows = parts.watched
    # The accuracy on the rows that the program stops on would flatter it.
    stops = "early_stopping" in parts.on
    value, shown = ("_", "") if stops else ("accuracy", ", test accuracy {accuracy:.4f}")
    return [
        *(recipe_optimizer.average(parts) if parts.averaging else []),
        f"    {rows}_loss, {value} = evaluate({_evaluated(parts)}, {rows}_x, {rows}_labels)",
        "    if epoch % 10 == 0 or epoch == EPOCHS:",
        '        text = f"epoch {epoch}: loss {value:.4f}"',
        f'        print(f"{{text}}, {rows} loss {{{rows}_loss:.4f}}{shown}")',
    ]


def _evaluated(parts: Parts) -> str:
    return "average" if parts.averaging else "variables"


def _stopping_lines(parts: Parts) -> list[str]:
    patience = literal(parts.on["early_stopping"])
    return [
        "    stopping = early_stopping.update("
        f"stopping, validation_loss, {_evaluated(parts)}, patience={patience})",
        "    if stopping.should_stop:",
        "        break",
        "variables = stopping.best_params",
        "test_loss, accuracy = evaluate(variables, test_x, test_labels)",
        'text = f"best validation loss {stopping.best_metric:.4f}"',
        'print(f"{text}, test loss {test_loss:.4f}, test accuracy {accuracy:.4f}")',
    ]
