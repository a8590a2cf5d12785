"""Writes the training program of a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import indent, wrap
from typing import Any, NamedTuple

from jaxreg.study.arms import acting
from jaxreg.study.arms.row import (
    A,
    Arm,
    BatchChange,
    Criterion,
    GradientLink,
    Layer,
    LossChange,
    Term,
    UpdateLink,
    Wrapper,
    arguments,
)
from jaxreg.study.objectives import Objective
from jaxreg.study.operations import OPERATIONS
from jaxreg.study.optimizers import average_path, needs_gradients
from jaxreg.study.program.networks import literal, network
from jaxreg.study.program.origin import Origin
from jaxreg.study.program.sources import Sources
from jaxreg.study.recipes import Policy, Recipe

# Names that the program itself uses, besides the names in the functions that it contains.
_IMPORTS = """
import jax
import jax.numpy as jnp
import optax
from jaxreg import transforms
from jaxreg.study import Policy, Recipe, apply_policy
from jaxreg.study.models import as_model
from jaxreg.training import early_stopping
"""


class _Parts(NamedTuple):
    """Contents of a program."""

    recipe: Recipe
    origin: Origin
    objective: Objective
    epochs: int
    num_classes: int | None

    def on(self, *kinds: type[A]) -> list[Arm[A]]:
        """Returns the arms of the recipe that act in one of the given ways."""
        task = self.objective.task
        return [a for a in acting(*kinds) if a.name in self.recipe and task in a.tasks]

    @property
    def is_network(self) -> bool:
        """Returns whether the program contains a built-in network."""
        return self.origin.network is not None

    @property
    def extras(self) -> list[str]:
        """Names of further arguments of ``loss``: initial parameters, mean, standard deviation."""
        functions = [arm.acts.function for arm in self.on(Term, BatchChange)]
        if self.recipe.policy:
            functions += [OPERATIONS[name].acts.function for name in self.recipe.policy.names]
        asked = {name for function in functions for name in arguments(function)}
        return [name for name in ("start", "mean", "stddev") if name in asked]

    def function(self, arm: Arm[Any], *given: str, **named: str) -> str:
        """Returns the code that calls an arm's function with ``given`` and then its strength."""
        function = arm.acts.function
        values = list(given)
        if "strength" in arguments(function):
            values.append(literal(self.recipe[arm.name]))
        values += [
            f"{name}={value}" for name, value in named.items() if name in arguments(function)
        ]
        return f"{function.__name__}({', '.join(values)})"


def source(
    recipe: Recipe,
    origin: Origin,
    objective: Objective,
    *,
    epochs: int,
    num_classes: int | None,
    remarks: Sequence[str],
) -> str:
    """Returns the source of a program that trains with a recipe.

    Args:
      recipe: The recipe; its strengths are Python numbers.
      origin: Code that loads the data and makes the model.
      objective: The task and its metrics.
      epochs: Number of epochs.
      num_classes: Number of classes; None for a regression.
      remarks: Sentences for the comment at its top.
    """
    parts = _Parts(recipe, origin, objective, epochs, num_classes)
    sources = Sources("\n".join((_IMPORTS, origin.data_import, origin.model_import)))
    places = (GradientLink, UpdateLink, Wrapper, BatchChange, Criterion, Term, LossChange)
    for arm in parts.on(*places, *((Layer,) if parts.is_network else ())):
        sources.add(arm.acts.function)
    if parts.is_network:
        sources.add(type(origin.network), network(origin.network, recipe))
    sources.add(objective.loss)
    sources.add(objective.metric.score)
    blocks = [
        _constants(parts),
        *sources.texts.values(),
        _optimizer(parts),
        _objects(parts),
        _loss(parts),
        _step(parts),
        _evaluate(parts),
        _loader(parts),
        _main(parts),
        'if __name__ == "__main__":\n    main()',
    ]
    body = "\n\n\n".join(blocks)
    head = "The regularization recipe that a study chose on validation, ready to paste."
    use = "\n".join(wrap(_use(parts), 96))
    comment = "\n".join(f"# {line}" for remark in remarks for line in wrap(_one_line(remark), 96))
    doc = f'"""{head}\n\n{use}\n"""'
    return "\n\n".join((doc, comment, sources.imports_for(body), body)) + "\n"


