"""Ghost batch normalization: each part of a large batch has its own statistics."""

import math

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from jaxreg._checks import (
    check_between,
    check_eps,
    check_floating,
    check_shapes,
    check_static_integer,
)
from jaxreg._numerics import as_strength, running_dtype
from jaxreg._scopes import mark
from jaxreg._sharding import explicit_sharding, place_like, whole_along
from jaxreg.normalization._affine import affine, check_kinds
from jaxreg.normalization._masks import align_mask
from jaxreg.normalization._precisions import two_precisions
from jaxreg.normalization.batch import BatchStats, check_ddof, var_with_ddof
from jaxreg.normalization.statistics import moments


@mark("momentum")
def ghost_batch_norm(
    x: jax.Array,
    stats: BatchStats,
    *,
    ghost_batch_size: int,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    momentum: ArrayLike = 0.99,
    eps: ArrayLike = 1e-5,
    ddof: ArrayLike = 0,
    where: jax.Array | None = None,
) -> tuple[jax.Array, BatchStats]:
    r"""Normalizes each ghost batch by its own statistics and updates the running statistics.

    Ghost batch :math:`k` of :math:`K` contains ``ghost_batch_size`` consecutive examples:

    .. math::

      y_k = \gamma \, \frac{x_k - \mu_k}{\sqrt{\sigma_k^2 + \epsilon}} + \beta, \qquad
      \mu' = m^K \mu_0 + (1 - m) \sum_{k=1}^{K} m^{K-k} \mu_k

    and likewise for the variance, as if :func:`batch_norm` were called on each ghost batch in turn.
    So a momentum that suits small batches suits every size of the large batch. (Hoffer et al.
    average standard deviations; here variances are averaged, as in batch norm.) A ghost batch
    without a selected element is normalized with the running statistics and does not count; one
    with a single element does not count for the variance.

    Use :func:`batch_norm_inference` at evaluation time. Inside ``shard_map`` each device has its
    own ghost batches and running statistics; under ``jit`` they belong to the whole batch.

    Args:
      x: Floating-point array ``[batch, *spatial, features]``.
      stats: Running statistics :math:`\mu_0, \sigma_0^2`, ``[features]``.
      ghost_batch_size: Number of examples in a ghost batch, a divisor of the batch size.
      scale: Factor :math:`\gamma`, ``[features]``; None means 1.
      bias: Offset :math:`\beta`, ``[features]``; None means 0.
      momentum: Weight :math:`m` of the old running statistics in each update, in ``[0, 1]``.
      eps: Added to the variance, zero or positive.
      ddof: Same as in :func:`batch_norm`, with :math:`n` the number of elements in a ghost batch.
      where: Mask of the elements that enter the statistics, see :mod:`jaxreg.normalization`.

    Returns:
      The normalized array, with the shape and dtype of ``x``, and the new running statistics.

    Raises:
      TypeError: ``x`` is not floating-point, or ``ghost_batch_size`` is not an integer.
      ValueError: An argument is out of its range or does not have the shape of the features, or the
        batch size is not a multiple of ``ghost_batch_size``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import normalization
      >>> x = jnp.array([[1.0], [3.0], [10.0], [30.0]])
      >>> y, stats = normalization.ghost_batch_norm(
      ...     x, normalization.init_stats(1), ghost_batch_size=2, momentum=0.5, eps=0.0
      ... )
      >>> print(y.ravel(), stats.mean)
      [-1.  1. -1.  1.] [10.5]

    References:
      Hoffer et al., `Train longer, generalize better: closing the generalization gap in large batch
      training of neural networks <https://arxiv.org/abs/1705.08741>`_, 2017
    """
    check_floating(x, "x")
    check_between(momentum, "momentum", 0, 1, "a weight for old statistics")
    check_eps(eps)
    check_ddof(ddof)
    _check_sizes(x, ghost_batch_size)
    check_shapes([x.shape[-1]], mean=stats.mean, var=stats.var, scale=scale, bias=bias)
    check_kinds(x, mean=stats.mean)
    mask = None if where is None else _split_batch(align_mask(where, x), ghost_batch_size)
    ghosts = _split_batch(x, ghost_batch_size)
    inner = tuple(range(1, x.ndim))
    batch = moments(ghosts, axis=inner, where=mask)
    known = batch.count > 0
    mean = jnp.expand_dims(_fill_empty(known, batch.mean, stats.mean), inner)
    var = jnp.expand_dims(_fill_empty(known, batch.var, stats.var), inner)
    features = (x.ndim,)
    strengths = {"scale": scale, "bias": bias, "eps": eps}
    y = affine(two_precisions(ghosts), mean, var, **strengths, features=features, where=mask)
    past = as_strength(momentum, batch.mean)
    has_var, new_var = var_with_ddof(batch, ddof)
    new = BatchStats(
        _average(stats.mean, batch.mean, known, past),
        _average(stats.var, new_var, has_var, past),
    )
    return jax.lax.reshape(y, x.shape, out_sharding=explicit_sharding(x)), new


