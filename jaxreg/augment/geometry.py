"""Affine maps, perspectives and elastic warps, each in one resampling.

An angle turns counter-clockwise, as in PIL, kornia, albumentations and torchvision's ``rotate``. A
positive shear moves the lower part to the right. torchvision's ``affine`` and ``RandomAffine``
count both the other way. Pixels are squares about their centers. A warp that moves nothing returns
the image exactly.

Labels are arrays of integers or booleans, such as segmentation masks. They are read at the nearest
pixels, so the result contains only their values and ``fill``. They need a channel axis, as images
do: ``labels[..., None]``. A ``uint8`` image counts as labels too: convert it with :func:`to_float`
to interpolate its colors.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_broadcasts
from jaxreg._numerics import as_strength
from jaxreg.augment import matrices
from jaxreg.augment._images import Size, as_pixels, check_size, select
from jaxreg.augment.borders import Border
from jaxreg.augment.matrices.fixed import adjugate, move_points
from jaxreg.augment.sampling import Sampler, default_sampler


def affine(
    image: jax.Array,
    matrix: jax.Array,
    *,
    size: Sequence[int] | None = None,
    fill: ArrayLike = 0.0,
    border: Border | None = None,
    sample: Sampler | None = None,
) -> jax.Array:
    r"""Warps an image by a 3 by 3 matrix, in one resampling.

    .. math::

      v(x' / w', y' / w') = u(x, y), \qquad (x', y', w') = M (x, y, 1)

    Points :math:`(x, y)` are in pixels from the center of the image, :math:`x` to the right and
    :math:`y` downward. A matrix whose last row is 0, 0, 1 is an affine map, :math:`v(A p + t) =
    u(p)`; any other is a perspective. Build the matrix of several steps with
    :func:`matrices.chain`, and move points, boxes and labels of the image by the same matrix with
    :func:`keypoints`, :func:`boxes` and :func:`affine_labels`.

    Args:
      image: Array ``[..., height, width, channels]``. Floats are interpolated; integers, ``uint8``
        images included, and booleans are read at the nearest pixels.
      matrix: Matrices :math:`M`, ``[..., 3, 3]``: a single matrix, or one per example, as
        :func:`matrices.rotation` and :func:`matrices.window` make them.
      size: Height and width of the result, by default the size of ``image``. The center of the
        image is the center of the result.
      fill: Value for pixels outside the image: a number, or one per channel, that the dtype of
        ``image`` can represent.
      border: Rule for pixels outside the image, in place of ``fill``: :func:`borders.edge`,
        :func:`borders.reflect`, :func:`borders.wrap` or a function like them.
      sample: Function that reads between pixels: :func:`sampling.bilinear`, the default,
        :func:`sampling.nearest`, the default for integers and booleans,
        :func:`sampling.bilinear_matmul` or a function like them.

    Returns:
      Array ``[..., *size, channels]`` of the dtype of ``image``. Shrinking does not average the
      pixels that it skips; :func:`resize` does.

    Raises:
      TypeError: ``image`` is complex, or holds integers or booleans although ``sample`` averages.
      ValueError: ``matrix`` is not of shape ``[..., 3, 3]``, ``size`` is not a pair, or the dtype
        cannot represent ``fill``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.arange(16.0).reshape(4, 4, 1)
      >>> once = augment.matrices.rotation(45.0)
      >>> turned = augment.affine(image, augment.matrices.chain(once, once))
      >>> print(jnp.allclose(turned, jnp.rot90(image), atol=1e-4))
      True
    """
    image = as_pixels(image)
    matrix = as_strength(matrix, image)
    x, y = positions(matrix, image.shape[:-3], *_sizes(image, size))
    warped = (sample or default_sampler(image))(image, x, y, fill=fill, border=border)
    return _keep_if_still(image, warped, matrix, size)


def perspective(
    image: jax.Array,
    matrix: jax.Array,
    *,
    size: Sequence[int] | None = None,
    fill: ArrayLike = 0.0,
    border: Border | None = None,
    sample: Sampler | None = None,
) -> jax.Array:
    """Warps an image by the matrix of a perspective; identical to :func:`affine`.

    Args:
      image: Array ``[..., height, width, channels]``. Floats are interpolated; integers, ``uint8``
        images included, and booleans are read at the nearest pixels.
      matrix: Matrices :math:`M`, ``[..., 3, 3]``, as :func:`matrices.quadrilateral` makes them.
      size: Height and width of the result, by default the size of ``image``.
      fill: Value for pixels outside the image or behind the horizon: a number, or one per channel.
      border: Rule for pixels outside the image, in place of ``fill``; see :func:`affine`.
      sample: Function that reads between pixels, as in :func:`affine`.

    Returns:
      Array ``[..., *size, channels]`` of the dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex, or holds integers or booleans although ``sample`` averages.
      ValueError: ``matrix`` is not of shape ``[..., 3, 3]``, ``size`` is not a pair, or the dtype
        cannot represent ``fill``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.ones((4, 4, 1))
      >>> print((augment.perspective(image, jnp.eye(3)) == image).all())
      True
    """
    return affine(image, matrix, size=size, fill=fill, border=border, sample=sample)


def rotate(
    image: jax.Array, *, degrees: ArrayLike, fill: ArrayLike = 0.0, border: Border | None = None
) -> jax.Array:
    """Rotates an image counter-clockwise about its center.

    Args:
      image: Array ``[..., height, width, channels]``. Floats are interpolated; integers, ``uint8``
        images included, and booleans are read at the nearest pixels.
      degrees: Angle: a single number, or one per example.
      fill: Value for pixels outside the image: a number, or one per channel, that the dtype of
        ``image`` can represent.
      border: Rule for pixels outside the image, in place of ``fill``; see :func:`affine`.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex.
      ValueError: ``degrees`` does not broadcast to the leading axes of ``image``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.arange(9.0).reshape(3, 3, 1)
      >>> turned = augment.rotate(image, degrees=90.0)
      >>> print(jnp.allclose(turned, jnp.rot90(image), atol=1e-5))
      True
    """
    image = as_pixels(image)
    matrix = matrices.rotation(_per_example(degrees, "degrees", image))
    return affine(image, matrix, fill=fill, border=border)


def translate(
    image: jax.Array,
    *,
    x: ArrayLike,
    y: ArrayLike,
    fill: ArrayLike = 0.0,
    border: Border | None = None,
) -> jax.Array:
    """Shifts an image by ``x`` pixels to the right and ``y`` pixels down.

    Args:
      image: Array ``[..., height, width, channels]``. Floats are interpolated; integers, ``uint8``
        images included, and booleans are read at the nearest pixels.
      x: Pixels to the right: a single number, or one per example.
      y: Pixels downward, in the same form.
      fill: Value for pixels outside the image: a number, or one per channel, that the dtype of
        ``image`` can represent.
      border: Rule for pixels outside the image, in place of ``fill``; see :func:`affine`.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex.
      ValueError: ``x`` or ``y`` does not broadcast to the leading axes of ``image``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.arange(4.0).reshape(1, 4, 1)
      >>> print(augment.translate(image, x=1.0, y=0.0)[0, :, 0])
      [0. 0. 1. 2.]
    """
    image = as_pixels(image)
    matrix = matrices.translation(_per_example(x, "x", image), _per_example(y, "y", image))
    return affine(image, matrix, fill=fill, border=border)


def scale(
    image: jax.Array,
    *,
    x: ArrayLike,
    y: ArrayLike,
    fill: ArrayLike = 0.0,
    border: Border | None = None,
) -> jax.Array:
    """Scales an image about its center, and keeps the height and width of the array.

    Args:
      image: Array ``[..., height, width, channels]``. Floats are interpolated; integers, ``uint8``
        images included, and booleans are read at the nearest pixels.
      x: Factor of widths: a single number, or one per example; below 1 shrinks.
      y: Factor of heights, in the same form.
      fill: Value for pixels outside the image: a number, or one per channel, that the dtype of
        ``image`` can represent.
      border: Rule for pixels outside the image, in place of ``fill``; see :func:`affine`.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex.
      ValueError: ``x`` or ``y`` does not broadcast to the leading axes of ``image``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.array([0.0, 1.0, 2.0, 3.0]).reshape(1, 4, 1)
      >>> print(augment.scale(image, x=2.0, y=1.0)[0, :, 0])
      [0.75 1.25 1.75 2.25]
    """
    image = as_pixels(image)
    matrix = matrices.scaling(_per_example(x, "x", image), _per_example(y, "y", image))
    return affine(image, matrix, fill=fill, border=border)


def shear(
    image: jax.Array,
    *,
    x: ArrayLike,
    y: ArrayLike,
    fill: ArrayLike = 0.0,
    border: Border | None = None,
) -> jax.Array:
    r"""Shears an image about its center.

    .. math::

      x' = x + s_x y, \qquad y' = y + s_y x

    Args:
      image: Array ``[..., height, width, channels]``. Floats are interpolated; integers, ``uint8``
        images included, and booleans are read at the nearest pixels.
      x: Shear :math:`s_x`, the tangent of an angle: a single number, or one per example.
      y: Shear :math:`s_y`, in the same form.
      fill: Value for pixels outside the image: a number, or one per channel, that the dtype of
        ``image`` can represent.
      border: Rule for pixels outside the image, in place of ``fill``; see :func:`affine`.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex.
      ValueError: ``x`` or ``y`` does not broadcast to the leading axes of ``image``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.array([[0.0, 1.0, 0.0]] * 3)[..., None]
      >>> print(augment.shear(image, x=1.0, y=0.0)[..., 0])
      [[1. 0. 0.]
       [0. 1. 0.]
       [0. 0. 1.]]
    """
    image = as_pixels(image)
    matrix = matrices.shearing(_per_example(x, "x", image), _per_example(y, "y", image))
    return affine(image, matrix, fill=fill, border=border)


def elastic(
    image: jax.Array,
    displacement: jax.Array,
    *,
    fill: ArrayLike = 0.0,
    border: Border | None = None,
    sample: Sampler | None = None,
) -> jax.Array:
    r"""Warps an image by reading every pixel of the result at a displaced position.

    .. math::

      v(x, y) = u(x + d_x(x, y), \; y + d_y(x, y))

    Args:
      image: Array ``[..., height, width, channels]``. Floats are interpolated; integers, ``uint8``
        images included, and booleans are read at the nearest pixels.
      displacement: Pixels :math:`(d_x, d_y)`, ``[..., height, width, 2]``.
      fill: Value for pixels outside the image: a number, or one per channel, that the dtype of
        ``image`` can represent.
      border: Rule for pixels outside the image, in place of ``fill``; see :func:`affine`.
      sample: Function that reads between pixels, as in :func:`affine`.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex.
      ValueError: ``displacement`` does not broadcast to ``[..., height, width, 2]``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.arange(4.0).reshape(1, 4, 1)
      >>> right = jnp.array([1.0, 0.0])
      >>> print(augment.elastic(image, right, border=augment.borders.edge)[0, :, 0])
      [1. 2. 3. 3.]

    References:
      Simard et al., `Best Practices for Convolutional Neural Networks Applied to Visual Document
      Analysis <https://doi.org/10.1109/ICDAR.2003.1227801>`_, 2003
    """
    image = as_pixels(image)
    shape = (*image.shape[:-1], 2)
    check_broadcasts(displacement, "displacement", shape)
    moved = jnp.broadcast_to(as_strength(displacement, image), shape)
    x, y = _grid(_sizes(image, None)[0], image.ndim - 1, moved.dtype)
    sample = sample or default_sampler(image)
    warped = sample(image, x + moved[..., 0], y + moved[..., 1], fill=fill, border=border)
    still = jnp.all(moved == 0, axis=(-3, -2, -1), keepdims=True)
    return select(still, image, warped)


def positions(
    matrix: jax.Array, lead: tuple[int, ...], image_size: Size, size: Size
) -> tuple[jax.Array, jax.Array]:
    """Returns the source position ``x, y`` of every pixel of the result; NaN behind the horizon.

    The last element of the inverse is scaled to 1 unless it is 0, so the inverse of an affine map
    has a last row of exactly 0, 0, 1.
    """
    matrix = _check_matrix(matrix, lead)
    back = adjugate(matrix)
    determinant = jnp.sum(matrix[..., 0, :] * back[..., :, 0], axis=-1)[..., None, None]
    last = back[..., 2:, 2:]
    scale = jnp.where(last == 0, jnp.ones_like(last), last)
    x, y, w = move_points(back / scale, *_centered_grid(size, back))
    seen = jnp.sign(w) * jnp.sign(scale) * jnp.sign(determinant) > 0
    w = jnp.where(seen, w, jnp.ones_like(w))
    x = jnp.where(seen, x / w, jnp.full_like(w, jnp.nan))
    y = jnp.where(seen, y / w, jnp.full_like(w, jnp.nan))
    height, width = image_size
    x = jnp.broadcast_to(x + (width - 1) / 2, (*lead, *size))
    y = jnp.broadcast_to(y + (height - 1) / 2, (*lead, *size))
    return x, y


def _check_matrix(matrix: jax.Array, lead: tuple[int, ...]) -> jax.Array:
    """Checks the shape of the matrices, and prepends axes until they broadcast to ``lead``."""
    if jnp.ndim(matrix) < 2 or matrix.shape[-2:] != (3, 3):
        raise ValueError(f"`matrix` must be of shape [..., 3, 3], got {jnp.shape(matrix)}.")
    check_broadcasts(matrix[..., 0, 0], "matrix", lead)
    return matrix.reshape((1,) * (len(lead) + 2 - matrix.ndim) + matrix.shape)


def _centered_grid(size: Size, like: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the column and row coordinates of all pixels, relative to the center."""
    x, y = _grid(size, like.ndim, like.dtype)
    return x - (size[1] - 1) / 2, y - (size[0] - 1) / 2


def _keep_if_still(
    image: jax.Array, warped: jax.Array, matrix: jax.Array, size: Sequence[int] | None
) -> jax.Array:
    """Returns ``warped``, or ``image`` itself for examples whose matrix is the identity."""
    if size is not None and tuple(size) != image.shape[-3:-1]:
        return warped
    unmoved = jnp.broadcast_to(jnp.eye(3, dtype=matrix.dtype), matrix.shape)
    still = jnp.all(matrix == unmoved, axis=(-2, -1))
    still = still.reshape((1,) * (image.ndim - 3 - still.ndim) + still.shape + (1, 1, 1))
    return select(still, image, warped)


def _sizes(image: jax.Array, size: Sequence[int] | None) -> tuple[Size, Size]:
    """Returns the size of the image and the size of the result."""
    own = (image.shape[-3], image.shape[-2])
    return own, own if size is None else check_size(size)


def _grid(size: Size, ndim: int, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """Returns column indices and row indices as broadcastable arrays of ``ndim`` axes."""
    lead = (1,) * (ndim - 2)
    x = jnp.arange(size[1], dtype=dtype).reshape((*lead, 1, size[1]))
    y = jnp.arange(size[0], dtype=dtype).reshape((*lead, size[0], 1))
    return x, y


def _per_example(value: ArrayLike, name: str, image: jax.Array) -> jax.Array:
    """Returns ``value`` as an array; raises unless it broadcasts to the image's leading axes."""
    check_broadcasts(value, name, image.shape[:-3])
    return as_strength(value, image)
