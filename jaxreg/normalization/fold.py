"""Folding of an evaluation-mode batch norm into the layer before it."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._axes import Axes
from jaxreg._checks import canonical_axes, check_eps, check_floating, check_shapes
from jaxreg._numerics import as_strength, inverse_root, real_dtype, widen
from jaxreg.normalization._affine import as_wide, check_kinds
from jaxreg.normalization.batch import BatchStats


def fold_batch_norm(
    kernel: jax.Array,
    stats: BatchStats,
    *,
    layer_bias: jax.Array | None = None,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    eps: ArrayLike = 1e-5,
    axis: Axes = -1,
) -> tuple[jax.Array, jax.Array]:
    r"""Returns the kernel and bias that merge a layer with the batch norm after it.

    .. math::

      W' = W \, \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}}, \qquad
      b' = (b - \mu) \, \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}} + \beta

    It works for any layer that is linear in its kernel: dense, convolution (also grouped) and
    transposed convolution. The norm must follow the layer directly. Results are computed in float32
    or wider and rounded once, to the dtype of the kernel.

    Args:
      kernel: Weights :math:`W` of the layer.
      stats: Running statistics :math:`\mu, \sigma^2` of the norm, with the shape of the output
        axes.
      layer_bias: Offset :math:`b` of the layer, of the same shape; None means 0.
      scale: Factor :math:`\gamma` of the norm; None means 1.
      bias: Offset :math:`\beta` of the norm; None means 0.
      eps: Added to the variance by the norm, zero or positive.
      axis: Output axes of the kernel: the last in Flax, several for ``DenseGeneral``, and ``-2``
        for ``ConvTranspose`` with ``transpose_kernel=True``.

    Returns:
      The kernel :math:`W'` and the bias :math:`b'`, even if the layer has no bias.

    Raises:
      TypeError: ``kernel`` is not floating-point, or an array is complex and ``kernel`` is not.
      ValueError: ``eps`` is negative, ``axis`` lies outside the kernel, or an array does not have
        the shape of the output axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import normalization
      >>> stats = normalization.BatchStats(jnp.array([1.0]), jnp.array([4.0]))
      >>> print(normalization.fold_batch_norm(jnp.array([[6.0]]), stats, eps=0.0))
      (Array([[3.]], dtype=float32), Array([-0.5], dtype=float32))

    References:
      Jacob et al., `Quantization and Training of Neural Networks for Efficient
      Integer-Arithmetic-Only Inference <https://arxiv.org/abs/1712.05877>`_, 2018, section 3.2
    """
    check_floating(kernel, "kernel")
    check_eps(eps)
    outputs = canonical_axes(axis, kernel.ndim)
    arrays = {"mean": stats.mean, "var": stats.var, "scale": scale, "bias": bias}
    check_shapes([kernel.shape[a] for a in outputs], layer_bias=layer_bias, **arrays)
    del arrays["var"]
    check_kinds(kernel, "kernel", layer_bias=layer_bias, **arrays)
    wide = widen(kernel)
    gain = inverse_root(stats.var.astype(real_dtype(kernel)) + as_strength(eps, kernel))
    if scale is not None:
        gain = gain * as_wide(scale, kernel)
    offset = -as_wide(stats.mean, kernel)
    if layer_bias is not None:
        offset = as_wide(layer_bias, kernel) + offset
    offset = offset * gain
    if bias is not None:
        offset = offset + as_wide(bias, kernel)
    folded = wide * jnp.expand_dims(gain, [a for a in range(kernel.ndim) if a not in outputs])
    return folded.astype(kernel.dtype), offset.astype(kernel.dtype)
