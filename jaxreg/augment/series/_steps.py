"""What the augmentations of series share: steps that count, strengths, and reading in between."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import (
    check_broadcasts,
    check_key,
    check_nonnegative,
    check_real,
    check_scalar,
    check_static_integer,
)
from jaxreg._numerics import as_strength, real_dtype, weigh, widen
from jaxreg._sharding import whole_along
from jaxreg.augment._shared import check_finite, place_by_example, select


def checked(x: jax.Array) -> jax.Array:
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


def steps(length: ArrayLike | None, x: jax.Array) -> jax.Array:
    """How many steps of each example count, ``[]`` or ``[..., 1]``, as real numbers."""
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
    """A strength as one number, or as one for each example with an axis for its steps."""
    lead = x.shape[:-2]
    check_broadcasts(value, name, lead)
    value = as_strength(value, x)
    if value.ndim == 0:
        return value
    return place_by_example_of(jnp.broadcast_to(value, lead), x)[..., None]


def place_by_example_of(value: jax.Array, x: jax.Array) -> jax.Array:
    """Gives ``value``, whose first axes are the leading ones of ``x``, their sharding."""
    return place_by_example(value, x[..., None, :, :])


def times(x: jax.Array) -> jax.Array:
    """The numbers of the steps, with an axis for each leading one of ``x``."""
    line = jnp.arange(x.shape[-2], dtype=real_dtype(x))
    return line.reshape((1,) * (x.ndim - 2) + line.shape)


def limit(value: ArrayLike, name: str, x: jax.Array) -> jax.Array:
    """The checked bound of a random strength: one finite number, zero or positive."""
    check_scalar(value, name)
    check_nonnegative(value, name)
    check_finite(value, name)
    value = as_strength(value, x)
    return jnp.clip(value, 0, jnp.finfo(value.dtype).max)


def uniform(key: jax.Array, x: jax.Array, number: int = 1) -> jax.Array:
    """Some numbers evenly spread over ``(0, 1)`` for each example, ``[..., number]``."""
    check_key(key)
    drawn = _bits.uniform(key, (*x.shape[:-2], number, 1), like=x)
    return drawn[..., 0].astype(real_dtype(x))


def normal(key: jax.Array, x: jax.Array, number: int, channels: int) -> jax.Array:
    """Standard normal numbers for each example, ``[..., number, channels]``."""
    check_key(key)
    drawn = _bits.normal(key, (*x.shape[:-2], number, channels), like=x)
    return drawn.astype(real_dtype(x))


def check_number(value: int, name: str, least: int) -> None:
    """Raises unless ``value`` is an integer on the host that is large enough."""
    check_static_integer(value, name)
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}, got {value}.")


def read(x: jax.Array, position: jax.Array) -> jax.Array:
    """Reads a series between its steps, weighting the two around each position.

    Args:
      x: Array ``[..., time, channels]`` with at least one step.
      position: Times ``[..., steps]``; beyond the ends, the first and the last step.
    """
    last = x.shape[-2] - 1
    position = jnp.broadcast_to(position, (*x.shape[:-2], position.shape[-1]))
    position = place_by_example_of(jnp.clip(position, 0, last), x)
    before = jnp.floor(position)
    share = (position - before)[..., None]
    index = before.astype(jnp.int32)
    first, second = take(x, index), take(x, jnp.minimum(index + 1, last))
    # What stands after the end, such as NaN, has no weight at a whole position.
    y = weigh(1 - share, widen(first)) + weigh(share, widen(second))
    return y.astype(x.dtype)


def ended(position: jax.Array, x: jax.Array, last: jax.Array) -> jax.Array:
    """Positions of which the last is the end, where rounding may leave it a little before."""
    return jnp.where(times(x) >= last, last, jnp.minimum(position, last))


def take(x: jax.Array, index: jax.Array) -> jax.Array:
    """The steps ``[..., steps, channels]`` at indices ``[..., steps]`` within the series."""

    def one(x: jax.Array, index: jax.Array) -> jax.Array:
        return x.at[index].get(mode="clip")

    for _ in range(x.ndim - 2):
        one = jax.vmap(one)
    return one(x, index)


def kept(x: jax.Array, y: jax.Array, counted: jax.Array, still: jax.Array) -> jax.Array:
    """What was made of ``x``, and ``x`` itself after the steps that count and where it is still.

    Args:
      x: Array ``[..., time, channels]``.
      y: What was made of it.
      counted: Steps that count, as :func:`steps` returns them.
      still: Which examples nothing is done to, ``[]`` or ``[..., 1]``.
    """
    changed = (times(x) < counted) & ~still
    return select(changed[..., None], y, x)
