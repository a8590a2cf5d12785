"""Affine maps ``scale * (x - mean) / sqrt(var + eps) + bias`` with accurate derivatives."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._numerics import as_strength, inverse_root, real_dtype, wide_dtype, widen
from jaxreg.normalization._masks import align_mask


@partial(jax.jit, static_argnames="features")
def affine(
    x: jax.Array,
    mean: jax.Array | None,
    var: jax.Array,
    *,
    scale: jax.Array | None,
    bias: jax.Array | None,
    eps: ArrayLike,
    features: tuple[int, ...],
    where: jax.Array | None,
) -> jax.Array:
    """Returns ``scale * (x - mean) / sqrt(var + eps) + bias`` in the dtype of ``x``.

    Args:
      x: Floating-point array.
      mean: Array that broadcasts to ``x``; None means 0.
      var: Array with the shape of ``mean``.
      scale: Factor, with the shape of the feature axes.
      bias: Offset with the same shape; only allowed with a mean.
      eps: Added to the variance.
      features: Feature axes, sorted and nonnegative.
      where: Mask; infinite and NaN elements outside it count as 0.
    """
    others = tuple(a for a in range(x.ndim) if a not in features)
    check_kinds(x, scale=scale, bias=bias)
    if scale is not None:
        scale = as_wide(jnp.expand_dims(scale, others), x)
    if bias is not None:
        bias = as_wide(jnp.expand_dims(bias, others), x)
    gain = inverse_root(var + as_strength(eps, x))
    if where is not None:
        x = jnp.where(align_mask(where, x) | jnp.isfinite(x), x, jnp.zeros_like(x))
    # Combine both factors, unless their product, and its gradient, would be as large as `x`.
    late = scale is not None and math.prod(jnp.broadcast_shapes(gain.shape, scale.shape)) >= x.size
    if scale is not None and not late:
        gain = gain * scale
    offset = bias if bias is not None and not late else jnp.zeros_like(gain)
    y = widen(x) * gain if mean is None else _affine(widen(x), mean, gain, offset)
    if scale is not None and late:
        y = y * scale if bias is None else y * scale + bias
    return y.astype(x.dtype)


@jax.custom_jvp
def _affine(x: jax.Array, mean: jax.Array, gain: jax.Array, bias: jax.Array) -> jax.Array:
    return (x - mean) * gain + bias


@_affine.defjvp
def _affine_jvp(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[Any, Any]:
    """Returns value and tangent; mean and bias of one shape share a sum in the backward pass."""
    x, mean, gain, bias = primals
    dx, dmean, dgain, dbias = tangents
    if mean.shape == bias.shape == gain.shape:
        dy = dx * gain + (dbias - dmean * gain)
    else:
        dy = (dx - dmean) * gain + dbias
    return _affine(*primals), dy + (x - mean) * dgain


def as_wide(a: jax.Array, x: jax.Array) -> jax.Array:
    """Casts ``a`` to the wide dtype of ``x``, float32 or wider; a real ``a`` stays real."""
    return a.astype(wide_dtype(x.dtype) if jnp.iscomplexobj(a) else real_dtype(x))


def check_kinds(x: jax.Array, of: str = "x", **arrays: jax.Array | None) -> None:
    """Raises if any of ``arrays`` is complex although ``x`` is real."""
    for name, a in arrays.items():
        if a is not None and jnp.iscomplexobj(a) and not jnp.iscomplexobj(x):
            raise TypeError(
                f"`{name}` must be real because `{of}` is, got {a.dtype}; convert `{of}` to a "
                "complex dtype."
            )