def _use(parts: _Parts) -> str:
    """Returns a sentence that lists the parts to keep for another model and other data."""
    keep = []
    if parts.on(GradientLink, UpdateLink, Wrapper):
        keep.append("`make_optimizer`")
    if parts.on(BatchChange, Criterion, Term, LossChange) or parts.recipe.policy:
        keep.append("`loss`")
    if parts.is_network:
        keep += [f"`{arm.acts.function.__name__}` in the model" for arm in parts.on(Layer)]
    if "early_stopping" in parts.recipe:
        keep.append("the stopping in `main`")
    if average_path(parts.recipe) is not None:
        keep.append("the average in `main`")
    if not keep:
        return "Runs as it is."
    *others, last = keep
    listed = f"{', '.join(others)} and {last}" if others else last
    return f"Runs as it is; for another model and other data keep {listed}."


def _one_line(text: str) -> str:
    """Replaces unprintable characters, such as newlines, with spaces, for use in a comment."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _constants(parts: _Parts) -> str:
    lines = [
        f"LEARNING_RATE = {parts.origin.learning_rate:g}",
        f"BATCH_SIZE = {parts.origin.batch_size}",
        f"EPOCHS = {parts.epochs}",
    ]
    if parts.recipe.policy:
        lines += _policy(parts.recipe.policy)
    if not parts.is_network:
        strengths = ", ".join(
            f'"{arm.name}": {literal(parts.recipe[arm.name])}' for arm in parts.on(Layer)
        )
        lines.append(f"RECIPE = Recipe({{{strengths}}})")
    return "\n".join(lines)


def _policy(policy: Policy) -> Iterator[str]:
    yield "POLICY = Policy("
    yield from _tuple("names", [f'"{name}"' for name in policy.names])
    yield from _tuple("magnitudes", map(literal, policy.magnitudes))
    yield from _tuple("probabilities", map(literal, policy.probabilities))
    yield ")"


def _tuple(name: str, values: Any) -> Iterator[str]:
    yield f"    {name}=("
    for value in values:
        yield f"        {value},"
    yield "    ),"


def _objects(parts: _Parts) -> str:
    if parts.is_network:
        model = f"{type(parts.origin.network).__name__}()"
    else:
        model = f"as_model({parts.origin.model_code}(RECIPE))"
    return f"model = {model}\noptimizer = make_optimizer()"


def _optimizer(parts: _Parts) -> str:
    links = [
        *(parts.function(arm) for arm in parts.on(GradientLink)),
        "optax.adam(LEARNING_RATE)",
        *(parts.function(arm, learning_rate="LEARNING_RATE") for arm in parts.on(UpdateLink)),
    ]
    inner = links[0]
    if len(links) > 1:
        inner = "optax.chain(\n" + indent(",\n".join(links), " " * 8) + ",\n    )"
    stages = [inner]
    for arm in parts.on(Wrapper):
        stages.append(parts.function(arm, "inner", learning_rate="LEARNING_RATE"))
    lines = [*(f"inner = {stage}" for stage in stages[:-1]), f"return {stages[-1]}"]
    return "def make_optimizer():\n    " + "\n    ".join(lines)


def _arguments(parts: _Parts) -> str:
    return ", ".join(["x", "labels", "key", *parts.extras])


def _loss(parts: _Parts) -> str:
    changes = parts.on(BatchChange)
    terms = parts.on(Term)
    uses = [arm.name for arm in changes]
    if parts.recipe.policy:
        uses.append("policy")
    uses.append("model")
    uses += [arm.name for arm in terms if "key" in arguments(arm.acts.function)]
    if _asks(terms, "again"):
        uses.append("again")
    keys = {name: f"keys[{index}]" for index, name in enumerate(uses)}
    lines = ['variables = {**variables, "params": params}']
    if len(uses) > 1:
        lines.append(f"keys = jax.random.split(key, {len(uses)})")
    else:
        keys = {"model": "key"}
    lines += _changes(parts, keys)
    lines += _forward(parts, keys, terms)
    loss = parts.on(Criterion)
    if loss:
        value = parts.function(loss[0], "outputs", "labels")
    else:
        value = f"{parts.objective.loss.__name__}(outputs, labels)"
    lines.append(f"value = {value}")
    if not parts.is_network or any(arm.acts.sows for arm in parts.on(Layer)):
        lines.append('value += sum(jax.tree.leaves(updated.pop("losses", {})))')
    for arm in terms:
        lines.append(f"value += {literal(parts.recipe[arm.name])} * {_term_call(arm, keys)}")
    for arm in parts.on(LossChange):
        lines.append(f"value = {parts.function(arm, 'value')}")
    lines.append("return value, {**variables, **updated}")
    return f"def loss(params, variables, {_arguments(parts)}):\n" + _body(lines)


def _asks(arms: Sequence[Arm[Any]], name: str) -> bool:
    return any(name in arguments(arm.acts.function) for arm in arms)


def _changes(parts: _Parts, keys: dict[str, str]) -> Iterator[str]:
    """Yields the lines that change the batch as the study does."""
    if parts.recipe.policy:
        scale = ", mean=mean, stddev=stddev" if "stddev" in parts.extras else ""
        yield f"x = apply_policy({keys['policy']}, POLICY, x{scale})"
    for arm in parts.on(BatchChange):
        named = {"mean": "mean", "stddev": "stddev", "num_classes": repr(parts.num_classes)}
        if "labels" in arguments(arm.acts.function):
            call = parts.function(arm, keys[arm.name], "x", "labels", **named)
            yield f"x, labels = {call}"
        else:
            yield f"x = {parts.function(arm, keys[arm.name], 'x', **named)}"


def _forward(parts: _Parts, keys: dict[str, str], terms: Sequence[Arm[Any]]) -> Iterator[str]:
    """Yields the lines that call the model, and those that compute what the terms ask for."""
    yield from _call(parts, "outputs, updated", keys["model"])
    if _asks(terms, "again"):
        yield from _call(parts, "again, _", keys["again"])
    if _asks(terms, "predict"):
        yield ""
        yield "def predict(x):"
        yield f"    return {_prediction(parts)}"
        yield ""


def _call(parts: _Parts, names: str, key: str) -> Iterator[str]:
    if not parts.is_network:
        yield f"{names} = model.train(variables, x, {key})"
        return
    noise = f'rngs={{"dropout": {key}}}'
    yield f"{names} = model.apply("
    yield f'    variables, x, train=True, {noise}, mutable=["batch_stats", "losses"]'
    yield ")"


def _prediction(parts: _Parts) -> str:
    if parts.is_network:
        return "model.apply(variables, x, train=False)"
    return "model.predict(variables, x)"


def _term_call(arm: Arm[Any], keys: dict[str, str]) -> str:
    names = {"logits": "outputs", "key": keys.get(arm.name, "")}
    function = arm.acts.function
    given = [names.get(name, name) for name in arguments(function)]
    return f"{function.__name__}({', '.join(given)})"


def _step(parts: _Parts) -> str:
    given = _arguments(parts)
    lines = [
        'params = variables["params"]',
        "gradient = jax.value_and_grad(loss, has_aux=True)",
        f"(value, updated), grads = gradient(params, variables, {given})",
    ]
    if needs_gradients(parts.recipe):
        lines += [
            "",
            "def grad_fn(params):",
            f"    return gradient(params, variables, {given})[1]",
            "",
            "updates, state = optimizer.update(grads, state, params, grad_fn=grad_fn)",
        ]
    else:
        lines.append("updates, state = optimizer.update(grads, state, params)")
    new = '{**updated, "params": optax.apply_updates(params, updates)}'
    lines.append(f"return {new}, state, value")
    return f"@jax.jit\ndef step(variables, state, {given}):\n" + _body(lines)


def _body(lines: Sequence[str]) -> str:
    return "\n".join(f"    {line}" if line else "" for line in lines)


def _evaluate(parts: _Parts) -> str:
    lines = [
        f"outputs = {_prediction(parts)}",
        f"value = {parts.objective.loss.__name__}(outputs, labels)",
        f"return value, {parts.objective.metric.score.__name__}(outputs, labels)",
    ]
    return "@jax.jit\ndef evaluate(variables, x, labels):\n" + _body(lines)


def _loader(parts: _Parts) -> str:
    return (
        "def load_data():\n"
        '    """Returns the rows of seed 0 as the study split them; put your own data here."""\n'
        f"    return {parts.origin.data_code}(0)"
    )


def _main(parts: _Parts) -> str:
    mode = ", train=False" if parts.is_network else ""
    extras = "".join(f", {name}" for name in parts.extras)
    lines = [
        "split = jax.tree.map(jnp.asarray, load_data())",
        f"variables = model.init(jax.random.key(0), split.train_x[:1]{mode})",
        'state = optimizer.init(variables["params"])',
    ]
    if "start" in parts.extras:
        lines.append('start = variables["params"]')
    lines += [f"{name} = split.{name}" for name in parts.extras if name != "start"]
    if "early_stopping" in parts.recipe:
        lines.append("stopping = early_stopping.init(variables)")
    lines += [
        "key = jax.random.key(1)",
        "steps = len(split.train_x) // BATCH_SIZE",
        "for epoch in range(1, EPOCHS + 1):",
        "    key, order_key, noise_key = jax.random.split(key, 3)",
        "    order = jax.random.permutation(order_key, len(split.train_x))",
        "    batches = order[: steps * BATCH_SIZE].reshape(steps, BATCH_SIZE)",
        "    for rows, own_key in zip(batches, jax.random.split(noise_key, steps), strict=True):",
        "        x = split.train_x[rows]",
        "        labels = split.train_y[rows]",
        f"        variables, state, value = step(variables, state, x, labels, own_key{extras})",
        *_epoch_end(parts),
        *_final_lines(parts),
    ]
    return "def main():\n" + _body(lines)


def _epoch_end(parts: _Parts) -> Iterator[str]:
    """Yields the lines of the training loop after the steps of an epoch."""
    yield from _choose_variables(parts)
    yield "    loss_now, score = evaluate(shown, split.validation_x, split.validation_y)"
    yield "    if epoch % 10 == 0 or epoch == EPOCHS:"
    yield '        text = f"epoch {epoch}: loss {value:.4f}, validation loss {loss_now:.4f}"'
    yield f'        print(f"{{text}}, validation {parts.objective.metric.name} {{score:.4f}}")'
    if "early_stopping" in parts.recipe:
        patience = literal(parts.recipe.early_stopping)
        update = f"early_stopping.update(stopping, loss_now, shown, patience={patience})"
        yield f"    stopping = {update}"
        yield "    if stopping.should_stop:"
        yield "        break"


def _choose_variables(parts: _Parts) -> Iterator[str]:
    """Yields the lines that choose the variables to evaluate."""
    path = average_path(parts.recipe)
    if path is None:
        yield "    shown = variables"
        return
    state = "state"
    for key in path:
        state += f".{key}" if isinstance(key, str) else f"[{key}]"
    yield f'    average = transforms.read_average({state}, variables["params"])'
    yield '    shown = {**variables, "params": average}'


def _final_lines(parts: _Parts) -> Iterator[str]:
    if "early_stopping" in parts.recipe:
        yield "shown = stopping.best_params"
    name = parts.objective.metric.name
    yield "test_loss, score = evaluate(shown, split.test_x, split.test_y)"
    yield f'print(f"test loss {{test_loss:.4f}}, test {name} {{score:.4f}}")'
