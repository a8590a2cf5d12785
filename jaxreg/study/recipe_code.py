"""The chosen recipe as a program that runs as it stands and is short enough to paste."""

from __future__ import annotations

from textwrap import wrap
from typing import NamedTuple

from jaxreg.study import summary
from jaxreg.study.data import TASKS, Task
from jaxreg.study.records import Study

# Data of the user's own is not in reach of a program to paste.
_STAND_IN = "digits"


class _Parts(NamedTuple):
    """What the program consists of, which follows from the recipe and the data."""

    on: dict[str, float | None]
    task: Task
    data: str
    train_size: int
    validation_size: int
    epochs: int

    @property
    def watched(self) -> str:
        """The rows that the loop evaluates on: those it stops on must not be the test rows."""
        return "validation" if "early_stopping" in self.on else "test"


def source(study: Study) -> str:
    """Writes the program of the chosen recipe; only what the recipe switches on is in it."""
    arm = summary.chosen_arm(study)
    known = study.data in TASKS
    data = study.data if known else _STAND_IN
    parts = _Parts(
        on=dict(summary.techniques(arm.recipe)),
        task=TASKS[data],
        data=data,
        train_size=study.sizes[0] if known else TASKS[data].train_size,
        validation_size=study.sizes[1] if known else TASKS[data].train_size,
        epochs=study.epochs,
    )
    blocks = (
        _head(study, parts),
        _imports(parts),
        _constants(parts),
        _model(parts),
        _optimizer(parts),
        "model = Model()\noptimizer = make_optimizer()",
        _loss(parts),
        _step(parts),
        _evaluate(parts),
        _loader(parts),
        _main(parts),
        'if __name__ == "__main__":\n    main()',
    )
    text = "\n\n\n".join(blocks[2:])
    return "\n\n".join((*blocks[:2], text)) + "\n"


def _head(study: Study, parts: _Parts) -> str:
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
        lines.append(f"The {_STAND_IN} stand in for the data, a small network for the model.")
    lines.append(f"Made by: {study.command}")
    lines = [part for line in lines for part in wrap(_one_line(line), 96)]
    doc = "\n".join(wrap(_use(parts), 96))
    return (
        f'"""The regularization recipe that a study chose on validation, ready to paste.\n\n{doc}\n'
        '"""\n\n'
    ) + "\n".join(f"# {line}" for line in lines)


def _use(parts: _Parts) -> str:
    """Says what of the program carries the recipe to another model and other data."""
    on = parts.on
    kept = ["`make_optimizer`"] * bool(on.keys() & {"l1", "l2", "max_norm"})
    kept += ["`loss`"] * ("label_smoothing" in on or _has_modes(parts))
    kept += ["`step`", "`evaluate`"] * _has_modes(parts)
    kept += ["the dropout of `Model`"] * ("dropout" in on)
    kept += ["the batch normalization of `Model`"] * ("batch_norm" in on)
    kept += ["the stopping in `main`"] * ("early_stopping" in on)
    if not kept:
        return "Runs as it stands; no regularization is on."
    *others, last = kept
    listed = f"{', '.join(others)} and {last}" if others else last
    return f"Runs as it stands; for another model and other data keep {listed}."


