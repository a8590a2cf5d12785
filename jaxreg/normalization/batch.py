"""Batch normalization, in training and with given statistics."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import (
    canonical_axes,
    check_between,
    check_floating,
)
from jaxreg._numerics import real_dtype, strength
from jaxreg._sharding import place_like
from jaxreg.normalization._shared import Axes, affine, check_eps, check_shapes, check_synchronized
from jaxreg.normalization.statistics import Moments, moments


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
      axis_name: Mesh axis to synchronize over, see :func:`moments`. It is needed inside
        ``shard_map``; an empty tuple gives each device statistics of its own.

    Returns:
      The normalized array, with the shape and dtype of ``x``, and the new running statistics.

    Raises:
      TypeError: ``x`` is not floating-point.
      ValueError: An argument is out of its range or does not have the shape of the feature axes, or
        ``axis_name`` is not given where ``x`` varies along an axis of ``shard_map``.

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
    check_synchronized(x, axis_name)
    batch = moments(x, axis=reduced, where=where, axis_name=axis_name)
    check_shapes([x.shape[a] for a in features], mean=stats.mean, var=stats.var)
    used = or_running(batch, stats)
    y = batch_norm_inference(x, used, scale=scale, bias=bias, eps=eps, axis=axis, where=where)
    return y, averaged(stats, batch, momentum)


def or_running(batch: Moments, stats: BatchStats) -> BatchStats:
    """Statistics to normalize with: those of the batch, or the running ones where it is empty."""
    known, old = batch.count > 0, _like(stats, batch)
    return BatchStats(jnp.where(known, batch.mean, old.mean), jnp.where(known, batch.var, old.var))


def averaged(stats: BatchStats, batch: Moments, momentum: ArrayLike) -> BatchStats:
    """Running statistics after a batch; one element has a mean but no variance."""
    old, past = _like(stats, batch), strength(momentum, batch.mean)
    mean = jnp.where(batch.count > 0, past * old.mean + (1 - past) * batch.mean, old.mean)
    var = jnp.where(batch.count > 1, past * old.var + (1 - past) * batch.var, old.var)
    return BatchStats(mean.astype(stats.mean.dtype), var.astype(stats.var.dtype))


def _like(stats: BatchStats, batch: Moments) -> BatchStats:
    """The running statistics in the dtype and the sharding of those of a batch."""
    return BatchStats(*(place_like(a.astype(batch.mean.dtype), batch.mean) for a in stats))


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
    check_eps(eps)
    features = canonical_axes(axis, x.ndim)
    arrays = {"mean": stats.mean, "var": stats.var, "scale": scale, "bias": bias}
    check_shapes([x.shape[a] for a in features], **arrays)
    reduced = tuple(a for a in range(x.ndim) if a not in features)
    mean, var = (jnp.expand_dims(a, reduced).astype(real_dtype(x)) for a in stats)
    return affine(x, mean, var, scale=scale, bias=bias, eps=eps, features=features, where=where)
