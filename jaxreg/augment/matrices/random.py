"""Random matrices, one per example of a batch."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_between, check_key, check_positive, check_rate
from jaxreg._numerics import as_strength, real_dtype
from jaxreg._scopes import mark
from jaxreg._sharding import place_like
from jaxreg.augment._draws import between, decide, limit, limits, positive_limits, symmetric
from jaxreg.augment._images import as_pixels
from jaxreg.augment.matrices import fixed

_ATTEMPTS = 10


class Window(NamedTuple):
    """The top, left, height and width of a window in pixels, for each example."""

    top: jax.Array
    left: jax.Array
    height: jax.Array
    width: jax.Array


@mark("degrees")
def random_rotation(key: jax.Array, image: jax.Array, *, degrees: ArrayLike) -> jax.Array:
    """Draws the matrix of a rotation, with an angle uniform in ``(-degrees, degrees)``.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Array ``[..., height, width, channels]`` of floats, integers or booleans.
      degrees: Largest angle, zero or positive.

    Returns:
      Matrices ``[..., 3, 3]`` for :func:`jaxreg.augment.affine`.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: ``degrees`` is negative or not a single number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> images = jnp.zeros((5, 4, 4, 1))
      >>> matrix = augment.matrices.random_rotation(jax.random.key(0), images, degrees=15.0)
      >>> print(matrix.shape, jnp.allclose(jnp.linalg.det(matrix), 1))
      (5, 3, 3) True
    """
    image = as_pixels(image)
    return fixed.rotation(symmetric(key, image, limit(degrees, "degrees", image)))


@mark()
def random_translation(
    key: jax.Array, image: jax.Array, *, x: ArrayLike, y: ArrayLike
) -> jax.Array:
    """Draws the matrix of a shift, uniform up to ``x`` and ``y`` pixels in either direction.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Array ``[..., height, width, channels]`` of floats, integers or booleans.
      x: Largest shift to the right or to the left, in pixels.
      y: Largest shift up or down, in pixels.

    Returns:
      Matrices ``[..., 3, 3]`` for :func:`jaxreg.augment.affine`.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: A limit is negative or not a single number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> images = jnp.zeros((5, 4, 4, 1))
      >>> matrix = augment.matrices.random_translation(jax.random.key(0), images, x=2.0, y=0.0)
      >>> print(jnp.all(abs(matrix[:, 0, 2]) < 2), jnp.all(matrix[:, 1, 2] == 0))
      True True
    """
    image = as_pixels(image)
    x, y = _pair(key, image, limit(x, "x", image), limit(y, "y", image))
    return fixed.translation(x, y)


@mark()
def random_scaling(key: jax.Array, image: jax.Array, *, x: ArrayLike, y: ArrayLike) -> jax.Array:
    r"""Draws the matrix of a scaling by factors whose logarithms are uniform around 0.

    .. math::

      f = (1 + r)^{u}, \qquad u \sim \mathrm U(-1, 1)

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Array ``[..., height, width, channels]`` of floats, integers or booleans.
      x: Limit :math:`r` for widths: 0.25 gives a factor between 0.8 and 1.25.
      y: Limit for heights, in the same form.

    Returns:
      Matrices ``[..., 3, 3]`` for :func:`jaxreg.augment.affine`.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: A limit is negative or not a single number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> images = jnp.zeros((5, 4, 4, 1))
      >>> matrix = augment.matrices.random_scaling(jax.random.key(0), images, x=0.25, y=0.0)
      >>> print(jnp.all(abs(jnp.log(matrix[:, 0, 0])) < jnp.log(1.25)), matrix[0, 1, 1])
      True 1.0
    """
    image = as_pixels(image)
    x = jnp.log1p(limit(x, "x", image))
    y = jnp.log1p(limit(y, "y", image))
    x, y = _pair(key, image, x, y)
    return fixed.scaling(jnp.exp(x), jnp.exp(y))


@mark()
def random_shearing(key: jax.Array, image: jax.Array, *, x: ArrayLike, y: ArrayLike) -> jax.Array:
    """Draws the matrix of a shear, uniform up to ``x`` and ``y`` in either direction.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Array ``[..., height, width, channels]`` of floats, integers or booleans.
      x: Largest shear of columns, the tangent of an angle.
      y: Largest shear of rows.

    Returns:
      Matrices ``[..., 3, 3]`` for :func:`jaxreg.augment.affine`.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: A limit is negative or not a single number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> images = jnp.zeros((5, 4, 4, 1))
      >>> matrix = augment.matrices.random_shearing(jax.random.key(0), images, x=0.3, y=0.0)
      >>> print(jnp.all(abs(matrix[:, 0, 1]) < 0.3), jnp.all(matrix[:, 1, 0] == 0))
      True True
    """
    image = as_pixels(image)
    x, y = _pair(key, image, limit(x, "x", image), limit(y, "y", image))
    return fixed.shearing(x, y)


@mark("probability")
def random_reflection(key: jax.Array, image: jax.Array, *, probability: ArrayLike) -> jax.Array:
    """Draws the matrix that mirrors left to right with ``probability``, or else the identity.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Array ``[..., height, width, channels]`` of floats, integers or booleans.
      probability: Probability of mirroring, in ``[0, 1]``.

    Returns:
      Matrices ``[..., 3, 3]`` for :func:`jaxreg.augment.affine`.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: ``probability`` is a number outside ``[0, 1]``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> images = jnp.zeros((50, 4, 4, 1))
      >>> matrix = augment.matrices.random_reflection(jax.random.key(0), images, probability=0.5)
      >>> print(jnp.unique(matrix[:, 0, 0]))
      [-1.  1.]
    """
    check_rate(probability, "probability")
    image = as_pixels(image)
    mirrored = decide(key, image, probability).reshape(image.shape[:-3])
    x = 1 - 2 * mirrored.astype(real_dtype(image))
    return fixed.scaling(x, jnp.ones_like(x))


@mark("distortion")
def random_quadrilateral(key: jax.Array, image: jax.Array, *, distortion: ArrayLike) -> jax.Array:
    """Draws the matrix of a perspective that moves every corner inward by random distances.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Array ``[..., height, width, channels]`` of floats, integers or booleans.
      distortion: Largest shift of a corner along each axis, as a share in ``[0, 1]`` of half the
        height and half the width.

    Returns:
      Matrices ``[..., 3, 3]`` for :func:`jaxreg.augment.perspective`.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: ``distortion`` is a number outside ``[0, 1]``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> images = jnp.zeros((5, 4, 4, 1))
      >>> matrix = augment.matrices.random_quadrilateral(jax.random.key(0), images, distortion=0.5)
      >>> print(matrix.shape, jnp.all(matrix[:, 2, 2] == 1))
      (5, 3, 3) True
    """
    check_between(distortion, "distortion", 0, 1)
    check_key(key)
    image = as_pixels(image)
    share = jnp.clip(as_strength(distortion, image), 0, 1)
    *lead, height, width, _ = image.shape
    keys = jax.random.split(key, 8)
    moved = jnp.stack([between(k, image, 0, share) for k in keys], axis=-1)
    signs = jnp.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], moved.dtype)
    corners = signs * jnp.array([[width / 2, height / 2]], moved.dtype)
    corners = corners.reshape((1,) * len(lead) + (4, 2))
    matrix = fixed.quadrilateral(corners * (1 - moved.reshape(*lead, 4, 2)), size=(height, width))
    still = place_like(jnp.broadcast_to(jnp.eye(3, dtype=matrix.dtype), matrix.shape), matrix)
    return jnp.where(share == 0, still, matrix)


@mark()
def random_window(
    key: jax.Array,
    image: jax.Array,
    *,
    size: Sequence[int],
    scale: tuple[ArrayLike, ArrayLike] = (0.08, 1.0),
    ratio: tuple[ArrayLike, ArrayLike] = (3 / 4, 4 / 3),
) -> jax.Array:
    """Draws the matrix that maps a random window of an image onto a result of ``size``.

    :func:`jaxreg.augment.random_resized_crop` draws the same window with the same key.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Array ``[..., height, width, channels]`` of floats, integers or booleans.
      size: Height and width of the result.
      scale: Least and largest share of the area of ``image``, the largest positive.
      ratio: Least and largest ratio of width to height, positive.

    Returns:
      Matrices ``[..., 3, 3]`` for :func:`jaxreg.augment.affine`, called with the same ``size``.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: ``size`` is not a pair of positive integers, or a limit is not positive and
        finite; only the least share may be 0.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> images = jnp.zeros((5, 8, 8, 1))
      >>> matrix = augment.matrices.random_window(jax.random.key(0), images, size=(4, 4))
      >>> print(jnp.all(jnp.linalg.det(matrix) >= 0.25))
      True
    """
    image = as_pixels(image)
    drawn = draw_window(key, image, scale, ratio)
    return fixed.window(*drawn, image_size=image.shape[-3:-1], size=size)


def draw_window(
    key: jax.Array,
    image: jax.Array,
    scale: tuple[ArrayLike, ArrayLike],
    ratio: tuple[ArrayLike, ArrayLike],
) -> Window:
    """Draws ten windows and returns the first that fits, or else the largest central window.

    torchvision does the same.
    """
    check_key(key)
    height, width = image.shape[-3:-1]
    shares = limits(scale, "scale", image)
    ratios = positive_limits(ratio, "ratio", image)
    check_positive(scale[1], "scale")
    area_key, ratio_key, top_key, left_key = jax.random.split(key, 4)
    area = height * width * _attempts(area_key, image, *shares)
    aspect = jnp.exp(_attempts(ratio_key, image, jnp.log(ratios[0]), jnp.log(ratios[1])))
    w = jnp.round(jnp.sqrt(area * aspect))
    h = jnp.round(jnp.sqrt(area / aspect))
    fits = (w >= 1) & (w <= width) & (h >= 1) & (h <= height)
    first = fits & (jnp.cumsum(fits.astype(jnp.int32), axis=-1) == 1)
    found = jnp.any(fits, axis=-1)
    aspect = jnp.clip(width / height, *ratios).astype(w.dtype)
    w = jnp.sum(jnp.where(first, w, jnp.zeros_like(w)), axis=-1)
    h = jnp.sum(jnp.where(first, h, jnp.zeros_like(h)), axis=-1)
    w = jnp.where(found, w, jnp.round(jnp.minimum(width, height * aspect)))
    h = jnp.where(found, h, jnp.round(jnp.minimum(height, width / aspect)))
    w = jnp.maximum(w, 1)
    h = jnp.maximum(h, 1)
    top = jnp.floor(between(top_key, image, 0, 1) * (height - h + 1))
    left = jnp.floor(between(left_key, image, 0, 1) * (width - w + 1))
    top = jnp.where(found, top, jnp.floor((height - h) / 2))
    left = jnp.where(found, left, jnp.floor((width - w) / 2))
    return Window(top, left, h, w)


def _attempts(key: jax.Array, image: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """Draws uniform numbers ``[..., attempts]`` between ``low`` and ``high`` for each example."""
    keys = jax.random.split(key, _ATTEMPTS)
    return jnp.stack([between(k, image, low, high) for k in keys], axis=-1)


def _pair(
    key: jax.Array, image: jax.Array, x: jax.Array, y: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Draws two numbers for each example, uniform in ``(-x, x)`` and ``(-y, y)``."""
    check_key(key)
    x_key, y_key = jax.random.split(key)
    return symmetric(x_key, image, x), symmetric(y_key, image, y)
