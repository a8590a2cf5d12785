"""The rest of the dropout family, compared with plain code that uses ``jax.random``.

Float32, forward with the gradients of all inputs. The floor reads each input and writes the result
once, and computes matrix products where the layer has them.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.dropout import RATE, multiply
from benchmarks.measuring import Row
from benchmarks.peers import FLOOR, KINDS, array, of_jax, rows
from jaxreg import dropout

BLOCK = 7
LOG_ALPHA = math.log(RATE / (1 - RATE))
TEMPERATURE = 0.1


class Contest(NamedTuple):
    """A function ``(key, *inputs)``, its plain form, the shapes of the inputs, and its floor."""

    ours: Callable[..., jax.Array]
    plain: Callable[..., jax.Array]
    shapes: tuple[tuple[int, ...], ...]
    floor: Callable[..., jax.Array] = multiply


def measure(*, small: bool) -> list[Row]:
    """Measures one row for each function."""
    turns = 2 if small else 15
    result = []
    for name, contest in {**_on_matrices(small=small), **_on_maps(small=small)}.items():
        inputs = [array(shape, seed=i) for i, shape in enumerate(contest.shapes)]
        pairs = {
            "jaxreg": of_jax(contest.ours, *inputs),
            "jax.random": of_jax(contest.plain, *inputs),
            FLOOR: of_jax(contest.floor, *inputs),
        }
        result += rows(name, pairs, turns=turns, kinds=KINDS[1:])
    return result


def _on_matrices(*, small: bool) -> dict[str, Contest]:
    shape = (64, 128) if small else (2048, 4096)
    layer = ((32, 16), (16, 16), (16, 16)) if small else ((512, 1024), (1024, 1024), (1024, 1024))
    one = (shape,)
    two = (shape, shape)
    return {
        "classical dropout": Contest(
            lambda key, x: dropout.classical_dropout(key, x, rate=RATE),
            lambda key, x: jnp.where(_keep(key, x.shape), x, 0),
            one,
        ),
        "alpha dropout": Contest(
            lambda key, x: dropout.alpha_dropout(key, x, rate=RATE), plain_alpha_dropout, one
        ),
        "DropConnect": Contest(
            lambda key, w: dropout.drop_connect(key, w, rate=RATE),
            lambda key, w: plain_dropout(key, w, w.shape),
            one,
        ),
        "DropPath": Contest(
            lambda key, x: dropout.drop_path(key, x, rate=RATE),
            lambda key, x: plain_dropout(key, x, (len(x), 1)),
            one,
        ),
        "embedding dropout": Contest(
            lambda key, table: dropout.embedding_dropout(key, table, rate=RATE),
            lambda key, table: plain_dropout(key, table, (len(table), 1)),
            one,
        ),
        "zoneout": Contest(
            lambda key, new, old: dropout.zoneout(key, new, old, rate=RATE),
            lambda key, new, old: jnp.where(_keep(key, new.shape), new, old),
            two,
            floor=lambda key, new, old: new + old,
        ),
        "variational dropout": Contest(
            lambda key, x: dropout.variational_dropout(key, x, log_alpha=LOG_ALPHA),
            lambda key, x: x * (1 + math.exp(LOG_ALPHA / 2) * jax.random.normal(key, x.shape)),
            one,
        ),
        "variational dense layer": Contest(
            dropout.variational_dense, _variational_dense, layer, floor=_two_products
        ),
        "concrete dropout": Contest(
            lambda key, x: dropout.concrete_dropout(
                key, x, logit=LOG_ALPHA, temperature=TEMPERATURE
            ),
            _concrete_dropout,
            one,
        ),
    }


def _on_maps(*, small: bool) -> dict[str, Contest]:
    images = ((2, 8, 8, 8),) if small else ((64, 32, 32, 128),)
    tokens = ((4, 9, 16),) if small else ((64, 197, 768),)
    return {
        "DropBlock": Contest(
            lambda key, x: dropout.drop_block(key, x, rate=RATE, block_size=BLOCK),
            _drop_block,
            images,
        ),
        "feature alpha dropout": Contest(
            lambda key, x: dropout.feature_alpha_dropout(key, x, rate=RATE),
            lambda key, x: plain_alpha_dropout(key, x, (len(x), 1, 1, x.shape[-1])),
            images,
        ),
        "locked dropout": Contest(
            lambda key, x: dropout.locked_dropout(key, x, rate=RATE),
            lambda key, x: plain_dropout(key, x, (len(x), 1, x.shape[-1])),
            tokens,
        ),
        "patch dropout": Contest(
            lambda key, x: dropout.patch_dropout(key, x, rate=0.5)[0],
            _patch_dropout,
            tokens,
            floor=lambda key, x: multiply(key, x[:, : 1 + (x.shape[1] - 1) // 2]),
        ),
    }


def _keep(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.bernoulli(key, 1 - RATE, shape)


def plain_dropout(key: jax.Array, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.where(_keep(key, shape), x / (1 - RATE), 0)


def plain_alpha_dropout(
    key: jax.Array, x: jax.Array, shape: tuple[int, ...] | None = None
) -> jax.Array:
    saturation = -1.7580993408473766
    factor = ((1 - RATE) * (1 + RATE * saturation**2)) ** -0.5
    kept = jnp.where(_keep(key, shape or x.shape), x, saturation)
    return factor * (kept - RATE * saturation)


def _variational_dense(
    key: jax.Array, x: jax.Array, kernel: jax.Array, log_var: jax.Array
) -> jax.Array:
    mean = x @ kernel
    variance = jnp.square(x) @ jnp.exp(log_var)
    return mean + jnp.sqrt(variance) * jax.random.normal(key, mean.shape)


def _two_products(key: jax.Array, x: jax.Array, kernel: jax.Array, log_var: jax.Array) -> jax.Array:
    del key
    return x @ kernel + x @ log_var


def _concrete_dropout(key: jax.Array, x: jax.Array) -> jax.Array:
    u = jax.random.uniform(key, x.shape, minval=1e-7, maxval=1 - 1e-7)
    dropped = jax.nn.sigmoid((LOG_ALPHA + jnp.log(u) - jnp.log(1 - u)) / TEMPERATURE)
    return x * (1 - dropped) / (1 - RATE)


def _drop_block(key: jax.Array, x: jax.Array) -> jax.Array:
    batch, height, width, channels = x.shape
    starts = (batch, height - BLOCK + 1, width - BLOCK + 1, channels)
    rate = RATE / BLOCK**2 * (height * width) / (starts[1] * starts[2])
    start = jax.random.bernoulli(key, rate, starts).astype(x.dtype)
    border = (BLOCK - 1, BLOCK - 1)
    dropped = jax.lax.reduce_window(
        start,
        0.0,
        jax.lax.max,
        window_dimensions=(1, BLOCK, BLOCK, 1),
        window_strides=(1, 1, 1, 1),
        padding=((0, 0), border, border, (0, 0)),
    )
    kept = jax.lax.stop_gradient(1 - dropped)
    return x * kept * (kept.size / jnp.sum(kept))


def _patch_dropout(key: jax.Array, x: jax.Array) -> jax.Array:
    number = x.shape[1] - 1
    order = jnp.argsort(jax.random.uniform(key, (len(x), number)), axis=1)
    kept = 1 + jnp.sort(order[:, : number // 2], axis=1)
    return jnp.concatenate([x[:, :1], jnp.take_along_axis(x, kept[..., None], axis=1)], axis=1)
