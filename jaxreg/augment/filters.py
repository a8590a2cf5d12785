"""Filters that compute each pixel from its neighborhood and leave a constant image unchanged."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_finite, check_nonnegative, check_static_integer
from jaxreg._numerics import widen
from jaxreg._scopes import mark
from jaxreg.augment._draws import between, limit, limits
from jaxreg.augment._images import as_image, map_colors, per_example, select
from jaxreg.augment.borders import Border, edge, extend


def gaussian_blur(
    image: jax.Array, *, sigma: ArrayLike, radius: int, border: Border = edge
) -> jax.Array:
    r"""Blurs an image with a Gaussian kernel.

    .. math::

      k_d \propto \exp\!\left(-\frac{d^2}{2 \sigma^2}\right), \qquad |d| \le r

    Args:
      image: Floating-point array ``[..., height, width, channels]``.
      sigma: Standard deviation :math:`\sigma` in pixels: a single number, or one per example; 0 is
        exactly the identity.
      radius: Radius :math:`r` of the kernel in pixels, an untraced integer. torchvision takes the
        kernel size ``2 * radius + 1``.
      border: How to continue the image beyond its border: :func:`borders.edge`,
        :func:`borders.reflect` (torchvision's), :func:`borders.wrap` or a function like them.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point, or ``radius`` is not an integer.
      ValueError: ``sigma`` or ``radius`` is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.zeros((5, 5, 1)).at[2, 2].set(1.0)
      >>> blurred = augment.gaussian_blur(image, sigma=1.0, radius=2)
      >>> print(jnp.allclose(blurred.sum(), 1), blurred.argmax())
      True 12
    """
    image = as_image(image)
    check_static_integer(radius, "radius")
    if radius < 0:
        raise ValueError(f"`radius` must be zero or positive, got {radius}.")
    check_nonnegative(sigma, "sigma")
    width = jnp.maximum(per_example(sigma, "sigma", image), 0)
    taps = _gaussian(width, radius)
    y = _along(widen(image), -3, taps, border)
    y = _along(y, -2, taps, border).astype(image.dtype)
    return select(width == 0, image, y)


def sharpness(image: jax.Array, *, factor: ArrayLike) -> jax.Array:
    r"""Blends an image with a smoothed copy, as PIL's ``ImageEnhance.Sharpness`` does.

    .. math::

      v = \mathrm{clip}\!\left(f u + (1 - f) \, s * u, \, 0, 1\right), \qquad
      s = \frac{1}{13} \begin{pmatrix} 1 & 1 & 1 \\ 1 & 5 & 1 \\ 1 & 1 & 1 \end{pmatrix}

    The pixels at the border are not smoothed.

    Args:
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``; the alpha
        channel, the last of two or of four, is unchanged.
      factor: Weight :math:`f` of the image, a single number or one per example: 0 smooths, 1 is
        exactly the identity, more sharpens.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point.
      ValueError: ``factor`` is negative or infinite, or does not broadcast to the leading axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image = jnp.zeros((3, 3, 1)).at[1, 1].set(0.5)
      >>> print(augment.sharpness(image, factor=2.0)[1, 1, 0].round(3))
      0.808
    """
    image = as_image(image)
    check_nonnegative(factor, "factor")
    check_finite(factor, "factor")
    f = jnp.maximum(per_example(factor, "factor", image), 0)
    if min(image.shape[-3:-1]) < 3:
        return image
    return map_colors(lambda colors: _sharpen(colors, f), image)


def _sharpen(image: jax.Array, f: jax.Array) -> jax.Array:
    x = widen(image)
    inner = x[..., 1:-1, 1:-1, :]
    rows = x[..., :-2, :, :] + x[..., 1:-1, :, :] + x[..., 2:, :, :]
    around = rows[..., :-2, :] + rows[..., 1:-1, :] + rows[..., 2:, :]
    border = [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)]
    detail = jnp.pad((9 * inner - around) / 13, border)
    y = jnp.clip(x + (f - 1) * detail, 0, 1).astype(image.dtype)
    return select(f == 1, image, y)


@mark("sigma")
def random_gaussian_blur(
    key: jax.Array, image: jax.Array, *, sigma: tuple[ArrayLike, ArrayLike], radius: int
) -> jax.Array:
    """Blurs an image with a Gaussian kernel whose standard deviation is drawn uniformly.

    It is :func:`gaussian_blur` with :func:`borders.edge`, which repeats the pixels at the border.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Floating-point array ``[..., height, width, channels]``.
      sigma: Least and largest standard deviation in pixels.
      radius: Radius of the kernel in pixels, an untraced integer. The kernel has ``2 * radius + 1``
        weights along each axis.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: A standard deviation is negative, infinite or not a single number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> key, image = jax.random.key(0), jnp.ones((2, 5, 5, 1))
      >>> blurred = augment.random_gaussian_blur(key, image, sigma=(0.1, 2.0), radius=3)
      >>> print(jnp.allclose(blurred, 1))
      True
    """
    image = as_image(image)
    low, high = limits(sigma, "sigma", image)
    return gaussian_blur(image, sigma=between(key, image, low, high), radius=radius)


@mark("amount")
def random_sharpness(key: jax.Array, image: jax.Array, *, amount: ArrayLike) -> jax.Array:
    """Applies :func:`sharpness` with a factor drawn uniformly around 1.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``.
      amount: Largest distance of the factor of :func:`sharpness` from 1; the factor is at least 0.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``amount`` is negative or not a single number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> key, image = jax.random.key(0), jnp.full((2, 5, 5, 1), 0.5)
      >>> print(jnp.allclose(augment.random_sharpness(key, image, amount=0.9), 0.5))
      True
    """
    image = as_image(image)
    amount = limit(amount, "amount", image)
    return sharpness(image, factor=between(key, image, jnp.maximum(1 - amount, 0), 1 + amount))


def _gaussian(sigma: jax.Array, radius: int) -> list[jax.Array]:
    """Returns the kernel weights at offsets from ``-radius`` to ``radius``, which sum to 1."""
    # Below 0.01 only the middle weight is not 0, and squares become too small to divide by.
    safe = jnp.maximum(sigma, 0.01)
    powers = [jnp.exp(-0.5 * (distance / safe) ** 2) for distance in range(radius + 1)]
    total = powers[0] + 2 * sum(powers[1:], start=jnp.zeros_like(safe))
    return [powers[abs(offset)] / total for offset in range(-radius, radius + 1)]


def _along(x: jax.Array, axis: int, taps: list[jax.Array], border: Border) -> jax.Array:
    """Correlates ``x`` with the kernel ``taps`` along ``axis``: -3 for height or -2 for width."""
    radius = len(taps) // 2
    length = x.shape[axis]
    if length == 0:
        return x
    around = (radius, radius)
    rows, columns = (around, (0, 0)) if axis == -3 else ((0, 0), around)
    padded = extend(x, rows, columns, border=border)
    shifts = (
        jax.lax.slice_in_dim(padded, start, start + length, axis=x.ndim + axis)
        for start in range(len(taps))
    )
    return sum(
        (tap * part for tap, part in zip(taps, shifts, strict=True)), start=jnp.zeros_like(x)
    )
