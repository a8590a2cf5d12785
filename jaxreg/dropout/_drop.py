"""What the techniques share: checks, and the masked product that is computed again backward."""

from collections.abc import Collection
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import check_floating, check_key, check_rate, is_static
from jaxreg._numerics import as_strength, divide


def inverted(
    key: jax.Array,
    x: jax.Array,
    *,
    rate: ArrayLike,
    shared: Collection[int],
    bits: _bits.Bits | None,
    name: str = "x",
) -> jax.Array:
    """Drops and scales up, one decision along the axes in ``shared``.

    Args:
      key: PRNG key.
      x: Floating-point array.
      rate: Probability of dropping.
      shared: Numbers in ``[0, ndim)`` of the axes along which one decision is shared.
      bits: Source of random bits, see ``_bits.draw``.
      name: What ``x`` is called in errors.
    """
    check_arguments(key, x, rate, name)
    return _scaled(key, x, clipped(rate, x), kept(rate, x), decisions(x, shared), bits)


def check_arguments(key: jax.Array, x: jax.Array, rate: ArrayLike, name: str = "x") -> None:
    """Raises unless these are a key, floating-point data and a probability."""
    check_key(key)
    check_floating(x, name)
    check_rate(rate)


def check_axes(x: jax.Array, least: int, layout: str, name: str = "x") -> None:
    """Raises where ``x`` has less axes than the ``layout`` names at ``least``."""
    if x.ndim < least:
        raise ValueError(f"`{name}` must have the axes {layout}, got shape {x.shape}.")


def clipped(rate: ArrayLike, x: jax.Array) -> jax.Array:
    """The rate in the dtype of computations on ``x``, within ``[0, 1]``; NaN stays."""
    return jnp.clip(as_strength(rate, x), 0, 1)


def kept(rate: ArrayLike, x: jax.Array) -> jax.Array:
    """The probability of keeping in the dtype of computations on ``x``; NaN stays."""
    if not is_static(rate):
        return 1 - clipped(rate, x)
    # In float32, 1 - 0.9 is 2e-7 too large and 1 - 0.999 is 1e-5.
    return as_strength(1 - float(rate), x)  # pyright: ignore[reportArgumentType]


def decisions(x: jax.Array, shared: Collection[int]) -> tuple[int, ...]:
    """Shape of ``x`` with the axes in ``shared`` of size 1."""
    return tuple(1 if axis in shared else size for axis, size in enumerate(x.shape))


@partial(jax.checkpoint, static_argnums=(4, 5))
def _scaled(
    key: jax.Array,
    x: jax.Array,
    rate: jax.Array,
    keep_rate: jax.Array,
    shape: tuple[int, ...],
    bits: _bits.Bits | None,
) -> jax.Array:
    dropped = _bits.bernoulli(key, rate, shape, like=x, bits=bits)
    # A rate of 1 drops everything: dividing by 1 instead of 0 keeps NaN out of the gradient.
    keep_rate = jnp.where(rate >= 1, jnp.ones_like(rate), keep_rate)
    scaled = divide(x, keep_rate)
    # Not even a division by 1 is exact where subnormal numbers are flushed to zero.
    return jnp.where(rate == 0, x, jnp.where(dropped, jnp.zeros_like(x), scaled))
