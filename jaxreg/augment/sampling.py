r"""Samplers: functions that read an image between its pixels and beyond its border.

The center of the pixel in row :math:`i` and column :math:`j` is at :math:`y = i, x = j`. Outside
the image they read ``fill``, or the pixels that a function of :mod:`jaxreg.augment.borders`
chooses.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _signatures
from jaxreg._numerics import as_strength, real_dtype, widen
from jaxreg.augment._filling import check_fill
from jaxreg.augment._images import as_image, as_pixels, is_labels, place_by_example, select
from jaxreg.augment.borders import Border, edge, value_beyond

__all__ = ["bilinear", "bilinear_matmul", "nearest"]

Sampler = Callable[..., jax.Array]

_FAR = 2.0**24


def bilinear(
    image: jax.Array,
    x: jax.Array,
    y: jax.Array,
    *,
    fill: ArrayLike = 0.0,
    border: Border | None = None,
) -> jax.Array:
    r"""Interpolates an image bilinearly at given points.

    .. math::

      v(x, y) = \sum_{i, j} \max(0, 1 - |y - i|) \, \max(0, 1 - |x - j|) \, u_{ij}

    It reads pixels with a gather. On devices that gather slowly, :func:`bilinear_matmul` reads the
    same values with matrix products. :func:`jaxreg.augment.resize` and
    :func:`jaxreg.augment.resized_crop` are separable and do not gather.

    Args:
      image: Pixels :math:`u`, ``[..., height, width, channels]``.
      x: Columns of the points, ``[..., rows, columns]`` with the leading axes of ``image``.
      y: Rows of the points, of the same shape.
      fill: Value for pixels outside the image: a number, or one per channel.
      border: Rule for pixels outside the image, in place of ``fill``: a function of integer indices
        and the length of an axis that returns indices within the axis, such as
        :func:`jaxreg.augment.borders.edge`.

    Returns:
      Array ``[..., rows, columns, channels]`` of the dtype of ``image``; without a border,
      a NaN coordinate reads ``fill``.

    Raises:
      TypeError: ``image`` is not real floating-point.
      ValueError: The shapes do not fit, or ``image`` has no pixels.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.arange(4.0).reshape(2, 2, 1)
      >>> print(augment.sampling.bilinear(image, jnp.array([[0.5]]), jnp.array([[0.5]]))[0, 0, 0])
      1.5
    """
    image, x, y = _check_points(_as_continuous(image), x, y)
    check_fill(fill, image.dtype)
    height, width = image.shape[-3:-1]
    rows = _taps(y, height, border)
    columns = _taps(x, width, border)
    total = jnp.zeros((), real_dtype(image))
    for row, row_weight in rows:
        for column, column_weight in columns:
            weight = row_weight * column_weight
            total = total + weight[..., None] * widen(_gather(image, row, column))
    if border is None:
        inside = (rows[0][1] + rows[1][1]) * (columns[0][1] + columns[1][1])
        total = total + (1 - inside)[..., None] * value_beyond(fill, image)
    return total.astype(image.dtype)


def bilinear_matmul(
    image: jax.Array,
    x: jax.Array,
    y: jax.Array,
    *,
    fill: ArrayLike = 0.0,
    border: Border | None = None,
    precision: jax.lax.PrecisionLike = jax.lax.Precision.HIGHEST,
) -> jax.Array:
    r"""Interpolates an image like :func:`bilinear`, by matrix products instead of gathers.

    .. math::

      v_p = \sum_j B_{pj} \sum_i A_{pi} u_{ij}, \qquad
      A_{pi} = \max(0, 1 - |y_p - i|), \quad B_{pj} = \max(0, 1 - |x_p - j|)

    Use it on devices that multiply matrices fast and gather slowly, such as TPUs: neither it nor
    its gradient gathers or scatters. Each point takes :math:`2 h w c` operations, so the work grows
    with the square of the number of pixels; measure both. The batch is read row by row, in
    temporary memory of a few times its own size.

    Args:
      image: Finite pixels :math:`u`, ``[..., height, width, channels]``. A NaN or an infinity can
        make any point of its channel NaN.
      x: Columns of the points, ``[..., rows, columns]`` with the leading axes of ``image``.
      y: Rows of the points, of the same shape.
      fill: Value for pixels outside the image: a number, or one per channel.
      border: Rule for pixels outside the image, in place of ``fill``; see :func:`bilinear`.
      precision: Precision of the product with :math:`A`, as in ``jax.lax.dot``; float32 by default.

    Returns:
      Array ``[..., rows, columns, channels]`` of the dtype of ``image``; without a border,
      a NaN coordinate reads ``fill``.

    Raises:
      TypeError: ``image`` is not real floating-point.
      ValueError: The shapes do not fit, or ``image`` has no pixels.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.arange(16.0).reshape(4, 4, 1)
      >>> matrix, sample = augment.matrices.rotation(90.0), augment.sampling.bilinear_matmul
      >>> turned = augment.affine(image, matrix, sample=sample)
      >>> print(jnp.allclose(turned, jnp.rot90(image), atol=1e-4))
      True
    """
    image, x, y = _check_points(_as_continuous(image), x, y)
    beyond = value_beyond(fill, image).reshape(1, -1)

    # The backward pass computes each row again, so that it need not keep the weights of all rows.
    @partial(jax.checkpoint, prevent_cse=False)
    def read_row(image: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        down = _weights(y, image.shape[0], border)
        across = _weights(x, image.shape[1], border)[..., None]
        lines = jnp.einsum("ph,hwc->pwc", down, widen(image), precision=precision)
        value = jnp.sum(lines * across, axis=1)
        if border is None:
            inside = jnp.sum(down, axis=1, keepdims=True) * jnp.sum(across, axis=1)
            value = value + (1 - inside) * beyond
        return value

    def read(image: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        return jax.lax.map(lambda row: read_row(image, *row), (x, y))

    for _ in range(image.ndim - 3):
        read = jax.vmap(read)
    return read(image, x, y).astype(image.dtype)


def nearest(
    image: jax.Array,
    x: jax.Array,
    y: jax.Array,
    *,
    fill: ArrayLike = 0.0,
    border: Border | None = None,
) -> jax.Array:
    """Reads the pixel nearest to each point; a coordinate midway between pixels rounds up.

    Args:
      image: Pixels ``[..., height, width, channels]``: floats, or labels (integers or booleans).
      x: Columns of the points, ``[..., rows, columns]`` with the leading axes of ``image``.
      y: Rows of the points, of the same shape.
      fill: Value for pixels outside the image: a number, or one per channel, that the dtype of
        ``image`` can represent.
      border: Rule for pixels outside the image, in place of ``fill``; see :func:`bilinear`.

    Returns:
      Array ``[..., rows, columns, channels]`` of the dtype of ``image``; without a border,
      a NaN coordinate reads ``fill``.

    Raises:
      TypeError: ``image`` is complex.
      ValueError: The shapes do not fit, ``image`` has no pixels, or its dtype cannot represent
        ``fill``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.arange(4.0).reshape(2, 2, 1)
      >>> print(augment.sampling.nearest(image, jnp.array([[0.7]]), jnp.array([[0.2]]))[0, 0, 0])
      1.0
    """
    image, x, y = _check_points(as_pixels(image), x, y)
    check_fill(fill, image.dtype)
    height, width = image.shape[-3:-1]
    row, row_inside = nearest_index(y, height, border)
    column, column_inside = nearest_index(x, width, border)
    value = _gather(image, row, column)
    if border is None:
        beyond = jnp.broadcast_to(value_beyond(fill, image).astype(image.dtype), value.shape)
        value = select((row_inside & column_inside)[..., None], value, beyond)
    return value


def default_sampler(image: jax.Array) -> Sampler:
    """Returns :func:`nearest` for labels, and :func:`bilinear` for floating-point images."""
    return nearest if is_labels(image) else bilinear


def nearest_index(
    position: jax.Array, length: int, border: Border | None
) -> tuple[jax.Array, jax.Array]:
    """Rounds a position to an index; returns it mapped by ``border``, and whether it was inside."""
    index = jnp.floor(_limit(position) + 0.5).astype(jnp.int32)
    inside = (index >= 0) & (index < length)
    return (edge if border is None else border)(index, length), inside


def _taps(
    position: jax.Array, length: int, border: Border | None
) -> tuple[tuple[jax.Array, jax.Array], ...]:
    """Returns the indices and weights of the two pixels around a position along an axis."""
    position = _limit(position)
    # XLA may compute a position twice with different rounding. On either side of a pixel, one value
    # would then give the indices and the other the weights. The margin puts both on the same side.
    error = 2 * jnp.finfo(position.dtype).eps * length
    low = jnp.floor(position + error)
    share = position - low
    share = share - jax.lax.stop_gradient(jnp.minimum(share, 0))
    low = low.astype(jnp.int32)
    if border is not None:
        return (border(low, length), 1 - share), (border(low + 1, length), share)
    zero = jnp.zeros_like(share)
    return (
        (edge(low, length), jnp.where((low >= 0) & (low < length), 1 - share, zero)),
        (edge(low + 1, length), jnp.where((low >= -1) & (low < length - 1), share, zero)),
    )


def _weights(position: jax.Array, length: int, border: Border | None) -> jax.Array:
    """Returns the interpolation weights ``[points, length]`` of the pixels along an axis."""
    total = jnp.zeros((), position.dtype)
    for index, weight in _taps(position, length, border):
        pixel = jnp.arange(length, dtype=index.dtype)[None]
        total = total + jnp.where(index[:, None] == pixel, weight[:, None], 0)
    return total


def _limit(position: jax.Array) -> jax.Array:
    """Clips positions so that they fit in int32; NaN becomes a position beyond the border."""
    position = jnp.where(jnp.isnan(position), jnp.full_like(position, -_FAR), position)
    return jnp.clip(position, -_FAR, _FAR)


def _as_continuous(image: jax.Array) -> jax.Array:
    """Returns ``image`` as :func:`as_image` does; rejects labels with an error of its own."""
    if is_labels(image):
        raise TypeError(
            "`image` must have a floating-point dtype to be read between pixels, got "
            f"{image.dtype}; pass sample=augment.sampling.nearest for labels, or convert color "
            "levels first with augment.to_float(image)."
        )
    return as_image(image)


def _check_points(
    image: jax.Array, x: jax.Array, y: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Checks the shapes of ``image``, ``x`` and ``y``, and shards the points like ``image``."""
    if 0 in image.shape[-3:-1]:
        raise ValueError(f"`image` must have at least one pixel, got shape {image.shape}.")
    for points, name in ((x, "x"), (y, "y")):
        if jnp.ndim(points) != image.ndim - 1 or jnp.shape(points)[:-2] != image.shape[:-3]:
            raise ValueError(
                f"`{name}` must be of shape {(*image.shape[:-3], 'rows', 'columns')}, got "
                f"{jnp.shape(points)}; broadcast it over the leading axes of `image`."
            )
    x = place_by_example(as_strength(x, image), image)
    y = place_by_example(as_strength(y, image), image)
    return image, x, y


def _gather(image: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
    """Returns the pixels of each example at the indices ``row`` and ``column``."""

    def take(image: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
        return image.at[row, column].get(mode="clip")

    for _ in range(image.ndim - 3):
        take = jax.vmap(take)
    return take(image, row, column)


_signatures.show(__name__)
