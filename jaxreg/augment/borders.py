"""Borders: functions that choose the pixels to read beyond the border of an image.

A border takes integer indices and the length of an axis, and returns indices within the axis. Write
your own in the same form. If ``border`` is None, the constant ``fill`` is read.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _signatures
from jaxreg.augment._filling import check_fill, filling
from jaxreg.augment._images import select

__all__ = ["edge", "reflect", "wrap"]

Border = Callable[[jax.Array, int], jax.Array]


def edge(index: jax.Array, size: int) -> jax.Array:
    """Maps indices beyond the border to the nearest pixel: ``aaa|abcd|ddd``.

    Args:
      index: Integers.
      size: Length of the axis.

    Returns:
      Integers in ``[0, size)`` of the same shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.borders.edge(jnp.arange(-2, 6), 4))
      [0 0 0 1 2 3 3 3]
    """
    return jnp.clip(index, 0, size - 1)


def reflect(index: jax.Array, size: int) -> jax.Array:
    """Reflects indices about the outermost pixels, which are not repeated: ``dcb|abcd|cba``.

    Args:
      index: Integers.
      size: Length of the axis.

    Returns:
      Integers in ``[0, size)`` of the same shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.borders.reflect(jnp.arange(-2, 6), 4))
      [2 1 0 1 2 3 2 1]
    """
    last = size - 1
    return last - abs(last - index % max(2 * last, 1))


def wrap(index: jax.Array, size: int) -> jax.Array:
    """Wraps indices around, as if the image were periodic: ``bcd|abcd|abc``.

    Args:
      index: Integers.
      size: Length of the axis.

    Returns:
      Integers in ``[0, size)`` of the same shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.borders.wrap(jnp.arange(-2, 6), 4))
      [2 3 0 1 2 3 0 1]
    """
    return index % size


def extend(
    image: jax.Array,
    rows: tuple[int, int],
    columns: tuple[int, int],
    *,
    fill: ArrayLike = 0.0,
    border: Border | None = None,
) -> jax.Array:
    """Pads the height by ``rows`` and the width by ``columns``, each a pair ``(before, after)``."""
    check_fill(fill, image.dtype)
    height, width = image.shape[-3:-1]
    if border is None:
        padding = [(0, 0)] * (image.ndim - 3) + [rows, columns, (0, 0)]
        inside = jnp.pad(jnp.ones((height, width, 1), bool), padding[-3:])
        padded = jnp.pad(image, padding)
        inside = inside.reshape((1,) * (image.ndim - 3) + inside.shape)
        beyond = jnp.broadcast_to(value_beyond(fill, image).astype(image.dtype), padded.shape)
        return select(inside, padded, beyond)
    for axis, length, (before, after) in ((-3, height, rows), (-2, width, columns)):
        if before or after:
            index = border(jnp.arange(-before, length + after), length)
            image = jnp.take(image, index, axis=axis, mode="clip")
    return image


def value_beyond(fill: ArrayLike, image: jax.Array) -> jax.Array:
    """Returns the fill as a scalar, or per channel with as many axes as ``image``."""
    value = filling(fill, image, image.shape[-1:])
    return value if value.ndim == 0 else value.reshape((1,) * (image.ndim - 1) + value.shape)


_signatures.show(__name__)
