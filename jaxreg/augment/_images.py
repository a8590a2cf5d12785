"""Checks of image arguments, and broadcasting of numbers and conditions, one per example."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from jaxreg._checks import check_broadcasts, check_real, check_static_integer
from jaxreg._numerics import as_strength
from jaxreg._sharding import explicit_sharding, place_like, whole_along

Size = tuple[int, int]


MOST_CHANNELS = 4  # of integers, red, green, blue and opacity


def as_image(image: jax.Array, name: str = "image") -> jax.Array:
    """Returns ``image`` as a JAX array that is not sharded along height, width and channels.

    Raises:
      TypeError: ``image`` is not real floating-point.
      ValueError: ``image`` lacks one of the axes height, width and channels.
    """
    if getattr(image, "dtype", None) == jnp.uint8:
        raise TypeError(
            f"`{name}` must have a floating-point dtype, got uint8; convert it first with "
            f"augment.to_float({name}), and back with augment.to_uint8."
        )
    check_real(image, name)
    check_axes(image, name)
    return whole_along(jnp.asarray(image), range(image.ndim - 3, image.ndim))


def as_pixels(image: jax.Array, name: str = "image") -> jax.Array:
    """Returns ``image`` like :func:`as_image`, but also accepts images of integers and booleans.

    Raises:
      TypeError: ``image`` does not contain real floating-point numbers, integers or booleans.
      ValueError: ``image`` lacks one of the axes height, width and channels, or contains integers
        with so many channels that the last axis is probably the width.
    """
    if not is_labels(image):
        return as_image(image, name)
    check_axes(image, name)
    if image.shape[-1] > MOST_CHANNELS:
        raise ValueError(
            f"`{name}` of {image.dtype} must have at most {MOST_CHANNELS} channels, got shape "
            f"{image.shape}; give labels [..., height, width] an axis of one channel with "
            f"{name}[..., None]."
        )
    return whole_along(jnp.asarray(image), range(image.ndim - 3, image.ndim))


def is_labels(image: jax.Array) -> bool:
    """Returns whether an image contains integers or booleans, which cannot be interpolated."""
    dtype = getattr(image, "dtype", None)
    return any(
        dtype is not None and jnp.issubdtype(dtype, kind) for kind in (jnp.integer, jnp.bool_)
    )


def check_axes(image: jax.Array, name: str = "image") -> None:
    """Raises unless ``image`` has the axes height, width and channels."""
    if image.ndim < 3:
        raise ValueError(
            f"`{name}` must have shape [..., height, width, channels], got {image.shape}; add "
            f"an axis of one channel with {name}[..., None]."
        )


def check_size(size: Sequence[int], name: str = "size") -> Size:
    """Returns ``size`` as ``(height, width)``; raises unless both are positive integers.

    Raises:
      TypeError: A length is not an integer.
      ValueError: There are not two lengths, or a length is not positive.
    """
    if not isinstance(size, Sequence) or len(size) != 2:
        raise ValueError(f"`{name}` must be a pair (height, width), got {size}.")
    for length in size:
        check_static_integer(length, name)
        if length < 1:
            raise ValueError(f"`{name}` must be positive, got {size}.")
    return int(size[0]), int(size[1])


def check_fits(size: Size, image: jax.Array) -> None:
    """Raises if a crop of ``size`` would be larger than ``image``."""
    height, width = image.shape[-3:-1]
    if size[0] > height or size[1] > width:
        raise ValueError(
            f"`size` must be at most the {height} x {width} pixels of `image`, got "
            f"{size[0]} x {size[1]}; enlarge the image first with augment.pad or augment.resize."
        )


def check_result(result: jax.Array, image: jax.Array) -> jax.Array:
    """Returns ``result``; raises unless it has the shape and dtype of ``image``."""
    if result.shape != image.shape or result.dtype != image.dtype:
        raise ValueError(
            f"`function` must keep the shape and dtype, {image.dtype} of shape {image.shape}, got "
            f"{result.dtype} of shape {result.shape}; change the size before or after it."
        )
    return result


def map_colors(function: Callable[[jax.Array], jax.Array], image: jax.Array) -> jax.Array:
    """Applies a function to the color channels; keeps alpha, the last of 2 or 4 channels."""
    if image.shape[-1] not in (2, 4):
        return function(image)
    return jnp.concatenate([function(image[..., :-1]), image[..., -1:]], axis=-1)


def per_example(value: ArrayLike, name: str, image: jax.Array) -> jax.Array:
    """Returns a strength as a scalar, or as ``[..., 1, 1, 1]`` with one number per example."""
    lead = image.shape[:-3]
    check_broadcasts(value, name, lead)
    value = as_strength(value, image)
    if value.ndim == 0:
        return value
    return value.reshape((1,) * (len(lead) - value.ndim) + value.shape + (1, 1, 1))


def append_axes(value: jax.Array) -> jax.Array:
    """Appends axes of size 1 for height, width and channels."""
    return value.reshape((*value.shape, 1, 1, 1))


def place_by_example(value: jax.Array, image: jax.Array) -> jax.Array:
    """Shards the leading axes of ``value`` like the leading axes of ``image``."""
    sharding = explicit_sharding(image)
    if sharding is None:
        return value
    lead = image.ndim - 3
    spec = PartitionSpec(*sharding.spec[:lead], *[None] * (value.ndim - lead))
    return jax.sharding.reshard(value, NamedSharding(sharding.mesh, spec))


def select(condition: jax.Array, on: jax.Array, off: jax.Array) -> jax.Array:
    """Returns ``jnp.where(condition, on, off)``, with ``condition`` broadcast to match ``on``."""
    condition = place_like(jnp.broadcast_to(condition, on.shape), on)
    return jnp.where(condition, on, place_like(off, on))
