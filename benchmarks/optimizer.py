"""One step of Adam with decay, a proximal L1 step and a norm bound, against ``optax.adamw``."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.measuring import Row, Work, shortest
from jaxreg import masks, projections, proximal, transforms

LEARNING_RATE = 1e-3


def measure(*, small: bool) -> list[Row]:
    """Measures time and peak memory of a jitted step that donates its parameters and state."""
    width, turns = (8, 2) if small else (447, 15)
    tree = _params(width)
    chains = {
        "optax.adamw": optax.adamw(LEARNING_RATE, weight_decay=0.1, mask=masks.kernels),
        "adam, decay, L1": optax.chain(*_shrinking()),
        "adam, decay, L1, max-norm": optax.chain(*_shrinking(), _bounding()),
        # The norm must be known before any weight is scaled, so no compiler can fuse this.
        "the same by hand": optax.chain(*_shrinking(), _plain_max_norm()),
    }
    after = "adam, decay, L1, then max-norm of the parameters"
    steps = {name: _compile(tx, tree) for name, tx in chains.items()}
    steps[after] = _compile(chains["adam, decay, L1"], tree, _max_norm)
    chains[after] = chains["adam, decay, L1"]
    times = shortest(
        {name: _steps(step, chains[name], tree) for name, step in steps.items()}, turns=turns
    )
    peaks = {name: _peak(step) / 2**20 for name, step in steps.items()}
    size = sum(leaf.size for leaf in jax.tree.leaves(tree)) / 1e6
    label = f"{size:.1f}M parameters in 100 leaves"
    return [
        *_rows(f"time, {label}", times, "ms"),
        *_rows(f"peak memory, {label}", peaks, "MiB"),
    ]


def _rows(label: str, values: dict[str, float], unit: str) -> list[Row]:
    adamw = "optax.adamw"
    by_hand = "the same by hand"
    bounded = "adam, decay, L1, max-norm"
    rows = [
        Row(f"{name}: {label}", adamw, ours, values[adamw], unit)
        for name, ours in values.items()
        if name not in (adamw, by_hand)
    ]
    return [*rows, Row(f"{bounded}: {label}", by_hand, values[bounded], values[by_hand], unit)]


def _params(width: int) -> Any:
    layer = {"kernel": jnp.full((width, width), 0.01), "bias": jnp.zeros(width)}
    return {f"layer_{i}": jax.tree.map(jnp.copy, layer) for i in range(50)}


def _shrinking() -> list[optax.GradientTransformation]:
    shrink = transforms.proximal(proximal.l1, 1e-3, LEARNING_RATE)
    return [
        optax.adam(LEARNING_RATE),
        transforms.decoupled_decay(0.1, learning_rate=LEARNING_RATE),
        optax.masked(shrink, masks.kernels),
    ]


def _bounding() -> optax.GradientTransformation:
    return optax.masked(
        transforms.project(partial(projections.max_norm, radius=3.0)), masks.kernels
    )


def _plain_max_norm() -> optax.GradientTransformation:
    """Bounds the norm in one line, without handling zeros, overflow or rounding."""

    def leaf(u, w):
        moved = w + u
        norm = jnp.sqrt(jnp.sum(moved * moved, axis=0, keepdims=True))
        return moved * jnp.minimum(1, 3.0 / norm) - w

    return optax.masked(
        optax.stateless(lambda updates, params: jax.tree.map(leaf, updates, params)), masks.kernels
    )


def _max_norm(w: jax.Array) -> jax.Array:
    return w if w.ndim < 2 else projections.max_norm(w, radius=3.0)


def _compile(
    tx: optax.GradientTransformation,
    params: Any,
    after: Callable[[jax.Array], jax.Array] = lambda w: w,
) -> Any:
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return jax.tree.map(after, optax.apply_updates(params, updates)), state

    state = tx.init(params)
    return jax.jit(step, donate_argnums=(0, 1)).lower(params, state, params).compile()


def _steps(step: Any, tx: optax.GradientTransformation, params: Any) -> Work:
    """Returns a call that takes the next step, on its own parameters."""
    held = [jax.tree.map(jnp.copy, params), tx.init(params)]
    grads = jax.tree.map(lambda w: jnp.full_like(w, 0.1), params)

    def work():
        held[:] = step(*held, grads)
        return held

    return work


def _peak(step: Any) -> int:
    memory = step.memory_analysis()
    arguments_and_results = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return arguments_and_results + memory.temp_size_in_bytes - memory.alias_size_in_bytes
