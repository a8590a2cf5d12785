"""Random warps: functions ``(key, image) -> image`` that draw separately for each example.

``random_f`` draws the arguments of ``f`` within limits. With limits of 0 the image is returned
exactly.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import check_key
from jaxreg._numerics import real_dtype
from jaxreg._scopes import mark
from jaxreg.augment import matrices
from jaxreg.augment._draws import limit
from jaxreg.augment._images import as_pixels
from jaxreg.augment.borders import Border
from jaxreg.augment.filters import gaussian_blur
from jaxreg.augment.geometry import affine, elastic, perspective


@mark("degrees")
def random_rotate(
    key: jax.Array,
    image: jax.Array,
    *,
    degrees: ArrayLike,
    fill: ArrayLike = 0.0,
    border: Border | None = None,
) -> jax.Array:
    """Rotates an image by an angle drawn uniformly between ``-degrees`` and ``degrees``.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Array ``[..., height, width, channels]``. Floats are interpolated; integers, ``uint8``
        images included, and booleans are read at the nearest pixels.
      degrees: Largest angle, zero or positive.
      fill: Value for pixels outside the image: a number, or one per channel, that the dtype of
        ``image`` can represent.
      border: Rule for pixels outside the image, in place of ``fill``; see :func:`affine`.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: ``degrees`` is negative or not a single number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> key, image = jax.random.key(0), jnp.ones((2, 9, 9, 1))
      >>> turned = augment.random_rotate(key, image, degrees=15.0)
      >>> print(turned[:, 4, 4, 0], jnp.all(turned[:, 0, 0, 0] < 1))
      [1. 1.] True
    """
    matrix = matrices.random_rotation(key, image, degrees=degrees)
    return affine(image, matrix, fill=fill, border=border)


@mark()
def random_translate(
    key: jax.Array,
    image: jax.Array,
    *,
    x: ArrayLike,
    y: ArrayLike,
    fill: ArrayLike = 0.0,
    border: Border | None = None,
) -> jax.Array:
    """Shifts an image by distances drawn uniformly up to ``x`` and ``y`` in either direction.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Array ``[..., height, width, channels]``. Floats are interpolated; integers, ``uint8``
        images included, and booleans are read at the nearest pixels.
      x: Largest shift to the right or to the left, in pixels.
      y: Largest shift up or down, in pixels.
      fill: Value for pixels outside the image: a number, or one per channel, that the dtype of
        ``image`` can represent.
      border: Rule for pixels outside the image, in place of ``fill``; see :func:`affine`.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: A limit is negative or not a single number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.ones((2, 9, 9, 1))
      >>> shifted = augment.random_translate(jax.random.key(0), image, x=2.0, y=2.0)
      >>> print(shifted.shape, shifted[:, 4, 4, 0])
      (2, 9, 9, 1) [1. 1.]
    """
    matrix = matrices.random_translation(key, image, x=x, y=y)
    return affine(image, matrix, fill=fill, border=border)


@mark()
def random_scale(
    key: jax.Array,
    image: jax.Array,
    *,
    x: ArrayLike,
    y: ArrayLike,
    fill: ArrayLike = 0.0,
    border: Border | None = None,
) -> jax.Array:
    """Scales an image about its center by random factors, whose logarithms are uniform around 0.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Array ``[..., height, width, channels]``. Floats are interpolated; integers, ``uint8``
        images included, and booleans are read at the nearest pixels.
      x: Limit for widths: 0.25 gives a factor between 0.8 and 1.25.
      y: Limit for heights, in the same form.
      fill: Value for pixels outside the image: a number, or one per channel, that the dtype of
        ``image`` can represent.
      border: Rule for pixels outside the image, in place of ``fill``; see :func:`affine`.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: A limit is negative or not a single number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.ones((2, 9, 9, 1))
      >>> print(augment.random_scale(jax.random.key(0), image, x=0.5, y=0.5)[:, 4, 4, 0])
      [1. 1.]
    """
    matrix = matrices.random_scaling(key, image, x=x, y=y)
    return affine(image, matrix, fill=fill, border=border)


@mark()
def random_shear(
    key: jax.Array,
    image: jax.Array,
    *,
    x: ArrayLike,
    y: ArrayLike,
    fill: ArrayLike = 0.0,
    border: Border | None = None,
) -> jax.Array:
    """Shears an image by amounts drawn uniformly up to ``x`` and ``y`` in either direction.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Array ``[..., height, width, channels]``. Floats are interpolated; integers, ``uint8``
        images included, and booleans are read at the nearest pixels.
      x: Largest shear of columns, the tangent of an angle.
      y: Largest shear of rows.
      fill: Value for pixels outside the image: a number, or one per channel, that the dtype of
        ``image`` can represent.
      border: Rule for pixels outside the image, in place of ``fill``; see :func:`affine`.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: A limit is negative or not a single number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.ones((2, 9, 9, 1))
      >>> print(augment.random_shear(jax.random.key(0), image, x=0.3, y=0.3)[:, 4, 4, 0])
      [1. 1.]
    """
    matrix = matrices.random_shearing(key, image, x=x, y=y)
    return affine(image, matrix, fill=fill, border=border)


@mark()
def random_affine(
    key: jax.Array,
    image: jax.Array,
    *,
    degrees: ArrayLike = 0.0,
    shift: ArrayLike = 0.0,
    scale: ArrayLike = 0.0,
    shear: ArrayLike = 0.0,
    fill: ArrayLike = 0.0,
    border: Border | None = None,
) -> jax.Array:
    """Shears, scales, rotates and shifts an image by random amounts, in one resampling.

    torchvision's ``RandomAffine`` takes angles for shears and shares of the size for shifts. It
    draws the factor uniformly; here its logarithm is uniform.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Array ``[..., height, width, channels]``. Floats are interpolated; integers, ``uint8``
        images included, and booleans are read at the nearest pixels.
      degrees: Largest angle.
      shift: Largest shift along each axis, in pixels.
      scale: Limit of the scale factor of both axes: 0.25 gives a factor between 0.8 and 1.25.
      shear: Largest shear of columns, the tangent of an angle.
      fill: Value for pixels outside the image: a number, or one per channel, that the dtype of
        ``image`` can represent.
      border: Rule for pixels outside the image, in place of ``fill``; see :func:`affine`.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: A limit is negative or not a single number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.arange(9.0).reshape(3, 3, 1)
      >>> print((augment.random_affine(jax.random.key(0), image) == image).all())
      True
    """
    check_key(key)
    image = as_pixels(image)
    keys = jax.random.split(key, 4)
    limit(shear, "shear", image)
    limit(shift, "shift", image)
    factor = matrices.random_scaling(keys[1], image, x=scale, y=0.0)[..., 0, 0]
    matrix = matrices.chain(
        matrices.random_shearing(keys[0], image, x=shear, y=0.0),
        matrices.scaling(factor, factor),
        matrices.random_rotation(keys[2], image, degrees=degrees),
        matrices.random_translation(keys[3], image, x=shift, y=shift),
    )
    return affine(image, matrix, fill=fill, border=border)


@mark("distortion")
def random_perspective(
    key: jax.Array,
    image: jax.Array,
    *,
    distortion: ArrayLike,
    fill: ArrayLike = 0.0,
    border: Border | None = None,
) -> jax.Array:
    """Warps an image by a random perspective that moves every corner inward.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Array ``[..., height, width, channels]``. Floats are interpolated; integers, ``uint8``
        images included, and booleans are read at the nearest pixels.
      distortion: Largest shift of a corner along each axis, as a share in ``[0, 1]`` of half the
        height and half the width, as in torchvision.
      fill: Value for pixels outside the image: a number, or one per channel, that the dtype of
        ``image`` can represent.
      border: Rule for pixels outside the image, in place of ``fill``; see :func:`affine`.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: ``distortion`` is a number outside ``[0, 1]``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.ones((2, 9, 9, 1))
      >>> print(augment.random_perspective(jax.random.key(0), image, distortion=0.5)[:, 4, 4, 0])
      [1. 1.]
    """
    matrix = matrices.random_quadrilateral(key, image, distortion=distortion)
    return perspective(image, matrix, fill=fill, border=border)


@mark("strength")
def random_elastic(
    key: jax.Array,
    image: jax.Array,
    *,
    strength: ArrayLike,
    sigma: ArrayLike,
    radius: int,
    fill: ArrayLike = 0.0,
    border: Border | None = None,
) -> jax.Array:
    r"""Displaces every pixel by smoothed uniform noise.

    .. math::

      d = \alpha \, G_\sigma * u, \qquad u \sim \mathrm U(-1, 1)

    ``strength`` is in pixels, as in Simard et al. and in albumentations. To match torchvision on a
    square image, use half of its ``alpha``, and a ``radius`` of four times its ``sigma``. kornia
    measures ``alpha`` in units of half the width and half the height.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Array ``[..., height, width, channels]``. Floats are interpolated; integers, ``uint8``
        images included, and booleans are read at the nearest pixels.
      strength: Factor :math:`\alpha` of the displacement, in pixels.
      sigma: Standard deviation of the Gaussian, in pixels.
      radius: Radius of the Gaussian in pixels, an untraced integer, such as three or four times
        ``sigma``.
      fill: Value for pixels outside the image: a number, or one per channel, that the dtype of
        ``image`` can represent.
      border: Rule for pixels outside the image, in place of ``fill``; see :func:`affine`.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: ``strength`` or ``sigma`` is negative or not a single number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> key, image = jax.random.key(0), jnp.arange(9.0).reshape(3, 3, 1)
      >>> same = augment.random_elastic(key, image, strength=0.0, sigma=1.0, radius=3)
      >>> print((same == image).all())
      True

    References:
      Simard et al., `Best Practices for Convolutional Neural Networks Applied to Visual Document
      Analysis <https://doi.org/10.1109/ICDAR.2003.1227801>`_, 2003
    """
    check_key(key)
    image = as_pixels(image)
    factor = limit(strength, "strength", image)
    shape = (*image.shape[:-1], 1)
    noise = [2 * _bits.uniform(own, shape, like=image) - 1 for own in jax.random.split(key)]
    both = jnp.concatenate(noise, axis=-1).astype(real_dtype(image))
    displacement = factor * gaussian_blur(both, sigma=sigma, radius=radius)
    return elastic(image, displacement, fill=fill, border=border)
