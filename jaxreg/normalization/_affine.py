"""Affine maps ``scale * (x - mean) / sqrt(var + eps) + bias`` with accurate derivatives."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._numerics import as_strength, inverse_root, real_dtype, reread, wide_dtype, widen
from jaxreg.normalization._masks import align_mask, select
from jaxreg.normalization._precisions import TwoPrecisions


@partial(jax.jit, static_argnames="features")
def affine(
    x: TwoPrecisions,
    mean: jax.Array | None,
    var: jax.Array,
    *,
    scale: jax.Array | None,
    bias: jax.Array | None,
    eps: ArrayLike,
    features: tuple[int, ...],
    where: jax.Array | None,
) -> jax.Array:
    """Returns ``scale * (x - mean) / sqrt(var + eps) + bias`` in the dtype that was given.

    Args:
      x: Floating-point array in both precisions.
      mean: Array that broadcasts to ``x``; None means 0.
      var: Array with the shape of ``mean``.
      scale: Factor, with the shape of the feature axes.
      bias: Offset with the same shape; only allowed with a mean.
      eps: Added to the variance.
      features: Feature axes, sorted and nonnegative.
      where: Mask; infinite and NaN elements outside it count as 0.
    """
    others = tuple(a for a in range(x.wide.ndim) if a not in features)
    check_kinds(x.wide, scale=scale, bias=bias)
    if scale is not None:
        scale = as_wide(jnp.expand_dims(scale, others), x.wide)
    if bias is not None:
        bias = as_wide(jnp.expand_dims(bias, others), x.wide)
    gain = inverse_root(var + as_strength(eps, x.wide))
    if where is not None:
        used = align_mask(where, x.given) | jnp.isfinite(x.given)
        x = TwoPrecisions(select(x.wide, used), select(x.given, used))
    # Combine both factors, unless their product, and its gradient, would be as large as `x`.
    if scale is not None and _size(gain, scale) < x.wide.size:
        gain = gain * scale
        scale = None
    return _affine(x, mean, gain, scale, bias).astype(x.given.dtype)


def _size(*arrays: jax.Array) -> int:
    """Returns the size of a product of arrays."""
    return math.prod(jnp.broadcast_shapes(*(a.shape for a in arrays)))


@jax.custom_jvp
def _affine(
    x: TwoPrecisions,
    mean: jax.Array | None,
    gain: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
) -> jax.Array:
    given, mean, gain, scale, bias = reread(x.given, mean, gain, scale, bias)
    y = _deviation(given, mean) * gain
    y = y if scale is None else y * scale
    return y if bias is None else y + bias


@_affine.defjvp
def _affine_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    x, mean, gain, scale, _ = primals
    dx, *others = tangents
    return _affine(*primals), _affine_tangent((x.given, mean, gain, scale), (dx.wide, *others))


# The backward pass holds `x`, in place of its products.
@partial(jax.checkpoint, prevent_cse=False)
def _affine_tangent(factors: tuple[Any, ...], tangents: tuple[Any, ...]) -> jax.Array:
    """Returns the tangent of :func:`_affine` in terms that share no product as large as ``x``.

    Each is a sum in the backward pass, which a CPU computes as it reads; it would write a shared
    product to memory. Mean and bias of one shape have one sum.
    """
    x, mean, gain, scale = factors
    dx, dmean, dgain, dscale, dbias = tangents
    if scale is None:
        dy = dx * gain
    else:
        dy = dx * (gain * scale)
        x, mean, gain, scale = reread(x, mean, gain, scale)
        dy = dy + (_deviation(x, mean) * gain) * dscale
    x, mean, gain, scale = reread(x, mean, gain, scale)
    late = _deviation(x, mean) if scale is None else _deviation(x, mean) * scale
    dy = dy + late * dgain
    if dmean is not None:
        moved = dmean * gain
        if scale is None and dbias is not None and dbias.shape == moved.shape:
            return dy + (dbias - moved)
        dy = dy - (moved if scale is None else moved * reread(scale)[0])
    return dy if dbias is None else dy + dbias


def _deviation(x: jax.Array, mean: jax.Array | None) -> jax.Array:
    return widen(x) if mean is None else widen(x) - mean


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
