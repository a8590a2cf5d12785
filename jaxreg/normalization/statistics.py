"""Mean and variance of the elements that a mask selects, across devices."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxreg._axes import Axes
from jaxreg._checks import canonical_axes, check_floating
from jaxreg._numerics import real_dtype, reread, square, widen
from jaxreg._sharding import explicit_sharding, for_shape, place_like
from jaxreg.normalization._devices import Devices, as_devices, gather
from jaxreg.normalization._masks import align_mask, select
from jaxreg.normalization._precisions import TwoPrecisions, two_precisions

# Largest ratio of the mean square to the variance for which one pass is accurate enough.
_CANCELLATION = 16
# Largest number of devices that gather all moments at once instead of summing twice.
_MOST_GATHERED = 64


class Moments(NamedTuple):
    """Mean, biased variance and number of the reduced elements.

    Attributes:
      mean: Mean, in the accumulation dtype.
      var: Biased variance, real.
      count: Number of elements.
    """

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
    r"""Returns mean, variance and count along axes, optionally masked and across devices.

    .. math::

      \mu = \frac{1}{n} \sum_i x_i, \qquad \sigma^2 = \frac{1}{n} \sum_i |x_i - \mu|^2

    The sums and the count :math:`n` run over the elements with a nonzero ``where`` on all devices
    along ``axis_name``. If nothing is selected, mean, variance and gradient are 0.

    Args:
      x: Floating-point array.
      axis: Axis or axes to reduce. (In the norms, ``axis`` names the axes to keep.)
      where: Mask of the elements to use, see :mod:`jaxreg.normalization`.
      axis_name: Mesh axis to synchronize over, inside ``shard_map``, ``pmap`` or ``vmap``. Under
        plain ``jit``, leave it None even if ``x`` is sharded: statistics are global.
      axis_index_groups: Groups of indices along that axis, such as ``[[0, 1], [2, 3]]``, each with
        its own statistics.

    Returns:
      Mean, variance and count, each without the reduced axes, in float32 or wider. The mean of
      complex numbers is complex.

    Raises:
      TypeError: ``x`` is not floating-point.
      ValueError: ``axis`` lies outside ``x``, ``where`` does not broadcast to it, or the groups do
        not contain each index once.

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
    devices = as_devices(axis_name, axis_index_groups)
    result = moments_along(two_precisions(x), mask, axes, devices)
    return jax.tree.map(lambda a: jnp.squeeze(a, axes), result)


def moments_near(
    pivot: jax.Array,
    x: TwoPrecisions,
    *,
    axis: tuple[int, ...],
    where: jax.Array | None,
    axis_name: str | tuple[str, ...] | None,
    axis_index_groups: Sequence[Sequence[int]] | None,
) -> Moments:
    """Returns :func:`moments`, in one pass where the mean is close to a known ``pivot``.

    A running mean is such a number. Sums about it do not wait for the batch mean of all devices.
    Without elements, the mean is the pivot.
    """
    mask = None if where is None else align_mask(where, x.wide)
    devices = as_devices(axis_name, axis_index_groups)
    known = jax.lax.stop_gradient(jnp.expand_dims(pivot, axis)).astype(x.wide.dtype)
    sharding = explicit_sharding(x.wide)
    if sharding is not None:
        known = jax.sharding.reshard(known, for_shape(sharding, known.shape))
    result = moments_along(x, mask, axis, devices, known)
    return jax.tree.map(lambda a: jnp.squeeze(a, axis), result)


def moments_along(
    x: TwoPrecisions,
    mask: jax.Array | None,
    axes: tuple[int, ...],
    devices: Devices,
    pivot: jax.Array | None = None,
) -> Moments:
    """Returns moments along ``axes``, which keep size 1, in float32 or wider."""
    count = count_along(x.wide, axes, mask)
    # Under vmap, a sum over groups of devices fails while it is traced, and Devices replaces it. In
    # a jitted function it would fail later, where nothing can replace it.
    find = _moments if devices.axis_name else _shared_moments
    result = find(x, mask, count, pivot, axes, devices)
    count = place_like(jnp.broadcast_to(result.count, result.mean.shape), result.mean)
    return result._replace(count=count)


@partial(jax.custom_jvp, nondiff_argnums=(4, 5))
def _moments(
    x: TwoPrecisions,
    mask: jax.Array | None,
    count: jax.Array,
    pivot: jax.Array | None,
    axes: tuple[int, ...],
    devices: Devices,
) -> Moments:
    mean, var = _local_mean_and_var(x.given, mask, count, pivot, axes)
    local = Moments(mean, var, count)
    return _pool_devices(local, devices) if devices.axis_name else local


@_moments.defjvp
def _moments_jvp(
    axes: tuple[int, ...],
    devices: Devices,
    primals: tuple[TwoPrecisions, jax.Array | None, jax.Array, jax.Array | None],
    tangents: tuple[TwoPrecisions, Any, Any, Any],
) -> tuple[Moments, Moments]:
    """Returns moments and closed-form tangents; the variance's derivative by its mean is zero.

    Automatic derivatives would compute this zero by another reduction, and differentiate the choice
    between one pass and two.
    """
    x, mask, count, pivot = primals
    result = _moments(x, mask, count, pivot, axes, devices)
    first, second = devices.total(_sum_tangents(x.given, mask, result.mean, tangents[0].wide, axes))
    divisor = jnp.maximum(result.count, 1)
    return result, Moments(first / divisor, second / divisor, jnp.zeros_like(result.count))


