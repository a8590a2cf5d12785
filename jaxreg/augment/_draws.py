"""Random numbers, booleans and signs, one per example, and checks of their limits."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import (
    check_finite,
    check_key,
    check_nonnegative,
    check_positive,
    check_scalar,
)
from jaxreg._numerics import as_strength, real_dtype
from jaxreg.augment._images import append_axes


def limit(value: ArrayLike, name: str, like: jax.Array) -> jax.Array:
    """Returns ``value`` as an array; raises unless it is a single finite, nonnegative number."""
    check_scalar(value, name)
    check_nonnegative(value, name)
    check_finite(value, name)
    value = as_strength(value, like)
    return jnp.clip(value, 0, jnp.finfo(value.dtype).max)


def limits(value: Sequence[ArrayLike], name: str, image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns both ends of a range as arrays, each checked by :func:`limit`."""
    if not isinstance(value, Sequence | np.ndarray | jax.Array) or len(value) != 2:
        raise ValueError(f"`{name}` must be a pair (least, largest), got {value}.")
    return limit(value[0], name, image), limit(value[1], name, image)


def positive_limits(
    value: Sequence[ArrayLike], name: str, image: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns both ends of a positive range as arrays; clips traced ends to be positive."""
    low, high = limits(value, name, image)
    for end in value:
        check_positive(end, name)
    info = jnp.finfo(low.dtype)
    return jnp.clip(low, info.tiny, info.max), jnp.clip(high, info.tiny, info.max)


def uniform(key: jax.Array, image: jax.Array) -> jax.Array:
    """Draws a uniform number in ``(0, 1)`` for each example, of shape ``[...]``."""
    check_key(key)
    lead = image.shape[:-3]
    drawn = _bits.uniform(key, (*lead, 1, 1, 1), like=image)
    # Dividing by 1 makes XLA compute the numbers only once. XLA repeats cheap arithmetic wherever a
    # number is broadcast to pixels, so it would draw again for every pixel, which is ten times as
    # slow.
    drawn = drawn / jnp.maximum(drawn, 1)
    return drawn.reshape(lead).astype(real_dtype(image))


def between(key: jax.Array, image: jax.Array, low: ArrayLike, high: ArrayLike) -> jax.Array:
    """Draws a uniform number between ``low`` and ``high`` for each example, of shape ``[...]``."""
    share = uniform(key, image)
    low = as_strength(low, image)
    high = as_strength(high, image)
    return low + (high - low) * share


def symmetric(key: jax.Array, image: jax.Array, bound: jax.Array) -> jax.Array:
    """Draws a uniform number in ``(-bound, bound)`` for each example, of shape ``[...]``."""
    return bound * (2 * uniform(key, image) - 1)


def decide(key: jax.Array, image: jax.Array, probability: ArrayLike) -> jax.Array:
    """Draws a boolean for each example, true with ``probability``, of shape ``[..., 1, 1, 1]``."""
    return append_axes(uniform(key, image) < as_strength(probability, image))


def die(key: jax.Array, image: jax.Array, sides: int) -> jax.Array:
    """Draws a uniform integer from 0 to ``sides - 1`` for each example."""
    return jnp.floor(uniform(key, image) * sides).astype(jnp.int32)


def sign(key: jax.Array, image: jax.Array) -> jax.Array:
    """Draws 1 or -1 with equal probability for each example."""
    return 1 - 2 * die(key, image, 2).astype(real_dtype(image))
