"""Functions that erase a box or a grid of squares, by filling it with a value."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import (
    check_finite,
    check_key,
    check_nonnegative,
    check_positive,
    check_rate,
)
from jaxreg._scopes import mark
from jaxreg._sharding import place_like
from jaxreg.augment._draws import between, decide, limits, positive_limits
from jaxreg.augment._filling import filling
from jaxreg.augment._images import as_pixels, per_example, select


@mark()
def cutout(
    image: jax.Array,
    *,
    row: ArrayLike,
    column: ArrayLike,
    height: ArrayLike,
    width: ArrayLike,
    fill: ArrayLike = 0.0,
) -> jax.Array:
    """Fills a box of an image with ``fill``.

    Args:
      image: Array ``[..., height, width, channels]`` of floats, integers or booleans.
      row: Row of the box's center, from 0 to the height: a single number, or one per example.
      column: Column of the box's center, from 0 to the width, in the same form as ``row``.
      height: Height of the box, in the same form as ``row``. The edges of the box are rounded to
        whole pixels, and it is cut off at the border of the image. 0 is exactly the identity.
      width: Width of the box, in the same form as ``height``.
      fill: Value for the erased pixels: a number, or an array that broadcasts to ``image``, such as
        noise.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex.
      ValueError: A number does not broadcast to the leading axes, or a side is negative.

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
    image = as_pixels(image)
    check_nonnegative(height, "height")
    check_nonnegative(width, "width")
    check_finite(row, "row")
    check_finite(column, "column")
    mask = box(
        image,
        per_example(row, "row", image),
        per_example(column, "column", image),
        per_example(height, "height", image),
        per_example(width, "width", image),
    )
    return _erase(image, mask, fill)


@mark()
def random_cutout(
    key: jax.Array,
    image: jax.Array,
    *,
    height: ArrayLike,
    width: ArrayLike,
    fill: ArrayLike = 0.0,
) -> jax.Array:
    """Fills a box around a uniformly drawn point; the image's border may cut the box off.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Array ``[..., height, width, channels]`` of floats, integers or booleans.
      height: Height of the box: a single number, or one per example; 0 erases nothing.
      width: Width of the box, in the same form as ``height``.
      fill: Value for the erased pixels: a number, or an array that broadcasts to ``image``, such as
        noise.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: A side is negative or does not broadcast to the leading axes.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.ones((50, 9, 9, 1))
      >>> y = augment.random_cutout(jax.random.key(0), image, height=4, width=4)
      >>> print(jnp.sum(1 - y, axis=(1, 2, 3)).max())
      16.0
    """
    image = as_pixels(image)
    row_key, column_key = _split_key(key, 2)
    row = between(row_key, image, 0, image.shape[-3])
    column = between(column_key, image, 0, image.shape[-2])
    return cutout(image, row=row, column=column, height=height, width=width, fill=fill)


@mark("probability")
def random_erasing(
    key: jax.Array,
    image: jax.Array,
    *,
    probability: ArrayLike,
    scale: tuple[ArrayLike, ArrayLike] = (0.02, 1 / 3),
    ratio: tuple[ArrayLike, ArrayLike] = (0.3, 1 / 0.3),
    fill: ArrayLike = 0.0,
) -> jax.Array:
    """Fills a box of random area, aspect ratio and position in randomly chosen images.

    torchvision and timm use the ratio of height to width; the default range is the same either way.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Array ``[..., height, width, channels]`` of floats, integers or booleans.
      probability: Probability of erasing, in ``[0, 1]``.
      scale: Least and largest area of the box, as a share of the image.
      ratio: Least and largest ratio of width to height, positive, whose logarithm is uniform.
      fill: Value for the erased pixels: a number, or an array that broadcasts to ``image``, such as
        noise.

    Returns:
      Array with the shape and dtype of ``image``. A side longer than the image is cut off; Zhong et
      al. draw again instead.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: ``probability`` is a number outside ``[0, 1]``, a limit is negative or infinite,
        or a ratio is 0.

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
    image = as_pixels(image)
    keys = _split_key(key, 5)
    area = between(keys[0], image, *limits(scale, "scale", image))
    low, high = positive_limits(ratio, "ratio", image)
    aspect = jnp.exp(between(keys[1], image, jnp.log(low), jnp.log(high)))
    rows, columns = image.shape[-3:-1]
    height = jnp.clip(jnp.round(jnp.sqrt(area * rows * columns / aspect)), 0, rows)
    width = jnp.clip(jnp.round(jnp.sqrt(area * rows * columns * aspect)), 0, columns)
    top = jnp.floor(between(keys[2], image, 0, 1) * (rows - height + 1))
    left = jnp.floor(between(keys[3], image, 0, 1) * (columns - width + 1))
    row = top + height / 2
    column = left + width / 2
    erased = cutout(image, row=row, column=column, height=height, width=width, fill=fill)
    return select(decide(keys[4], image, probability), erased, image)


@mark("share")
def grid_mask(
    image: jax.Array,
    *,
    spacing: ArrayLike,
    share: ArrayLike,
    row: ArrayLike = 0.0,
    column: ArrayLike = 0.0,
    fill: ArrayLike = 0.0,
) -> jax.Array:
    r"""Fills a regular grid of squares with ``fill``.

    .. math::

      (i - \delta_y) \bmod d < r d \quad \text{and} \quad (j - \delta_x) \bmod d < r d

    Args:
      image: Array ``[..., height, width, channels]`` of floats, integers or booleans.
      spacing: Distance :math:`d` of the squares in pixels, positive: a single number, or one per
        example.
      share: Side of a square divided by ``spacing``, :math:`r`, in ``[0, 1]``; Chen et al. give one
        minus this number. The share :math:`r^2` of the image is erased, and 0 is exactly the
        identity.
      row: Row :math:`\delta_y` where a square begins, in the same form as ``spacing``.
      column: Column :math:`\delta_x` where a square begins, in the same form as ``spacing``.
      fill: Value for the erased pixels: a number, or an array that broadcasts to ``image``.

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
    image = as_pixels(image)
    check_positive(spacing, "spacing")
    for value, name in ((spacing, "spacing"), (row, "row"), (column, "column")):
        check_finite(value, name)
    if jnp.ndim(share) == 0:
        check_rate(share, "share")
    d = per_example(spacing, "spacing", image)
    r = per_example(share, "share", image)
    y = per_example(row, "row", image)
    x = per_example(column, "column", image)
    d = jnp.maximum(d, jnp.finfo(d.dtype).tiny)
    rows, columns = _pixels(image, d.dtype)
    inside = (jnp.mod(rows - y, d) < r * d) & (jnp.mod(columns - x, d) < r * d)
    return _erase(image, inside, fill)


