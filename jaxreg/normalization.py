"""Normalization: functions ``(x, stats) -> (y, stats)`` of activations and their statistics.

Statistics are computed in float32 or wider, in two passes, over the elements that ``where``
selects, and weighted by their number across devices. ``y`` has the dtype of ``x`` and is rounded
once.

A mask ``where`` may have any dtype (nonzero selects). With as many axes as ``x`` it broadcasts;
with fewer, its axes are the first ones of ``x``, so that ``[batch, time]`` masks ``[batch, time,
channels]``. Elements outside the mask do not enter the statistics; they are normalized like the
others, unless they are infinite or NaN: those count as 0, so that no NaN leaks into a gradient.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import (
    canonical_axes,
    check_between,
    check_floating,
    check_nonnegative,
    check_scalar,
)
from jaxreg._numerics import real_dtype, square, strength, widen
from jaxreg._sharding import place_like

__all__ = [
    "BatchStats",
    "Moments",
    "batch_norm",
    "batch_norm_inference",
    "init_stats",
    "moments",
]

Axes = int | tuple[int, ...]


class Moments(NamedTuple):
    """Mean, biased variance and number of the elements that were reduced."""

    mean: jax.Array
    var: jax.Array
    count: jax.Array


class BatchStats(NamedTuple):
    """Running mean and biased running variance, float32, of the shape of the feature axes."""

    mean: jax.Array
    var: jax.Array


def init_stats(shape: int | tuple[int, ...]) -> BatchStats:
    """Returns the statistics before the first batch: mean 0 and variance 1.

    Args:
      shape: Sizes of the feature axes.

    Returns:
      Float32 arrays of that shape.

    Example:
      >>> from jaxreg import normalization
      >>> print(normalization.init_stats(2).var)
      [1. 1.]
    """
    return BatchStats(jnp.zeros(shape, jnp.float32), jnp.ones(shape, jnp.float32))


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
    mask = None if where is None else _align_mask(where, x)
    count = _count(x, axes, mask)
    total = jnp.sum(_select(x, mask), axes, keepdims=True)
    if axis_name is not None:
        total = jax.lax.psum(total, axis_name)
        count = _count_devices(count, mask, axis_name)
    divisor = jnp.maximum(count, 1).astype(total.real.dtype)
    mean = total / divisor
    # Masked before the square: what is left out may be NaN, and so would be 0 times its derivative.
    squares = jnp.sum(square(_select(x - mean, mask)), axes, keepdims=True)
    if axis_name is not None:
        squares = jax.lax.psum(squares, axis_name)
    count = place_like(jnp.broadcast_to(count, mean.shape), mean)
    result = Moments(mean, squares / divisor, count)
    return jax.tree.map(lambda a: jnp.squeeze(a, axes), result)


def batch_norm(
    x: jax.Array,
    stats: BatchStats,
    *,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    momentum: ArrayLike = 0.99,
    eps: ArrayLike = 1e-5,
    axis: Axes = -1,
    where: jax.Array | None = None,
    axis_name: str | tuple[str, ...] | None = None,
) -> tuple[jax.Array, BatchStats]:
    r"""Normalizes with the statistics of the batch and updates the running ones.

    .. math::

      y = \gamma \, \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta, \qquad
      \mu' = m \mu_0 + (1 - m) \mu, \qquad {\sigma'}^2 = m \sigma_0^2 + (1 - m) \sigma^2

    The running variance is biased, as in Flax and Keras; torch stores :math:`n / (n - 1)` times it
    and gives the complement :math:`1 - m` as its momentum. A feature with no selected element is
    normalized with, and keeps, its running statistics; one with a single element, which has no
    variance, keeps its running variance.

    Args:
      x: Floating-point array; commonly ``[batch, *spatial, features]``.
      stats: Running statistics :math:`\mu_0, \sigma_0^2`, of the shape of the feature axes.
      scale: Factor :math:`\gamma` of the shape of the feature axes; 1 if absent.
      bias: Offset :math:`\beta` of the same shape; 0 if absent.
      momentum: Weight :math:`m` of the past, in ``[0, 1]``.
      eps: Added to the variance, zero or positive. With 0 a constant feature becomes 0.
      axis: Feature axes, which keep statistics of their own; all others are reduced.
      where: Mask of the elements that enter the statistics, see the module's docstring.
      axis_name: Mesh axis to synchronize over, see :func:`moments`.

    Returns:
      The normalized array, with the shape and dtype of ``x``, and the new running statistics.

    Raises:
      TypeError: ``x`` is not floating-point.
      ValueError: An argument is out of its range or does not have the shape of the feature axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import normalization
      >>> x = jnp.array([[1.0], [3.0]])
      >>> y, stats = normalization.batch_norm(
      ...     x, normalization.init_stats(1), momentum=0.5, eps=0.0
      ... )
      >>> print(y.ravel(), stats.mean, stats.var)
      [-1.  1.] [1.] [1.]

    References:
      Ioffe and Szegedy, `Batch Normalization: Accelerating Deep Network Training by Reducing
      Internal Covariate Shift <https://arxiv.org/abs/1502.03167>`_, 2015
    """
    check_between(momentum, "momentum", 0, 1, "the weight of the past")
    features = canonical_axes(axis, x.ndim)
    reduced = tuple(a for a in range(x.ndim) if a not in features)
    batch = moments(x, axis=reduced, where=where, axis_name=axis_name)
    _check_shapes([x.shape[a] for a in features], mean=stats.mean, var=stats.var)
    known, spread = batch.count > 0, batch.count > 1
    old = BatchStats(*(place_like(a.astype(batch.mean.dtype), batch.mean) for a in stats))
    used = BatchStats(jnp.where(known, batch.mean, old.mean), jnp.where(known, batch.var, old.var))
    y = batch_norm_inference(x, used, scale=scale, bias=bias, eps=eps, axis=axis, where=where)
    past = strength(momentum, batch.mean)
    mean = jnp.where(known, past * old.mean + (1 - past) * batch.mean, old.mean)
    var = jnp.where(spread, past * old.var + (1 - past) * batch.var, old.var)
    return y, BatchStats(mean.astype(stats.mean.dtype), var.astype(stats.var.dtype))


def batch_norm_inference(
    x: jax.Array,
    stats: BatchStats,
    *,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    eps: ArrayLike = 1e-5,
    axis: Axes = -1,
    where: jax.Array | None = None,
) -> jax.Array:
    r"""Normalizes with given statistics, which it leaves as they are.

    .. math::

      y = \gamma \, \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    Args:
      x: Floating-point array; commonly ``[batch, *spatial, features]``.
      stats: Statistics :math:`\mu, \sigma^2` of the shape of the feature axes.
      scale: Factor :math:`\gamma` of the same shape; 1 if absent.
      bias: Offset :math:`\beta` of the same shape; 0 if absent.
      eps: Added to the variance, zero or positive.
      axis: Feature axes.
      where: Mask; what is infinite or NaN outside it counts as 0.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not floating-point.
      ValueError: ``eps`` is negative or an argument does not have the shape of the feature axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import normalization
      >>> stats = normalization.BatchStats(jnp.array([1.0]), jnp.array([4.0]))
      >>> print(normalization.batch_norm_inference(jnp.array([[5.0]]), stats, eps=0.0))
      [[2.]]

    References:
      Ioffe and Szegedy, `Batch Normalization: Accelerating Deep Network Training by Reducing
      Internal Covariate Shift <https://arxiv.org/abs/1502.03167>`_, 2015
    """
    check_floating(x, "x")
    check_scalar(eps, "eps")
    check_nonnegative(eps, "eps")
    features = canonical_axes(axis, x.ndim)
    arrays = {"mean": stats.mean, "var": stats.var, "scale": scale, "bias": bias}
    _check_shapes([x.shape[a] for a in features], **arrays)
    reduced = tuple(a for a in range(x.ndim) if a not in features)
    wide = {
        name: jnp.expand_dims(a, reduced).astype(real_dtype(x))
        for name, a in arrays.items()
        if a is not None
    }
    gain = _inverse_root(wide["var"] + strength(eps, x))
    if where is not None:
        x = jnp.where(_align_mask(where, x) | jnp.isfinite(x), x, jnp.zeros_like(x))
    if scale is not None:
        gain = gain * wide["scale"]
    y = (widen(x) - wide["mean"]) * gain
    if bias is not None:
        y = y + wide["bias"]
    return y.astype(x.dtype)


def _align_mask(where: jax.Array, x: jax.Array) -> jax.Array:
    """Turns a mask of any dtype into booleans with as many axes as ``x``.

    Raises:
      ValueError: The mask does not broadcast to ``x``.
    """
    mask = jnp.asarray(where).astype(bool)
    if mask.ndim < x.ndim:
        mask = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
    fits = all(m in (1, n) for m, n in zip(mask.shape, x.shape, strict=False))
    if mask.ndim != x.ndim or not fits:
        raise ValueError(
            f"`where` must broadcast to `x` from its first axes, got shape {jnp.shape(where)} for "
            f"{x.shape}; add axes of size 1 where they are missing."
        )
    return mask


def _select(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    return x if mask is None else jnp.where(mask, x, jnp.zeros_like(x))


def _inverse_root(x: jax.Array) -> jax.Array:
    """Inverse square root, and 0 at 0, where a constant feature has nothing to scale."""
    positive = x > 0
    root = jax.lax.rsqrt(jnp.where(positive, x, jnp.ones_like(x)))
    return jnp.where(positive, root, jnp.zeros_like(x))


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


def _check_shapes(shape: list[int], **arrays: jax.Array | None) -> None:
    for name, a in arrays.items():
        if a is not None and a.shape != tuple(shape):
            raise ValueError(
                f"`{name}` must have the shape of the feature axes, {tuple(shape)}, got {a.shape}."
            )
