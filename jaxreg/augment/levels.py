"""Conversions from and to ``uint8``, posterizing, equalizing and automatic contrast.

A float in ``[0, 1]`` stands for the nearest level. For values that ``to_float`` makes of a
``uint8`` image, the results after ``to_uint8`` equal PIL's exactly. Opacity, the last of two or of
four channels, is unchanged.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from jaxreg._checks import check_between, check_real
from jaxreg._numerics import real_dtype, widen
from jaxreg._sharding import place_like
from jaxreg.augment._images import as_image, map_colors, per_example, place_by_example, select


def to_float(image: jax.Array, *, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Converts ``uint8`` values to floats in ``[0, 1]``.

    Args:
      image: Array of ``uint8`` of any shape.
      dtype: Floating-point dtype of the result. ``bfloat16`` cannot represent all levels.

    Returns:
      Array of the same shape, ``image / 255``.

    Raises:
      TypeError: ``image`` is not ``uint8``, or ``dtype`` is not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> levels = jnp.arange(256, dtype=jnp.uint8)
      >>> print((augment.to_uint8(augment.to_float(levels)) == levels).all())
      True
    """
    if getattr(image, "dtype", None) != jnp.uint8:
        kind = getattr(image, "dtype", type(image).__name__)
        raise TypeError(
            f"`image` must be an array of uint8, got {kind}; floats need no conversion."
        )
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"`dtype` must be floating-point, got {jnp.dtype(dtype)}.")
    wide = jnp.promote_types(dtype, jnp.float32)
    return (jnp.asarray(image).astype(wide) / 255).astype(dtype)


def to_uint8(image: jax.Array) -> jax.Array:
    """Converts floats in ``[0, 1]`` to the nearest of the 256 levels of ``uint8``.

    Args:
      image: Floating-point array of any shape.

    Returns:
      Array of ``uint8`` of the same shape; values are clipped to ``[0, 1]``, and NaN becomes 0.

    Raises:
      TypeError: ``image`` is not real floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.to_uint8(jnp.array([[[-1.0, 0.5, 2.0]]])))
      [[[  0 128 255]]]
    """
    check_real(image, "image")
    return _levels(image).astype(jnp.uint8)


def posterize(image: jax.Array, *, bits: ArrayLike) -> jax.Array:
    """Rounds values to 256 levels, and keeps only the highest bits of each level.

    Args:
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``.
      bits: Number of bits, 0 to 8, rounded: a single number, or one per example. 8 is exactly the
        identity.

    Returns:
      Array with the shape and dtype of ``image``; its gradient is 0.

    Raises:
      TypeError: ``image`` is not real floating-point.
      ValueError: ``bits`` is a number outside ``[0, 8]`` or does not broadcast to the leading axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.posterize(jnp.array([[[0.2, 0.6, 0.9]]]), bits=1) * 255)
      [[[  0. 128. 128.]]]
    """
    image = as_image(image)
    if jnp.ndim(bits) == 0:
        check_between(bits, "bits", 0, 8)
    high_bits = jnp.clip(jnp.round(per_example(bits, "bits", image)), 0, 8)
    is_nan = jnp.isnan(high_bits)
    low_bits = (8 - jnp.where(is_nan, jnp.zeros_like(high_bits), high_bits)).astype(jnp.int32)

    def zero_low_bits(colors: jax.Array) -> jax.Array:
        levels = _levels(colors)
        shift = jnp.broadcast_to(low_bits, levels.shape)
        return select(high_bits == 8, colors, _values((levels >> shift) << shift, colors))

    return map_colors(zero_low_bits, image)


def equalize(image: jax.Array) -> jax.Array:
    """Equalizes the histogram of each channel, as PIL's ``equalize`` does.

    Args:
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``, of fewer than
        ``2**24`` pixels.

    Returns:
      Array with the shape and dtype of ``image``; its gradient is 0. A channel with a single level
      is unchanged.

    Raises:
      TypeError: ``image`` is not real floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.linspace(0.4, 0.6, 1600).reshape(40, 40, 1)
      >>> print(augment.equalize(image).min(), augment.equalize(image).max())
      0.0 1.0
    """
    return map_colors(_equalize, as_image(image))


def _equalize(image: jax.Array) -> jax.Array:
    *lead, height, width, channels = image.shape
    levels = _levels(image).reshape(*lead, height * width, channels)
    values = _values(_new_levels(_histogram(levels)), image)
    # The values never decrease, so this changes nothing but keeps XLA from computing them again at
    # every pixel.
    table = jax.lax.cummax(values, axis=values.ndim - 1)
    return _by_example(_look_up, table, levels).reshape(image.shape)


