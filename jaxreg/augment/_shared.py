"""What the augmentations share: checks of their arguments, and one draw for each example."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import (
    check_broadcasts,
    check_key,
    check_nonnegative,
    check_real,
    check_scalar,
    check_static_integer,
)
from jaxreg._numerics import as_strength, real_dtype, widen
from jaxreg._sharding import explicit_sharding, place_like, whole_along

Size = tuple[int, int]


MOST_CHANNELS = 4  # of integers, red, green, blue and opacity


def checked(image: jax.Array, name: str = "image") -> jax.Array:
    """Returns ``image`` as a JAX array with every example whole on its device.

    Raises:
      TypeError: It is not real floating-point.
      ValueError: It lacks one of the axes height, width and channels.
    """
    if getattr(image, "dtype", None) == jnp.uint8:
        raise TypeError(
            f"`{name}` must have a floating-point dtype, got uint8; convert it first with "
            f"augment.to_float({name}), and back with augment.to_uint8."
        )
    check_real(image, name)
    check_axes(image, name)
    return whole_along(jnp.asarray(image), range(image.ndim - 3, image.ndim))


def checked_pixels(image: jax.Array, name: str = "image") -> jax.Array:
    """Does as :func:`checked`, and takes integers and booleans too, for what moves pixels.

    Raises:
      TypeError: It is neither real floating-point, nor integers, nor booleans.
      ValueError: It lacks one of the axes height, width and channels, or is of integers with so
        many channels that they are more likely columns.
    """
    if not is_labels(image):
        return checked(image, name)
    check_axes(image, name)
    if image.shape[-1] > MOST_CHANNELS:
        raise ValueError(
            f"`{name}` of {image.dtype} must have at most {MOST_CHANNELS} channels, got shape "
            f"{image.shape}; give labels [..., height, width] an axis of one channel with "
            f"{name}[..., None]."
        )
    return whole_along(jnp.asarray(image), range(image.ndim - 3, image.ndim))


def is_labels(image: jax.Array) -> bool:
    """Tells whether an image has values that nothing lies between: integers or booleans."""
    dtype = getattr(image, "dtype", None)
    return any(
        dtype is not None and jnp.issubdtype(dtype, kind) for kind in (jnp.integer, jnp.bool_)
    )


def check_axes(image: jax.Array, name: str = "image") -> None:
    """Raises unless ``image`` has the axes height, width and channels."""
    if image.ndim < 3:
        raise ValueError(
            f"`{name}` must have the shape [..., height, width, channels], got {image.shape}; add "
            f"an axis of one channel with {name}[..., None]."
        )


def of_colors(function: Callable[[jax.Array], jax.Array], image: jax.Array) -> jax.Array:
    """A function of the colors of an image; opacity, the last of 2 channels or of 4, stays."""
    if image.shape[-1] not in (2, 4):
        return function(image)
    return jnp.concatenate([function(image[..., :-1]), image[..., -1:]], axis=-1)


def check_size(size: Sequence[int], name: str = "size") -> Size:
    """Returns a pair of height and width.

    Raises:
      TypeError: One of them is not an integer.
      ValueError: There are not two of them, or one is not positive.
    """
    if not isinstance(size, Sequence) or len(size) != 2:
        raise ValueError(f"`{name}` must be a pair (height, width), got {size}.")
    for length in size:
        check_static_integer(length, name)
        if length < 1:
            raise ValueError(f"`{name}` must be positive, got {size}.")
    return int(size[0]), int(size[1])


def check_fits(size: Size, image: jax.Array) -> None:
    """Raises unless a crop of ``size`` lies within ``image``."""
    height, width = image.shape[-3:-1]
    if size[0] > height or size[1] > width:
        raise ValueError(
            f"`size` must be at most the {height} x {width} pixels of `image`, got "
            f"{size[0]} x {size[1]}; enlarge it first with augment.pad or augment.resize."
        )


def per_example(value: ArrayLike, name: str, image: jax.Array) -> jax.Array:
    """A strength as one number, or as one for each example with axes for its elements."""
    lead = image.shape[:-3]
    check_broadcasts(value, name, lead)
    value = as_strength(value, image)
    if value.ndim == 0:
        return value
    return value.reshape((1,) * (len(lead) - value.ndim) + value.shape + (1, 1, 1))


def limit(value: ArrayLike, name: str, image: jax.Array) -> jax.Array:
    """The checked bound of a random strength: one finite number, zero or positive."""
    check_scalar(value, name)
    check_nonnegative(value, name)
    check_finite(value, name)
    value = as_strength(value, image)
    return jnp.clip(value, 0, jnp.finfo(value.dtype).max)


def limits(value: Sequence[ArrayLike], name: str, image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The checked ends of the range of a random strength, each as :func:`limit` has it."""
    if not isinstance(value, Sequence | np.ndarray | jax.Array) or len(value) != 2:
        raise ValueError(f"`{name}` must be a pair (least, largest), got {value}.")
    return limit(value[0], name, image), limit(value[1], name, image)


