"""Erasing: parts of an image that a value takes the place of."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_key, check_nonnegative, check_rate
from jaxreg._sharding import place_like
from jaxreg.augment._filling import filling
from jaxreg.augment._shared import (
    between,
    check_finite,
    check_positive,
    checked_pixels,
    chosen,
    limits,
    per_example,
    positive_limits,
    select,
)


def cutout(
    image: jax.Array,
    *,
    row: ArrayLike,
    column: ArrayLike,
    height: ArrayLike,
    width: ArrayLike,
    fill: ArrayLike = 0.0,
) -> jax.Array:
    """Erases a box.

    Args:
      image: Array ``[..., height, width, channels]``, of floats or of labels.
      row: Middle of the box, from 0 at the top to the height, one for all or one for each example.
      column: Middle of the box, from 0 at the left to the width, likewise.
      height: Height of the box, likewise; its borders are rounded to whole pixels, and what is
        beyond the image is cut off. 0 is the identity to the bit.
      width: Width of the box, likewise.
      fill: What takes its place: numbers that the dtype holds and that broadcast to ``image``, such
        as noise.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex.
      ValueError: A number does not broadcast to the leading axes, or is a negative side.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> y = augment.cutout(jnp.ones((3, 4, 1)), row=0, column=2, height=2, width=2)
      >>> print(y[..., 0])
      [[1. 0. 0. 1.]
       [1. 1. 1. 1.]
       [1. 1. 1. 1.]]

    References:
      DeVries and Taylor, `Improved Regularization of Convolutional Neural Networks with Cutout
      <https://arxiv.org/abs/1708.04552>`_, 2017
    """
    image = checked_pixels(image)
    for value, name in ((height, "height"), (width, "width")):
        check_nonnegative(value, name)
    for value, name in ((row, "row"), (column, "column")):
        check_finite(value, name)
    names = ("row", "column", "height", "width")
    values = (row, column, height, width)
    numbers = (per_example(v, name, image) for v, name in zip(values, names, strict=True))
    return _erased(image, box(image, *numbers), fill)


def random_cutout(
    key: jax.Array,
    image: jax.Array,
    *,
    height: ArrayLike,
    width: ArrayLike,
    fill: ArrayLike = 0.0,
) -> jax.Array:
    """Erases a box of one size about a random point, which may be at the border.

    Args:
      key: PRNG key.
      image: Array ``[..., height, width, channels]``, of floats or of labels.
      height: Height of the box, one for all or one for each example; 0 erases nothing.
      width: Its width, likewise.
      fill: What takes its place: numbers that the dtype holds and that broadcast to ``image``, such
        as noise.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not one key.
      ValueError: A side is negative or does not broadcast to the leading axes.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.ones((50, 9, 9, 1))
      >>> y = augment.random_cutout(jax.random.key(0), image, height=4, width=4)
      >>> print(jnp.sum(1 - y, axis=(1, 2, 3)).max())
      16.0
    """
    image = checked_pixels(image)
    row_key, column_key = _split(key)
    row = between(row_key, image, 0, image.shape[-3])
    column = between(column_key, image, 0, image.shape[-2])
    return cutout(image, row=row, column=column, height=height, width=width, fill=fill)


def random_erasing(
    key: jax.Array,
    image: jax.Array,
    *,
    probability: ArrayLike,
    scale: tuple[ArrayLike, ArrayLike] = (0.02, 1 / 3),
    ratio: tuple[ArrayLike, ArrayLike] = (0.3, 1 / 0.3),
    fill: ArrayLike = 0.0,
) -> jax.Array:
    """Erases a box of random area and shape that lies within the image, or nothing.

    The ratio of torchvision and timm is that of height to width; those by default are their own
    inverses.

    Args:
      key: PRNG key.
      image: Array ``[..., height, width, channels]``, of floats or of labels.
      probability: Of erasing, in ``[0, 1]``.
      scale: Least and largest share of the area.
      ratio: Least and largest ratio of width to height, positive, of which the logarithm is evenly
        spread.
      fill: What takes its place: numbers that the dtype holds and that broadcast to ``image``, such
        as noise.

    Returns:
      Array with the shape and dtype of ``image``. A side that is longer than the image is cut to
      it, where the paper draws again.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not one key.
      ValueError: ``probability`` is a number outside ``[0, 1]``, or a limit is negative or
        infinite, or a ratio 0.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.ones((50, 32, 32, 1))
      >>> y = augment.random_erasing(jax.random.key(0), image, probability=1.0)
      >>> share = jnp.mean(y == 0, axis=(1, 2, 3))
      >>> print(share.min() > 0.01, share.max() < 0.36)
      True True

    References:
      Zhong et al., `Random Erasing Data Augmentation <https://arxiv.org/abs/1708.04896>`_, 2017
    """
    check_rate(probability, "probability")
    image = checked_pixels(image)
    keys = _split(key, 5)
    area = between(keys[0], image, *limits(scale, "scale", image))
    logs = map(jnp.log, positive_limits(ratio, "ratio", image))
    aspect = jnp.exp(between(keys[1], image, *logs))
    rows, columns = image.shape[-3:-1]
    height = jnp.clip(jnp.round(jnp.sqrt(area * rows * columns / aspect)), 0, rows)
    width = jnp.clip(jnp.round(jnp.sqrt(area * rows * columns * aspect)), 0, columns)
    top = jnp.floor(between(keys[2], image, 0, 1) * (rows - height + 1))
    left = jnp.floor(between(keys[3], image, 0, 1) * (columns - width + 1))
    row, column = top + height / 2, left + width / 2
    erased = cutout(image, row=row, column=column, height=height, width=width, fill=fill)
    return select(chosen(keys[4], image, probability), erased, image)


def grid_mask(
    image: jax.Array,
    *,
    spacing: ArrayLike,
    share: ArrayLike,
    row: ArrayLike = 0.0,
    column: ArrayLike = 0.0,
    fill: ArrayLike = 0.0,
) -> jax.Array:
    r"""Erases a grid of squares.

    .. math::

      (i - \delta_y) \bmod d < r d \quad \text{and} \quad (j - \delta_x) \bmod d < r d

    Args:
      image: Array ``[..., height, width, channels]``, of floats or of labels.
      spacing: Distance :math:`d` of the squares in pixels, positive, one for all or one for each
        example.
      share: Side of a square over the distance :math:`r`, in ``[0, 1]``, one minus that of
        the paper, so that 0 is the identity to the bit and :math:`r^2` of the image is erased.
      row: Row :math:`\delta_y` at which a square begins, likewise.
      column: Column :math:`\delta_x` at which a square begins, likewise.
      fill: What takes their place: numbers that the dtype holds and that broadcast to ``image``.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex.
      ValueError: A number does not broadcast to the leading axes, ``spacing`` is not positive,
        one is infinite, or ``share`` is outside ``[0, 1]``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> y = augment.grid_mask(jnp.ones((8, 8, 1)), spacing=4, share=0.5)
      >>> print(jnp.mean(y == 0))
      0.25

    References:
      Chen et al., `GridMask Data Augmentation <https://arxiv.org/abs/2001.04086>`_, 2020
    """
    image = checked_pixels(image)
    check_positive(spacing, "spacing")
    for value, name in ((spacing, "spacing"), (row, "row"), (column, "column")):
        check_finite(value, name)
    if jnp.ndim(share) == 0:
        check_rate(share, "share")
    names = ("spacing", "share", "row", "column")
    values = (spacing, share, row, column)
    d, r, y, x = (per_example(v, name, image) for v, name in zip(values, names, strict=True))
    d = jnp.maximum(d, jnp.finfo(d.dtype).tiny)
    rows, columns = _pixels(image, d.dtype)
    inside = (jnp.mod(rows - y, d) < r * d) & (jnp.mod(columns - x, d) < r * d)
    return _erased(image, inside, fill)


def random_grid_mask(
    key: jax.Array,
    image: jax.Array,
    *,
    spacing: tuple[ArrayLike, ArrayLike],
    share: ArrayLike,
    fill: ArrayLike = 0.0,
) -> jax.Array:
    """Erases a grid of squares of random distance and place.

    Args:
      key: PRNG key.
      image: Array ``[..., height, width, channels]``, of floats or of labels.
      spacing: Least and largest distance of the squares in pixels.
      share: Side of a square over the distance, see :func:`grid_mask`.
      fill: What takes their place: numbers that the dtype holds and that broadcast to ``image``.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not one key.
      ValueError: A limit is not positive and finite, or ``share`` outside ``[0, 1]``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> key, image = jax.random.key(0), jnp.ones((8, 96, 96, 1))
      >>> y = augment.random_grid_mask(key, image, spacing=(8.0, 16.0), share=0.5)
      >>> print(abs(jnp.mean(y == 0) - 0.25) < 0.05)
      True
    """
    image = checked_pixels(image)
    keys = _split(key, 3)
    distance = between(keys[0], image, *positive_limits(spacing, "spacing", image))
    row, column = (between(k, image, 0, 1) * distance for k in keys[1:])
    return grid_mask(image, spacing=distance, share=share, row=row, column=column, fill=fill)


def box(
    image: jax.Array, row: jax.Array, column: jax.Array, height: jax.Array, width: jax.Array
) -> jax.Array:
    """Marks the pixels ``[..., height, width, 1]`` of boxes about points, in whole pixels."""
    row, column, height, width = (_for_pixels(v, image) for v in (row, column, height, width))
    rows, columns = _pixels(image, row.dtype)
    # Half up, so that a box of a whole number of pixels has that many wherever it lies.
    top, bottom = jnp.floor(row - height / 2 + 0.5), jnp.floor(row + height / 2 + 0.5)
    left, right = jnp.floor(column - width / 2 + 0.5), jnp.floor(column + width / 2 + 0.5)
    return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)


def _for_pixels(value: jax.Array, image: jax.Array) -> jax.Array:
    """Numbers ``[...]`` or ``[..., 1, 1, 1]`` as the latter."""
    if value.ndim == 0 or value.ndim == image.ndim:
        return value
    return value.reshape((*value.shape, 1, 1, 1))


def _pixels(image: jax.Array, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """Numbers of rows and columns, with axes for the others."""
    lead = (1,) * (image.ndim - 3)
    height, width = image.shape[-3:-1]
    rows = jnp.arange(height, dtype=dtype).reshape((*lead, height, 1, 1))
    return rows, jnp.arange(width, dtype=dtype).reshape((*lead, 1, width, 1))


def _erased(image: jax.Array, mask: jax.Array, fill: ArrayLike) -> jax.Array:
    value = filling(fill, image, image.shape).astype(image.dtype)
    return select(mask, place_like(jnp.broadcast_to(value, image.shape), image), image)


def _split(key: jax.Array, number: int = 2) -> jax.Array:
    check_key(key)
    return jax.random.split(key, number)
