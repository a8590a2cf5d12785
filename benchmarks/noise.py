"""Gaussian dropout and noise, compared with Keras and plain code that uses ``jax.random``.

The floor is a multiplication.
"""

import math

import jax
import jax.numpy as jnp

from benchmarks.dropout import multiply
from benchmarks.measuring import Row, if_installed
from benchmarks.peers import FLOOR, array, keras_layers, of_jax, of_keras, rows
from jaxreg import dropout, noise

RATE = 0.1
STDDEV = 0.1


def measure(*, small: bool) -> list[Row]:
    """Measures the forward pass, without and with the gradient, in two dtypes."""
    shape, turns = ((64, 128), 2) if small else ((2048, 4096), 15)
    result = []
    for dtype in ("float32", "bfloat16"):
        result += _gaussian_dropout(array(shape, dtype), dtype, turns)
        result += _gaussian_noise(array(shape, dtype), dtype, turns)
    return result + _others(array(shape), turns)


def _gaussian_dropout(x: jax.Array, dtype: str, turns: int) -> list[Row]:
    scale = math.sqrt(RATE / (1 - RATE))
    pairs = {
        "jaxreg": of_jax(lambda key, x: dropout.gaussian_dropout(key, x, rate=RATE), x),
        FLOOR: of_jax(multiply, x),
        **if_installed(
            "keras",
            lambda: {
                "keras.layers.GaussianDropout": of_keras(
                    keras_layers().GaussianDropout(RATE, dtype=dtype), x
                )
            },
        ),
        "jax.random.normal": of_jax(
            lambda key, x: x * (1 + scale * jax.random.normal(key, x.shape, x.dtype)), x
        ),
    }
    return rows(f"Gaussian dropout {RATE}, {dtype}", pairs, turns=turns)


def _gaussian_noise(x: jax.Array, dtype: str, turns: int) -> list[Row]:
    pairs = {
        "jaxreg": of_jax(lambda key, x: noise.gaussian_noise(key, x, stddev=STDDEV), x),
        FLOOR: of_jax(multiply, x),
        **if_installed(
            "keras",
            lambda: {
                "keras.layers.GaussianNoise": of_keras(
                    keras_layers().GaussianNoise(STDDEV, dtype=dtype), x
                )
            },
        ),
        "jax.random.normal": of_jax(
            lambda key, x: x + STDDEV * jax.random.normal(key, x.shape, x.dtype), x
        ),
    }
    return rows(f"Gaussian noise {STDDEV}, {dtype}", pairs, turns=turns)


def _others(x: jax.Array, turns: int) -> list[Row]:
    uniform = {
        "jaxreg": of_jax(lambda key, x: noise.uniform_noise(key, x, limit=STDDEV), x),
        "jax.random.uniform": of_jax(
            lambda key, x: x + jax.random.uniform(key, x.shape, minval=-STDDEV, maxval=STDDEV), x
        ),
        FLOOR: of_jax(multiply, x),
    }
    pepper = {
        "jaxreg": of_jax(lambda key, x: noise.salt_and_pepper(key, x, rate=RATE), x),
        "jax.random.uniform": of_jax(_salt_and_pepper, x),
        FLOOR: of_jax(multiply, x),
    }
    return [
        *rows(f"uniform noise {STDDEV}, float32", uniform, turns=turns),
        *rows(f"salt and pepper {RATE}, float32", pepper, turns=turns),
    ]


def _salt_and_pepper(key: jax.Array, x: jax.Array) -> jax.Array:
    u = jax.random.uniform(key, x.shape)
    return jnp.where(u < RATE / 2, 0.0, jnp.where(u < RATE, 1.0, x))
