r"""Color: functions of images in ``[0, 1]``, which keep that range.

A factor means the same as in PIL and torchvision: 1 is exactly the identity, and 0 removes all
brightness, contrast or color. Gray is :math:`0.299 r + 0.587 g + 0.114 b`.

Four channels are red, green, blue and alpha (opacity), and two are gray and alpha. The alpha
channel is never changed. With any other number of channels, each is a color.

Brightness, contrast, saturation, gamma, sharpness, posterize and equalize clip values outside
``[0, 1]``, unless their strength is the identity. Hue, grayscale, invert, solarize and autocontrast
do not clip. So change colors before :func:`normalize`.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxreg._checks import check_broadcasts, check_finite, check_nonnegative, check_positive
from jaxreg._numerics import as_strength, real_dtype, widen
from jaxreg.augment._images import as_image, map_colors, per_example, select

_LUMA = (0.299, 0.587, 0.114)


def brightness(image: jax.Array, *, factor: ArrayLike) -> jax.Array:
    r"""Multiplies all values by a factor.

    .. math::

      v = \mathrm{clip}(f u, 0, 1)

    Args:
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``.
      factor: Factor :math:`f`, zero or positive: a single number, or one per example.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point.
      ValueError: ``factor`` is negative or infinite, or does not broadcast to the leading axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.brightness(jnp.array([[[0.2, 0.4, 0.8]]]), factor=2.0))
      [[[0.4 0.8 1. ]]]
    """
    return _blend(image, factor, jnp.zeros_like)


def contrast(image: jax.Array, *, factor: ArrayLike) -> jax.Array:
    r"""Scales the distance of all values from the mean :math:`m` of the gray image.

    .. math::

      v = \mathrm{clip}(f u + (1 - f) m, 0, 1)

    Args:
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``, gray or colored,
        with or without an alpha channel.
      factor: Factor :math:`f`, zero or positive: a single number, or one per example.

    Returns:
      Array with the shape and dtype of ``image``. PIL rounds the mean to a whole level of 255.

    Raises:
      TypeError: ``image`` is not real floating-point.
      ValueError: ``factor`` is negative or infinite, or does not broadcast to the leading axes, or
        ``image`` has more than four channels.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.contrast(jnp.array([[[0.25], [0.75]]]), factor=0.0)[0, :, 0])
      [0.5 0.5]
    """
    return _blend(image, factor, _gray_mean)


def saturation(image: jax.Array, *, factor: ArrayLike) -> jax.Array:
    r"""Scales the distance of each color from the gray :math:`g` of the same pixel.

    .. math::

      v = \mathrm{clip}(f u + (1 - f) g, 0, 1)

    Unless values are clipped, this keeps the hue and multiplies the difference between the largest
    and the smallest channel.

    Args:
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``, with or without
        an alpha channel; gray is unchanged.
      factor: Factor :math:`f`, zero or positive: a single number, or one per example.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point.
      ValueError: ``factor`` is negative or infinite, or does not broadcast to the leading axes, or
        ``image`` has more than four channels.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(jnp.ptp(augment.saturation(jnp.array([[[0.0, 0.5, 1.0]]]), factor=0.0)))
      0.0
    """
    return _blend(image, factor, _gray)


def hue(image: jax.Array, *, shift: ArrayLike) -> jax.Array:
    r"""Shifts the hue in HSV, and keeps saturation and value.

    Let :math:`c` be the largest minus the smallest channel and :math:`h` the hue in sixths of a
    turn. Then :math:`c h` needs no division, and gray, which has no hue, is :math:`c = 0`:

    .. math::

      v_n = \max u - \mathrm{clip}\bigl(2 c - \bigl| |k - 5 c| - 3 c \bigr|, 0, c\bigr),
      \qquad k = c h + c \, ((n + 6 s) \bmod 6), \qquad n = 5, 3, 1

    Args:
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``, with or without
        an alpha channel; gray is unchanged.
      shift: Shift :math:`s`, where 1 is the whole circle: a single number, or one per example.

    Returns:
      Array with the shape and dtype of ``image``, with finite gradients also at gray.

    Raises:
      TypeError: ``image`` is not real floating-point.
      ValueError: ``shift`` is not finite or does not broadcast to the leading axes, or ``image``
        has more than four channels.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.hue(jnp.array([[[1.0, 0.5, 0.0]]]), shift=1 / 3).round(3))
      [[[0.  1.  0.5]]]

    References:
      Smith, `Color Gamut Transform Pairs <https://doi.org/10.1145/800248.807361>`_, 1978
    """
    image = _as_colors(image)
    check_finite(shift, "shift")
    turn = per_example(shift, "shift", image)
    return map_colors(lambda colors: _turn_hue(colors, turn), image)


def _turn_hue(image: jax.Array, turn: jax.Array) -> jax.Array:
    if image.shape[-1] == 1:
        return image
    x = widen(image)
    r, g, b = _planes(x)
    most = jnp.maximum(jnp.maximum(r, g), b)
    least = jnp.minimum(jnp.minimum(r, g), b)
    chroma = most - least
    scaled_hue = jnp.where(
        most == r, g - b, jnp.where(most == g, 2 * chroma + b - r, 4 * chroma + r - g)
    )

    # Broadcasts over the channels, because joining three planes takes twice as long on a CPU.
    n = jnp.array([5, 3, 1], x.dtype).reshape((1,) * (x.ndim - 1) + (3,))
    k = scaled_hue + chroma * jnp.mod(n + 6 * turn, 6)
    y = most - jnp.clip(2 * chroma - abs(abs(k - 5 * chroma) - 3 * chroma), 0, chroma)
    return select(turn == 0, image, y.astype(image.dtype))


def gamma(image: jax.Array, *, gamma: ArrayLike) -> jax.Array:
    r"""Raises all values to a power.

    .. math::

      v = u^\gamma

    Args:
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``; negative values
        count as 0, where the gradient is 0 too.
      gamma: Power :math:`\gamma`, zero or positive: a single number, or one per example; 1 is
        exactly the identity.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point.
      ValueError: ``gamma`` is negative or does not broadcast to the leading axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.gamma(jnp.array([[[0.0, 0.25, 1.0]]]), gamma=0.5))
      [[[0.  0.5 1. ]]]
    """
    image = as_image(image)
    check_nonnegative(gamma, "gamma")
    power = per_example(gamma, "gamma", image)
    return map_colors(lambda colors: _raise_to(power, colors), image)


def _raise_to(power: jax.Array, image: jax.Array) -> jax.Array:
    x = jnp.minimum(widen(image), 1)
    positive = x > 0
    base = jnp.where(positive, x, jnp.ones_like(x))
    y = jnp.where(positive, base**power, jnp.zeros_like(x)).astype(image.dtype)
    return select(power == 1, image, y)


def grayscale(image: jax.Array) -> jax.Array:
    """Converts colors to gray, and keeps the number of channels.

    Args:
      image: Floating-point array ``[..., height, width, channels]``, gray or colored, with or
        without an alpha channel.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point.
      ValueError: ``image`` has more than four channels.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.grayscale(jnp.array([[[0.0, 1.0, 0.0]]])).round(3))
      [[[0.587 0.587 0.587]]]
    """
    return map_colors(_remove_color, _as_colors(image))


def _remove_color(image: jax.Array) -> jax.Array:
    if image.shape[-1] == 1:
        return image
    return jnp.broadcast_to(_gray(widen(image)), image.shape).astype(image.dtype)


def invert(image: jax.Array) -> jax.Array:
    """Inverts all color values, from ``u`` to ``1 - u``.

    Args:
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``.

    Returns:
      Array with the shape and dtype of ``image``, ``1 - image``.

    Raises:
      TypeError: ``image`` is not real floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.invert(jnp.array([[[0.0, 0.25, 1.0]]])))
      [[[1.   0.75 0.  ]]]
    """
    return map_colors(lambda colors: 1 - colors, as_image(image))


def solarize(image: jax.Array, *, threshold: ArrayLike) -> jax.Array:
    r"""Inverts the values at or above a threshold.

    .. math::

      v = \begin{cases} u & u < t \\ 1 - u & \text{otherwise} \end{cases}

    Args:
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``.
      threshold: Least value :math:`t` that is inverted: a single number, or one per example; a
        threshold above 1 is the identity.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point.
      ValueError: ``threshold`` does not broadcast to the leading axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.solarize(jnp.array([[[0.25, 0.5, 1.0]]]), threshold=0.5))
      [[[0.25 0.5  0.  ]]]
    """
    image = as_image(image)
    threshold = per_example(threshold, "threshold", image)
    return map_colors(lambda x: jnp.where(widen(x) >= threshold, 1 - x, x), image)


def normalize(image: jax.Array, *, mean: ArrayLike, stddev: ArrayLike) -> jax.Array:
    r"""Subtracts a mean and divides by a standard deviation.

    .. math::

      v = (u - \mu) / \sigma

    Args:
      image: Floating-point array ``[..., height, width, channels]``.
      mean: Mean :math:`\mu`: a number, or one per channel; an alpha channel has its own too.
      stddev: Standard deviation :math:`\sigma`, positive, in the same form as ``mean``; a traced 0
        counts as 1.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point.
      ValueError: ``mean`` or ``stddev`` is not a number or one per channel, a number is not finite,
        or ``stddev`` is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.normalize(jnp.array([[[0.0, 0.5, 1.0]]]), mean=0.5, stddev=0.5))
      [[[-1.  0.  1.]]]
    """
    image = as_image(image)
    mean = _by_channel(mean, "mean", image)
    stddev = _by_channel(stddev, "stddev", image)
    stddev = jnp.where(stddev == 0, jnp.ones_like(stddev), stddev)
    return ((widen(image) - mean) / stddev).astype(image.dtype)


def _by_channel(value: ArrayLike | Sequence[float], name: str, image: jax.Array) -> jax.Array:
    """Returns a mean or standard deviation as a scalar or per channel, after checking it."""
    value = value if isinstance(value, jax.Array) else np.asarray(value)
    check_finite(value, name)
    if name == "stddev":
        check_positive(value, name)
    check_broadcasts(value, name, image.shape[-1:])
    value = as_strength(value, image)
    return value if value.ndim == 0 else value.reshape((1,) * (image.ndim - 1) + value.shape)


def _blend(image: jax.Array, factor: ArrayLike, other: Callable) -> jax.Array:
    """Returns ``factor * x + (1 - factor) * other(x)`` of the colors, clipped to ``[0, 1]``."""
    image = as_image(image) if other is jnp.zeros_like else _as_colors(image)
    check_nonnegative(factor, "factor")
    check_finite(factor, "factor")
    f = jnp.maximum(per_example(factor, "factor", image), 0)

    def blend(colors: jax.Array) -> jax.Array:
        x = widen(colors)
        y = jnp.clip(f * x + (1 - f) * other(x), 0, 1).astype(image.dtype)
        return select(f == 1, colors, y)

    return map_colors(blend, image)


def _as_colors(image: jax.Array) -> jax.Array:
    """Returns the image; raises unless it is gray or colored, with or without an alpha channel."""
    image = as_image(image)
    if image.shape[-1] not in (1, 2, 3, 4):
        raise ValueError(
            "`image` must have one channel or three (red, green and blue), and may have alpha "
            f"after them, got {image.shape[-1]} channels; pass image[..., :3] and keep the others."
        )
    return image


def _planes(x: jax.Array) -> list[jax.Array]:
    """Returns a list of the channels, each with a last axis of size 1."""
    return [x[..., i : i + 1] for i in range(x.shape[-1])]


def _gray(x: jax.Array) -> jax.Array:
    """Converts an image to gray, with a single channel."""
    if x.shape[-1] == 1:
        return x
    return sum(
        (weight * plane for weight, plane in zip(_LUMA, _planes(x), strict=True)),
        start=jnp.zeros((), real_dtype(x)),
    )


def _gray_mean(x: jax.Array) -> jax.Array:
    """Returns the mean of the gray image, one number per example."""
    *lead, height, width, channels = x.shape
    weights = jnp.array(_LUMA if channels == 3 else (1,), x.dtype) / max(height * width, 1)
    # Rows first, because one sum over channels and pixels takes up to 8 times as long on a CPU.
    of_columns = jnp.sum(x.reshape(*lead, height, width * channels), axis=-2)
    mean = jnp.matmul(of_columns, jnp.tile(weights, width), precision=jax.lax.Precision.HIGHEST)
    return mean.reshape(*lead, 1, 1, 1)
