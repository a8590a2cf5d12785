"""Generates a short, complete training program for the chosen recipe (``recipe.py``)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap

from jaxreg.study import models, recipe_data, recipe_loss, recipe_optimizer, summary
from jaxreg.study.data import TASKS
from jaxreg.study.recipe_parts import Parts, kinds, literal
from jaxreg.study.records import Study

# The program cannot load the user's own data, so it loads a data set with the same kind of rows.
_STAND_INS = {"digits": "image", "digit_rows": "series", "text": "text"}
_MODULES = (
    "augment",
    "dropout",
    "information",
    "linen",
    "masks",
    "noise",
    "penalties",
    "projections",
    "proximal",
    "smoothness",
    "targets",
    "transforms",
)


def source(study: Study) -> str:
    """Returns the source of a program that trains with the chosen recipe."""
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
    """Returns the name of a built-in data set whose kind of rows suits all techniques."""
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
        lines.append(f"Replace the data, here {parts.data}, and the small network by your own.")
    lines.append(f"Made by: {study.command}")
    comments = "\n".join(f"# {part}" for line in lines for part in wrap(_one_line(line), 96))
    doc = "\n".join(wrap(_use(parts), 96))
    title = "The regularization recipe that a study chose on validation, ready to paste."
    return f'"""{title}\n\n{doc}\n"""\n\n{comments}'


def _use(parts: Parts) -> str:
    """Returns a sentence that lists the parts to keep for another model and other data."""
    parts_to_keep = [*_functions_to_keep(parts), *_pieces_to_keep(parts)]
    if not parts_to_keep:
        return "Runs as it is; no regularization is on."
    *others, last = parts_to_keep
    listed = f"{', '.join(others)} and {last}" if others else last
    return f"Runs as it is; for another model and other data keep {listed}."


def _functions_to_keep(parts: Parts) -> Iterator[str]:
    """Yields the names of the functions and constants that implement the recipe."""
    if parts.links or parts.wrappers:
        yield "`make_optimizer`"
    if parts.policy:
        yield "`POLICY`"
    changes_loss = parts.on.keys() & {"label_smoothing", "flood"} or parts.terms
    if changes_loss or parts.inputs or parts.policy or parts.has_modes:
        yield "`loss`"
    if parts.has_modes or parts.arguments or parts.needs_grad_fn:
        yield "`step`"
    if parts.has_modes:
        yield "`evaluate`"


def _pieces_to_keep(parts: Parts) -> Iterator[str]:
    """Yields descriptions of the parts of ``Model`` and ``main`` that implement the recipe."""
    if "dropout" in parts.on:
        yield "the dropout of `Model`"
    if "batch_norm" in parts.on:
        yield "the batch normalization of `Model`"
    if parts.sows:
        yield "the penalties in `Model`"
    if parts.averages:
        yield "the average in `main`"
    if "early_stopping" in parts.on:
        yield "the stopping in `main`"


def _one_line(text: str) -> str:
    """Replaces unprintable characters, such as newlines, by spaces, for use in a comment."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _imports(parts: Parts, body: str) -> str:
    """Returns the import statements that the program needs."""
    blocks = (_standard_imports(body), _package_imports(parts), _jaxreg_imports(parts, body))
    return "\n\n".join("\n".join(block) for block in map(list, blocks) if block)


def _standard_imports(body: str) -> Iterator[str]:
    if "partial(" in body:
        yield "from functools import partial"
    if "Any" in body:
        yield "from typing import Any"


def _package_imports(parts: Parts) -> Iterator[str]:
    yield "import jax"
    yield "import jax.numpy as jnp"
    if parts.data == "circles":
        yield "import numpy as np"
    yield "import optax"
    yield "from flax import linen as nn"
    from_sklearn = parts.data not in ("circles", "text")
    if from_sklearn:
        yield f"from sklearn.datasets import load_{parts.source}"
    if parts.data != "circles":
        yield "from sklearn.model_selection import train_test_split"
    if from_sklearn:
        yield "from sklearn.preprocessing import StandardScaler"


def _jaxreg_imports(parts: Parts, body: str) -> Iterator[str]:
    ours = [name for name in _MODULES if re.search(rf"\b{name}\.", body)]
    names = ", ".join(ours)
    # Formatters break longer lines.
    if len(names) > 80:
        names = "(\n    " + ",\n    ".join(ours) + ",\n)"
    if ours:
        yield f"from jaxreg import {names}"
    if "series." in body:
        yield "from jaxreg.augment import series"
    if parts.policy:
        yield "from jaxreg.study import Policy, apply_policy"
    if parts.data == "text":
        yield "from jaxreg.study.sentences import sentences"
    if "early_stopping" in parts.on:
        yield "from jaxreg.training import early_stopping"


