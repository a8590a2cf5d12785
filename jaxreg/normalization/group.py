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
from jaxreg._scopes import mark
from jaxreg._sharding import explicit_sharding, place_like, split_sharding, whole_along
from jaxreg.normalization._affine import affine
from jaxreg.normalization._devices import as_devices
from jaxreg.normalization._masks import align_mask
from jaxreg.normalization._precisions import two_precisions
from jaxreg.normalization.layer import mean_and_var
from jaxreg.normalization.statistics import Moments, moments_along, pool


@mark()
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
    r"""Normalizes each channel group of each example over its positions and channels.

    .. math::

      y = \gamma \, \frac{x - \mu_g}{\sqrt{\sigma_g^2 + \epsilon}} + \beta

    with the mean :math:`\mu_g` and the variance :math:`\sigma_g^2` of the selected elements of a
    group :math:`g`, which are 0 and 1 if there are none. A group consists of consecutive channels.
    With one group it is the layer norm of an image, and with one channel per group it is
    ``instance_norm``.

    Args:
      x: Floating-point array ``[batch, *spatial, channels]``.
      groups: Number of groups, a divisor of the number of channels.
      scale: Factor :math:`\gamma` of shape ``[channels]``; None means 1.
      bias: Offset :math:`\beta` of the same shape; None means 0.
      eps: Added to the variance, zero or positive.
      reduction_axes: Axes that are normalized together, including the last; all but the first by
        default. Pass them if there are several batch axes, or no batch axis.
      where: Mask of the elements that enter the statistics, see :mod:`jaxreg.normalization`; its
        last axis may have size 1.
      axis_name: Mesh axis over which the positions are sharded, inside ``shard_map`` or ``pmap``.
      axis_index_groups: Groups of indices along that axis, each with its own statistics, see
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
    axes = _check_reduction_axes(reduction_axes, x)
    check_shapes([x.shape[-1]], scale=scale, bias=bias)
    mask = None if where is None else align_mask(where, x)
    # The moments of channels are few numbers to pool. Splitting `x` into groups would copy it, and
    # move it between devices if the channels are sharded.
    devices = as_devices(axis_name, axis_index_groups)
    both = two_precisions(x)
    channels = moments_along(both, mask, axes[:-1], devices)
    mean, var = mean_and_var(_pool_groups(channels, groups))
    return affine(
        both, mean, var, scale=scale, bias=bias, eps=eps, features=(x.ndim - 1,), where=where
    )


def _pool_groups(moments: Moments, groups: int) -> Moments:
    """Pools the moments of channels to moments of channel groups, repeated for each channel."""
    shape = moments.mean.shape
    split_shape = (*shape[:-1], groups, shape[-1] // groups)
    sharding = split_sharding(moments.mean, groups)

    def split_channels(a: jax.Array) -> jax.Array:
        whole = a if sharding is not None else whole_along(a, [len(shape) - 1])
        return jnp.reshape(whole, split_shape, out_sharding=sharding)

    def repeat(a: jax.Array) -> jax.Array:
        a = jnp.broadcast_to(a, split_shape)
        like = None if sharding is None else explicit_sharding(moments.mean)
        return place_like(jnp.reshape(a, shape, out_sharding=like), moments.mean)

    result = pool(
        jax.tree.map(split_channels, moments), lambda a: jnp.sum(a, axis=-1, keepdims=True)
    )
    return jax.tree.map(repeat, result)


def _check_reduction_axes(axes: Axes | None, x: jax.Array) -> tuple[int, ...]:
    """Returns the axes to normalize over, after checking that they include the last axis."""
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
    """Raises unless the number of groups divides the number of channels."""
    check_static_integer(groups, "groups")
    if x.ndim < 2:
        raise ValueError(f"`x` must have axes [batch, *spatial, channels], got shape {x.shape}.")
    if groups < 1 or x.shape[-1] % groups:
        raise ValueError(
            f"`groups` must divide the {x.shape[-1]} channels of `x`, got {groups}; pass one of "
            "their divisors."
        )