def autocontrast(image: jax.Array) -> jax.Array:
    r"""Stretches the values of each channel linearly to ``[0, 1]``.

    .. math::

      v = \frac{u - \min u}{\max u - \min u}

    Args:
      image: Floating-point array ``[..., height, width, channels]``.

    Returns:
      Array with the shape and dtype of ``image``; a channel with a single value is unchanged.

    Raises:
      TypeError: ``image`` is not real floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.autocontrast(jnp.array([[[0.25], [0.5], [0.75]]]))[0, :, 0])
      [0.  0.5 1. ]
    """
    return map_colors(_stretch, as_image(image))


def _stretch(image: jax.Array) -> jax.Array:
    if image.size == 0:
        return image
    x = widen(image)
    low = _extreme(jnp.min, x)
    high = _extreme(jnp.max, x)
    flat = high == low
    stretched = (x - low) / jnp.where(flat, jnp.ones_like(low), high - low)
    return select(flat, image, stretched.astype(image.dtype))


def _levels(image: jax.Array) -> jax.Array:
    """Rounds values in ``[0, 1]`` to the nearest of 256 levels, as int32; NaN becomes 0."""
    level = jnp.round(jnp.clip(widen(image), 0, 1) * 255)
    return jnp.where(jnp.isnan(level), jnp.zeros_like(level), level).astype(jnp.int32)


def _values(levels: jax.Array, image: jax.Array) -> jax.Array:
    return (levels.astype(real_dtype(image)) / 255).astype(image.dtype)


def _extreme(reduce: Callable[..., jax.Array], x: jax.Array) -> jax.Array:
    """Returns the minimum or maximum of each channel, as ``reduce`` computes it."""
    # Rows first, which is faster on a CPU.
    *lead, height, width, channels = x.shape
    of_columns = reduce(x.reshape(*lead, height, width * channels), axis=-2)
    return reduce(of_columns.reshape(*lead, 1, width, channels), axis=-2, keepdims=True)


def _histogram(levels: jax.Array) -> jax.Array:
    """Counts the levels ``[..., pixels, channels]`` by channel, as ``[..., channels, 256]``."""
    return jax.lax.platform_dependent(levels, tpu=_by_products, default=_by_scatter)


def _by_scatter(levels: jax.Array) -> jax.Array:
    counts = jnp.zeros((*levels.shape[:-2], levels.shape[-1], 256), jnp.int32)
    return _by_example(_add_counts, place_by_example(counts, levels[..., None]), levels)


def _by_products(levels: jax.Array) -> jax.Array:
    """Counts levels without a scatter, by a matrix product of their one-hot high and low 4 bits.

    Counts are exact in float32 below ``2**24``. On a CPU it takes about 17 times as long.
    """
    high = jax.nn.one_hot(levels >> 4, 16, dtype=jnp.float32)
    low = jax.nn.one_hot(levels & 15, 16, dtype=jnp.float32)
    counts = jnp.einsum("...nci,...ncj->...cij", high, low, precision=jax.lax.Precision.HIGHEST)
    return counts.reshape((*counts.shape[:-2], 256)).astype(jnp.int32)


def _by_example(
    function: Callable[..., jax.Array], table: jax.Array, levels: jax.Array
) -> jax.Array:
    """Returns ``function(table, indices)`` of each example, the flat table read at its levels."""
    channels = levels.shape[-1]
    starts = 256 * jnp.arange(channels, dtype=levels.dtype)

    def of_example(table: jax.Array, levels: jax.Array) -> jax.Array:
        return function(table.reshape(-1), levels + starts[None])

    for _ in table.shape[:-2]:
        of_example = jax.vmap(of_example)
    return of_example(table, levels)


def _add_counts(table: jax.Array, positions: jax.Array) -> jax.Array:
    counts = table.at[positions.reshape(-1)].add(1, mode="promise_in_bounds")
    return counts.reshape(positions.shape[-1], 256)


def _look_up(table: jax.Array, positions: jax.Array) -> jax.Array:
    return table.at[positions].get(mode="promise_in_bounds")


def _new_levels(counts: jax.Array) -> jax.Array:
    """Returns the equalized level of each of the 256 levels from their counts, as PIL does."""
    level = jnp.broadcast_to(jnp.arange(256, dtype=jnp.int32), counts.shape)
    level = place_like(level, counts)
    last = jnp.max(level * (counts > 0).astype(jnp.int32), axis=-1, keepdims=True)
    total = jnp.sum(counts, axis=-1, keepdims=True, dtype=jnp.int32)
    of_last = jnp.sum(
        jnp.where(level == last, counts, jnp.zeros_like(counts)),
        axis=-1,
        keepdims=True,
        dtype=jnp.int32,
    )
    step = (total - of_last) // 255
    below = jnp.cumsum(counts, axis=-1, dtype=jnp.int32) - counts
    table = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255)
    return select(step > 0, table, level)
