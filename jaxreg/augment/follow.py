"""Functions that warp per-pixel labels, keypoints and boxes by the same matrix as their image.

Draw one matrix, and pass it to :func:`affine` and to these functions. Points and boxes are in
pixels from the top left corner of the image: an image spans ``[0, width]`` by ``[0, height]``, the
center of its first pixel is ``(0.5, 0.5)``, and a mirror takes :math:`x` to ``width - x``, as for
torchvision's boxes. In albumentations and kornia, the center of the first pixel is ``(0, 0)``: add
0.5 before, and subtract it after.
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
from jaxreg.augment.matrices.fixed import move_points


def affine_labels(
    labels: jax.Array,
    matrix: jax.Array,
    *,
    size: Sequence[int] | None = None,
    fill: int = 0,
    border: Border | None = None,
) -> jax.Array:
    """Warps per-pixel labels, such as a segmentation mask, as :func:`affine` warps an image.

    It is :func:`affine` applied to ``labels[..., None]``, the form of labels that the other
    geometric functions take.

    Args:
      labels: Array of integers or booleans ``[..., height, width]``.
      matrix: Matrices ``[..., 3, 3]``: a single matrix, or one per example.
      size: Height and width of the result, by default the size of ``labels``.
      fill: Label for pixels outside the image, which the dtype of ``labels`` can represent.
      border: Rule for labels outside the image, in place of ``fill``; see :func:`affine`.

    Returns:
      Array ``[..., *size]`` of the dtype of ``labels``, read at the nearest pixels.

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
            f"`labels` must have shape [..., height, width], not empty, got {labels.shape}."
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
    """Maps points by the matrix given to :func:`affine` or :func:`perspective` for their image.

    Args:
      points: Floating-point array ``[..., points, 2]``, :math:`x` before :math:`y`.
      matrix: Matrices ``[..., 3, 3]``: a single matrix, or one per example.
      image_size: Height and width of the image.
      size: Height and width of the result, by default the size of the image.

    Returns:
      Array with the shape and dtype of ``points``. Points may lie outside the result; behind the
      horizon of a perspective they are NaN.

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
    x, y, w = _move(points[..., 0], points[..., 1], matrix, here)
    seen = w > 0
    w = jnp.where(seen, w, jnp.ones_like(w))
    places = jnp.stack([x / w + there[1] / 2, y / w + there[0] / 2], axis=-1)
    places = jnp.where(seen[..., None], places, jnp.full_like(places, jnp.nan))
    return places.astype(points.dtype)


def boxes(
    corners: jax.Array,
    matrix: jax.Array,
    *,
    image_size: Sequence[int],
    size: Sequence[int] | None = None,
) -> jax.Array:
    """Maps boxes by the matrix given to :func:`affine` for the image, and clips them to the result.

    A new box bounds the mapped corners; under a perspective, it bounds only the part in front of
    the horizon.

    Args:
      corners: Floating-point array ``[..., boxes, 4]`` of left, top, right and bottom.
      matrix: Matrices ``[..., 3, 3]``: a single matrix, or one per example.
      image_size: Height and width of the image.
      size: Height and width of the result, by default the size of the image.

    Returns:
      Array with the shape and dtype of ``corners``. A box outside the result has no area.

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
    left = corners[..., 0]
    top = corners[..., 1]
    right = corners[..., 2]
    bottom = corners[..., 3]
    # The four corners of all boxes go together, as [..., 4, boxes]: a quarter of the operations.
    x = jnp.concatenate([left, right, right, left], axis=-1)
    y = jnp.concatenate([top, top, bottom, bottom], axis=-1)
    ends = jax.tree.map(
        lambda v: v.reshape(*v.shape[:-1], 4, left.shape[-1]), _move(x, y, matrix, here)
    )
    starts = jax.tree.map(lambda v: jnp.roll(v, 1, axis=-2), ends)
    corner, crossing = _seen_ends(starts, ends)
    x = jnp.concatenate([corner[0], crossing[0]], axis=-2)
    y = jnp.concatenate([corner[1], crossing[1]], axis=-2)
    seen = jnp.concatenate([corner[2], crossing[2]], axis=-2)
    left, right = _extent(x, seen, there[1])
    top, bottom = _extent(y, seen, there[0])
    return jnp.stack([left, top, right, bottom], axis=-1).astype(corners.dtype)


Point = tuple[jax.Array, jax.Array, jax.Array]


def _move(x: jax.Array, y: jax.Array, matrix: ArrayLike, here: Size) -> Point:
    """Maps points in pixels from the top left; returns homogeneous coordinates about the center."""
    matrix = as_strength(matrix, x)
    matrix = matrix.reshape((1,) * (x.ndim + 1 - matrix.ndim) + matrix.shape)
    x = as_strength(x, x) - here[1] / 2
    y = as_strength(y, y) - here[0] / 2
    x, y, w = move_points(matrix, x[..., None], y[..., None])
    return x[..., 0], y[..., 0], w[..., 0]


def _seen_ends(start: Point, end: Point) -> list[Point]:
    """Returns the start of a side and its crossing of the horizon, each as ``(x, y, exists)``."""
    x, y, w = start
    end_x, end_y, end_w = end
    least = _NEAREST * jnp.maximum(abs(w), abs(end_w))
    crosses = (w > least) != (end_w > least)
    length = jnp.where(crosses, end_w - w, jnp.ones_like(least))
    share = jnp.where(crosses, (least - w) / length, jnp.zeros_like(least))
    safe = jnp.where(least > 0, least, jnp.ones_like(least))
    crossing_x = (x + share * (end_x - x)) / safe
    crossing_y = (y + share * (end_y - y)) / safe
    seen = w > least
    w = jnp.where(seen, w, jnp.ones_like(least))
    return [(x / w, y / w, seen), (crossing_x, crossing_y, crosses)]


# Points nearer to the horizon than this share of the distance of others count as beyond it.
_NEAREST = 1e-4


def _extent(place: jax.Array, seen: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Returns the minimum and maximum of visible coordinates, clipped to the image; 0 if none."""
    place = jnp.clip(place + size / 2, 0, size)
    low = jnp.min(jnp.where(seen, place, jnp.full_like(place, size)), axis=-2)
    high = jnp.max(jnp.where(seen, place, jnp.zeros_like(place)), axis=-2)
    return jnp.minimum(low, high), high
