"""Dropout and spatial dropout against Flax, Keras and torch; the floor is a multiplication.

In bfloat16 spatial dropout multiplies in float32, between two conversions. Torch multiplies in
bfloat16 by a factor rounded to it, 1.109 in place of 1.111, so that its mean is not the input.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from benchmarks.measuring import Row, if_installed
from benchmarks.peers import FLOOR, array, keras_layers, of_jax, of_keras, of_torch, rows
from jaxreg import dropout

RATE = 0.1
_DTYPES = ("float32", "bfloat16")


def measure(*, small: bool) -> list[Row]:
    """Measures the forward pass, without and with the gradient, in two dtypes."""
    turns = 2 if small else 15
    shape = (64, 128) if small else (2048, 4096)
    images = (2, 4, 4, 8) if small else (64, 32, 32, 128)
    result = []
    for dtype in _DTYPES:
        result += _elementwise(shape, dtype, turns)
    for dtype in _DTYPES:
        result += _spatial(images, dtype, turns)
    return result


def multiply(key: jax.Array, x: jax.Array) -> jax.Array:
    """Reads and writes the array once, which every dropout must do."""
    del key
    return x * jnp.asarray(1 / (1 - RATE), x.dtype)


def _elementwise(shape: tuple[int, ...], dtype: str, turns: int) -> list[Row]:
    x = array(shape, dtype)
    flax = nn.Dropout(RATE, deterministic=False)
    pairs = {
        "jaxreg": of_jax(lambda key, x: dropout.dropout(key, x, rate=RATE), x),
        "flax.linen.Dropout": of_jax(lambda key, x: flax.apply({}, x, rngs={"dropout": key}), x),
        FLOOR: of_jax(multiply, x),
        **if_installed(
            "keras",
            lambda: {
                "keras.layers.Dropout": of_keras(keras_layers().Dropout(RATE, dtype=dtype), x)
            },
        ),
        **if_installed(
            "torch", lambda: {"torch": of_torch(lambda f, x: f.dropout(x, RATE), shape, dtype)}
        ),
    }
    return rows(f"dropout {RATE}, {dtype}", pairs, turns=turns)


def _spatial(shape: tuple[int, ...], dtype: str, turns: int) -> list[Row]:
    x = array(shape, dtype)
    batch, height, width, channels = shape

    def layer():
        layers = keras_layers()
        return layers.SpatialDropout2D(RATE, data_format="channels_last", dtype=dtype)

    pairs = {
        "jaxreg": of_jax(lambda key, x: dropout.spatial_dropout(key, x, rate=RATE), x),
        "jax.random": of_jax(_plain_spatial, x),
        FLOOR: of_jax(multiply, x),
        **if_installed("keras", lambda: {"keras.layers.SpatialDropout2D": of_keras(layer(), x)}),
        # In torch the channels come before the pixels.
        **if_installed(
            "torch",
            lambda: {
                "torch": of_torch(
                    lambda f, x: f.dropout2d(x, RATE), (batch, channels, height, width), dtype
                )
            },
        ),
    }
    return rows(f"spatial dropout {RATE}, {dtype}", pairs, turns=turns)


def _plain_spatial(key: jax.Array, x: jax.Array) -> jax.Array:
    kept = jax.random.bernoulli(key, 1 - RATE, (len(x), 1, 1, x.shape[-1]))
    return jnp.where(kept, x / (1 - RATE), 0)
