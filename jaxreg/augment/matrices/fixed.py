"""Matrices from given angles, distances, factors, windows and corners."""

from collections.abc import Sequence
from functools import reduce

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._sharding import place_like
from jaxreg.augment._images import check_size


def rotation(degrees: ArrayLike) -> jax.Array:
    r"""Returns the matrix of a rotation about the center, counter-clockwise as seen in the image.

    .. math::

      \begin{pmatrix} \cos a & \sin a & 0 \\ -\sin a & \cos a & 0 \\ 0 & 0 & 1 \end{pmatrix}

    Args:
      degrees: Angle :math:`a` of any shape.

    Returns:
      Matrices ``[..., 3, 3]``.

    Example:
      >>> from jaxreg import augment
      >>> print(augment.matrices.rotation(30.0)[0, 1], augment.matrices.rotation(30.0)[1, 0])
      0.5 -0.5
    """
    (degrees,) = _widen(degrees)
    angle = jnp.deg2rad(degrees)
    cos = jnp.cos(angle)
    sin = jnp.sin(angle)
    return _matrix((cos, sin, 0), (-sin, cos, 0))


def translation(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """Returns the matrix of a shift by ``x`` pixels to the right and ``y`` pixels down.

    Args:
      x: Shift to the right, of any shape.
      y: Shift downward, of a shape that broadcasts with ``x``.

    Returns:
      Matrices ``[..., 3, 3]``.

    Example:
      >>> from jaxreg import augment
      >>> print(augment.matrices.translation(2.0, -1.0)[:2, 2])
      [ 2. -1.]
    """
    x, y = _widen(x, y)
    return _matrix((1, 0, x), (0, 1, y))


def scaling(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """Returns the matrix of a scaling about the center; a factor of -1 flips.

    Args:
      x: Factor of widths, of any shape.
      y: Factor of heights, of a shape that broadcasts with ``x``.

    Returns:
      Matrices ``[..., 3, 3]``.

    Example:
      >>> from jaxreg import augment
      >>> left_right = augment.matrices.scaling(-1.0, 1.0)
      >>> print(augment.matrices.chain(left_right, left_right))
      [[1. 0. 0.]
       [0. 1. 0.]
       [0. 0. 1.]]
    """
    x, y = _widen(x, y)
    return _matrix((x, 0, 0), (0, y, 0))


def shearing(x: ArrayLike, y: ArrayLike) -> jax.Array:
    r"""Returns the matrix of a shear about the center.

    .. math::

      x' = x + s_x y, \qquad y' = y + s_y x

    Args:
      x: Shear :math:`s_x`, the tangent of an angle, of any shape.
      y: Shear :math:`s_y`, of a shape that broadcasts with ``x``.

    Returns:
      Matrices ``[..., 3, 3]``.

    Example:
      >>> from jaxreg import augment
      >>> print(augment.matrices.shearing(0.5, 0.0)[0])
      [1.  0.5 0. ]
    """
    x, y = _widen(x, y)
    return _matrix((1, x, 0), (y, 1, 0))


def window(
    top: ArrayLike,
    left: ArrayLike,
    height: ArrayLike,
    width: ArrayLike,
    *,
    image_size: Sequence[int],
    size: Sequence[int],
) -> jax.Array:
    """Returns the matrix that maps a window of an image onto the whole result.

    Args:
      top: Rows above the window.
      left: Columns to the left of the window.
      height: Height of the window, positive.
      width: Width of the window, positive.
      image_size: Height and width of the image that is cropped.
      size: Height and width of the result.

    Returns:
      Matrices ``[..., 3, 3]``.

    Raises:
      ValueError: A size is not a pair of positive integers.

    Example:
      >>> from jaxreg import augment
      >>> print(augment.matrices.window(0, 0, 4, 4, image_size=(4, 8), size=(8, 8))[0])
      [2. 0. 4.]
    """
    image_size = check_size(image_size, "image_size")
    size = check_size(size)
    top, left, height, width = _widen(top, left, height, width)
    x_scale = size[1] / width
    y_scale = size[0] / height
    x = left + width / 2 - image_size[1] / 2
    y = top + height / 2 - image_size[0] / 2
    return _matrix((x_scale, 0, -x_scale * x), (0, y_scale, -y_scale * y))


def quadrilateral(corners: jax.Array, *, size: Sequence[int]) -> jax.Array:
    """Returns the matrix of the perspective that moves the corners of an image to given points.

    Args:
      corners: New places ``[..., 4, 2]`` of the corners top left, top right, bottom right and
        bottom left: :math:`x` before :math:`y`, in pixels from the center.
      size: Height and width of the image.

    Returns:
      Matrices ``[..., 3, 3]``.

    Raises:
      ValueError: ``corners`` is not of shape ``[..., 4, 2]``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> same = jnp.array([[-3.0, -2.0], [3.0, -2.0], [3.0, 2.0], [-3.0, 2.0]])
      >>> print(jnp.allclose(augment.matrices.quadrilateral(same, size=(4, 6)), jnp.eye(3)))
      True

    References:
      Heckbert, `Fundamentals of Texture Mapping and Image Warping
      <https://www2.eecs.berkeley.edu/Pubs/TechRpts/1989/5504.html>`_, 1989, section 2.2.3
    """
    if jnp.shape(corners)[-2:] != (4, 2):
        raise ValueError(f"`corners` must be of shape [..., 4, 2], got {jnp.shape(corners)}.")
    height, width = check_size(size)
    (corners,) = _widen(corners)
    x = jnp.moveaxis(corners[..., 0], -1, 0)
    y = jnp.moveaxis(corners[..., 1], -1, 0)
    along_x = x[1] - x[2]
    along_y = y[1] - y[2]
    across_x = x[3] - x[2]
    across_y = y[3] - y[2]
    rest_x = x[0] - x[1] + x[2] - x[3]
    rest_y = y[0] - y[1] + y[2] - y[3]
    area = along_x * across_y - across_x * along_y
    g = (rest_x * across_y - across_x * rest_y) / area
    h = (along_x * rest_y - rest_x * along_y) / area
    from_unit_square = _matrix(
        (x[1] - x[0] + g * x[1], x[3] - x[0] + h * x[3], x[0]),
        (y[1] - y[0] + g * y[1], y[3] - y[0] + h * y[3], y[0]),
        (g, h, 1),
    )
    to_unit_square = chain(translation(width / 2, height / 2), scaling(1 / width, 1 / height))
    moved = chain(to_unit_square.astype(corners.dtype), from_unit_square)
    return moved / moved[..., 2:, 2:]


def chain(first: jax.Array, *others: jax.Array) -> jax.Array:
    """Returns the matrix that applies several matrices in turn, ``first`` before ``others``.

    It is the product of the matrices in reverse order, and accurate on devices that round the
    factors of a matrix product.

    Args:
      first: Matrices ``[..., 3, 3]``.
      *others: More matrices, with shapes that broadcast.

    Returns:
      Matrices ``[..., 3, 3]``.

    Example:
      >>> from jaxreg import augment
      >>> matrices = augment.matrices
      >>> print(matrices.chain(matrices.translation(1.0, 0.0), matrices.scaling(2.0, 2.0))[0])
      [2. 0. 2.]
    """

    def multiply(before: jax.Array, after: jax.Array) -> jax.Array:
        ndim = max(before.ndim, after.ndim)
        before = before.reshape((1,) * (ndim - before.ndim) + before.shape)
        after = after.reshape((1,) * (ndim - after.ndim) + after.shape)
        return jnp.sum(after[..., :, :, None] * before[..., None, :, :], axis=-2)

    return reduce(multiply, others, first)


def adjugate(matrix: jax.Array) -> jax.Array:
    """Returns the adjugate, a multiple of the inverse, so both are the same perspective."""
    a = matrix[..., 0, :]
    b = matrix[..., 1, :]
    c = matrix[..., 2, :]
    return jnp.stack([_cross(b, c), _cross(c, a), _cross(a, b)], axis=-1)


def move_points(
    matrix: jax.Array, x: jax.Array, y: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Maps points ``[..., rows, columns]`` by a matrix, and returns homogeneous coordinates."""

    def row(i: int) -> jax.Array:
        p = matrix[..., i, 0, None, None]
        q = matrix[..., i, 1, None, None]
        r = matrix[..., i, 2, None, None]
        return p * x + q * y + r

    return row(0), row(1), row(2)


def _cross(a: jax.Array, b: jax.Array) -> jax.Array:
    a0, a1, a2 = jnp.moveaxis(a, -1, 0)
    b0, b1, b2 = jnp.moveaxis(b, -1, 0)
    return jnp.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], axis=-1)


def _widen(*values: ArrayLike) -> tuple[jax.Array, ...]:
    """Broadcasts values to one shape and sharding, and casts them all to float32 or float64."""
    arrays = [v if isinstance(v, jax.Array) else jnp.asarray(v) for v in values]
    is_double = any(a.dtype == jnp.float64 and not a.weak_type for a in arrays)
    dtype = jnp.float64 if is_double else jnp.float32
    shape = jnp.broadcast_shapes(*(a.shape for a in arrays))
    full = [jnp.broadcast_to(a.astype(dtype), shape) for a in arrays]
    like = next((a for a in arrays if a.shape == shape), None)
    if like is not None:
        full = [place_like(a, like) for a in full]
    return tuple(full)


def _matrix(*rows: tuple[jax.Array | int, ...]) -> jax.Array:
    """Stacks rows of arrays and integers into matrices; the last row defaults to 0, 0, 1."""
    rows = rows if len(rows) == 3 else (*rows, (0, 0, 1))
    like = next(entry for row in rows for entry in row if isinstance(entry, jax.Array))
    full = [
        [entry if isinstance(entry, jax.Array) else jnp.full_like(like, entry) for entry in row]
        for row in rows
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in full], axis=-2)
