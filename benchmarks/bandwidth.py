"""Dropout and the norms in bfloat16, beside a copy that moves as many bytes.

The loops run on the device, ``STEPS`` to a call, so that starting them takes no part. The targets
are those of an accelerator; on a CPU the rows say how far bfloat16 is from its memory.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.measuring import Row, Work, shortest
from jaxreg import dropout, normalization

STEPS = 20
_TARGETS = {"forward": 0.9, "forward and gradient": 0.8}
# Arrays that have to be read or written: the result, and the input as often as its statistics
# force it; with the gradient, also the cotangent as often, and the gradient itself. A row fits on
# the chip and is read once, while the statistics of a column need a pass of their own.
_PASSES = {
    "dropout": (2, 4),
    "layer_norm": (2, 5),
    "rms_norm": (2, 5),
    "group_norm": (2, 5),
    "batch_norm": (3, 8),
}


def measure(*, small: bool) -> list[Row]:
    """Forward, and forward with the gradient of the input."""
    accelerated = jax.default_backend() != "cpu"
    size, turns = (128, 2) if small else (8192, 10) if accelerated else (2048, 5)
    x, cotangent = (
        jax.random.normal(jax.random.key(i), (size, size), jnp.bfloat16) for i in range(2)
    )
    works = {"copy": _repeated(lambda key, carry: (_copy(carry[0]), carry[1]), x, cotangent)}
    for name, function in _functions(size).items():
        works[name, "forward"] = _repeated(_forward(function), x, cotangent)
        works[name, "forward and gradient"] = _repeated(_gradient(function), x, cotangent)
    times = shortest(works, turns=turns)
    copy = times.pop("copy") / 2
    return [
        Row(
            f"{name}, bfloat16, {size} x {size}, {kind}",
            f"copy of {passes} arrays",
            times[name, kind] / STEPS,
            passes * copy / STEPS,
            "ms",
            target if accelerated else None,
        )
        for name, counts in _PASSES.items()
        for passes, (kind, target) in zip(counts, _TARGETS.items(), strict=True)
    ]


def _functions(size: int) -> dict[str, Callable[[jax.Array, jax.Array], jax.Array]]:
    stats = normalization.init_stats(size)

    def group_norm(key: jax.Array, x: jax.Array) -> jax.Array:
        images = x.reshape(size // 64, 8, 8, size)
        return normalization.group_norm(images).reshape(x.shape)

    return {
        "dropout": lambda key, x: dropout.dropout(key, x, rate=0.1),
        "layer_norm": lambda key, x: normalization.layer_norm(x),
        "rms_norm": lambda key, x: normalization.rms_norm(x),
        "group_norm": group_norm,
        "batch_norm": lambda key, x: normalization.batch_norm(x, stats)[0],
    }


def _copy(x: jax.Array) -> jax.Array:
    # A factor, since a compiler removes what changes nothing; it keeps every value in range.
    return x * jnp.bfloat16(-1)


def _forward(function: Callable) -> Callable:
    return lambda key, carry: (function(key, carry[0]), carry[1])


def _gradient(function: Callable) -> Callable:
    def step(key: jax.Array, carry: Any) -> Any:
        y, pull_back = jax.vjp(lambda x: function(key, x), carry[0])
        return y, pull_back(carry[1])[0]

    return step


def _repeated(step: Callable, x: jax.Array, cotangent: jax.Array) -> Work:
    keys = jax.random.split(jax.random.key(2), STEPS)

    @jax.jit
    def run(x, cotangent):
        return jax.lax.scan(lambda carry, key: (step(key, carry), None), (x, cotangent), keys)[0]

    return lambda: run(x, cotangent)