def _constants(parts: Parts) -> str:
    batch = min(parts.task.batch_size, parts.train_size)
    return (
        f"LEARNING_RATE = {parts.task.learning_rate:g}\n"
        f"BATCH_SIZE = {batch}\n"
        f"EPOCHS = {parts.epochs}" + _policy(parts)
    )


def _policy(parts: Parts) -> str:
    """Returns the source of the constant ``POLICY``, or an empty text without a policy."""
    policy = parts.policy
    if policy is None:
        return ""
    lines = [
        "",
        "POLICY = Policy(",
        *_tuple_lines("names", map(repr, policy.names)),
        *_tuple_lines("magnitudes", map(literal, policy.magnitudes)),
        *_tuple_lines("probabilities", map(literal, policy.probabilities)),
        ")",
    ]
    return "\n".join(lines)


def _tuple_lines(name: str, values: Iterable[str]) -> list[str]:
    return [f"    {name}=(", *(f"        {value}," for value in values), "    ),"]


def _layers(parts: Parts) -> list[str]:
    """Returns the source of the layers ``Gates`` and ``Bottleneck`` if the recipe uses them."""
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
    signature = "self, x, *, train" if parts.has_modes else "self, x"
    flat = "        x = x.reshape(len(x), -1)\n" if parts.needs_shape else ""
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
    mode = ", train=False" if parts.has_modes else ""
    return f"""@jax.jit
def evaluate(variables, x, labels):
    logits = model.apply(variables, x{mode})
    value = {recipe_loss.CROSS_ENTROPY}
    return value, jnp.mean(logits.argmax(axis=-1) == labels)"""


def _main(parts: Parts) -> str:
    mode = ", train=False" if parts.has_modes else ""
    arguments = parts.arguments.replace("key", "noise_key")
    lines = [
        f"{recipe_data.names(parts)} = load_data()",
        f"variables = model.init(jax.random.key(0), x[:1]{mode})",
        'state = optimizer.init(variables["params"])',
    ]
    if "early_stopping" in parts.on:
        lines.append("stopping = early_stopping.init(variables)")
    if "start" in arguments:
        lines.append('start = variables["params"]')
    lines += [
        "key = jax.random.key(1)",
        "steps = len(x) // BATCH_SIZE",
        "for epoch in range(1, EPOCHS + 1):",
        "    key, order_key = jax.random.split(key)",
        "    order = jax.random.permutation(order_key, len(x))[: steps * BATCH_SIZE]",
        "    for rows in order.reshape(steps, BATCH_SIZE):",
    ]
    if "key" in arguments:
        lines.append("        key, noise_key = jax.random.split(key)")
    lines += [
        "        variables, state, value = step(",
        f"            variables, state, x[rows], labels[rows]{arguments}",
        "        )",
    ]
    if parts.averages:
        lines += recipe_optimizer.average(parts)
    lines += _evaluation_lines(parts)
    if "early_stopping" in parts.on:
        lines += _stopping_lines(parts)
    return "def main():\n    " + "\n    ".join(lines)


def _evaluation_lines(parts: Parts) -> list[str]:
    rows = parts.held_out
    value = "accuracy"
    text = ", test accuracy {accuracy:.4f}"
    # The accuracy on the rows that decide when to stop would be too optimistic.
    if "early_stopping" in parts.on:
        value = "_"
        text = ""
    variables = _variables_to_evaluate(parts)
    return [
        f"    {rows}_loss, {value} = evaluate({variables}, {rows}_x, {rows}_labels)",
        "    if epoch % 10 == 0 or epoch == EPOCHS:",
        '        text = f"epoch {epoch}: loss {value:.4f}"',
        f'        print(f"{{text}}, {rows} loss {{{rows}_loss:.4f}}{text}")',
    ]


def _variables_to_evaluate(parts: Parts) -> str:
    return "average" if parts.averages else "variables"


def _stopping_lines(parts: Parts) -> list[str]:
    patience = literal(parts.on["early_stopping"])
    return [
        "    stopping = early_stopping.update("
        f"stopping, validation_loss, {_variables_to_evaluate(parts)}, patience={patience})",
        "    if stopping.should_stop:",
        "        break",
        "variables = stopping.best_params",
        "test_loss, accuracy = evaluate(variables, test_x, test_labels)",
        'text = f"best validation loss {stopping.best_metric:.4f}"',
        'print(f"{text}, test loss {test_loss:.4f}, test accuracy {accuracy:.4f}")',
    ]
