"""Batch normalization with batch statistics (training) and given statistics (evaluation)."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from jaxreg._axes import Axes
from jaxreg._checks import (
    canonical_axes,
    check_between,
    check_eps,
    check_floating,
    check_nonnegative,
    check_scalar,
    check_shapes,
)
from jaxreg._numerics import as_strength, running_dtype
from jaxreg._scopes import mark
from jaxreg._sharding import place_like
from jaxreg.normalization._affine import affine, as_wide, check_kinds
from jaxreg.normalization._devices import check_synchronized
from jaxreg.normalization._precisions import TwoPrecisions, two_precisions
from jaxreg.normalization.statistics import Moments, moments_near


class BatchStats(NamedTuple):
    """Running mean and running variance, with the shape of the feature axes.

    Attributes:
      mean: Running mean, float32; complex64 for complex inputs.
      var: Running variance, float32.
    """

    mean: jax.Array
    var: jax.Array


def init_stats(shape: int | tuple[int, ...], *, dtype: DTypeLike = jnp.float32) -> BatchStats:
    """Returns initial running statistics: mean 0 and variance 1.

    Args:
      shape: Sizes of the feature axes.
      dtype: Dtype of the mean; complex64 for complex inputs.

    Returns:
      Arrays of that shape; the variance is real.

    Example:
      >>> from jaxreg import normalization
      >>> print(normalization.init_stats(2).var)
      [1. 1.]
    """
    return BatchStats(jnp.zeros(shape, dtype), jnp.ones(shape, jnp.finfo(dtype).dtype))


@mark("momentum")
def batch_norm(
    x: jax.Array,
    stats: BatchStats,
    *,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    momentum: ArrayLike = 0.99,
    eps: ArrayLike = 1e-5,
    axis: Axes = -1,
    ddof: ArrayLike = 0,
    where: jax.Array | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    axis_index_groups: Sequence[Sequence[int]] | None = None,
) -> tuple[jax.Array, BatchStats]:
    r"""Normalizes ``x`` by its batch statistics and returns updated running statistics.

    .. math::

      y = \gamma \, \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta, \qquad
      \mu' = m \mu_0 + (1 - m) \mu, \qquad
      {\sigma'}^2 = m \sigma_0^2 + (1 - m) \frac{n}{n - \text{ddof}} \sigma^2

    The running variance is biased by default, as in Flax and Keras; ``ddof=1`` gives torch's
    running variance. In torch, momentum means :math:`1 - m`. A feature with no selected element is
    normalized with, and keeps, its running statistics. A feature with a single element, or with at
    most ``ddof`` elements, has no variance and keeps its running variance.

    Complex numbers have a complex mean and a real variance :math:`\sigma^2 = E |x - \mu|^2`, as in
    Flax. Running statistics that are narrower than float32, as in a model that was cast to
    bfloat16, are returned in float32: in bfloat16 they would stop moving.

    Args:
      x: Floating-point array; commonly ``[batch, *spatial, features]``.
      stats: Running statistics :math:`\mu_0, \sigma_0^2`, with the shape of the feature axes.
      scale: Factor :math:`\gamma` with the shape of the feature axes; None means 1.
      bias: Offset :math:`\beta` of the same shape; None means 0.
      momentum: Weight :math:`m` of the old running statistics, in ``[0, 1]``.
      eps: Added to the variance, zero or positive. With 0 a constant feature becomes 0.
      axis: Feature axes, which have separate statistics; all others are reduced.
      ddof: Subtracted from the number :math:`n` of elements that the running variance divides by; 1
        as in torch. The batch is always normalized with its biased variance.
      where: Mask of the elements that enter the statistics, see :mod:`jaxreg.normalization`.
      axis_name: Mesh axis to synchronize over, see :func:`moments`. It is required inside
        ``shard_map``; an empty tuple gives each device its own statistics.
      axis_index_groups: Groups of indices along that axis, each with its own statistics, see
        :func:`moments`.

    Returns:
      The normalized array, with the shape and dtype of ``x``, and the new running statistics.

    Raises:
      TypeError: ``x`` is not floating-point, or a parameter is complex and ``x`` is not.
      ValueError: An argument is out of its range or does not have the shape of the feature axes, or
        ``axis_name`` is missing and ``x`` varies along an axis of ``shard_map``.

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
    check_between(momentum, "momentum", 0, 1, "a weight for old statistics")
    check_ddof(ddof)
    features = canonical_axes(axis, x.ndim)
    reduced = tuple(a for a in range(x.ndim) if a not in features)
    check_synchronized(x, axis_name)
    across = {"axis_name": axis_name, "axis_index_groups": axis_index_groups}
    check_floating(x, "x")
    check_shapes([x.shape[a] for a in features], mean=stats.mean, var=stats.var)
    check_kinds(x, mean=stats.mean)
    both = two_precisions(x)
    batch = moments_near(stats.mean, both, axis=reduced, where=where, **across)
    used = fill_empty(batch, stats)
    y = normalize(both, used, scale=scale, bias=bias, eps=eps, axis=axis, where=where)
    return y, update_stats(stats, batch, momentum, ddof)


def check_ddof(ddof: ArrayLike) -> None:
    """Raises unless ``ddof`` is a nonnegative scalar."""
    check_scalar(ddof, "ddof")
    check_nonnegative(ddof, "ddof")


def fill_empty(batch: Moments, stats: BatchStats) -> BatchStats:
    """Returns batch statistics, replaced by running statistics for features without elements."""
    known = batch.count > 0
    old = _like(stats, batch)
    return BatchStats(jnp.where(known, batch.mean, old.mean), jnp.where(known, batch.var, old.var))


def update_stats(
    stats: BatchStats, batch: Moments, momentum: ArrayLike, ddof: ArrayLike
) -> BatchStats:
    """Updates running statistics, except where the batch has too few elements."""
    old = _like(stats, batch)
    past = as_strength(momentum, batch.mean)
    known, new_var = var_with_ddof(batch, ddof)
    mean = jnp.where(batch.count > 0, past * old.mean + (1 - past) * batch.mean, old.mean)
    var = jnp.where(known, past * old.var + (1 - past) * new_var, old.var)
    return BatchStats(
        mean.astype(running_dtype(stats.mean, batch.mean)),
        var.astype(running_dtype(stats.var, batch.var)),
    )


def var_with_ddof(batch: Moments, ddof: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Returns a mask of defined variances, and the variances with divisor ``count - ddof``."""
    lost = as_strength(ddof, batch.var)
    known = batch.count > jnp.maximum(lost, 1)
    rest = jnp.where(known, batch.count - lost, jnp.ones_like(batch.count))
    return known, batch.var * (batch.count / rest)


def _like(stats: BatchStats, batch: Moments) -> BatchStats:
    """Returns the running statistics with the dtypes and sharding of the batch statistics."""
    return BatchStats(
        place_like(stats.mean.astype(batch.mean.dtype), batch.mean),
        place_like(stats.var.astype(batch.var.dtype), batch.var),
    )


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
    r"""Normalizes ``x`` by given statistics, the evaluation counterpart of :func:`batch_norm`.

    .. math::

      y = \gamma \, \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    Args:
      x: Floating-point array; commonly ``[batch, *spatial, features]``.
      stats: Statistics :math:`\mu, \sigma^2`, with the shape of the feature axes.
      scale: Factor :math:`\gamma` of the same shape; None means 1.
      bias: Offset :math:`\beta` of the same shape; None means 0.
      eps: Added to the variance, zero or positive.
      axis: Feature axes.
      where: Mask; infinite and NaN elements outside it count as 0.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not floating-point, or a parameter is complex and ``x`` is not.
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
    return normalize(
        two_precisions(x), stats, scale=scale, bias=bias, eps=eps, axis=axis, where=where
    )


def normalize(
    x: TwoPrecisions,
    stats: BatchStats,
    *,
    scale: jax.Array | None,
    bias: jax.Array | None,
    eps: ArrayLike,
    axis: Axes,
    where: jax.Array | None,
) -> jax.Array:
    """Returns :func:`batch_norm_inference` of an array in both precisions."""
    check_eps(eps)
    wide = x.wide
    features = canonical_axes(axis, wide.ndim)
    arrays = {"mean": stats.mean, "var": stats.var, "scale": scale, "bias": bias}
    check_shapes([wide.shape[a] for a in features], **arrays)
    check_kinds(wide, mean=stats.mean)
    reduced = tuple(a for a in range(wide.ndim) if a not in features)
    mean = as_wide(jnp.expand_dims(stats.mean, reduced), wide)
    var = as_wide(jnp.expand_dims(stats.var, reduced), wide)
    return affine(x, mean, var, scale=scale, bias=bias, eps=eps, features=features, where=where)