def _one_line(text: str) -> str:
    """Makes text from outside safe to stand in a comment."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _imports(parts: _Parts) -> str:
    on = parts.on
    pure = {
        "linen": on.keys() & {"dropout", "batch_norm"},
        "masks": on.keys() & {"l1", "max_norm"},
        "projections": "max_norm" in on,
        "proximal": "l1" in on,
        "targets": "label_smoothing" in on,
        "transforms": on.keys() & {"l1", "l2", "max_norm"},
    }
    lines = ["from functools import partial\n"] if "max_norm" in on else []
    lines += ["import jax", "import jax.numpy as jnp"]
    lines += ["import numpy as np"] if parts.data == "circles" else []
    lines += ["import optax", "from flax import linen as nn"]
    if parts.data != "circles":
        lines += [
            f"from sklearn.datasets import load_{parts.data}",
            "from sklearn.model_selection import train_test_split",
            "from sklearn.preprocessing import StandardScaler",
        ]
    names = ", ".join(name for name, used in pure.items() if used)
    ours = [f"from jaxreg import {names}"] if names else []
    ours += ["from jaxreg.training import early_stopping"] * ("early_stopping" in on)
    return "\n".join(lines + [""] * bool(ours) + ours)


def _constants(parts: _Parts) -> str:
    batch = min(parts.task.batch_size, parts.train_size)
    return (
        f"LEARNING_RATE = {parts.task.learning_rate:g}\n"
        f"BATCH_SIZE = {batch}\n"
        f"EPOCHS = {parts.epochs}"
    )


def _model(parts: _Parts) -> str:
    layers = ["x = nn.Dense(width)(x)"]
    if "batch_norm" in parts.on:
        layers.append("x = linen.BatchNorm(use_running_average=not train)(x)")
    layers.append("x = nn.relu(x)")
    if "dropout" in parts.on:
        rate = _literal(parts.on["dropout"])
        layers.append(f"x = linen.Dropout({rate}, deterministic=not train)(x)")
    # A model without noise and statistics is the same in training and in evaluation.
    signature = "self, x, *, train" if _has_modes(parts) else "self, x"
    body = "\n            ".join(layers)
    return f"""class Model(nn.Module):
    hidden: tuple[int, ...] = {parts.task.hidden}
    num_classes: int = {parts.task.num_classes}

    @nn.compact
    def __call__({signature}):
        for width in self.hidden:
            {body}
        return nn.Dense(self.num_classes)(x)"""


def _optimizer(parts: _Parts) -> str:
    on = parts.on
    links = ["optax.adam(LEARNING_RATE)"]
    lines = []
    if "l2" in on:
        links.append(
            f"transforms.decoupled_decay({_literal(on['l2'])}, learning_rate=LEARNING_RATE)"
        )
    if "l1" in on:
        weight = _literal(on["l1"])
        lines.append(f"shrink = transforms.proximal(proximal.l1, {weight}, LEARNING_RATE)")
        links.append("optax.masked(shrink, masks.kernels)")
    if "max_norm" in on:
        radius = _literal(on["max_norm"])
        lines.append(f"max_norm = partial(projections.max_norm, radius={radius})")
        links.append("optax.masked(transforms.project(max_norm), masks.kernels)")
    if len(links) == 1:
        lines.append(f"return {links[0]}")
    else:
        chain = "".join(f"\n        {link}," for link in links)
        lines.append(f"return optax.chain({chain}\n    )")
    return "def make_optimizer():\n    " + "\n    ".join(lines)


_CROSS_ENTROPY = "optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()"


def _loss(parts: _Parts) -> str:
    value = _CROSS_ENTROPY
    if "label_smoothing" in parts.on:
        alpha = _literal(parts.on["label_smoothing"])
        value = f"targets.smoothed_cross_entropy(logits, labels, alpha={alpha})"
    noise = ', rngs={"dropout": key}' if "dropout" in parts.on else ""
    key = ", key" if noise else ""
    if "batch_norm" in parts.on:
        call = f'model.apply(variables, x, train=True{noise}, mutable=["batch_stats"])'
        if noise:
            call = call.replace("(", "(\n        ", 1)[:-1] + "\n    )"
        return (
            f"def loss(params, variables, x, labels{key}):\n"
            '    variables = {**variables, "params": params}\n'
            f"    logits, statistics = {call}\n"
            f"    return {value}, statistics"
        )
    train = ", train=True" if noise else ""
    return (
        f"def loss(params, x, labels{key}):\n"
        f'    logits = model.apply({{"params": params}}, x{train}{noise})\n'
        f"    return {value}"
    )


def _step(parts: _Parts) -> str:
    key = ", key" if "dropout" in parts.on else ""
    if "batch_norm" in parts.on:
        return f"""@jax.jit
def step(variables, state, x, labels{key}):
    params = variables["params"]
    gradient = jax.value_and_grad(loss, has_aux=True)
    (value, statistics), grads = gradient(params, variables, x, labels{key})
    updates, state = optimizer.update(grads, state, params)
    return {{"params": optax.apply_updates(params, updates), **statistics}}, state, value"""
    return f"""@jax.jit
def step(variables, state, x, labels{key}):
    params = variables["params"]
    value, grads = jax.value_and_grad(loss)(params, x, labels{key})
    updates, state = optimizer.update(grads, state, params)
    return {{"params": optax.apply_updates(params, updates)}}, state, value"""


def _evaluate(parts: _Parts) -> str:
    mode = ", train=False" if _has_modes(parts) else ""
    return f"""@jax.jit
def evaluate(variables, x, labels):
    logits = model.apply(variables, x{mode})
    value = {_CROSS_ENTROPY}
    return value, jnp.mean(logits.argmax(axis=-1) == labels)"""


def _loader(parts: _Parts) -> str:
    """Writes the loader of data that looks like the study's."""
    stops = "early_stopping" in parts.on
    said = "Training, validation and test rows" if stops else "Training and test rows"
    lines = _circles_lines(parts) if parts.data == "circles" else _sklearn_lines(parts)
    return "\n    ".join(
        ("def load_data():", f'"""{said}; put your own data here."""', *lines),
    )


