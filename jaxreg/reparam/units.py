"""Weight normalization and weight standardization."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._axes import Axes, split_axes
from jaxreg._checks import check_eps, check_floating
from jaxreg._numerics import as_strength, inverse_root, real_dtype, safe_norm, unit, widen
from jaxreg._scopes import mark
from jaxreg.normalization import moments
from jaxreg.reparam.axes import align_scale


@mark()
def weight_norm(v: jax.Array, *, scale: ArrayLike, axis: Axes = -1) -> jax.Array:
    r"""Rescales the weights of each output to a given norm (weight normalization).

    .. math::

      w_j = g_j \frac{v_j}{\|v_j\|}

    Weights that are all zero stay zero and have no gradient.

    Args:
      v: Floating-point array :math:`v`, such as a kernel.
      scale: Norms :math:`g`: a single number, or an array with the shape of the output axes;
        :func:`weight_norm_scale` gives the norms for :math:`w = v`.
      axis: Output axes.

    Returns:
      Array with the shape and dtype of ``v``.

    Raises:
      TypeError: ``v`` is not floating-point.
      ValueError: ``axis`` lies outside ``v`` or ``scale`` does not have the shape of these axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import reparam
      >>> v = jnp.array([[3.0, 0.0], [4.0, 0.0]])
      >>> print(reparam.weight_norm(v, scale=jnp.array([10.0, 1.0])))
      [[6. 0.]
       [8. 0.]]

    References:
      Salimans and Kingma, `Weight Normalization: A Simple Reparameterization to Accelerate Training
      of Deep Neural Networks <https://arxiv.org/abs/1602.07868>`_, 2016, equation 2
    """
    check_floating(v, "v")
    outputs, others = split_axes(v, axis)
    scale = align_scale(scale, v, outputs, others)
    return (scale * unit(v, axis=others)).astype(v.dtype)


def weight_norm_scale(v: jax.Array, *, axis: Axes = -1) -> jax.Array:
    r"""Returns the ``scale`` for which :func:`weight_norm` is the identity.

    .. math::

      g_j = \|v_j\|

    Args:
      v: Floating-point array.
      axis: Output axes.

    Returns:
      Norms over all other axes, with the shape of the output axes, in float32 or wider.

    Raises:
      TypeError: ``v`` is not floating-point.
      ValueError: ``axis`` lies outside ``v``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import reparam
      >>> print(reparam.weight_norm_scale(jnp.array([[3.0, 0.0], [4.0, 2.0]])))
      [5. 2.]

    References:
      Salimans and Kingma, `Weight Normalization <https://arxiv.org/abs/1602.07868>`_, 2016
    """
    check_floating(v, "v")
    _, others = split_axes(v, axis)
    return jnp.squeeze(safe_norm(v, axis=others), others)


@mark()
def weight_standardization(
    w: jax.Array, *, scale: ArrayLike = 1.0, eps: ArrayLike = 1e-8, axis: Axes = -1
) -> jax.Array:
    r"""Gives the weights of each output mean 0 and variance 1.

    .. math::

      \hat w_j = g_j \frac{w_j - \mu_j}{\sqrt{\sigma_j^2 + \epsilon}}

    Qiao et al. leave :math:`g` at 1, since a norm follows each of their layers. Without a norm,
    start from :func:`weight_standardization_scale`. The default :math:`\epsilon` comes from BiT in
    timm; Qiao et al. add 1e-5 to the standard deviation instead.

    Args:
      w: Floating-point array.
      scale: Factor :math:`g`: a single number, or an array with the shape of the output axes.
      eps: Added to the variance, zero or positive. With 0 constant weights become 0.
      axis: Output axes.

    Returns:
      Array with the shape and dtype of ``w``.

    Raises:
      TypeError: ``w`` is not floating-point.
      ValueError: ``eps`` is negative, ``axis`` lies outside ``w``, or ``scale`` does not have the
        shape of these axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import reparam
      >>> w = jnp.array([[3.0, 0.1], [5.0, 0.3]])
      >>> print(reparam.weight_standardization(w, scale=2.0).round(4))
      [[-2. -2.]
       [ 2.  2.]]

    References:
      Qiao et al., `Micro-Batch Training with Batch-Channel Normalization and Weight
      Standardization <https://arxiv.org/abs/1903.10520>`_, 2019
    """
    check_floating(w, "w")
    check_eps(eps)
    outputs, others = split_axes(w, axis)
    scale = align_scale(scale, w, outputs, others)
    # Dividing large weights by a constant keeps their variance in range.
    peak = jnp.max(jnp.abs(widen(w)), axis=others, keepdims=True, initial=1)
    constant = jax.lax.stop_gradient(peak)
    x = widen(w) / constant
    statistics = moments(x, axis=others)
    mean = jnp.expand_dims(statistics.mean, others)
    var = jnp.expand_dims(statistics.var, others)
    gain = inverse_root(var + as_strength(eps, w) / constant / constant)
    return (scale * ((x - mean) * gain)).astype(w.dtype)


def weight_standardization_scale(w: jax.Array, *, axis: Axes = -1) -> jax.Array:
    r"""Returns the ``scale`` of :func:`weight_standardization` that preserves the inputs' variance.

    .. math::

      g_j = \frac{1}{\sqrt{n}}

    Args:
      w: Floating-point array with :math:`n` weights per output.
      axis: Output axes.

    Returns:
      Array with the shape of the output axes, in float32 or wider.

    Raises:
      TypeError: ``w`` is not floating-point.
      ValueError: ``axis`` lies outside ``w``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import reparam
      >>> print(reparam.weight_standardization_scale(jnp.ones((2, 2, 4, 3))))
      [0.25 0.25 0.25]

    References:
      Brock et al., `Characterizing signal propagation to close the performance gap in unnormalized
      ResNets <https://arxiv.org/abs/2101.08692>`_, 2021, equation 4
    """
    check_floating(w, "w")
    outputs, others = split_axes(w, axis)
    number = math.prod(w.shape[a] for a in others)
    return jnp.full([w.shape[a] for a in outputs], number**-0.5, real_dtype(w))