def positive_limits(
    value: Sequence[ArrayLike], name: str, image: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Ends as of :func:`limits` of which neither is 0; what is traced is at least tiny."""
    low, high = limits(value, name, image)
    for end in value:
        check_positive(end, name)
    info = jnp.finfo(low.dtype)
    return jnp.clip(low, info.tiny, info.max), jnp.clip(high, info.tiny, info.max)


def check_finite(value: ArrayLike, name: str) -> None:
    """Raises unless numbers are finite; JAX arrays pass."""
    if not isinstance(value, jax.Array) and not np.all(np.isfinite(value)):
        raise ValueError(f"`{name}` must be finite, got {value}.")


def check_positive(value: ArrayLike, name: str) -> None:
    """Raises unless numbers are above 0; JAX arrays pass."""
    if not isinstance(value, jax.Array) and not np.all(np.asarray(value) > 0):
        raise ValueError(f"`{name}` must be positive, got {value}.")


def between(key: jax.Array, image: jax.Array, low: ArrayLike, high: ArrayLike) -> jax.Array:
    """One number evenly spread over an interval for each example, of shape ``[...]``."""
    share = uniform(key, image)
    low, high = as_strength(low, image), as_strength(high, image)
    return low + (high - low) * share


def uniform(key: jax.Array, image: jax.Array) -> jax.Array:
    """One number evenly spread over ``(0, 1)`` for each example, of shape ``[...]``."""
    check_key(key)
    lead = image.shape[:-3]
    drawn = _bits.uniform(key, (*lead, 1, 1, 1), like=image)
    # Divided by 1. XLA repeats cheap arithmetic wherever a number is spread over pixels, and so it
    # would draw anew at every pixel, which takes ten times as long; a quotient it computes once.
    drawn = drawn / jnp.maximum(drawn, 1)
    return drawn.reshape(lead).astype(real_dtype(image))


def symmetric(key: jax.Array, image: jax.Array, bound: jax.Array) -> jax.Array:
    """One number evenly spread over ``(-bound, bound)`` for each example."""
    return bound * (2 * uniform(key, image) - 1)


def chosen(key: jax.Array, image: jax.Array, probability: ArrayLike) -> jax.Array:
    """One decision for each example, of shape ``[..., 1, 1, 1]``."""
    return spread(uniform(key, image) < as_strength(probability, image))


def spread(value: jax.Array) -> jax.Array:
    """Appends axes for height, width and channels to one number for each example."""
    return value.reshape((*value.shape, 1, 1, 1))


def place_by_example(value: jax.Array, image: jax.Array) -> jax.Array:
    """Gives ``value``, whose first axes are the leading ones of ``image``, their sharding."""
    sharding = explicit_sharding(image)
    if sharding is None:
        return value
    lead = image.ndim - 3
    spec = PartitionSpec(*sharding.spec[:lead], *[None] * (value.ndim - lead))
    return jax.sharding.reshard(value, NamedSharding(sharding.mesh, spec))


def select(condition: jax.Array, on: jax.Array, off: jax.Array) -> jax.Array:
    """``jnp.where`` whose condition, one for each example, is spread over it."""
    condition = place_like(jnp.broadcast_to(condition, on.shape), on)
    return jnp.where(condition, on, place_like(off, on))


def check_partner(x: jax.Array, other: jax.Array, name: str) -> None:
    """Raises unless ``other`` is like ``x``, which has a batch."""
    if x.ndim < 1 or x.shape != other.shape or x.dtype != other.dtype:
        raise ValueError(
            f"`{name}` must have the shape and dtype of its partner, [batch, ...], got "
            f"{other.dtype} of shape {other.shape} for {x.dtype} of shape {x.shape}."
        )


def averaged(x: jax.Array, other: jax.Array, share: jax.Array) -> jax.Array:
    """The mean of ``x`` with this share and of ``other`` with the rest."""
    return (share * widen(x) + (1 - share) * widen(other)).astype(x.dtype)


def kept_shape(result: jax.Array, image: jax.Array) -> jax.Array:
    """Returns the result of a function; raises unless it is like the image."""
    if result.shape != image.shape or result.dtype != image.dtype:
        raise ValueError(
            f"`function` must keep the shape and dtype, {image.dtype} of shape {image.shape}, got "
            f"{result.dtype} of shape {result.shape}; change sizes before or after."
        )
    return result
