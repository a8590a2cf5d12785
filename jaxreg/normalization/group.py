"""Normalization of each example over groups of channels."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._axes import Axes
from jaxreg._checks import (
    canonical_axes,
    check_eps,
    check_floating,
    check_shapes,
    check_static_integer,
)
from jaxreg._numerics import widen
from jaxreg._sharding import place_like, whole_along
from jaxreg.normalization._shared import affine, align_mask, among
from jaxreg.normalization.layer import or_standard
from jaxreg.normalization.statistics import Moments, moments_along, pooled


def group_norm(
    x: jax.Array,
    *,
    groups: int = 32,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    eps: ArrayLike = 1e-6,
    reduction_axes: Axes | None = None,
    where: jax.Array | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    axis_index_groups: Sequence[Sequence[int]] | None = None,
) -> jax.Array:
    r"""Normalizes each example over its positions and the channels of a group.

    .. math::

      y = \gamma \, \frac{x - \mu_g}{\sqrt{\sigma_g^2 + \epsilon}} + \beta

    with the mean :math:`\mu_g` and the variance :math:`\sigma_g^2` of the selected elements of a
    group :math:`g`, which are 0 and 1 where there are none. Channels that follow each other form a
    group. One group makes it the layer norm of an image; as many as there are channels make it
    ``instance_norm``.

    Args:
      x: Floating-point array ``[batch, *spatial, channels]``.
      groups: Number of groups, a divisor of the number of channels.
      scale: Factor :math:`\gamma` of shape ``[channels]``; 1 if absent.
      bias: Offset :math:`\beta` of the same shape; 0 if absent.
      eps: Added to the variance, zero or positive.
      reduction_axes: Axes that are normalized together, among them the last; all but the first
        unless given. Name them where there are several batch axes or none.
      where: Mask of the elements that enter the statistics, see the package's docstring; it need
        not have the channels.
      axis_name: Mesh axis over which the positions are sharded, inside ``shard_map`` or ``pmap``.
      axis_index_groups: Groups of indices along that axis, each with statistics of its own, see
        :func:`moments`.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not floating-point, or ``groups`` is not an integer.
      ValueError: ``groups`` does not divide the channels, ``reduction_axes`` lacks the last axis,
        or an argument is out of its range or does not have the shape ``[channels]``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import normalization
      >>> x = jnp.array([[1.0, 3.0, 10.0, 30.0]])
      >>> print(normalization.group_norm(x, groups=2, eps=0.0))
      [[-1.  1. -1.  1.]]

    References:
      Wu and He, `Group Normalization <https://arxiv.org/abs/1803.08494>`_, 2018
    """
    check_floating(x, "x")
    check_eps(eps)
    _check_groups(groups, x)
    axes = _reduced(reduction_axes, x)
    check_shapes([x.shape[-1]], scale=scale, bias=bias)
    mask = None if where is None else align_mask(where, x)
    # Channel by channel first: groups of an array of channels are few numbers to rearrange, while
    # those of `x` would be a copy of it, and across devices where the channels are sharded.
    devices = among(axis_name, axis_index_groups)
    channels = moments_along(widen(x), mask, axes[:-1], devices)
    mean, var = or_standard(_of_groups(channels, groups))
    return affine(
        x, mean, var, scale=scale, bias=bias, eps=eps, features=(x.ndim - 1,), where=where
    )


def _of_groups(moments: Moments, groups: int) -> Moments:
    """Moments of the groups, repeated for each of their channels."""
    shape = moments.mean.shape
    grouped = Moments(
        *(
            whole_along(a, [len(shape) - 1]).reshape(*shape[:-1], groups, shape[-1] // groups)
            for a in moments
        )
    )

    def repeated(a: jax.Array) -> jax.Array:
        a = jnp.broadcast_to(a, grouped.mean.shape).reshape(shape)
        return place_like(a, moments.mean)

    result = pooled(grouped, lambda a: jnp.sum(a, axis=-1, keepdims=True))
    return Moments(*map(repeated, result))


def _reduced(axes: Axes | None, x: jax.Array) -> tuple[int, ...]:
    """Checked axes of the statistics, the last of which are the channels."""
    if axes is None:
        return tuple(range(1, x.ndim))
    reduced = canonical_axes(axes, x.ndim, "reduction_axes")
    if reduced[-1:] != (x.ndim - 1,):
        raise ValueError(
            f"`reduction_axes` must name the last axis, the channels, got {axes} for shape "
            f"{x.shape}; add -1."
        )
    return reduced


def _check_groups(groups: int, x: jax.Array) -> None:
    """Raises unless the channels can be split into so many groups."""
    check_static_integer(groups, "groups")
    if x.ndim < 2:
        raise ValueError(
            f"`x` must have the axes [batch, *spatial, channels], got shape {x.shape}."
        )
    if groups < 1 or x.shape[-1] % groups:
        raise ValueError(
            f"`groups` must divide the {x.shape[-1]} channels of `x`, got {groups}; pass one of "
            "their divisors."
        )
