"""Random numbers, drawn separately for each example of a batch of series."""

import jax

from jaxreg import _bits
from jaxreg._checks import check_key
from jaxreg._numerics import real_dtype


def uniform(key: jax.Array, x: jax.Array, number: int = 1) -> jax.Array:
    """Draws ``number`` uniform numbers in ``(0, 1)`` for each example, ``[..., number]``."""
    check_key(key)
    drawn = _bits.uniform(key, (*x.shape[:-2], number, 1), like=x)
    return drawn[..., 0].astype(real_dtype(x))


def normal(key: jax.Array, x: jax.Array, number: int, channels: int) -> jax.Array:
    """Draws an array of standard normal numbers for each example, ``[..., number, channels]``."""
    check_key(key)
    drawn = _bits.normal(key, (*x.shape[:-2], number, channels), like=x)
    return drawn.astype(real_dtype(x))