@mark("share")
def random_grid_mask(
    key: jax.Array,
    image: jax.Array,
    *,
    spacing: tuple[ArrayLike, ArrayLike],
    share: ArrayLike,
    fill: ArrayLike = 0.0,
) -> jax.Array:
    """Fills a regular grid of squares with random spacing and offset.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Array ``[..., height, width, channels]`` of floats, integers or booleans.
      spacing: Least and largest distance of the squares in pixels.
      share: Side of a square divided by the distance; see :func:`grid_mask`.
      fill: Value for the erased pixels: a number, or an array that broadcasts to ``image``.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: A limit is not positive and finite, or ``share`` is outside ``[0, 1]``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> key, image = jax.random.key(0), jnp.ones((8, 96, 96, 1))
      >>> y = augment.random_grid_mask(key, image, spacing=(8.0, 16.0), share=0.5)
      >>> print(abs(jnp.mean(y == 0) - 0.25) < 0.05)
      True
    """
    image = as_pixels(image)
    keys = _split_key(key, 3)
    distance = between(keys[0], image, *positive_limits(spacing, "spacing", image))
    row = between(keys[1], image, 0, 1) * distance
    column = between(keys[2], image, 0, 1) * distance
    return grid_mask(image, spacing=distance, share=share, row=row, column=column, fill=fill)


def box(
    image: jax.Array, row: jax.Array, column: jax.Array, height: jax.Array, width: jax.Array
) -> jax.Array:
    """Returns a boolean mask ``[..., height, width, 1]`` of boxes, rounded to whole pixels."""
    row = _for_pixels(row, image)
    column = _for_pixels(column, image)
    height = _for_pixels(height, image)
    width = _for_pixels(width, image)
    rows, columns = _pixels(image, row.dtype)
    # Rounds half up, so that a box with whole sides has the same number of pixels wherever it is.
    top = jnp.floor(row - height / 2 + 0.5)
    bottom = jnp.floor(row + height / 2 + 0.5)
    left = jnp.floor(column - width / 2 + 0.5)
    right = jnp.floor(column + width / 2 + 0.5)
    return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)


def _for_pixels(value: jax.Array, image: jax.Array) -> jax.Array:
    """Reshapes ``[...]`` to ``[..., 1, 1, 1]``; keeps scalars and arrays that have all axes."""
    if value.ndim == 0 or value.ndim == image.ndim:
        return value
    return value.reshape((*value.shape, 1, 1, 1))


def _pixels(image: jax.Array, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """Returns row indices and column indices, shaped to broadcast with ``image``."""
    lead = (1,) * (image.ndim - 3)
    height, width = image.shape[-3:-1]
    rows = jnp.arange(height, dtype=dtype).reshape((*lead, height, 1, 1))
    columns = jnp.arange(width, dtype=dtype).reshape((*lead, 1, width, 1))
    return rows, columns


def _erase(image: jax.Array, mask: jax.Array, fill: ArrayLike) -> jax.Array:
    value = filling(fill, image, image.shape).astype(image.dtype)
    return select(mask, place_like(jnp.broadcast_to(value, image.shape), image), image)


def _split_key(key: jax.Array, number: int) -> jax.Array:
    check_key(key)
    return jax.random.split(key, number)
