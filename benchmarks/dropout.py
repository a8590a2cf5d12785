"""Dropout and spatial dropout, beside Flax, Keras, torch and the floor, a multiplication."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from torch.nn import functional

from benchmarks.measuring import Row
from benchmarks.peers import array, keras_layers, of_jax, of_keras, of_torch, rows
from jaxreg import dropout

RATE = 0.1
# By dtype and peer: the least ratio of the peer's time to ours.
_TARGETS = {
    "float32": {"flax.linen.Dropout": 6.0, "torch": 6.0, "multiply": 1 / 1.5},
    "bfloat16": {"flax.linen.Dropout": 15.0},
}


def measure(*, small: bool) -> list[Row]:
    """Forward, and forward with the gradient, in two dtypes."""
    turns = 2 if small else 15
    shape = (64, 128) if small else (2048, 4096)
    images = (2, 4, 4, 8) if small else (64, 32, 32, 128)
    result = []
    for dtype in _TARGETS:
        result += _elementwise(shape, dtype, turns)
    for dtype in _TARGETS:
        result += _spatial(images, dtype, turns)
    return result


def multiply(key: jax.Array, x: jax.Array) -> jax.Array:
    """Reads and writes the array once, which no dropout can avoid."""
    del key
    return x * jnp.asarray(1 / (1 - RATE), x.dtype)


def _elementwise(shape: tuple[int, ...], dtype: str, turns: int) -> list[Row]:
    x = array(shape, dtype)
    flax = nn.Dropout(RATE, deterministic=False)
    pairs = {
        "jaxreg": of_jax(lambda key, x: dropout.dropout(key, x, rate=RATE), x),
        "flax.linen.Dropout": of_jax(lambda key, x: flax.apply({}, x, rngs={"dropout": key}), x),
        "keras.layers.Dropout": of_keras(keras_layers().Dropout(RATE, dtype=dtype), x),
        "torch": of_torch(lambda x: functional.dropout(x, RATE), shape, dtype),
        "multiply": of_jax(multiply, x),
    }
    return rows(f"dropout {RATE}, {dtype}", pairs, turns=turns, targets=_TARGETS[dtype])


def _spatial(shape: tuple[int, ...], dtype: str, turns: int) -> list[Row]:
    x = array(shape, dtype)
    batch, height, width, channels = shape
    pairs = {
        "jaxreg": of_jax(lambda key, x: dropout.spatial_dropout(key, x, rate=RATE), x),
        "keras.layers.SpatialDropout2D": of_keras(
            keras_layers().SpatialDropout2D(RATE, data_format="channels_last", dtype=dtype), x
        ),
        # Torch has the channels before the pixels.
        "torch": of_torch(
            lambda x: functional.dropout2d(x, RATE), (batch, channels, height, width), dtype
        ),
        "multiply": of_jax(multiply, x),
    }
    return rows(f"spatial dropout {RATE}, {dtype}", pairs, turns=turns)
