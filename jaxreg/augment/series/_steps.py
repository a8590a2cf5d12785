"""Steps of a series: which of them count, where they are, and how they are read and replaced."""

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
    """Returns ``x`` as a JAX array with every example whole on its device.

    Raises:
      TypeError: It is not real floating-point.
      ValueError: It lacks one of the axes of time and of channels.
    """
    check_real(x, "x")
    if x.ndim < 2:
        raise ValueError(
            f"`x` must have the shape [..., time, channels], got {x.shape}; add an axis of one "
            "channel with x[..., None]."
        )
    return whole_along(jnp.asarray(x), (x.ndim - 2, x.ndim - 1))


def count_steps(length: ArrayLike | None, x: jax.Array) -> jax.Array:
    """Returns how many steps of each example count, ``[]`` or ``[..., 1]``, as real numbers."""
    time = x.shape[-2]
    if length is None:
        return jnp.asarray(time, real_dtype(x))
    if not jnp.issubdtype(jnp.result_type(length), jnp.integer):
        raise TypeError(f"`length` must count steps, got dtype {jnp.result_type(length)}.")
    if np.ndim(length) == 0 and not isinstance(length, jax.Array):
        check_nonnegative(length, "length")
    counted = jnp.clip(jnp.asarray(length, jnp.int32), 0, time).astype(real_dtype(x))
    return per_example(counted, "length", x)


def per_example(value: ArrayLike, name: str, x: jax.Array) -> jax.Array:
    """Returns a strength as one number, or as one for each example with an axis for its steps."""
    lead = x.shape[:-2]
    check_broadcasts(value, name, lead)
    value = as_strength(value, x)
    if value.ndim == 0:
        return value
    return place_by_example(jnp.broadcast_to(value, lead), x)[..., None]


def place_by_example(value: jax.Array, x: jax.Array) -> jax.Array:
    """Gives ``value``, whose first axes are the leading ones of ``x``, their sharding."""
    return _images.place_by_example(value, x[..., None, :, :])


def times(x: jax.Array) -> jax.Array:
    """Returns the numbers of the steps, with an axis for each leading one of ``x``."""
    line = jnp.arange(x.shape[-2], dtype=real_dtype(x))
    return line.reshape((1,) * (x.ndim - 2) + line.shape)


def read(x: jax.Array, position: jax.Array) -> jax.Array:
    """Reads a series between its steps by linear interpolation.

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
    """Ends positions exactly at the last step, which rounding may just miss."""
    return jnp.where(times(x) >= last, last, jnp.minimum(position, last))


def take(x: jax.Array, index: jax.Array) -> jax.Array:
    """Returns the steps ``[..., steps, channels]`` at indices ``[..., steps]`` in the series."""

    def one(x: jax.Array, index: jax.Array) -> jax.Array:
        return x.at[index].get(mode="clip")

    for _ in range(x.ndim - 2):
        one = jax.vmap(one)
    return one(x, index)


def replace_steps(x: jax.Array, y: jax.Array, counted: jax.Array, still: jax.Array) -> jax.Array:
    """Replaces the steps that count by new ones, except in examples that stay the same.

    Args:
      x: Array ``[..., time, channels]``.
      y: The new steps, like ``x``.
      counted: Number of steps that count, from :func:`count_steps`.
      still: Which examples stay the same, ``[]`` or ``[..., 1]``.
    """
    changed = (times(x) < counted) & ~still
    return select(changed[..., None], y, x)
