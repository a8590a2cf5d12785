"""What a training step costs before it runs: a transformer with our parts and with Flax's.

Times are CPU times of this process, since tracing and compiling wait for nothing. The floor is the
same transformer without norms, dropout, decay and averages.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from benchmarks.measuring import Row, rows_against
from jaxreg import linen, transforms

RATE = 0.1


class Bare:
    """Stands for a set of parts that does nothing."""

    @staticmethod
    def LayerNorm() -> Callable[[jax.Array], jax.Array]:
        return lambda x: x

    @staticmethod
    def Dropout(rate: float, *, deterministic: bool) -> Callable[[jax.Array], jax.Array]:
        del rate, deterministic
        return lambda x: x


class Block(nn.Module):
    """Attention and a dense layer, each with a norm before and dropout behind."""

    parts: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def drop(x: jax.Array) -> jax.Array:
            return self.parts.Dropout(RATE, deterministic=False)(x)

        h = self.parts.LayerNorm()(x)
        h = nn.MultiHeadDotProductAttention(4, deterministic=True)(h, h)
        x = x + drop(h)
        h = nn.gelu(nn.Dense(4 * x.shape[-1])(self.parts.LayerNorm()(x)))
        return x + drop(nn.Dense(x.shape[-1])(drop(h)))


class Transformer(nn.Module):
    """Blocks and a classifier."""

    parts: Any
    depth: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(self.depth):
            x = Block(self.parts)(x)
        return nn.Dense(10)(x.mean(1))


def measure(*, small: bool) -> list[Row]:
    """Measures the program, and the time to trace and to compile it, as medians of 5."""
    depth, turns = (1, 1) if small else (12, 5)
    found: dict[str, list[dict[str, float]]] = {"jaxreg": [], "flax": [], "bare": []}
    for _ in range(turns):
        for name, measures in found.items():
            measures.append(_costs(*step(name, depth)))
    units = {"tracing": "s", "compiling": "s", "bytes accessed": "MB", "StableHLO": "lines"}
    rows = []
    for what, unit in units.items():
        middle = {name: statistics.median(each[what] for each in found[name]) for name in found}
        work = f"{what}, training step of a transformer of {depth} blocks"
        rows += rows_against(work, middle, floor="bare", unit=unit)
    return rows


def step(name: str, depth: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Returns a training step and the types of its arguments, with the parts of a library."""
    network = Transformer({"jaxreg": linen, "flax": nn, "bare": Bare}[name], depth)
    tx = {"jaxreg": _ours, "flax": _theirs, "bare": lambda: optax.adam(1e-3)}[name]()
    x = jax.ShapeDtypeStruct((16, 32, 32), jnp.float32)
    labels = jax.ShapeDtypeStruct((16,), jnp.int32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(network.init, {"params": key, "dropout": key}, x)

    def train(params: Any, state: Any, key: jax.Array, x: jax.Array, labels: jax.Array) -> Any:
        def loss(params: Any) -> jax.Array:
            logits = network.apply(params, x, rngs={"dropout": key})
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    return train, (params, jax.eval_shape(tx.init, params), key, x, labels)


def _ours() -> optax.GradientTransformation:
    return optax.chain(
        optax.adam(1e-3),
        transforms.decoupled_decay(0.1, learning_rate=1e-3),
        transforms.exponential_average(0.99),
    )


def _theirs() -> optax.GradientTransformation:
    return optax.chain(optax.adamw(1e-3, weight_decay=0.1), optax.ema(0.99))


def _costs(function: Callable[..., Any], arguments: tuple[Any, ...]) -> dict[str, float]:
    jax.clear_caches()
    start = time.process_time()
    lowered = jax.jit(function).lower(*arguments)
    traced = time.process_time()
    compiled = lowered.compile()
    done = time.process_time()
    return {
        "tracing": traced - start,
        "compiling": done - traced,
        "bytes accessed": compiled.cost_analysis()["bytes accessed"] / 1e6,
        "StableHLO": len(lowered.as_text().splitlines()),
    }
