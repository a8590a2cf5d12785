"""Filter response normalization and L2 normalization, which subtract no mean."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._axes import Axes
from jaxreg._checks import (
    canonical_axes,
    check_broadcasts,
    check_floating,
    check_real,
    check_shapes,
)
from jaxreg._numerics import as_strength, inverse_root, real_dtype, safe_norm, square, widen
from jaxreg._scopes import mark


@mark()
def filter_response_norm(
    x: jax.Array,
    *,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    threshold: jax.Array | None = None,
    eps: ArrayLike = 1e-6,
) -> jax.Array:
    r"""Divides each channel of each example by its root mean square, then applies a threshold.

    .. math::

      y = \max\left( \gamma \, \frac{x}{\sqrt{\nu^2 + |\epsilon|}} + \beta, \; \tau \right), \qquad
      \nu^2 = \frac{1}{N} \sum_i x_i^2

    over the :math:`N` elements of the spatial axes, all but the first and the last. The maximum is
    the thresholded linear unit, which replaces the activation; it is omitted if ``threshold`` is
    None. The magnitude of :math:`\epsilon` is used, since Singh and Krishnan learn it if
    :math:`N = 1`.

    Args:
      x: Real floating-point array ``[batch, *spatial, channels]``.
      scale: Factor :math:`\gamma`, ``[channels]``; None means 1.
      bias: Offset :math:`\beta`, ``[channels]``; None means 0.
      threshold: Lower bound :math:`\tau`, ``[channels]``; None means no bound.
      eps: A number or an array ``[channels]``; its magnitude is added to the mean square.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not real floating-point.
      ValueError: ``x`` has no batch or channel axis, or an argument does not have shape
        ``[channels]``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import normalization
      >>> x = jnp.array([[[3.0], [-3.0]]])
      >>> y = normalization.filter_response_norm(x, threshold=jnp.array([-0.5]), eps=0.0)
      >>> print(y.ravel())
      [ 1.  -0.5]

    References:
      Singh and Krishnan, `Filter Response Normalization Layer: Eliminating Batch Dependence in the
      Training of Deep Neural Networks <https://arxiv.org/abs/1911.09737>`_, 2020
    """
    check_real(x, "x")
    if x.ndim < 2:
        raise ValueError(f"`x` must have axes [batch, *spatial, channels], got shape {x.shape}.")
    check_shapes([x.shape[-1]], scale=scale, bias=bias, threshold=threshold)
    check_broadcasts(eps, "eps", x.shape[-1:])
    if x.size == 0:
        return x
    wide = widen(x)
    eps = jnp.abs(as_strength(eps, x))
    spatial = tuple(range(1, x.ndim - 1))
    # Dividing by the largest element, or by the root of `eps`, keeps squares from overflowing, and
    # squares that underflow are negligible. The result does not depend on this unit.
    fixed, floor = jax.lax.stop_gradient((wide, eps))
    peak = jnp.max(jnp.abs(fixed), axis=spatial, keepdims=True)
    unit = _within_range(jnp.maximum(peak, _along(jnp.sqrt(floor), x)))
    scaled = wide / unit
    mean_square = jnp.mean(square(scaled), axis=spatial, keepdims=True)
    # Without the barrier XLA would divide once by the square of the unit, which may underflow to 0.
    once = jax.lax.optimization_barrier(_along(eps, x) / unit)
    y = scaled * inverse_root(mean_square + once / unit)
    if scale is not None:
        y = y * _along(scale, x)
    if bias is not None:
        y = y + _along(bias, x)
    if threshold is not None:
        y = jnp.maximum(y, _along(threshold, x))
    return y.astype(x.dtype)


@mark()
def l2_normalize(x: jax.Array, *, axis: Axes = -1) -> jax.Array:
    r"""Divides vectors by their Euclidean length; a zero vector stays zero.

    .. math::

      y = \frac{x}{\sqrt{\sum_i |x_i|^2}}

    Value and gradient are accurate even for vectors of length 1e-30 or 1e30, so no ``eps`` is
    needed. At zero the gradient is zero.

    Args:
      x: Floating-point array.
      axis: Axis or axes of the vectors.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not floating-point.
      ValueError: ``axis`` lies outside ``x``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import normalization
      >>> x = jnp.array([[0.0, 0.0], [3e30, 4e30]])
      >>> print(normalization.l2_normalize(x).round(3))
      [[0.  0. ]
       [0.6 0.8]]

    References:
      Liu et al., `ParseNet: Looking Wider to See Better <https://arxiv.org/abs/1506.04579>`_, 2015
    """
    check_floating(x, "x")
    axes = canonical_axes(axis, x.ndim)
    # The result does not depend on this first division, so it needs no gradient. The gradient goes
    # through the factor, which is about 1, or 0.
    length = _within_range(safe_norm(jax.lax.stop_gradient(x), axis=axes))
    unit = widen(x) / length
    factor = inverse_root(jnp.sum(square(unit), axis=axes, keepdims=True))
    return (unit * factor).astype(x.dtype)


def _within_range(size: jax.Array) -> jax.Array:
    """Clips a magnitude so that neither it nor its reciprocal is subnormal; 0 becomes 1."""
    least = 2 * jnp.finfo(size.dtype).tiny
    # XLA multiplies constant divisors, and the square of `least` underflows, so a zero becomes 1.
    return jnp.where(size == 0, jnp.ones_like(size), jnp.clip(size, least, 1 / least))


def _along(value: jax.Array, x: jax.Array) -> jax.Array:
    """Reshapes ``[channels]`` or a scalar to broadcast to ``x``, in the real dtype of ``x``."""
    value = value.astype(real_dtype(x))
    return value if value.ndim == 0 else jnp.expand_dims(value, tuple(range(x.ndim - 1)))
