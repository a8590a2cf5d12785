"""The optimizer of the program that a study hands over, and the step that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import indent

from jaxreg.study.optimizers import AFTER, AROUND, BEFORE, SHARPNESS, Link
from jaxreg.study.recipe_parts import Parts, literal


def optimizer(parts: Parts) -> str:
    """Writes the function that makes the optimizer."""
    links = [*_links(parts, BEFORE), "optax.adam(LEARNING_RATE)", *_links(parts, AFTER)]
    made = links[0]
    if len(links) > 1:
        chain = ",\n".join(indent(link, " " * 8) for link in links)
        made = f"optax.chain(\n{chain},\n    )"
    stages = [made]
    for name in parts.wrappers:
        code = AROUND[name].code.format(strength=_strength(parts, name))
        stages.append(code.replace("\n", "\n    "))
    lines = [*(f"inner = {stage}" for stage in stages[:-1]), f"return {stages[-1]}"]
    return "def make_optimizer():\n    " + "\n    ".join(lines)


def step(parts: Parts) -> str:
    """Writes the training step."""
    given = f"x, labels{parts.arguments}"
    statistics = "batch_norm" in parts.on
    if statistics:
        gradient, arguments = "gradient", f"(params, variables, {given})"
        made = ["gradient = jax.value_and_grad(loss, has_aux=True)"]
        taken, kept = "(value, statistics), grads", ", **statistics"
        elsewhere = f"gradient{arguments}[1]"
    else:
        gradient, arguments = "jax.value_and_grad(loss)", f"(params, {given})"
        made, taken, kept = [], "value, grads", ""
        elsewhere = f"jax.grad(loss){arguments}"
    update = "optimizer.update(grads, state, params)"
    if parts.perturbed:
        asked = f"grad_fn=lambda params: {elsewhere}"
        update = (
            "optimizer.update(\n        grads,\n        state,\n        params,\n"
            f"        {asked},\n    )"
        )
    lines = [
        'params = variables["params"]',
        *made,
        f"{taken} = {gradient}{arguments}",
        f"updates, state = {update}",
        f'return {{"params": optax.apply_updates(params, updates){kept}}}, state, value',
    ]
    return f"@jax.jit\ndef step(variables, state, {given}):\n    " + "\n    ".join(lines)


def average(parts: Parts) -> list[str]:
    """Writes the lines of a loop that read the variables to evaluate where an average is kept."""
    state = "state" + ".inner_state" * sum(name in parts.on for name in SHARPNESS)
    state += "[-1]" * ("average_steps" in parts.on)
    return [
        f'    params = transforms.read_average({state}, variables["params"])',
        '    average = {**variables, "params": params}',
    ]


def _links(parts: Parts, table: Mapping[str, Link]) -> list[str]:
    return [
        link.code.format(strength=_strength(parts, name))
        for name, link in table.items()
        if name in parts.on
    ]


def _strength(parts: Parts, name: str) -> str:
    """The strength as it stands in the program; empty where there is none."""
    value = parts.on[name]
    return "" if value is None else literal(value)
