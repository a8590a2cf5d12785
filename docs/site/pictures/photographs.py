"""The photographs, the series and the digits that the pictures show."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from sklearn.datasets import load_digits, load_sample_images

from jaxreg import augment

SIZE = (90, 135)


@functools.cache
def photographs() -> tuple[jax.Array, jax.Array]:
    """Returns the two photographs of scikit-learn, in ``[0, 1]``."""
    both = jnp.stack([jnp.asarray(picture) for picture in load_sample_images().images])
    china, flower = augment.resize(augment.to_float(both), size=SIZE)
    return china, flower


def china() -> jax.Array:
    """Returns a temple below a blue sky."""
    return photographs()[0]


def flower() -> jax.Array:
    """Returns a red flower."""
    return photographs()[1]


def series() -> jax.Array:
    """Returns the brightness along a row of a photograph, ``[time, 1]``."""
    return jnp.mean(china(), axis=-1)[55][:, None]


@functools.cache
def digits() -> jax.Array:
    """Returns five handwritten digits in ``[0, 1]``."""
    return jnp.float32(load_digits().images[:5, ..., None] / 16)
