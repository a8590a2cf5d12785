"""What belongs to an image follows it: labels of pixels, points and boxes, by the same matrix.

Sample one matrix, and give it to :func:`affine` and to these. Points and boxes are in pixels from
the corner of the image at the top left, so that an image spans ``[0, width]`` by ``[0, height]``
and the middle of its first pixel is ``(0.5, 0.5)``.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_integer, check_real
from jaxreg._numerics import strength
from jaxreg._sharding import place_like
from jaxreg.augment import matrices
from jaxreg.augment._shared import Size, check_size
from jaxreg.augment.geometry import affine_positions
from jaxreg.augment.sampling import Border, nearest_index


def affine_labels(
    labels: jax.Array,
    matrix: jax.Array,
    *,
    size: Sequence[int] | None = None,
    fill: int = 0,
    border: Border | None = None,
) -> jax.Array:
    """Moves the labels of pixels, such as a segmentation mask, as :func:`affine` moves an image.

    Args:
      labels: Integer array ``[..., height, width]``.
      matrix: Matrices ``[..., 3, 3]``, one for all or one for each example.
      size: Height and width of the result, those of ``labels`` by default.
      fill: Label beyond the border.
      border: What stands beyond the border instead, as in :func:`affine`.

    Returns:
      Array ``[..., *size]`` of the dtype of ``labels``, of which each is that of the nearest pixel.

    Raises:
      TypeError: ``labels`` are not integers.
      ValueError: ``matrix`` is not of shape ``[..., 3, 3]``, or ``labels`` has no pixels.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> labels = jnp.arange(9).reshape(3, 3)
      >>> print(augment.affine_labels(labels, augment.translation(1.0, 0.0), fill=-1))
      [[-1  0  1]
       [-1  3  4]
       [-1  6  7]]
    """
    check_integer(labels, "labels")
    if labels.ndim < 2 or 0 in labels.shape[-2:]:
        raise ValueError(
            f"`labels` must have the shape [..., height, width] with pixels, got {labels.shape}."
        )
    height, width = labels.shape[-2:]
    size = (height, width) if size is None else check_size(size)
    x, y = affine_positions(jnp.asarray(matrix), labels.shape[:-2], (height, width), size)
    row, row_inside = nearest_index(y, height, border)
    column, column_inside = nearest_index(x, width, border)

    def take(labels: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
        return labels.at[row, column].get(mode="clip")

    for _ in range(labels.ndim - 2):
        take = jax.vmap(take)
    moved = take(labels, *(place_like(index, labels) for index in (row, column)))
    if border is not None:
        return moved
    inside = place_like(row_inside & column_inside, moved)
    return jnp.where(inside, moved, jnp.full_like(moved, fill))


def keypoints(
    points: jax.Array,
    matrix: jax.Array,
    *,
    image_size: Sequence[int],
    size: Sequence[int] | None = None,
) -> jax.Array:
    """Moves points as :func:`affine` or :func:`perspective` moves an image.

    Args:
      points: Floating-point array ``[..., points, 2]``, :math:`x` before :math:`y`.
      matrix: Matrices ``[..., 3, 3]``, one for all or one for each example.
      image_size: Height and width of the image.
      size: Height and width of the result, those of the image by default.

    Returns:
      Array with the shape and dtype of ``points``; they may lie outside the result.

    Raises:
      TypeError: ``points`` are not real floating-point.
      ValueError: ``points`` are not of shape ``[..., points, 2]``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> points = jnp.array([[0.0, 0.0], [1.0, 3.0]])
      >>> print(augment.keypoints(points, augment.scaling(-1.0, 1.0), image_size=(3, 4)))
      [[4. 0.]
       [3. 3.]]
    """
    check_real(points, "points")
    if points.ndim < 2 or points.shape[-1] != 2:
        raise ValueError(f"`points` must be of shape [..., points, 2], got {points.shape}.")
    here = check_size(image_size, "image_size")
    there = here if size is None else check_size(size)
    x, y = _moved(points[..., 0], points[..., 1], matrix, here, there)
    return jnp.stack([x, y], axis=-1).astype(points.dtype)


def boxes(
    corners: jax.Array,
    matrix: jax.Array,
    *,
    image_size: Sequence[int],
    size: Sequence[int] | None = None,
) -> jax.Array:
    """Moves boxes as :func:`affine` moves an image: the boxes around the moved corners, cut off.

    Args:
      corners: Floating-point array ``[..., boxes, 4]`` of left, top, right and bottom.
      matrix: Matrices ``[..., 3, 3]``, one for all or one for each example.
      image_size: Height and width of the image.
      size: Height and width of the result, those of the image by default.

    Returns:
      Array with the shape and dtype of ``corners``; a box that has left the result has no area.

    Raises:
      TypeError: ``corners`` are not real floating-point.
      ValueError: ``corners`` are not of shape ``[..., boxes, 4]``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> corners = jnp.array([[0.0, 0.0, 2.0, 1.0]])
      >>> print(augment.boxes(corners, augment.translation(3.0, 1.0), image_size=(3, 4)))
      [[3. 1. 4. 2.]]
    """
    check_real(corners, "corners")
    if corners.ndim < 2 or corners.shape[-1] != 4:
        raise ValueError(f"`corners` must be of shape [..., boxes, 4], got {corners.shape}.")
    here = check_size(image_size, "image_size")
    there = here if size is None else check_size(size)
    left, top, right, bottom = (corners[..., i] for i in range(4))
    sides = ((left, top), (right, top), (right, bottom), (left, bottom))
    moved = [_moved(x, y, matrix, here, there) for x, y in sides]
    x, y = (jnp.stack(values, axis=-1) for values in zip(*moved, strict=True))
    x, y = jnp.clip(x, 0, there[1]), jnp.clip(y, 0, there[0])
    found = (jnp.min(x, -1), jnp.min(y, -1), jnp.max(x, -1), jnp.max(y, -1))
    return jnp.stack(found, axis=-1).astype(corners.dtype)


def _moved(
    x: jax.Array, y: jax.Array, matrix: ArrayLike, here: Size, there: Size
) -> tuple[jax.Array, jax.Array]:
    """Points ``[..., points]`` in pixels from the corner, by a matrix about the centre."""
    matrix = strength(matrix, x)
    matrix = matrix.reshape((1,) * (x.ndim + 1 - matrix.ndim) + matrix.shape)
    centred = strength(x, x) - here[1] / 2, strength(y, y) - here[0] / 2
    x, y, w = matrices.apply(matrix, *(value[..., None] for value in centred))
    return (x / w)[..., 0] + there[1] / 2, (y / w)[..., 0] + there[0] / 2
