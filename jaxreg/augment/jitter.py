"""Random color changes, drawn for each example of a batch.

``amount`` is the largest distance of a factor from 1, and 0 is exactly the identity.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_between, check_key, check_nonnegative, check_rate
from jaxreg._numerics import widen
from jaxreg._scopes import mark
from jaxreg.augment import color, levels
from jaxreg.augment._draws import between, decide, limit, symmetric
from jaxreg.augment._images import as_image, select


@mark("amount")
def random_brightness(key: jax.Array, image: jax.Array, *, amount: ArrayLike) -> jax.Array:
    """Applies :func:`brightness` with a factor drawn uniformly around 1.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``.
      amount: Largest distance of the factor of :func:`brightness` from 1; the factor is at least 0.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``amount`` is negative, infinite or not a single number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> key, image = jax.random.key(0), jnp.full((50, 1, 1, 1), 0.5)
      >>> lit = augment.random_brightness(key, image, amount=0.2)
      >>> print(jnp.all((lit >= 0.4) & (lit <= 0.6)), jnp.unique(lit).size)
      True 50
    """
    return color.brightness(image, factor=_factor(key, image, amount, "amount"))


@mark("amount")
def random_contrast(key: jax.Array, image: jax.Array, *, amount: ArrayLike) -> jax.Array:
    """Applies :func:`contrast` with a factor drawn uniformly around 1.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``, gray or colored,
        with or without an alpha channel.
      amount: Largest distance of the factor of :func:`contrast` from 1; the factor is at least 0.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``amount`` is negative, infinite or not a single number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> key, image = jax.random.key(0), jnp.array([[[0.25], [0.75]]])
      >>> print(augment.random_contrast(key, image, amount=0.5).mean().round(3))
      0.5
    """
    return color.contrast(image, factor=_factor(key, image, amount, "amount"))


@mark("amount")
def random_saturation(key: jax.Array, image: jax.Array, *, amount: ArrayLike) -> jax.Array:
    """Applies :func:`saturation` with a factor drawn uniformly around 1.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``, gray or colored,
        with or without an alpha channel.
      amount: Largest distance of the factor of :func:`saturation` from 1; the factor is at least 0.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``amount`` is negative, infinite or not a single number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> key, gray = jax.random.key(0), jnp.full((2, 2, 3), 0.5)
      >>> print(jnp.allclose(augment.random_saturation(key, gray, amount=0.9), gray))
      True
    """
    return color.saturation(image, factor=_factor(key, image, amount, "amount"))


@mark("shift")
def random_hue(key: jax.Array, image: jax.Array, *, shift: ArrayLike) -> jax.Array:
    """Shifts the hue by an amount drawn uniformly between ``-shift`` and ``shift``.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``, gray or colored,
        with or without an alpha channel.
      shift: Largest shift, where 1 is the whole circle.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``shift`` is negative, infinite or not a single number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> key, red = jax.random.key(0), jnp.array([[[1.0, 0.0, 0.0]]])
      >>> print(augment.random_hue(key, red, shift=0.5).max(axis=-1))
      [[1.]]
    """
    image = as_image(image)
    return color.hue(image, shift=symmetric(key, image, limit(shift, "shift", image)))


@mark("amount")
def random_gamma(key: jax.Array, image: jax.Array, *, amount: ArrayLike) -> jax.Array:
    r"""Raises all values to a random power, whose logarithm is uniform around 0.

    .. math::

      \gamma = (1 + r)^u, \qquad u \sim \mathrm U(-1, 1)

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``.
      amount: Limit :math:`r`: 0.25 gives powers between 0.8 and 1.25.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``amount`` is negative, infinite or not a single number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> key, image = jax.random.key(0), jnp.array([[[0.0], [1.0]]])
      >>> print((augment.random_gamma(key, image, amount=0.5) == image).all())
      True
    """
    image = as_image(image)
    exponent = symmetric(key, image, jnp.log1p(limit(amount, "amount", image)))
    return color.gamma(image, gamma=jnp.exp(exponent))


@mark("probability")
def random_grayscale(key: jax.Array, image: jax.Array, *, probability: ArrayLike) -> jax.Array:
    """Converts randomly chosen images to gray.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Floating-point array ``[..., height, width, channels]``, gray or colored, with or
        without an alpha channel.
      probability: Probability of converting an image, in ``[0, 1]``.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``probability`` is a number outside ``[0, 1]``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> red = jnp.tile(jnp.array([1.0, 0.0, 0.0]), (50, 1, 1, 1))
      >>> y = augment.random_grayscale(jax.random.key(0), red, probability=0.5)
      >>> print(jnp.unique(y[..., 1] > 0))
      [False  True]
    """
    check_rate(probability, "probability")
    gray = color.grayscale(image)
    image = as_image(image)
    return select(decide(key, image, probability), gray, image)


@mark("probability")
def random_invert(key: jax.Array, image: jax.Array, *, probability: ArrayLike) -> jax.Array:
    """Inverts all color values of randomly chosen images.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``.
      probability: Probability of inverting an image, in ``[0, 1]``.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``probability`` is a number outside ``[0, 1]``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> black = jnp.zeros((50, 1, 1, 1))
      >>> print(jnp.unique(augment.random_invert(jax.random.key(0), black, probability=0.5)))
      [0. 1.]
    """
    check_rate(probability, "probability")
    image = as_image(image)
    return select(decide(key, image, probability), color.invert(image), image)


@mark("probability")
def random_solarize(
    key: jax.Array, image: jax.Array, *, threshold: ArrayLike, probability: ArrayLike
) -> jax.Array:
    """Inverts the values at or above a threshold in randomly chosen images.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``.
      threshold: Least value that is inverted: a single number, or one per example.
      probability: Probability of inverting, in ``[0, 1]``.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``probability`` is a number outside ``[0, 1]``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> key, light = jax.random.key(0), jnp.ones((50, 1, 1, 1))
      >>> y = augment.random_solarize(key, light, threshold=0.5, probability=0.5)
      >>> print(jnp.unique(y))
      [0. 1.]
    """
    check_rate(probability, "probability")
    image = as_image(image)
    solarized = color.solarize(image, threshold=threshold)
    return select(decide(key, image, probability), solarized, image)


@mark("probability")
def random_posterize(
    key: jax.Array, image: jax.Array, *, bits: ArrayLike, probability: ArrayLike
) -> jax.Array:
    """Applies :func:`posterize` to randomly chosen images.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``.
      bits: Number of bits, 0 to 8: a single number, or one per example.
      probability: Probability of posterizing, in ``[0, 1]``.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``probability`` is a number outside ``[0, 1]``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> key, image = jax.random.key(0), jnp.full((50, 1, 1, 1), 0.25)
      >>> y = augment.random_posterize(key, image, bits=1, probability=0.5)
      >>> print(jnp.unique(y))
      [0.   0.25]
    """
    check_rate(probability, "probability")
    image = as_image(image)
    posterized = levels.posterize(image, bits=bits)
    return select(decide(key, image, probability), posterized, image)


def color_jitter(
    image: jax.Array,
    *,
    brightness: ArrayLike = 1.0,
    contrast: ArrayLike = 1.0,
    saturation: ArrayLike = 1.0,
    hue: ArrayLike = 0.0,
) -> jax.Array:
    """Changes brightness, contrast, saturation and hue, in this order.

    Results are rounded to the dtype of the image once, at the end.

    Args:
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``, gray or colored,
        with or without an alpha channel.
      brightness: Factor of :func:`brightness`: a single number, or one per example.
      contrast: Factor of :func:`contrast`, in the same form.
      saturation: Factor of :func:`saturation`, in the same form.
      hue: Shift of :func:`hue`, where 1 is the whole circle, in the same form.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point.
      ValueError: An argument does not broadcast to the leading axes, a factor is negative, or
        ``image`` has more than four channels.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> red = jnp.array([[[0.5, 0.0, 0.0]]])
      >>> print(augment.color_jitter(red, brightness=2.0, hue=0.5))
      [[[0. 1. 1.]]]
    """
    factors = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    for name, factor in factors.items():
        check_nonnegative(factor, name)
    image = as_image(image)
    y = color.brightness(widen(image), factor=brightness)
    y = color.contrast(y, factor=contrast)
    y = color.saturation(y, factor=saturation)
    return color.hue(y, shift=hue).astype(image.dtype)


@mark()
def random_color_jitter(
    key: jax.Array,
    image: jax.Array,
    *,
    brightness: ArrayLike = 0.0,
    contrast: ArrayLike = 0.0,
    saturation: ArrayLike = 0.0,
    hue: ArrayLike = 0.0,
) -> jax.Array:
    """Changes brightness, contrast, saturation and hue by random amounts, in this order.

    torchvision also draws the order at random.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``, gray or colored,
        with or without an alpha channel.
      brightness: Largest distance of the factor of :func:`brightness` from 1.
      contrast: Largest distance of the factor of :func:`contrast` from 1.
      saturation: Largest distance of the factor of :func:`saturation` from 1.
      hue: Largest shift of the hue, in ``[0, 0.5]``, where 1 is the whole circle.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: A limit is negative or not a single number, or ``image`` has more than four
        channels.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> key, image = jax.random.key(0), jnp.full((2, 4, 4, 3), 0.5)
      >>> y = augment.random_color_jitter(key, image, brightness=0.4, hue=0.1)
      >>> print(jnp.ptp(y[0]) < 1e-6, y[0, 0, 0, 0] != y[1, 0, 0, 0])
      True True
    """
    check_key(key)
    image = as_image(image)
    check_between(hue, "hue", 0, 0.5)
    keys = jax.random.split(key, 4)
    return color_jitter(
        image,
        brightness=_factor(keys[0], image, brightness, "brightness"),
        contrast=_factor(keys[1], image, contrast, "contrast"),
        saturation=_factor(keys[2], image, saturation, "saturation"),
        hue=symmetric(keys[3], image, limit(hue, "hue", image)),
    )


def _factor(key: jax.Array, image: jax.Array, amount: ArrayLike, name: str) -> jax.Array:
    """Draws a factor for each example, uniform from ``max(1 - amount, 0)`` to ``1 + amount``."""
    image = as_image(image)
    amount = limit(amount, name, image)
    return between(key, image, jnp.maximum(1 - amount, 0), 1 + amount)
