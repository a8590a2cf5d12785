"""What belongs to an image follows it: labels of pixels, points and boxes, by the same matrix.

Sample one matrix, and give it to :func:`affine` and to these. Points and boxes are in pixels from
the corner of the image at the top left, so that an image spans ``[0, width]`` by ``[0, height]``
and the middle of its first pixel is ``(0.5, 0.5)``: a mirror takes :math:`x` to
``width - x``, as it does torchvision's boxes. Points that count pixels, as those of albumentations
and kornia do, have 0.5 added before and taken off after.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_integer, check_real
from jaxreg._numerics import as_strength
from jaxreg.augment._images import Size, check_size, is_labels
from jaxreg.augment.borders import Border
from jaxreg.augment.geometry import affine
from jaxreg.augment.matrices.fixed import apply


def affine_labels(
    labels: jax.Array,
    matrix: jax.Array,
    *,
    size: Sequence[int] | None = None,
    fill: int = 0,
    border: Border | None = None,
) -> jax.Array:
    """Moves the labels of pixels, such as a segmentation mask, as :func:`affine` moves an image.

    It is :func:`affine` of ``labels[..., None]``, as which labels go through all of the geometry.

    Args:
      labels: Array of integers or booleans ``[..., height, width]``.
      matrix: Matrices ``[..., 3, 3]``, one for all or one for each example.
      size: Height and width of the result, those of ``labels`` by default.
      fill: Label beyond the border, which the dtype of ``labels`` holds.
      border: What stands beyond the border instead, as in :func:`affine`.

    Returns:
      Array ``[..., *size]`` of the dtype of ``labels``, of which each is that of the nearest pixel.

    Raises:
      TypeError: ``labels`` are neither integers nor booleans.
      ValueError: ``matrix`` is not of shape ``[..., 3, 3]``, ``labels`` has no pixels, or ``fill``
        does not fit its dtype.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> labels = jnp.arange(9).reshape(3, 3)
      >>> print(augment.affine_labels(labels, augment.matrices.translation(1.0, 0.0), fill=-1))
      [[-1  0  1]
       [-1  3  4]
       [-1  6  7]]
    """
    if not is_labels(labels):
        check_integer(labels, "labels")
    if labels.ndim < 2 or 0 in labels.shape[-2:]:
        raise ValueError(
            f"`labels` must have the shape [..., height, width] with pixels, got {labels.shape}."
        )
    image = jnp.asarray(labels)[..., None]
    return affine(image, matrix, size=size, fill=fill, border=border)[..., 0]


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
      Array with the shape and dtype of ``points``; they may lie outside the result, and are NaN
      behind the horizon of a perspective.

    Raises:
      TypeError: ``points`` are not real floating-point.
      ValueError: ``points`` are not of shape ``[..., points, 2]``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> points = jnp.array([[0.0, 0.0], [1.0, 3.0]])
      >>> print(augment.keypoints(points, augment.matrices.scaling(-1.0, 1.0), image_size=(3, 4)))
      [[4. 0.]
       [3. 3.]]
    """
    check_real(points, "points")
    if points.ndim < 2 or points.shape[-1] != 2:
        raise ValueError(f"`points` must be of shape [..., points, 2], got {points.shape}.")
    points = jnp.asarray(points)
    here = check_size(image_size, "image_size")
    there = here if size is None else check_size(size)
    x, y, w = _moved(points[..., 0], points[..., 1], matrix, here)
    seen = w > 0
    w = jnp.where(seen, w, jnp.ones_like(w))
    places = (x / w + there[1] / 2, y / w + there[0] / 2)
    places = [jnp.where(seen, place, jnp.full_like(place, jnp.nan)) for place in places]
    return jnp.stack(places, axis=-1).astype(points.dtype)


def boxes(
    corners: jax.Array,
    matrix: jax.Array,
    *,
    image_size: Sequence[int],
    size: Sequence[int] | None = None,
) -> jax.Array:
    """Moves boxes as :func:`affine` moves an image: the boxes around the moved corners, cut off.

    With a perspective, they are around what lies before the horizon.

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
      >>> print(augment.boxes(corners, augment.matrices.translation(3.0, 1.0), image_size=(3, 4)))
      [[3. 1. 4. 2.]]
    """
    check_real(corners, "corners")
    if corners.ndim < 2 or corners.shape[-1] != 4:
        raise ValueError(f"`corners` must be of shape [..., boxes, 4], got {corners.shape}.")
    corners = jnp.asarray(corners)
    here = check_size(image_size, "image_size")
    there = here if size is None else check_size(size)
    left, top, right, bottom = (corners[..., i] for i in range(4))
    sides = ((left, top), (right, top), (right, bottom), (left, bottom))
    moved = [_moved(x, y, matrix, here) for x, y in sides]
    ends = [end for i in range(4) for end in _seen_ends(moved[i - 1], moved[i])]
    x, y, seen = (jnp.stack(values, axis=-1) for values in zip(*ends, strict=True))
    found = [_extent(place, seen, size) for place, size in ((x, there[1]), (y, there[0]))]
    return jnp.stack([end for pair in zip(*found, strict=True) for end in pair], axis=-1).astype(
        corners.dtype
    )


Point = tuple[jax.Array, jax.Array, jax.Array]


def _moved(x: jax.Array, y: jax.Array, matrix: ArrayLike, here: Size) -> Point:
    """Homogeneous coordinates about the centre of points ``[..., points]`` from the corner."""
    matrix = as_strength(matrix, x)
    matrix = matrix.reshape((1,) * (x.ndim + 1 - matrix.ndim) + matrix.shape)
    centred = as_strength(x, x) - here[1] / 2, as_strength(y, y) - here[0] / 2
    moved = apply(matrix, *(value[..., None] for value in centred))
    x, y, w = (value[..., 0] for value in moved)
    return x, y, w


def _seen_ends(start: Point, end: Point) -> list[Point]:
    """The ends of the part of a side that lies before the horizon, and whether there is one."""
    w = start[2], end[2]
    least = _NEAREST * jnp.maximum(abs(w[0]), abs(w[1]))
    crosses = (w[0] > least) != (w[1] > least)
    length = jnp.where(crosses, w[1] - w[0], jnp.ones_like(least))
    share = jnp.where(crosses, (least - w[0]) / length, jnp.zeros_like(least))
    safe = jnp.where(least > 0, least, jnp.ones_like(least))
    crossing = [(a + share * (b - a)) / safe for a, b in zip(start[:2], end[:2], strict=True)]
    seen = w[0] > least
    w = jnp.where(seen, w[0], jnp.ones_like(least))
    return [(start[0] / w, start[1] / w, seen), (crossing[0], crossing[1], crosses)]


# Points this near to the horizon, as a share of the distance of others, count as beyond it.
_NEAREST = 1e-4


def _extent(place: jax.Array, seen: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """The least and the largest of the places that are seen, within the result; 0 without any."""
    place = jnp.clip(place + size / 2, 0, size)
    low = jnp.min(jnp.where(seen, place, jnp.full_like(place, size)), axis=-1)
    high = jnp.max(jnp.where(seen, place, jnp.zeros_like(place)), axis=-1)
    return jnp.minimum(low, high), high
