"""Layer, instance and RMS normalization, which normalize each example separately."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._axes import Axes
from jaxreg._checks import canonical_axes, check_eps, check_floating, check_shapes
from jaxreg._numerics import square, widen
from jaxreg._scopes import mark
from jaxreg.normalization._affine import affine
from jaxreg.normalization._devices import as_devices
from jaxreg.normalization._masks import align_mask, select
from jaxreg.normalization._precisions import TwoPrecisions, two_precisions
from jaxreg.normalization.statistics import Moments, count_along, moments_along


@mark()
def layer_norm(
    x: jax.Array,
    *,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    eps: ArrayLike = 1e-6,
    reduction_axes: Axes = -1,
    feature_axes: Axes = -1,
    where: jax.Array | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    axis_index_groups: Sequence[Sequence[int]] | None = None,
) -> jax.Array:
    r"""Normalizes each example over its features.

    .. math::

      y = \gamma \, \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    with the mean :math:`\mu` and the variance :math:`\sigma^2` of the selected elements along
    ``reduction_axes``. If nothing is selected they are 0 and 1.

    Args:
      x: Floating-point array; commonly ``[batch, ..., features]``.
      scale: Factor :math:`\gamma` with the shape of the feature axes; None means 1.
      bias: Offset :math:`\beta` of the same shape; None means 0.
      eps: Added to the variance, zero or positive. With 0 a constant example becomes 0.
      reduction_axes: Axes that are normalized together.
      feature_axes: Axes along which ``scale`` and ``bias`` differ.
      where: Mask of the elements that enter the statistics, see :mod:`jaxreg.normalization`.
      axis_name: Mesh axis over which the features are sharded, inside ``shard_map`` or ``pmap``.
      axis_index_groups: Groups of indices along that axis, each with its own statistics, see
        :func:`moments`.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not floating-point.
      ValueError: An argument is out of its range or does not have the shape of the feature axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import normalization
      >>> print(normalization.layer_norm(jnp.array([[1.0, 3.0], [10.0, 30.0]]), eps=0.0))
      [[-1.  1.]
       [-1.  1.]]

    References:
      Ba, Kiros and Hinton, `Layer Normalization <https://arxiv.org/abs/1607.06450>`_, 2016
    """
    check_floating(x, "x")
    axes = canonical_axes(reduction_axes, x.ndim, "reduction_axes")
    features = canonical_axes(feature_axes, x.ndim, "feature_axes")
    check_eps(eps)
    check_shapes([x.shape[a] for a in features], scale=scale, bias=bias)
    mask = None if where is None else align_mask(where, x)
    devices = as_devices(axis_name, axis_index_groups)
    both = two_precisions(x)
    mean, var = mean_and_var(moments_along(both, mask, axes, devices))
    return affine(both, mean, var, scale=scale, bias=bias, eps=eps, features=features, where=where)


@mark()
def instance_norm(
    x: jax.Array,
    *,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    eps: ArrayLike = 1e-6,
    feature_axes: Axes = -1,
    where: jax.Array | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    axis_index_groups: Sequence[Sequence[int]] | None = None,
) -> jax.Array:
    r"""Normalizes each channel of each example over its positions.

    .. math::

      y = \gamma \, \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    with the mean :math:`\mu` and the variance :math:`\sigma^2` of the selected elements along all
    axes but the first and ``feature_axes``. If nothing is selected they are 0 and 1. A single
    position is normalized to 0.

    Args:
      x: Floating-point array ``[batch, *spatial, channels]``.
      scale: Factor :math:`\gamma` with the shape of the feature axes; None means 1.
      bias: Offset :math:`\beta` of the same shape; None means 0.
      eps: Added to the variance, zero or positive.
      feature_axes: Axes of the channels, not the first one.
      where: Mask of the elements that enter the statistics, see :mod:`jaxreg.normalization`.
      axis_name: Mesh axis over which the positions are sharded, inside ``shard_map`` or ``pmap``.
      axis_index_groups: Groups of indices along that axis, each with its own statistics, see
        :func:`moments`.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not floating-point.
      ValueError: An argument is out of its range or does not have the shape of the feature axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import normalization
      >>> x = jnp.array([[[1.0, 5.0], [3.0, 9.0]]])
      >>> print(normalization.instance_norm(x, eps=0.0))
      [[[-1. -1.]
        [ 1.  1.]]]

    References:
      Ulyanov, Vedaldi and Lempitsky, `Instance Normalization: The Missing Ingredient for Fast
      Stylization <https://arxiv.org/abs/1607.08022>`_, 2016
    """
    check_floating(x, "x")
    features = canonical_axes(feature_axes, x.ndim, "feature_axes")
    if 0 in features:
        raise ValueError(
            f"`feature_axes` must not name axis 0, which is the batch, got {feature_axes}; leave "
            "it out, or move the batch to axis 0 with jnp.moveaxis."
        )
    spatial = tuple(a for a in range(1, x.ndim) if a not in features)
    return layer_norm(
        x,
        scale=scale,
        bias=bias,
        eps=eps,
        reduction_axes=spatial,
        feature_axes=features,
        where=where,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
    )


@mark()
def rms_norm(
    x: jax.Array,
    *,
    scale: jax.Array | None = None,
    eps: ArrayLike = 1e-6,
    reduction_axes: Axes = -1,
    feature_axes: Axes = -1,
    where: jax.Array | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    axis_index_groups: Sequence[Sequence[int]] | None = None,
) -> jax.Array:
    r"""Divides each example by the root mean square of its features.

    .. math::

      y = \gamma \, \frac{x}{\sqrt{\frac{1}{n} \sum_i |x_i|^2 + \epsilon}}

    The sum runs over the :math:`n` selected elements along ``reduction_axes``; if there are none,
    the mean square is 1.

    Args:
      x: Floating-point array; commonly ``[batch, ..., features]``.
      scale: Factor :math:`\gamma` with the shape of the feature axes; None means 1.
      eps: Added to the mean square, zero or positive. With 0 an example of zeros stays 0.
      reduction_axes: Axes that are normalized together.
      feature_axes: Axes along which ``scale`` differs.
      where: Mask of the elements that enter the mean square, see :mod:`jaxreg.normalization`.
      axis_name: Mesh axis over which the features are sharded, inside ``shard_map`` or ``pmap``.
      axis_index_groups: Groups of indices along that axis, each with its own statistics, see
        :func:`moments`.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not floating-point.
      ValueError: An argument is out of its range or does not have the shape of the feature axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import normalization
      >>> print(normalization.rms_norm(jnp.array([3.0, 3.0, -3.0]), eps=0.0))
      [ 1.  1. -1.]

    References:
      Zhang and Sennrich, `Root Mean Square Layer Normalization
      <https://arxiv.org/abs/1910.07467>`_, 2019
    """
    check_floating(x, "x")
    axes = canonical_axes(reduction_axes, x.ndim, "reduction_axes")
    features = canonical_axes(feature_axes, x.ndim, "feature_axes")
    check_eps(eps)
    check_shapes([x.shape[a] for a in features], scale=scale)
    mask = None if where is None else align_mask(where, x)
    both = two_precisions(x)
    total = _sum_squares(both, mask, axes)
    devices = as_devices(axis_name, axis_index_groups)
    total, count = devices.total((total, count_along(x, axes, mask)))
    known = count > 0
    mean_square = jnp.where(known, total / jnp.where(known, count, 1), 1)
    return affine(
        both, None, mean_square, scale=scale, bias=None, eps=eps, features=features, where=where
    )


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _sum_squares(x: TwoPrecisions, mask: jax.Array | None, axes: tuple[int, ...]) -> jax.Array:
    return jnp.sum(square(select(widen(x.given), mask)), axes, keepdims=True)


@_sum_squares.defjvp
def _sum_squares_jvp(
    axes: tuple[int, ...],
    primals: tuple[TwoPrecisions, jax.Array | None],
    tangents: tuple[TwoPrecisions, Any],
) -> tuple[jax.Array, jax.Array]:
    x, mask = primals
    return _sum_squares(x, mask, axes), _sum_products(x.given, mask, tangents[0].wide, axes)


# The backward pass holds `x`, in place of its double in float32.
@partial(jax.checkpoint, static_argnums=(3,), prevent_cse=False)
def _sum_products(
    x: jax.Array, mask: jax.Array | None, dx: jax.Array, axes: tuple[int, ...]
) -> jax.Array:
    products = (select(widen(x), mask).conj() * dx).real
    return 2 * jnp.sum(products, axes, keepdims=True)


def mean_and_var(moments: Moments) -> tuple[jax.Array, jax.Array]:
    """Returns mean and variance, or 0 and 1 (no normalization) where the mask selects nothing."""
    return moments.mean, jnp.where(moments.count > 0, moments.var, jnp.ones_like(moments.var))
