"""Flips, rotations by right angles, crops, resizing and padding."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_finite, check_static_integer
from jaxreg._numerics import widen
from jaxreg.augment._images import (
    Size,
    as_pixels,
    check_fits,
    check_size,
    is_labels,
    per_example,
    place_by_example,
)
from jaxreg.augment.borders import Border, edge, extend
from jaxreg.augment.sampling import nearest


def flip_left_right(image: jax.Array) -> jax.Array:
    """Mirrors an image, left to right.

    Args:
      image: Array ``[..., height, width, channels]`` of floats, integers or booleans.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.flip_left_right(jnp.arange(3.0).reshape(1, 3, 1))[0, :, 0])
      [2. 1. 0.]
    """
    return jnp.flip(as_pixels(image), axis=-2)


def flip_up_down(image: jax.Array) -> jax.Array:
    """Mirrors an image, top to bottom.

    Args:
      image: Array ``[..., height, width, channels]`` of floats, integers or booleans.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.flip_up_down(jnp.arange(3.0).reshape(3, 1, 1))[:, 0, 0])
      [2. 1. 0.]
    """
    return jnp.flip(as_pixels(image), axis=-3)


def rot90(image: jax.Array, *, turns: int) -> jax.Array:
    """Rotates an image counter-clockwise by a number of right angles.

    Args:
      image: Array ``[..., height, width, channels]`` of floats, integers or booleans.
      turns: Number of right angles, an integer of either sign.

    Returns:
      Array of the dtype of ``image``; an odd number exchanges height and width.

    Raises:
      TypeError: ``image`` is complex, or ``turns`` is not an integer.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.rot90(jnp.arange(4.0).reshape(2, 2, 1), turns=1)[..., 0])
      [[1. 3.]
       [0. 2.]]
    """
    check_static_integer(turns, "turns")
    image = as_pixels(image)
    return jnp.rot90(image, turns, axes=(image.ndim - 3, image.ndim - 2))


def center_crop(image: jax.Array, *, size: Sequence[int]) -> jax.Array:
    """Crops an image to ``size`` around its center.

    Args:
      image: Array ``[..., height, width, channels]`` of floats, integers or booleans.
      size: Height and width of the result, at most the size of ``image``. A margin that is not a
        whole number of pixels is rounded to whole pixels, with halves rounded to even, as in
        torchvision.

    Returns:
      Array ``[..., *size, channels]`` of the dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex.
      ValueError: ``image`` is smaller than ``size``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.center_crop(jnp.arange(4.0).reshape(1, 4, 1), size=(1, 2))[0, :, 0])
      [1. 2.]
    """
    image = as_pixels(image)
    size = check_size(size)
    check_fits(size, image)
    top = round((image.shape[-3] - size[0]) / 2)
    left = round((image.shape[-2] - size[1]) / 2)
    return image[..., top : top + size[0], left : left + size[1], :]


def crop(image: jax.Array, *, top: ArrayLike, left: ArrayLike, size: Sequence[int]) -> jax.Array:
    """Crops an image to a window of whole pixels.

    Args:
      image: Array ``[..., height, width, channels]`` of floats, integers or booleans.
      top: Rows above the window: a single integer, or one per example. A window that would cross
        the border is shifted back inside.
      left: Columns to the left of the window, in the same form.
      size: Height and width of the result, at most the size of ``image``.

    Returns:
      Array ``[..., *size, channels]`` of the dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex, or ``top`` or ``left`` is not an integer.
      ValueError: ``image`` is smaller than ``size``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.crop(jnp.arange(4.0).reshape(1, 4, 1), top=0, left=1, size=(1, 2))[0, :, 0])
      [1. 2.]
    """
    image = as_pixels(image)
    size = check_size(size)
    check_fits(size, image)
    top = _starts(top, "top", image)
    left = _starts(left, "left", image)

    def slice_one(image: jax.Array, top: jax.Array, left: jax.Array) -> jax.Array:
        starts = (top, left, jnp.zeros_like(top))
        return jax.lax.dynamic_slice(image, starts, (*size, image.shape[-1]))

    for _ in range(image.ndim - 3):
        slice_one = jax.vmap(slice_one)
    return slice_one(image, top, left)


def resize(image: jax.Array, *, size: Sequence[int]) -> jax.Array:
    r"""Resizes an image bilinearly, with antialiasing if it shrinks.

    .. math::

      v_o = \frac{\sum_i k_{oi} u_i}{\sum_i k_{oi}}, \qquad
      k_{oi} = \max\!\left(0, 1 - \frac{|i - s_o|}{\max(1, r)}\right), \qquad
      s_o = (o + \tfrac 1 2) r - \tfrac 1 2

    along each axis, with the ratio :math:`r` of the old size to the new one. It is the bilinear
    filter of PIL, and of torchvision with ``antialias``, as a product with a matrix along each
    axis. Integers and booleans are read at the nearest pixels, as PIL's ``NEAREST`` and
    torchvision's ``NEAREST_EXACT`` do.

    Args:
      image: Array ``[..., height, width, channels]``. Floats are interpolated; integers, ``uint8``
        images included, and booleans are read at the nearest pixels.
      size: Height and width of the result.

    Returns:
      Array ``[..., *size, channels]`` of the dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex.
      ValueError: ``size`` is not a pair of positive integers, or ``image`` has no pixels.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.resize(jnp.array([0.0, 1.0]).reshape(1, 2, 1), size=(1, 4))[0, :, 0])
      [0.   0.25 0.75 1.  ]
    """
    image = as_pixels(image)
    size = check_size(size)
    height, width = image.shape[-3:-1]
    if size == (height, width):
        return image
    return resized_crop(image, top=0, left=0, height=height, width=width, size=size)


def resized_crop(
    image: jax.Array,
    *,
    top: ArrayLike,
    left: ArrayLike,
    height: ArrayLike,
    width: ArrayLike,
    size: Sequence[int],
) -> jax.Array:
    """Crops a window and resizes it bilinearly, with antialiasing if it shrinks.

    It is PIL's ``resize`` with its bilinear filter and a ``box``: at the edge of the window the
    filter reads the pixels of the image beyond it. A negative width or height, with ``left`` or
    ``top`` at the opposite edge, flips the window.

    Args:
      image: Array ``[..., height, width, channels]``. Floats are interpolated; integers, ``uint8``
        images included, and booleans are read at the nearest pixels.
      top: Rows above the window: a single number, or one per example, not necessarily whole.
      left: Columns to the left of the window, in the same form.
      height: Height of the window, in the same form.
      width: Width of the window, in the same form.
      size: Height and width of the result.

    Returns:
      Array ``[..., *size, channels]`` of the dtype of ``image``. Outside the image, the pixels at
      the border are repeated.

    Raises:
      TypeError: ``image`` is complex.
      ValueError: A number does not broadcast to the leading axes of ``image`` or is not finite,
        ``image`` has no pixels, or ``size`` is not a pair of positive integers.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.arange(4.0).reshape(1, 4, 1)
      >>> flipped = augment.resized_crop(image, top=0, height=1, left=4, width=-4, size=(1, 4))
      >>> print(flipped[0, :, 0])
      [3. 2. 1. 0.]
    """
    image = as_pixels(image)
    size = check_size(size)
    if 0 in image.shape[-3:-1]:
        raise ValueError(f"`image` must have at least one pixel, got shape {image.shape}.")
    check_finite(top, "top")
    check_finite(left, "left")
    check_finite(height, "height")
    check_finite(width, "width")
    top = per_example(top, "top", image)
    left = per_example(left, "left", image)
    height = per_example(height, "height", image)
    width = per_example(width, "width", image)
    if is_labels(image):
        return _nearest(image, (top, height), (left, width), size)
    rows = _weights(top, height, image.shape[-3], size[0])
    columns = _weights(left, width, image.shape[-2], size[1])
    y = _product("oh", rows, "hwc", widen(image), "owc")
    return _product("ow", columns, "hwc", y, "hoc").astype(image.dtype)


def pad(
    image: jax.Array,
    *,
    width: int | Sequence[int],
    fill: ArrayLike = 0.0,
    border: Border | None = None,
) -> jax.Array:
    """Pads an image with ``fill``, or with pixels copied as ``border`` chooses.

    Args:
      image: Array ``[..., height, width, channels]`` of floats, integers or booleans.
      width: Number of pixels on every side, or at the top, the bottom, the left and the right.
      fill: Value for the new pixels: a number, or one per channel, that the dtype of ``image`` can
        represent.
      border: Pixels to copy instead of ``fill``: :func:`borders.edge`, :func:`borders.reflect`,
        :func:`borders.wrap` or a function like them.

    Returns:
      The larger array, of the dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex, or a width is not an integer.
      ValueError: A width is negative, or the number of widths is not one or four.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.arange(4.0).reshape(1, 4, 1)
      >>> print(augment.pad(image, width=(0, 0, 2, 1), border=augment.borders.reflect)[0, :, 0])
      [2. 1. 0. 1. 2. 3. 2.]
    """
    image = as_pixels(image)
    widths = tuple(width) if isinstance(width, Sequence) else (width,) * 4
    for value in widths:
        check_static_integer(value, "width")
    if len(widths) != 4 or min(widths) < 0:
        raise ValueError(
            "`width` must be a single number, zero or positive, or four numbers (top, bottom, "
            f"left, right), got {width}."
        )
    return extend(image, widths[:2], widths[2:], fill=fill, border=border)


def _starts(value: ArrayLike, name: str, image: jax.Array) -> jax.Array:
    """Broadcasts the first row or column of a crop, which must be an integer, to all examples."""
    if not jnp.issubdtype(jnp.result_type(value), jnp.integer):
        raise TypeError(
            f"`{name}` must be an integer, got {jnp.result_type(value)}; between pixels use "
            "augment.resized_crop."
        )
    start = jnp.broadcast_to(jnp.asarray(value, jnp.int32), image.shape[:-3])
    return place_by_example(start, image)


def _nearest(
    image: jax.Array,
    rows: tuple[jax.Array, jax.Array],
    columns: tuple[jax.Array, jax.Array],
    size: Size,
) -> jax.Array:
    """Resizes a window of labels by reading the pixel nearest to the center of each new pixel."""

    def middles(start: jax.Array, extent: jax.Array, length: int, axis: int) -> jax.Array:
        out = jnp.arange(length, dtype=start.dtype)
        out = jnp.expand_dims(out, [a for a in range(image.ndim) if a != image.ndim + axis])
        places = start + (out + 0.5) * (extent / length) - 0.5
        return jnp.broadcast_to(places[..., 0], (*image.shape[:-3], *size))

    y = middles(*rows, size[0], -3)
    x = middles(*columns, size[1], -2)
    return nearest(image, x, y, border=edge)


def _weights(start: jax.Array, extent: jax.Array, length: int, size: int) -> jax.Array:
    """Returns resizing weights ``[..., size, length]``, which sum to 1 over ``length``."""
    if start.ndim:
        start = start.reshape((*start.shape[:-3], 1, 1))
    if extent.ndim:
        extent = extent.reshape((*extent.shape[:-3], 1, 1))
    step = extent / size
    ndim = max(start.ndim, 2)
    out = jnp.arange(size, dtype=step.dtype).reshape((1,) * (ndim - 2) + (size, 1))
    pixel = jnp.arange(length, dtype=step.dtype).reshape((1,) * (ndim - 1) + (length,))
    source = jnp.clip(start + (out + 0.5) * step, 0.5, length - 0.5) - 0.5
    weights = jnp.maximum(1 - abs(pixel - source) / jnp.maximum(abs(step), 1), 0)
    return weights / jnp.sum(weights, axis=-1, keepdims=True)


def _product(
    weight_axes: str, weights: jax.Array, axes: str, x: jax.Array, result: str
) -> jax.Array:
    """Multiplies ``x`` by ``weights`` along one axis, given the axes as letters for ``einsum``."""
    lead = "abdefgijklmn"[: x.ndim - 3]
    weight_lead = lead if weights.ndim > 2 else ""
    form = f"{weight_lead}{weight_axes},{lead}{axes}->{lead}{result}"
    return jnp.einsum(form, weights, x, precision=jax.lax.Precision.HIGHEST)
