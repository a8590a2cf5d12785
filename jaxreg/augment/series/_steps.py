"""Helpers for the time steps of a series: lengths, positions, interpolation and replacement."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxreg._checks import check_broadcasts, check_nonnegative, check_real
from jaxreg._numerics import as_strength, real_dtype, weigh, widen
from jaxreg._sharding import whole_along
from jaxreg.augment import _images
from jaxreg.augment._images import select


def as_series(x: jax.Array) -> jax.Array:
    """Returns ``x`` as a JAX array whose time and channel axes are not sharded.

    Raises:
      TypeError: ``x`` is not real floating-point.
      ValueError: ``x`` lacks the time axis or the channel axis.
    """
    check_real(x, "x")
    if x.ndim < 2:
        raise ValueError(
            f"`x` must have shape [..., time, channels], got {x.shape}; add an axis of one "
            "channel with x[..., None]."
        )
    return whole_along(jnp.asarray(x), (x.ndim - 2, x.ndim - 1))


def count_steps(length: ArrayLike | None, x: jax.Array) -> jax.Array:
    """Returns the number of valid steps of each example, ``[]`` or ``[..., 1]``, as floats."""
    time = x.shape[-2]
    if length is None:
        return jnp.asarray(time, real_dtype(x))
    if not jnp.issubdtype(jnp.result_type(length), jnp.integer):
        raise TypeError(f"`length` must be an integer, got dtype {jnp.result_type(length)}.")
    if np.ndim(length) == 0 and not isinstance(length, jax.Array):
        check_nonnegative(length, "length")
    counted = jnp.clip(jnp.asarray(length, jnp.int32), 0, time).astype(real_dtype(x))
    return per_example(counted, "length", x)


def per_example(value: ArrayLike, name: str, x: jax.Array) -> jax.Array:
    """Casts a strength; a scalar stays ``[]``, an array is broadcast to ``[..., 1]``."""
    lead = x.shape[:-2]
    check_broadcasts(value, name, lead)
    value = as_strength(value, x)
    if value.ndim == 0:
        return value
    return place_by_example(jnp.broadcast_to(value, lead), x)[..., None]


def place_by_example(value: jax.Array, x: jax.Array) -> jax.Array:
    """Reshards ``value`` like ``x`` along the leading axes, which they share."""
    return _images.place_by_example(value, x[..., None, :, :])


def times(x: jax.Array) -> jax.Array:
    """Returns the indices of the steps as floats ``[..., time]``, with leading axes of size 1."""
    line = jnp.arange(x.shape[-2], dtype=real_dtype(x))
    return line.reshape((1,) * (x.ndim - 2) + line.shape)


def read(x: jax.Array, position: jax.Array) -> jax.Array:
    """Interpolates a series linearly at the times ``position``.

    Args:
      x: Array ``[..., time, channels]`` with at least one step.
      position: Times ``[..., steps]``; beyond the ends the first or the last step is read.
    """
    last = x.shape[-2] - 1
    position = jnp.broadcast_to(position, (*x.shape[:-2], position.shape[-1]))
    position = place_by_example(jnp.clip(position, 0, last), x)
    before = jnp.floor(position)
    share = (position - before)[..., None]
    index = before.astype(jnp.int32)
    first = take(x, index)
    second = take(x, jnp.minimum(index + 1, last))
    # At a whole position the second step must not count, even if it is NaN.
    y = weigh(1 - share, widen(first)) + weigh(share, widen(second))
    return y.astype(x.dtype)


def end_at(last: jax.Array, position: jax.Array, x: jax.Array) -> jax.Array:
    """Clips positions to ``last``, and sets the final position to it exactly, despite rounding."""
    return jnp.where(times(x) >= last, last, jnp.minimum(position, last))


def take(x: jax.Array, index: jax.Array) -> jax.Array:
    """Returns the steps ``[..., steps, channels]`` of ``x`` at the indices ``[..., steps]``."""

    def one(x: jax.Array, index: jax.Array) -> jax.Array:
        return x.at[index].get(mode="clip")

    for _ in range(x.ndim - 2):
        one = jax.vmap(one)
    return one(x, index)


def replace_steps(x: jax.Array, y: jax.Array, counted: jax.Array, still: jax.Array) -> jax.Array:
    """Returns ``y`` at valid steps, and ``x`` at padding and in examples marked by ``still``.

    Args:
      x: Array ``[..., time, channels]``.
      y: The new steps, like ``x``.
      counted: Number of valid steps, from :func:`count_steps`.
      still: Booleans that mark examples to keep, ``[]`` or ``[..., 1]``.
    """
    changed = (times(x) < counted) & ~still
    return select(changed[..., None], y, x)
