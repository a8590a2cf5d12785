"""One step of Adam with decay, a proximal L1 step and a norm bound, against ``optax.adamw``.

The floor moves the bytes of a step and computes nothing: it reads parameters, gradients and both
moments, and writes parameters and moments. On a CPU, XLA works on all leaves at once and keeps the
temporary arrays of all of them; ``optimizer_in_order`` measures the same steps where each leaf is
finished before the next, as on accelerators.

``optax.adamw`` leaves the L1 step and the norm bound out. The bound by hand is faster because it
overflows, and because a weight inside the ball does not get exactly the update of the optimizer, a
weight outside not always a norm below the bound. Leaf after leaf each of these three costs 3 to 4
of 26 ms: a pass for the largest magnitude, one that keeps the update, and one that corrects the
rounding of the step.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from benchmarks.measuring import Row, Work, shortest
from jaxreg import masks, projections, proximal, transforms

LEARNING_RATE = 1e-3
FLOOR = "a copy of the state"
AFTER = "adam, decay, L1, then max-norm of the parameters"
PEERS = (
    ("adam, decay, L1", "optax.adamw"),
    ("adam, decay, L1, max-norm", "optax.adamw"),
    ("adam, decay, L1, max-norm", "the same by hand"),
    (AFTER, "optax.adamw"),
)


class Program(NamedTuple):
    """A compiled step, and the chain whose state it takes."""

    step: Any
    chain: optax.GradientTransformation


def measure(*, small: bool, suffix: str = "") -> list[Row]:
    """Measures 10 million parameters, as many as a small convolutional network has."""
    return rows(8, 2, suffix) if small else rows(447, 15, suffix)


def rows(width: int, turns: int, suffix: str = "") -> list[Row]:
    """Measures time and peak memory of a jitted step that donates its parameters and state."""
    params = parameters(width)
    compiled = programs(params)
    works = {name: _steps(program, params) for name, program in compiled.items()}
    times = shortest(works, turns=turns)
    size = sum(leaf.size for leaf in jax.tree.leaves(params)) / 1e6
    label = f"{size:.1f}M parameters in 100 leaves"
    return [
        *_rows(f"{suffix}: time, {label}", times, "ms"),
        *_rows(f"{suffix}: peak memory, {label}", peaks(compiled), "MiB"),
    ]


def parameters(width: int) -> Any:
    """Returns the parameters of 50 dense layers."""
    layer = {"kernel": jnp.full((width, width), 0.01), "bias": jnp.zeros(width)}
    return {f"layer_{i}": jax.tree.map(jnp.copy, layer) for i in range(50)}


def programs(params: Any) -> dict[str, Program]:
    """Compiles the step of every chain, by name."""
    chains = {
        "optax.adamw": optax.adamw(LEARNING_RATE, weight_decay=0.1, mask=masks.kernels),
        "adam, decay, L1": optax.chain(*_shrinking()),
        "adam, decay, L1, max-norm": optax.chain(*_shrinking(), _bounding()),
        # The norm must be known before any weight is scaled, so no compiler can fuse this.
        "the same by hand": optax.chain(*_shrinking(), _plain_max_norm()),
        FLOOR: _copy(),
    }
    compiled = {name: Program(_compile(tx, params), tx) for name, tx in chains.items()}
    shrinking = chains["adam, decay, L1"]
    compiled[AFTER] = Program(_compile(shrinking, params, _max_norm), shrinking)
    return compiled


def peaks(compiled: dict[str, Program]) -> dict[str, float]:
    """Returns the peak memory of every step, in MiB."""
    return {name: _peak(program.step) / 2**20 for name, program in compiled.items()}


def _rows(label: str, values: dict[str, float], unit: str) -> list[Row]:
    return [
        Row(name + label, peer, values[name], values[peer], values[FLOOR], unit)
        for name, peer in PEERS
    ]


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


def _copy() -> optax.GradientTransformation:
    """Reads and writes what Adam does, without its formula."""

    def update(updates: Any, state: Any, params: Any) -> Any:
        del params
        first = jax.tree.map(lambda m, u: u - m, state[0], updates)
        second = jax.tree.map(lambda v, u: u - v, state[1], updates)
        return jax.tree.map(lambda u: u * LEARNING_RATE, updates), (first, second)

    def init(params: Any) -> Any:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return zeros, jax.tree.map(jnp.copy, zeros)

    return optax.GradientTransformation(init, update)


def _steps(program: Program, params: Any) -> Work:
    """Returns a call that takes the next step, on its own parameters."""
    held = [jax.tree.map(jnp.copy, params), program.chain.init(params)]
    grads = jax.tree.map(lambda w: jnp.full_like(w, 0.1), params)

    def work():
        held[:] = program.step(*held, grads)
        return held

    return work


def _peak(step: Any) -> int:
    memory = step.memory_analysis()
    arguments_and_results = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return arguments_and_results + memory.temp_size_in_bytes - memory.alias_size_in_bytes
