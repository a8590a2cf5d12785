"""Mean and variance of the selected elements, across devices."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxreg._checks import canonical_axes, check_floating
from jaxreg._numerics import real_dtype, square, widen
from jaxreg._sharding import place_like
from jaxreg.normalization._shared import Axes, align_mask, select


class Moments(NamedTuple):
    """Mean, biased variance and number of the elements that were reduced."""

    mean: jax.Array
    var: jax.Array
    count: jax.Array


def moments(
    x: jax.Array,
    *,
    axis: Axes,
    where: jax.Array | None = None,
    axis_name: str | tuple[str, ...] | None = None,
) -> Moments:
    r"""Mean and variance over some axes, of the selected elements, across devices.

    .. math::

      \mu = \frac{1}{n} \sum_i x_i, \qquad \sigma^2 = \frac{1}{n} \sum_i (x_i - \mu)^2

    The sums and the count :math:`n` run over the elements with a nonzero ``where`` on all devices
    along ``axis_name``. Where nothing is selected, mean, variance and gradient are 0.

    Args:
      x: Floating-point array.
      axis: Axis or axes to reduce (the norms' ``axis`` names those that stay).
      where: Mask of the elements to use, see the module's docstring.
      axis_name: Mesh axis to synchronize over, inside ``shard_map``, ``pmap`` or ``vmap``. Under
        plain ``jit`` a sharded ``x`` needs none: its statistics are global.

    Returns:
      Mean, variance and count, each without the reduced axes, in float32 or wider.

    Raises:
      TypeError: ``x`` is not floating-point.
      ValueError: ``axis`` lies outside ``x``, or ``where`` does not broadcast to it.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import normalization
      >>> x = jnp.array([1.0, 3.0, jnp.nan])
      >>> m = normalization.moments(x, axis=0, where=jnp.array([1, 1, 0]))
      >>> print(m.mean, m.var, m.count)
      2.0 1.0 2.0
    """
    check_floating(x, "x")
    axes = canonical_axes(axis, x.ndim)
    x = widen(x)
    mask = None if where is None else align_mask(where, x)
    count = _count(x, axes, mask)
    total = jnp.sum(select(x, mask), axes, keepdims=True)
    if axis_name is not None:
        total = jax.lax.psum(total, axis_name)
        count = _count_devices(count, mask, axis_name)
    divisor = jnp.maximum(count, 1).astype(total.real.dtype)
    mean = total / divisor
    # Masked before the square: what is left out may be NaN, and so would be 0 times its derivative.
    squares = jnp.sum(square(select(x - mean, mask)), axes, keepdims=True)
    if axis_name is not None:
        squares = jax.lax.psum(squares, axis_name)
    count = place_like(jnp.broadcast_to(count, mean.shape), mean)
    result = Moments(mean, squares / divisor, count)
    return jax.tree.map(lambda a: jnp.squeeze(a, axes), result)


def _count(x: jax.Array, axes: tuple[int, ...], mask: jax.Array | None) -> jax.Array:
    """Number of selected elements, which axes of size 1 in the mask multiply."""
    dtype = real_dtype(x)
    if mask is None:
        shape = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
        return jnp.full(shape, math.prod(x.shape[a] for a in axes), dtype)
    repeats = math.prod(x.shape[a] for a in axes if mask.shape[a] == 1)
    return jnp.sum(mask, axes, keepdims=True, dtype=jnp.int32).astype(dtype) * repeats


def _count_devices(
    count: jax.Array, mask: jax.Array | None, axis_name: str | tuple[str, ...]
) -> jax.Array:
    """Adds counts across devices; without a mask they are equal and known, so nothing is sent."""
    if mask is None:
        return count * jax.lax.psum(1, axis_name)
    return jax.lax.psum(count, axis_name)
