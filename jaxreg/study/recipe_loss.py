"""The loss of the program that a study hands over."""

from __future__ import annotations

from jaxreg.study.inputs import INPUTS
from jaxreg.study.recipe_parts import Parts, literal
from jaxreg.study.terms import TERMS

CROSS_ENTROPY = "optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()"


def loss(parts: Parts) -> str:
    """Writes the function from parameters and a batch to the loss."""
    statistics = "batch_norm" in parts.on
    variables = ", variables" * statistics
    lines = [f"def loss(params{variables}, x, labels{parts.arguments}):"]
    known = '{**variables, "params": params}' if statistics else '{"params": params}'
    lines += [f"variables = {known}", *_keys(parts), *_inputs(parts), *_forward(parts)]
    value = _cross_entropy(parts)
    added = _added(parts)
    lines += [f"value = {value}", *added] if added else []
    returned = "value" if added else value
    lines.append(f"return {returned}{', statistics' * statistics}")
    return "\n    ".join(lines)


def _cross_entropy(parts: Parts) -> str:
    """Writes the cross entropy: of class ids, smoothed or not, or of distributions."""
    alpha = literal(parts.on.get("label_smoothing") or 0.0)
    smoothed = "label_smoothing" in parts.on
    if not parts.mixes:
        if not smoothed:
            return CROSS_ENTROPY
        return f"targets.smoothed_cross_entropy(logits, labels, alpha={alpha})"
    labels = f"optax.smooth_labels(labels, {alpha})" if smoothed else "labels"
    return f"optax.softmax_cross_entropy(logits, {labels}).mean()"


def _uses(parts: Parts) -> list[str]:
    """Names of the keys that are asked for."""
    uses = ["policy_key"] * bool(parts.policy) + [f"{name}_key" for name in parts.inputs]
    uses += ["key"] * any("key=" in TERMS[name].code for name in parts.terms)
    return uses + ["noise_key"] * parts.noisy + ["again_key"] * ("r_drop" in parts.on)


def _keys(parts: Parts) -> list[str]:
    """Splits the key among the uses that it has; one alone takes it as it is."""
    uses = _uses(parts)
    if len(uses) < 2:
        return []
    line = f"{', '.join(uses)} = jax.random.split(key, {len(uses)})"
    if len(line) <= 94:
        return [line]
    names = "".join(f"\n        {name}," for name in uses)
    return [f"({names}\n    ) = jax.random.split(key, {len(uses)})"]


def _inputs(parts: Parts) -> list[str]:
    """Changes the batch, as the study does."""
    split = bool(_keys(parts))
    scale = ", mean=mean, deviation=deviation" * parts.scaled
    key = "policy_key" if split else "key"
    policy = [f"x = apply_policy({key}, POLICY, x{scale})"] * bool(parts.policy)
    return policy + [
        INPUTS[name]
        .code.format(
            key=f"{name}_key" if split else "key",
            strength=literal(parts.on[name]),
            num_classes=parts.task.num_classes,
        )
        .replace("\n", "\n    ")
        for name in parts.inputs
    ]


def _forward(parts: Parts) -> list[str]:
    """Calls the model in training, and names what the terms of the loss ask for."""
    collections = ["batch_stats"] * ("batch_norm" in parts.on) + ["losses"] * parts.sown
    result = "logits"
    if collections:
        result += ", updated" if parts.sown else ", statistics"
    noise = "noise_key" if _keys(parts) else "key"
    lines = [f"{result} = {_call(parts, noise, collections)}"]
    if parts.sown:
        rest = "statistics" if "batch_norm" in parts.on else "_"
        lines.append(f"penalty, {rest} = linen.pop_penalties(updated)")
    if any("predict" in TERMS[name].code for name in parts.terms):
        lines.append(f"predict = partial(model.apply, variables{', train=False' * parts.modes})")
    if "r_drop" in parts.on:
        # A second pass adds neither statistics nor what its layers sow.
        statistics = [name for name in collections if name == "batch_stats"]
        call = _call(parts, "again_key", statistics)
        lines.append(f"again{', _' * bool(statistics)} = {call}")
    return lines


def _call(parts: Parts, key: str, collections: list[str]) -> str:
    arguments = ["variables", "x"] + ["train=True"] * parts.modes
    arguments += [f'rngs={{"dropout": {key}}}'] * parts.noisy
    if collections:
        names = ", ".join(f'"{name}"' for name in collections)
        arguments.append(f"mutable=[{names}]")
    line = f"model.apply({', '.join(arguments)})"
    if len(line) <= 74:
        return line
    return f"model.apply(\n        {', '.join(arguments)}\n    )"


def _added(parts: Parts) -> list[str]:
    """Adds penalties to the loss, as the study does."""
    lines = ["value += penalty"] * parts.sown
    for name in parts.terms:
        lines.append(f"value += {literal(parts.on[name])} * {TERMS[name].code}")
    if "flood" in parts.on:
        lines.append(f"value = targets.flood(value, level={literal(parts.on['flood'])})")
    return lines