def _circles_lines(parts: _Parts) -> list[str]:
    ends = [("", f":{parts.train_size}"), ("test_", "1000:")]
    if "early_stopping" in parts.on:
        ends[1:] = [("validation_", "1000:2000"), ("test_", "2000:")]
    sets = [f"x[{rows}], labels[{rows}]" for _, rows in ends]
    return [
        f"x = np.random.RandomState(42).rand({1000 * len(ends)}, 2) * 4 - 2",
        "labels = jnp.asarray((np.square(x).sum(axis=1) > 5).astype(np.int32))",
        "x = jnp.asarray(x, jnp.float32)",
        f"return {', '.join(sets)}",
    ]


def _sklearn_lines(parts: _Parts) -> list[str]:
    split = [
        f"x, labels = load_{parts.data}(return_X_y=True)",
        "x, test_x, labels, test_labels = train_test_split(",
        f"    x, labels, train_size={parts.train_size}, stratify=labels, random_state=0",
        ")",
    ]
    scale = "jnp.asarray(scaler.transform(rows), jnp.float32)"
    if "early_stopping" not in parts.on:
        return [
            *split,
            "scaler = StandardScaler().fit(x)",
            f"x, test_x = ({scale} for rows in (x, test_x))",
            "return x, jnp.asarray(labels), test_x, jnp.asarray(test_labels)",
        ]
    size = parts.validation_size
    return [
        *split,
        "validation_x, test_x, validation_labels, test_labels = train_test_split(",
        f"    test_x, test_labels, train_size={size}, stratify=test_labels, random_state=0",
        ")",
        "scaler = StandardScaler().fit(x)",
        "x, validation_x, test_x = (",
        f"    {scale} for rows in (x, validation_x, test_x)",
        ")",
        "labels, validation_labels, test_labels = (",
        "    jnp.asarray(column) for column in (labels, validation_labels, test_labels)",
        ")",
        "return x, labels, validation_x, validation_labels, test_x, test_labels",
    ]


def _main(parts: _Parts) -> str:
    dropout, stopping = "dropout" in parts.on, "early_stopping" in parts.on
    mode = ", train=False" if _has_modes(parts) else ""
    noise = ", noise_key" if dropout else ""
    lines = [
        *_load_lines(parts),
        f"variables = model.init(jax.random.key(0), x[:1]{mode})",
        'state = optimizer.init(variables["params"])',
        *(["stopping = early_stopping.init(variables)"] * stopping),
        "key = jax.random.key(1)",
        "steps = len(x) // BATCH_SIZE",
        "for epoch in range(1, EPOCHS + 1):",
        "    key, order_key = jax.random.split(key)",
        "    order = jax.random.permutation(order_key, len(x))[: steps * BATCH_SIZE]",
        "    for rows in order.reshape(steps, BATCH_SIZE):",
        *(["        key, noise_key = jax.random.split(key)"] * dropout),
        f"        variables, state, value = step(variables, state, x[rows], labels[rows]{noise})",
        *_watch_lines(parts),
        *(_stopping_lines(parts) if stopping else []),
    ]
    return "def main():\n    " + "\n    ".join(lines)


def _load_lines(parts: _Parts) -> list[str]:
    if "early_stopping" not in parts.on:
        return ["x, labels, test_x, test_labels = load_data()"]
    return ["x, labels, validation_x, validation_labels, test_x, test_labels = load_data()"]


def _watch_lines(parts: _Parts) -> list[str]:
    rows = parts.watched
    # The accuracy on the rows that the program stops on would flatter it.
    stops = "early_stopping" in parts.on
    value, shown = ("_", "") if stops else ("accuracy", ", test accuracy {accuracy:.4f}")
    return [
        f"    {rows}_loss, {value} = evaluate(variables, {rows}_x, {rows}_labels)",
        "    if epoch % 10 == 0 or epoch == EPOCHS:",
        '        text = f"epoch {epoch}: loss {value:.4f}"',
        f'        print(f"{{text}}, {rows} loss {{{rows}_loss:.4f}}{shown}")',
    ]


def _stopping_lines(parts: _Parts) -> list[str]:
    patience = _literal(parts.on["early_stopping"])
    return [
        "    stopping = early_stopping.update("
        f"stopping, validation_loss, variables, patience={patience})",
        "    if stopping.should_stop:",
        "        break",
        "variables = stopping.best_params",
        "test_loss, accuracy = evaluate(variables, test_x, test_labels)",
        'text = f"best validation loss {stopping.best_metric:.4f}"',
        'print(f"{text}, test loss {test_loss:.4f}, test accuracy {accuracy:.4f}")',
    ]


def _has_modes(parts: _Parts) -> bool:
    return bool(parts.on.keys() & {"dropout", "batch_norm"})


def _literal(value: float | None) -> str:
    """Writes a strength with four digits, which no training run can tell from all of them."""
    return f"{value:.4g}"
