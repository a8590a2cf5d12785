"""Generates the optimizer and the training step of ``recipe.py``."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import indent

from jaxreg.study.optimizers import AFTER, AROUND, BEFORE, SHARPNESS, Link
from jaxreg.study.recipe_parts import Parts, literal


def optimizer(parts: Parts) -> str:
    """Returns the source of the function ``make_optimizer``."""
    links = [*_links(parts, BEFORE), "optax.adam(LEARNING_RATE)", *_links(parts, AFTER)]
    inner = links[0]
    if len(links) > 1:
        chain = ",\n".join(indent(link, " " * 8) for link in links)
        inner = f"optax.chain(\n{chain},\n    )"
    stages = [inner]
    for name in parts.wrappers:
        code = AROUND[name].code.format(strength=_strength(parts, name))
        stages.append(code.replace("\n", "\n    "))
    lines = [*(f"inner = {stage}" for stage in stages[:-1]), f"return {stages[-1]}"]
    return "def make_optimizer():\n    " + "\n    ".join(lines)


def step(parts: Parts) -> str:
    """Returns the source of the function ``step``, which is one training step."""
    batch = f"x, labels{parts.arguments}"
    lines = [
        "@jax.jit",
        f"def step(variables, state, {batch}):",
        '    params = variables["params"]',
    ]
    new = '"params": optax.apply_updates(params, updates)'
    if "batch_norm" in parts.on:
        lines += [
            "    gradient = jax.value_and_grad(loss, has_aux=True)",
            f"    (value, statistics), grads = gradient(params, variables, {batch})",
        ]
        gradient = f"gradient(params, variables, {batch})[1]"
        new += ", **statistics"
    else:
        lines.append(f"    value, grads = jax.value_and_grad(loss)(params, {batch})")
        gradient = f"jax.grad(loss)(params, {batch})"
    if parts.needs_grad_fn:
        lines += [
            "    updates, state = optimizer.update(",
            "        grads,",
            "        state,",
            "        params,",
            f"        grad_fn=lambda params: {gradient},",
            "    )",
        ]
    else:
        lines.append("    updates, state = optimizer.update(grads, state, params)")
    lines.append(f"    return {{{new}}}, state, value")
    return "\n".join(lines)


def average(parts: Parts) -> list[str]:
    """Returns the lines of the training loop that read the averaged parameters."""
    state = "state" + ".inner_state" * sum(name in parts.on for name in SHARPNESS)
    if "average_steps" in parts.on:
        state += "[-1]"
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
    """Formats the strength of a technique; empty for a technique without a strength."""
    value = parts.on[name]
    return "" if value is None else literal(value)
