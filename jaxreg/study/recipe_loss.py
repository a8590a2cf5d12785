"""Generates the loss function of ``recipe.py``."""

from __future__ import annotations

from jaxreg.study.inputs import INPUTS
from jaxreg.study.recipe_parts import Parts, literal
from jaxreg.study.terms import TERMS

CROSS_ENTROPY = "optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()"


def loss(parts: Parts) -> str:
    """Returns the source of the function ``loss``."""
    statistics = "batch_norm" in parts.on
    if statistics:
        lines = [
            f"def loss(params, variables, x, labels{parts.arguments}):",
            'variables = {**variables, "params": params}',
        ]
    else:
        lines = [
            f"def loss(params, x, labels{parts.arguments}):",
            'variables = {"params": params}',
        ]
    lines += [*_keys(parts), *_inputs(parts), *_forward(parts)]
    value = _cross_entropy(parts)
    additions = _additions(parts)
    if additions:
        lines += [f"value = {value}", *additions]
        value = "value"
    lines.append(f"return {value}, statistics" if statistics else f"return {value}")
    return "\n    ".join(lines)


def _cross_entropy(parts: Parts) -> str:
    """Returns the expression of the cross entropy, with label smoothing and mixed labels."""
    alpha = literal(parts.on.get("label_smoothing") or 0.0)
    smoothed = "label_smoothing" in parts.on
    if not parts.mixes:
        if not smoothed:
            return CROSS_ENTROPY
        return f"targets.smoothed_cross_entropy(logits, labels, alpha={alpha})"
    labels = f"optax.smooth_labels(labels, {alpha})" if smoothed else "labels"
    return f"optax.softmax_cross_entropy(logits, {labels}).mean()"


def _uses(parts: Parts) -> list[str]:
    """Returns the names of the PRNG keys that the loss uses."""
    uses = [f"{name}_key" for name in parts.inputs]
    if parts.policy:
        uses.insert(0, "policy_key")
    if any("key=" in TERMS[name].code for name in parts.terms):
        uses.append("key")
    if parts.has_noise:
        uses.append("noise_key")
    if "r_drop" in parts.on:
        uses.append("again_key")
    return uses


def _keys(parts: Parts) -> list[str]:
    """Returns the lines that split ``key``; none if the loss uses at most one key."""
    uses = _uses(parts)
    if len(uses) < 2:
        return []
    line = f"{', '.join(uses)} = jax.random.split(key, {len(uses)})"
    if len(line) <= 94:
        return [line]
    names = "".join(f"\n        {name}," for name in uses)
    return [f"({names}\n    ) = jax.random.split(key, {len(uses)})"]


def _inputs(parts: Parts) -> list[str]:
    """Returns the lines that augment the batch as the study does."""
    lines = []
    split = bool(_keys(parts))
    if parts.policy:
        key = "policy_key" if split else "key"
        scale = ", mean=mean, stddev=stddev" if parts.needs_scale else ""
        lines.append(f"x = apply_policy({key}, POLICY, x{scale})")
    for name in parts.inputs:
        code = INPUTS[name].code.format(
            key=f"{name}_key" if split else "key",
            strength=literal(parts.on[name]),
            num_classes=parts.task.num_classes,
        )
        lines.append(code.replace("\n", "\n    "))
    return lines


def _forward(parts: Parts) -> list[str]:
    """Returns the lines that call the model and compute the inputs of the loss terms."""
    statistics = ["batch_stats"] if "batch_norm" in parts.on else []
    result = "logits"
    if parts.sows:
        result = "logits, updated"
    elif statistics:
        result = "logits, statistics"
    noise = "noise_key" if _keys(parts) else "key"
    collections = [*statistics, "losses"] if parts.sows else statistics
    lines = [f"{result} = {_call(parts, noise, collections)}"]
    if parts.sows:
        rest = "statistics" if statistics else "_"
        lines.append(f"penalty, {rest} = linen.pop_penalties(updated)")
    if any("predict" in TERMS[name].code for name in parts.terms):
        mode = ", train=False" if parts.has_modes else ""
        lines.append(f"predict = partial(model.apply, variables{mode})")
    if "r_drop" in parts.on:
        # The statistics and penalties of a second pass are not used.
        result = "again, _" if statistics else "again"
        lines.append(f"{result} = {_call(parts, 'again_key', statistics)}")
    return lines


def _call(parts: Parts, key: str, collections: list[str]) -> str:
    arguments = ["variables", "x"]
    if parts.has_modes:
        arguments.append("train=True")
    if parts.has_noise:
        arguments.append(f'rngs={{"dropout": {key}}}')
    if collections:
        names = ", ".join(f'"{name}"' for name in collections)
        arguments.append(f"mutable=[{names}]")
    line = f"model.apply({', '.join(arguments)})"
    if len(line) <= 74:
        return line
    return f"model.apply(\n        {', '.join(arguments)}\n    )"


def _additions(parts: Parts) -> list[str]:
    """Returns the lines that add penalties to the loss as the study does."""
    lines = ["value += penalty"] if parts.sows else []
    for name in parts.terms:
        lines.append(f"value += {literal(parts.on[name])} * {TERMS[name].code}")
    if "flood" in parts.on:
        lines.append(f"value = targets.flood(value, level={literal(parts.on['flood'])})")
    return lines
