"""One step of Adam with decay, a proximal L1 step and a norm bound, against ``optax.adamw``.

The floor moves the bytes of a step and computes nothing: it reads parameters, gradients and both
moments, and writes parameters and moments. On a CPU, XLA works on all leaves at once and keeps the
temporary arrays of all of them; ``leaf after leaf`` is compiled to finish each leaf before the
next, as accelerators do.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.measuring import Row, Work, shortest
from jaxreg import masks, projections, proximal, transforms

LEARNING_RATE = 1e-3
FLOOR = "a copy of the state"
IN_ORDER = {"xla_cpu_enable_concurrency_optimized_scheduler": False}
SUFFIX = ", leaf after leaf"
AFTER = "adam, decay, L1, then max-norm of the parameters"
PEERS = (
    ("adam, decay, L1", "optax.adamw"),
    ("adam, decay, L1, max-norm", "optax.adamw"),
    ("adam, decay, L1, max-norm", "the same by hand"),
    (AFTER, "optax.adamw"),
)


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
    steps = {name: _compile(tx, tree) for name, tx in chains.items()}
    steps[AFTER] = _compile(chains["adam, decay, L1"], tree, _max_norm)
    steps[FLOOR] = _compile(_copy(), tree)
    steps |= {
        name + SUFFIX: _compile(tx, tree, options=IN_ORDER)
        for name, tx in chains.items()
        if jax.default_backend() == "cpu"
    }
    chains[AFTER] = chains["adam, decay, L1"]
    chains[FLOOR] = _copy()
    works = {
        name: _steps(step, chains[name.removesuffix(SUFFIX)], tree) for name, step in steps.items()
    }
    times = shortest(works, turns=turns)
    peaks = {name: _peak(step) / 2**20 for name, step in steps.items()}
    size = sum(leaf.size for leaf in jax.tree.leaves(tree)) / 1e6
    label = f"{size:.1f}M parameters in 100 leaves"
    return [
        *_rows(f"time, {label}", times, "ms"),
        *_rows(f"peak memory, {label}", peaks, "MiB"),
    ]


def _rows(label: str, values: dict[str, float], unit: str) -> list[Row]:
    rows = []
    for order in ("", SUFFIX):
        for name, peer in PEERS:
            if name + order in values and peer + order in values:
                ours, theirs = values[name + order], values[peer + order]
                rows.append(Row(f"{name}{order}: {label}", peer, ours, theirs, values[FLOOR], unit))
    return rows


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
    options: dict[str, Any] | None = None,
) -> Any:
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return jax.tree.map(after, optax.apply_updates(params, updates)), state

    state = tx.init(params)
    jitted = jax.jit(step, donate_argnums=(0, 1), compiler_options=options)
    return jitted.lower(params, state, params).compile()


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
