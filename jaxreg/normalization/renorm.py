"""Batch renormalization: batch normalization that is corrected toward the running statistics."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._axes import Axes
from jaxreg._checks import (
    canonical_axes,
    check_between,
    check_eps,
    check_nonnegative,
    check_real,
    check_scalar,
    check_shapes,
)
from jaxreg._numerics import as_strength, inverse_root
from jaxreg._scopes import mark
from jaxreg._sharding import place_like
from jaxreg.normalization._devices import check_synchronized
from jaxreg.normalization._precisions import two_precisions
from jaxreg.normalization.batch import (
    BatchStats,
    check_ddof,
    fill_empty,
    normalize,
    update_stats,
)
from jaxreg.normalization.statistics import Moments, moments_near


@mark("momentum")
def batch_renorm(
    x: jax.Array,
    stats: BatchStats,
    *,
    r_max: ArrayLike,
    d_max: ArrayLike,
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
    r"""Applies batch norm with a correction toward the running statistics (batch renorm).

    .. math::

      y = \gamma \left( \frac{x - \mu_B}{\sigma_B} \, r + d \right) + \beta, \qquad
      r = \mathrm{clip}\left( \frac{\sigma_B}{\sigma}, \frac{1}{r_{max}}, r_{max} \right), \quad
      d = \mathrm{clip}\left( \frac{\mu_B - \mu}{\sigma}, -d_{max}, d_{max} \right)

    with :math:`\sigma = \sqrt{\sigma^2 + \epsilon}` of the batch :math:`B` and of the running
    statistics before it. No gradient flows into :math:`r` and :math:`d` through the statistics.
    Without limits it normalizes as in evaluation mode, with the gradient of training mode. With
    ``r_max=1`` and ``d_max=0`` it is :func:`batch_norm`. Ioffe starts with these values, and raises
    them to 3 and 5 by a schedule; they may be traced.

    Statistics are updated as in :func:`batch_norm` (Ioffe averages standard deviations, not
    variances). Use :func:`batch_norm_inference` at evaluation time. A feature with no selected
    element is normalized with, and keeps, its running statistics; one with a single element keeps
    its running variance.

    Args:
      x: Real floating-point array; commonly ``[batch, *spatial, features]``.
      stats: Running statistics :math:`\mu, \sigma^2`, with the shape of the feature axes.
      r_max: Bound :math:`r_{max}` on the change in the standard deviation, 1 or more; infinity
        means no bound.
      d_max: Bound :math:`d_{max}` on the change in the mean, zero or positive.
      scale: Factor :math:`\gamma` with the shape of the feature axes; None means 1.
      bias: Offset :math:`\beta` of the same shape; None means 0.
      momentum: Weight of the old running statistics, in ``[0, 1]``.
      eps: Added to the variance, zero or positive.
      axis: Feature axes, which have separate statistics; all others are reduced.
      ddof: Same as in :func:`batch_norm`, used only for the running variance.
      where: Mask of the elements that enter the statistics, see :mod:`jaxreg.normalization`.
      axis_name: Mesh axis to synchronize over, see :func:`moments`. It is required inside
        ``shard_map``; an empty tuple gives each device its own statistics.
      axis_index_groups: Groups of indices along that axis, each with its own statistics, see
        :func:`moments`.

    Returns:
      The normalized array, with the shape and dtype of ``x``, and the new running statistics.

    Raises:
      TypeError: ``x`` is not real floating-point.
      ValueError: An argument is out of its range or does not have the shape of the feature axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import normalization
      >>> stats = normalization.BatchStats(jnp.array([1.0]), jnp.array([4.0]))
      >>> y, _ = normalization.batch_renorm(
      ...     jnp.array([[5.0], [7.0]]), stats, r_max=3.0, d_max=5.0, eps=0.0
      ... )
      >>> print(y.ravel())
      [2. 3.]

    References:
      Ioffe, `Batch Renormalization: Towards Reducing Minibatch Dependence in Batch-Normalized
      Models <https://arxiv.org/abs/1702.03275>`_, 2017
    """
    check_real(x, "x")
    check_between(momentum, "momentum", 0, 1, "a weight for old statistics")
    check_between(r_max, "r_max", 1, math.inf, "the largest factor of the standard deviation")
    check_scalar(d_max, "d_max")
    check_nonnegative(d_max, "d_max")
    check_eps(eps)
    check_ddof(ddof)
    features = canonical_axes(axis, x.ndim)
    arrays = {"mean": stats.mean, "var": stats.var, "scale": scale, "bias": bias}
    check_shapes([x.shape[a] for a in features], **arrays)
    reduced = tuple(a for a in range(x.ndim) if a not in features)
    check_synchronized(x, axis_name)
    across = {"axis_name": axis_name, "axis_index_groups": axis_index_groups}
    both = two_precisions(x)
    batch = moments_near(stats.mean, both, axis=reduced, where=where, **across)
    fixed_batch, fixed_stats, fixed_eps = jax.lax.stop_gradient((batch, stats, eps))
    r_max = as_strength(r_max, batch.mean)
    d_max = as_strength(d_max, batch.mean)
    gain, shift = _corrections(fixed_batch, fixed_stats, fixed_eps, r_max, d_max)
    if scale is not None:
        gain = gain * place_like(scale.astype(gain.dtype), gain)
        shift = shift * place_like(scale.astype(shift.dtype), shift)
    if bias is not None:
        shift = shift + place_like(bias.astype(shift.dtype), shift)
    used = fill_empty(batch, stats)
    y = normalize(both, used, scale=gain, bias=shift, eps=eps, axis=axis, where=where)
    return y, update_stats(stats, batch, momentum, ddof)


def _corrections(
    batch: Moments, stats: BatchStats, eps: ArrayLike, r_max: jax.Array, d_max: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the clipped factor ``r`` and offset ``d`` of batch renormalization."""
    eps = as_strength(eps, batch.mean)
    r_max = jnp.maximum(r_max, 1)
    d_max = jnp.maximum(d_max, 0)
    mean = place_like(stats.mean.astype(batch.mean.dtype), batch.mean)
    var = place_like(stats.var.astype(batch.mean.dtype), batch.mean)
    known = batch.count > 0
    inverse = inverse_root(var + eps)
    # A feature with a running deviation of 0 is constant and needs no correction.
    r = jnp.where(known & (inverse > 0), jnp.sqrt(batch.var + eps) * inverse, jnp.ones_like(var))
    d = jnp.where(known, (batch.mean - mean) * inverse, jnp.zeros_like(mean))
    return jnp.clip(r, 1 / r_max, r_max), jnp.clip(d, -d_max, d_max)