def _fill_empty(known: jax.Array, values: jax.Array, old: jax.Array) -> jax.Array:
    """Returns ghost batch ``values``, replaced by running values ``old`` where not ``known``."""
    old = place_like(jnp.broadcast_to(old, values.shape).astype(values.dtype), values)
    return jnp.where(known, values, old)


def _average(old: jax.Array, values: jax.Array, counted: jax.Array, past: jax.Array) -> jax.Array:
    """Updates a running average with each value that ``counted`` marks along axis 0, in turn."""
    counted = whole_along(counted, (0,))
    factors = jnp.where(counted, past, jnp.ones((), past.dtype))
    # A cumulative product, since the slope of a power at 0 is NaN.
    after = jnp.concatenate([factors[1:], jnp.ones_like(factors[:1])])
    shares = (1 - past) * jax.lax.cumprod(after, axis=0, reverse=True)
    sums = jnp.sum(jnp.where(counted, shares, jnp.zeros_like(shares)) * values, axis=0)
    start = place_like(old.astype(sums.dtype), sums)
    new = jnp.prod(factors, axis=0) * start + sums
    # Features without a selected element keep their exact value, including the sign of a zero.
    changed = place_like(jnp.any(counted, axis=0), new)
    return jnp.where(changed, new, start).astype(running_dtype(old, values))


def _split_batch(x: jax.Array, size: int) -> jax.Array:
    """Reshapes the batch axis to ``[ghost batches, size]``, or to ``[1, 1]`` if its size is 1."""
    if x.shape[0] == 1:
        return x[None]
    number = x.shape[0] // size
    sharding = explicit_sharding(x)
    if sharding is not None:
        first, *rest = sharding.spec
        names = first if isinstance(first, tuple) else (first,)
        names = [name for name in names if name is not None]
        whole = number % math.prod(sharding.mesh.shape[name] for name in names) == 0
        spec = PartitionSpec(first if whole else None, None, *rest)
        sharding = NamedSharding(sharding.mesh, spec)
    return jax.lax.reshape(x, (number, size, *x.shape[1:]), out_sharding=sharding)


def _check_sizes(x: jax.Array, ghost_batch_size: int) -> None:
    """Raises unless ``ghost_batch_size`` divides the batch size of ``x``."""
    if x.ndim < 2:
        raise ValueError(f"`x` must have axes [batch, *spatial, features], got shape {x.shape}.")
    check_static_integer(ghost_batch_size, "ghost_batch_size")
    if ghost_batch_size < 1:
        raise ValueError(f"`ghost_batch_size` must be positive, got {ghost_batch_size}.")
    if x.shape[0] % ghost_batch_size:
        raise ValueError(
            f"`ghost_batch_size` must divide the batch size, {x.shape[0]}, got "
            f"{ghost_batch_size}; pass a divisor, or pad the batch and mask the padding with "
            "`where`."
        )
