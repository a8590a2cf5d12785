"""Masks of the elements that enter statistics."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_mask


def align_mask(where: ArrayLike, x: jax.Array) -> jax.Array:
    """Converts a mask to boolean and prepends axes of size 1 up to the rank of ``x``.

    Raises:
      ValueError: The mask does not broadcast to ``x``.
    """
    check_mask(where, x)
    mask = jnp.asarray(where).astype(bool)
    return jnp.expand_dims(mask, tuple(range(x.ndim - mask.ndim)))


def select(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Returns ``x`` with 0 outside the mask."""
    return x if mask is None else jnp.where(mask, x, jnp.zeros_like(x))
