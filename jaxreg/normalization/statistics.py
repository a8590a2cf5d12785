"""Mean and variance of the selected elements, across devices."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxreg._axes import Axes
from jaxreg._checks import canonical_axes, check_floating
from jaxreg._numerics import real_dtype, square, widen
from jaxreg._sharding import place_like
from jaxreg.normalization._shared import Devices, align_mask, among, from_each, select

# Ratio of the mean of squares to the variance up to which their difference is computed from them.
_CANCELLATION = 16
# Number of devices up to which each sends its moments to all, in place of two sums one by one.
_GATHERED = 64


class Moments(NamedTuple):
    """Mean, biased variance and number of the elements that were reduced."""

    mean: jax.Array
    var: jax.Array
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]


def moments(
    x: jax.Array,
    *,
    axis: Axes,
    where: jax.Array | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    axis_index_groups: Sequence[Sequence[int]] | None = None,
) -> Moments:
    r"""Mean and variance over some axes, of the selected elements, across devices.

    .. math::

      \mu = \frac{1}{n} \sum_i x_i, \qquad \sigma^2 = \frac{1}{n} \sum_i |x_i - \mu|^2

    The sums and the count :math:`n` run over the elements with a nonzero ``where`` on all devices
    along ``axis_name``. Where nothing is selected, mean, variance and gradient are 0.

    Args:
      x: Floating-point array.
      axis: Axis or axes to reduce (the norms' ``axis`` names those that stay).
      where: Mask of the elements to use, see the module's docstring.
      axis_name: Mesh axis to synchronize over, inside ``shard_map``, ``pmap`` or ``vmap``. Under
        plain ``jit`` a sharded ``x`` needs none: its statistics are global.
      axis_index_groups: Groups of indices along that axis, such as ``[[0, 1], [2, 3]]``, each of
        which has statistics of its own.

    Returns:
      Mean, variance and count, each without the reduced axes, in float32 or wider. Of complex
      numbers the mean is complex.

    Raises:
      TypeError: ``x`` is not floating-point.
      ValueError: ``axis`` lies outside ``x``, ``where`` does not broadcast to it, or the groups do
        not hold each index once.

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
    mask = None if where is None else align_mask(where, x)
    devices = among(axis_name, axis_index_groups)
    result = moments_along(widen(x), mask, axes, devices)
    return jax.tree.map(lambda a: jnp.squeeze(a, axes), result)


def moments_along(
    x: jax.Array,
    mask: jax.Array | None,
    axes: tuple[int, ...],
    devices: Devices,
) -> Moments:
    """Moments of a wide array, with reduced axes of size 1; ``mask`` as by ``align_mask``."""
    count = count_along(x, axes, mask)
    result = _moments(x, mask, count, axes, devices)
    count = place_like(jnp.broadcast_to(result.count, result.mean.shape), result.mean)
    return result._replace(count=count)


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _moments(
    x: jax.Array,
    mask: jax.Array | None,
    count: jax.Array,
    axes: tuple[int, ...],
    devices: Devices,
) -> Moments:
    mean, var = _of_device(x, mask, count, axes)
    local = Moments(mean, var, count)
    return _across(local, devices) if devices.axis_name else local


@_moments.defjvp
def _moments_jvp(
    axes: tuple[int, ...],
    devices: Devices,
    primals: tuple[jax.Array, jax.Array | None, jax.Array],
    tangents: tuple[jax.Array, Any, Any],
) -> tuple[Moments, Moments]:
    """Derivatives in closed form: that of the mean inside the variance is zero.

    Automatic ones would compute that zero by one more reduction, and go through the choice between
    one pass and two.
    """
    x, mask, count = primals
    dx = select(tangents[0], mask)
    result = _moments(x, mask, count, axes, devices)
    deviation = select(x - result.mean, mask)
    first = jnp.sum(dx, axes, keepdims=True)
    second = 2 * jnp.sum((deviation.conj() * dx).real, axes, keepdims=True)
    first, second = devices.total((first, second))
    divisor = jnp.maximum(result.count, 1)
    return result, Moments(first / divisor, second / divisor, jnp.zeros_like(result.count))


@partial(jax.jit, static_argnums=3)
def _of_device(
    x: jax.Array, mask: jax.Array | None, count: jax.Array, axes: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of what this device holds.

    A conditional makes a GPU wait for the host, and keeps its compiler from fusing two passes over
    a row, so only a CPU tries to do with one.
    """
    x, divisor = select(x, mask), jnp.maximum(count, 1)
    mean = jnp.sum(x, axes, keepdims=True) / divisor
    two = partial(_var_about_mean, axes=axes)
    one = partial(_var_from_squares, axes=axes)
    return mean, jax.lax.platform_dependent(x, mask, mean, divisor, cpu=one, default=two)


def _var_about_mean(
    x: jax.Array,
    mask: jax.Array | None,
    mean: jax.Array,
    divisor: jax.Array,
    *,
    axes: tuple[int, ...],
) -> jax.Array:
    """Mean of squared deviations: a second pass over ``x``, which needs the mean of the first."""
    return jnp.sum(square(select(x - mean, mask)), axes, keepdims=True) / divisor


def _var_from_squares(
    x: jax.Array,
    mask: jax.Array | None,
    mean: jax.Array,
    divisor: jax.Array,
    *,
    axes: tuple[int, ...],
) -> jax.Array:
    """Mean of squares less the square of the mean, where that loses at most 4 of 24 bits.

    Both come from one pass. Where they are close to each other, in any slice, the variance is
    computed again from deviations.
    """
    squares = jnp.sum(square(x), axes, keepdims=True) / divisor
    var = squares - square(mean)
    accurate = jnp.all(squares <= _CANCELLATION * var)

    def keep(*_: Any) -> jax.Array:
        return var

    return jax.lax.cond(accurate, keep, partial(_var_about_mean, axes=axes), x, mask, mean, divisor)


def _across(local: Moments, devices: Devices) -> Moments:
    """Moments of all devices from those of each.

    Few devices tell each other theirs at once. Among many that is too much to send: they add up the
    means first, and then what each has around the common mean; so do the devices of a group.
    """
    axis_name, groups = devices
    if groups is not None or jax.lax.axis_size(axis_name) > _GATHERED:
        return pooled(local, devices.total)
    return pooled(Moments(*(from_each(a, axis_name) for a in local)), partial(jnp.sum, axis=0))


def pooled(parts: Moments, total: Callable[[jax.Array], jax.Array]) -> Moments:
    """Moments of several parts together; ``total`` adds up over the parts."""
    mean, var, count = parts
    number = total(count)
    divisor = jnp.maximum(number, 1)
    center = total(count * mean) / divisor
    return Moments(center, total(count * (var + square(mean - center))) / divisor, number)


def count_along(x: jax.Array, axes: tuple[int, ...], mask: jax.Array | None) -> jax.Array:
    """Number of selected elements, which axes of size 1 in the mask multiply."""
    dtype, most = real_dtype(x), math.prod(x.shape[a] for a in axes)
    if mask is None:
        shape = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
        return jnp.full(shape, most, dtype)
    repeats = math.prod(x.shape[a] for a in axes if mask.shape[a] == 1)
    # Float32 counts up to here exactly, and one collective then adds up counts and sums.
    counter = dtype if most <= 2**24 else jnp.int32
    return jnp.sum(mask, axes, keepdims=True, dtype=counter).astype(dtype) * repeats
