"""Random flips, rotations by right angles and crops, drawn for each example of a batch."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_key, check_rate
from jaxreg._scopes import mark
from jaxreg.augment._draws import decide, die, uniform
from jaxreg.augment._images import append_axes, as_pixels, check_fits, check_size, select
from jaxreg.augment.matrices.random import draw_window
from jaxreg.augment.windows import crop, flip_left_right, flip_up_down, resized_crop, rot90


@mark("probability")
def random_flip_left_right(
    key: jax.Array, image: jax.Array, *, probability: ArrayLike
) -> jax.Array:
    """Mirrors randomly chosen images left to right.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Array ``[..., height, width, channels]`` of floats, integers or booleans.
      probability: Probability of mirroring, in ``[0, 1]``.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: ``probability`` is a number outside ``[0, 1]``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> images = jnp.tile(jnp.array([0.0, 1.0])[:, None], (50, 1, 1, 1))
      >>> flipped = augment.random_flip_left_right(jax.random.key(0), images, probability=0.5)
      >>> print(jnp.unique(flipped[:, 0, 0, 0]))
      [0. 1.]
    """
    check_rate(probability, "probability")
    image = as_pixels(image)
    return select(decide(key, image, probability), flip_left_right(image), image)


@mark("probability")
def random_flip_up_down(key: jax.Array, image: jax.Array, *, probability: ArrayLike) -> jax.Array:
    """Mirrors randomly chosen images top to bottom.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Array ``[..., height, width, channels]`` of floats, integers or booleans.
      probability: Probability of mirroring, in ``[0, 1]``.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: ``probability`` is a number outside ``[0, 1]``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> images = jnp.tile(jnp.array([0.0, 1.0])[:, None, None], (50, 1, 1, 1))
      >>> flipped = augment.random_flip_up_down(jax.random.key(0), images, probability=0.5)
      >>> print(jnp.unique(flipped[:, 0, 0, 0]))
      [0. 1.]
    """
    check_rate(probability, "probability")
    image = as_pixels(image)
    return select(decide(key, image, probability), flip_up_down(image), image)


@mark()
def random_rot90(key: jax.Array, image: jax.Array) -> jax.Array:
    """Rotates a square image by 0, 90, 180 or 270 degrees, drawn uniformly.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Array ``[..., size, size, channels]`` of floats, integers or booleans.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: ``image`` is not square, so the shape of the result would be random.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> images = jnp.tile(jnp.arange(4.0).reshape(2, 2, 1), (50, 1, 1, 1))
      >>> print(jnp.unique(augment.random_rot90(jax.random.key(0), images)[:, 0, 0, 0]))
      [0. 1. 2. 3.]
    """
    check_key(key)
    image = as_pixels(image)
    if image.shape[-3] != image.shape[-2]:
        raise ValueError(
            f"`image` must be square for quarter turns, got {image.shape[-3]} x {image.shape[-2]}; "
            "crop it first, or make half turns: a horizontal and a vertical flip."
        )
    turns = append_axes(die(key, image, 4))
    half = select(turns >= 2, rot90(image, turns=2), image)
    return select(turns % 2 == 1, rot90(half, turns=1), half)


@mark()
def random_crop(key: jax.Array, image: jax.Array, *, size: Sequence[int]) -> jax.Array:
    """Crops an image to ``size`` at a uniformly drawn position of whole pixels.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Array ``[..., height, width, channels]`` of floats, integers or booleans; :func:`pad`
        it first if crops should reach beyond the border.
      size: Height and width of the result, at most the size of ``image``.

    Returns:
      Array ``[..., *size, channels]`` of the dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: ``image`` is smaller than ``size``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> images = jnp.tile(jnp.arange(4.0)[:, None], (50, 1, 1, 1))
      >>> cut = augment.random_crop(jax.random.key(0), images, size=(1, 2))
      >>> print(jnp.unique(cut[:, 0, 0, 0]))
      [0. 1. 2.]
    """
    check_key(key)
    image = as_pixels(image)
    size = check_size(size)
    check_fits(size, image)
    height, width = image.shape[-3:-1]
    top_key, left_key = jax.random.split(key)
    top = jnp.floor(uniform(top_key, image) * (height - size[0] + 1)).astype(jnp.int32)
    left = jnp.floor(uniform(left_key, image) * (width - size[1] + 1)).astype(jnp.int32)
    return crop(image, top=top, left=left, size=size)


@mark()
def random_resized_crop(
    key: jax.Array,
    image: jax.Array,
    *,
    size: Sequence[int],
    scale: tuple[ArrayLike, ArrayLike] = (0.08, 1.0),
    ratio: tuple[ArrayLike, ArrayLike] = (3 / 4, 4 / 3),
) -> jax.Array:
    """Crops a window of random area, aspect ratio and position, and resizes it to ``size``.

    As in torchvision, it takes the first of ten windows that fits, or else the largest in the
    middle with an allowed ratio. Sides are whole pixels.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Array ``[..., height, width, channels]``. Floats are interpolated; integers, ``uint8``
        images included, and booleans are read at the nearest pixels.
      size: Height and width of the result.
      scale: Least and largest share of the area of ``image``, the largest positive.
      ratio: Least and largest ratio of width to height, positive; its logarithm is uniform.

    Returns:
      Array ``[..., *size, channels]`` of the dtype of ``image``, see :func:`resized_crop`.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: ``size`` is not a pair of positive integers, or a limit is not positive and
        finite; only the least share may be 0.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> images = jnp.ones((2, 8, 8, 3))
      >>> print(augment.random_resized_crop(jax.random.key(0), images, size=(4, 4)).shape)
      (2, 4, 4, 3)

    References:
      Szegedy et al., `Going Deeper with Convolutions <https://arxiv.org/abs/1409.4842>`_, 2014
    """
    image = as_pixels(image)
    top, left, height, width = draw_window(key, image, scale, ratio)
    return resized_crop(image, top=top, left=left, height=height, width=width, size=size)