# The backward pass holds `x`, in place of its deviations.
@partial(jax.checkpoint, static_argnums=(4,), prevent_cse=False)
def _sum_tangents(
    x: jax.Array,
    mask: jax.Array | None,
    mean: jax.Array,
    dx: jax.Array,
    axes: tuple[int, ...],
) -> tuple[jax.Array, jax.Array]:
    """Returns the sums of the tangents, and of their products with twice the deviations."""
    dx = select(dx, mask)
    deviation = _distance(*reread(x, mask, mean))
    products = (deviation.conj() * dx).real
    return jnp.sum(dx, axes, keepdims=True), 2 * jnp.sum(products, axes, keepdims=True)


# Layers of one shape share what is traced and lowered.
_shared_moments = jax.jit(_moments, static_argnums=(4, 5))


def _local_mean_and_var(
    x: jax.Array,
    mask: jax.Array | None,
    count: jax.Array,
    pivot: jax.Array | None,
    axes: tuple[int, ...],
) -> tuple[jax.Array, jax.Array]:
    """Returns mean and variance of the elements on this device.

    Two passes wait for the mean of all devices before they sum deviations. One pass needs a
    conditional, which makes a GPU wait for the host and keeps its compiler from fusing two passes
    over a row. So a CPU tries one pass, a TPU does if it knows a ``pivot``, and a GPU does not.
    """
    one_pass = partial(_one_pass, axes=axes)
    branches = {"cpu": one_pass} if pivot is None else {"cpu": one_pass, "tpu": one_pass}
    arrays = (x, mask, jnp.maximum(count, 1), pivot)
    return jax.lax.platform_dependent(*arrays, **branches, default=partial(_two_passes, axes=axes))


def _two_passes(
    x: jax.Array,
    mask: jax.Array | None,
    divisor: jax.Array,
    pivot: jax.Array | None,
    *,
    axes: tuple[int, ...],
) -> tuple[jax.Array, jax.Array]:
    """Returns the mean, and the mean squared deviation from it by a second pass over ``x``."""
    del pivot
    mean = jnp.sum(select(widen(x), mask), axes, keepdims=True) / divisor
    return mean, _var_about(mean, x, mask, divisor, axes)


def _one_pass(
    x: jax.Array,
    mask: jax.Array | None,
    divisor: jax.Array,
    pivot: jax.Array | None,
    *,
    axes: tuple[int, ...],
) -> tuple[jax.Array, jax.Array]:
    """Returns mean and variance in one pass, or in two if one pass loses more than 4 of 24 bits.

    One pass sums the distances from ``pivot``, or from zero, and their squares. If subtracting the
    squared mean distance cancels digits in any slice, a second pass follows.
    """
    shift = jnp.sum(_distance(x, mask, pivot), axes, keepdims=True) / divisor
    distance = _distance(*reread(x, mask, pivot))
    squares = jnp.sum(square(distance), axes, keepdims=True) / divisor
    mean = shift if pivot is None else pivot + shift
    var = squares - square(shift)
    accurate = jnp.all(squares <= _CANCELLATION * var)

    def keep(*_: Any) -> tuple[jax.Array, jax.Array]:
        return mean, var

    def repair(x: jax.Array, mask: jax.Array | None, divisor: jax.Array) -> Any:
        if pivot is None:
            return mean, _var_about(mean, x, mask, divisor, axes)
        return _two_passes(x, mask, divisor, pivot, axes=axes)  # The distances may be all rounding.

    return jax.lax.cond(accurate, keep, repair, x, mask, divisor)


def _var_about(
    mean: jax.Array,
    x: jax.Array,
    mask: jax.Array | None,
    divisor: jax.Array,
    axes: tuple[int, ...],
) -> jax.Array:
    deviation = _distance(*reread(x, mask, mean))
    return jnp.sum(square(deviation), axes, keepdims=True) / divisor


def _distance(x: jax.Array, mask: jax.Array | None, pivot: jax.Array | None) -> jax.Array:
    return select(widen(x) if pivot is None else widen(x) - pivot, mask)


def _pool_devices(local: Moments, devices: Devices) -> Moments:
    """Combines the moments of each device into the moments of all devices.

    A few devices gather all moments at once. For many devices and for groups that would be too much
    to send: they sum the means first, and then the deviations from the common mean.
    """
    axis_name, groups = devices
    if groups is not None or jax.lax.axis_size(axis_name) > _MOST_GATHERED:
        return pool(local, devices.total)
    parts = jax.tree.map(lambda a: gather(a, axis_name), local)
    return pool(parts, partial(jnp.sum, axis=0))


def pool(parts: Moments, total: Callable[[jax.Array], jax.Array]) -> Moments:
    """Combines the moments of disjoint parts; ``total`` sums an array over the parts."""
    mean, var, count = parts
    number = total(count)
    divisor = jnp.maximum(number, 1)
    center = total(count * mean) / divisor
    return Moments(center, total(count * (var + square(mean - center))) / divisor, number)


def count_along(x: jax.Array, axes: tuple[int, ...], mask: jax.Array | None) -> jax.Array:
    """Counts the elements of ``x`` that ``mask``, broadcast to ``x``, selects along ``axes``."""
    dtype = real_dtype(x)
    most = math.prod(x.shape[a] for a in axes)
    if mask is None:
        shape = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
        return jnp.full(shape, most, dtype)
    repeats = math.prod(x.shape[a] for a in axes if mask.shape[a] == 1)
    # Float32 is exact up to 2**24, and one collective can then sum counts and values.
    counter = dtype if most <= 2**24 else jnp.int32
    return jnp.sum(mask, axes, keepdims=True, dtype=counter).astype(dtype) * repeats
