"""Dropout and the norms in bfloat16, compared with a copy that moves as many bytes.

Each call runs ``STEPS`` steps on the device, so that dispatch does not count. A ratio of 1 means
that memory bandwidth is the only limit. On CPU, bfloat16 is far from this limit.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.measuring import Row, Work, shortest
from jaxreg import dropout, normalization

STEPS = 20
KINDS = ("forward", "forward and gradient")
# Numbers of arrays to read or write, by kind: the input and the result; with the gradient also the
# cotangent, the gradient, and for norms the input again. A row fits on the chip and is read once,
# but statistics of columns need another pass over the input and the cotangent.
_PASSES = {
    "dropout": (2, 4),
    "layer_norm": (2, 5),
    "rms_norm": (2, 5),
    "group_norm": (2, 5),
    "batch_norm": (3, 8),
}


def measure(*, small: bool) -> list[Row]:
    """Measures the forward pass, without and with the gradient of the input."""
    accelerated = jax.default_backend() != "cpu"
    size, turns = (128, 2) if small else (8192, 10) if accelerated else (2048, 5)
    x = jax.random.normal(jax.random.key(0), (size, size), jnp.bfloat16)
    cotangent = jax.random.normal(jax.random.key(1), (size, size), jnp.bfloat16)
    works = {"copy": _repeat(lambda key, carry: (_copy(carry[0]), carry[1]), x, cotangent)}
    for name, function in _functions(size).items():
        works[name, "forward"] = _repeat(_forward(function), x, cotangent)
        works[name, "forward and gradient"] = _repeat(_gradient(function), x, cotangent)
    times = shortest(works, turns=turns)
    copy = times.pop("copy") / 2
    return [
        Row(
            f"{name}, bfloat16, {size} x {size}, {kind}",
            f"copy of {passes} arrays",
            times[name, kind] / STEPS,
            passes * copy / STEPS,
            passes * copy / STEPS,
            "ms",
        )
        for name, counts in _PASSES.items()
        for kind, passes in zip(KINDS, counts, strict=True)
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
    # Compilers would remove a plain copy. This factor keeps every value in range.
    return x * jnp.bfloat16(-1)


def _forward(function: Callable) -> Callable:
    return lambda key, carry: (function(key, carry[0]), carry[1])


def _gradient(function: Callable) -> Callable:
    def step(key: jax.Array, carry: Any) -> Any:
        y, pull_back = jax.vjp(lambda x: function(key, x), carry[0])
        return y, pull_back(carry[1])[0]

    return step


def _repeat(step: Callable, x: jax.Array, cotangent: jax.Array) -> Work:
    keys = jax.random.split(jax.random.key(2), STEPS)

    @jax.jit
    def run(x, cotangent):
        return jax.lax.scan(lambda carry, key: (step(key, carry), None), (x, cotangent), keys)[0]

    return lambda: run(x, cotangent)
