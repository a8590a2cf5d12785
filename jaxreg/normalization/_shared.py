"""What the norms share: masks, shapes, and the affine map that statistics make."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_nonnegative, check_scalar
from jaxreg._numerics import real_dtype, strength, widen
from jaxreg._sharding import varying_axes

Axes = int | tuple[int, ...]


def align_mask(where: jax.Array, x: jax.Array) -> jax.Array:
    """Turns a mask of any dtype into booleans with as many axes as ``x``.

    Raises:
      ValueError: The mask does not broadcast to ``x``.
    """
    mask = jnp.asarray(where).astype(bool)
    if mask.ndim < x.ndim:
        mask = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
    fits = all(m in (1, n) for m, n in zip(mask.shape, x.shape, strict=False))
    if mask.ndim != x.ndim or not fits:
        raise ValueError(
            f"`where` must broadcast to `x` from its first axes, got shape {jnp.shape(where)} for "
            f"{x.shape}; add axes of size 1 where they are missing."
        )
    return mask


def check_synchronized(x: jax.Array, axis_name: str | tuple[str, ...] | None) -> None:
    """Raises where the statistics of a batch would be those of one device, and nobody said so."""
    varying = varying_axes(x)
    if varying and axis_name is None:
        raise ValueError(
            f"`axis_name` must be given inside `shard_map`, where `x` varies along {varying}; pass "
            f"the axes of the batch for its statistics, or () for those of each device."
        )


def select(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """``x`` with 0 outside the mask."""
    return x if mask is None else jnp.where(mask, x, jnp.zeros_like(x))


def inverse_root(x: jax.Array) -> jax.Array:
    """Inverse square root, and 0 at 0, where a constant feature has nothing to scale.

    At infinity, a variance that overflowed, it is 0 too, with derivatives that are not NaN.
    """
    flat = (x <= 0) | (x == jnp.inf)
    root = jax.lax.rsqrt(jnp.where(flat, jnp.ones_like(x), x))
    return jnp.where(flat, jnp.zeros_like(x), root)


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
      mean: Array that broadcasts to ``x``; 0 if absent.
      var: Array of the shape of ``mean``.
      scale: Factor, of the shape of the feature axes.
      bias: Offset of the same shape; only where there is a mean.
      eps: Added to the variance.
      features: Feature axes, sorted numbers in ``[0, ndim)``.
      where: Mask; what is infinite or NaN outside it counts as 0.
    """
    others = tuple(a for a in range(x.ndim) if a not in features)

    def expanded(a: jax.Array | None) -> jax.Array | None:
        return None if a is None else jnp.expand_dims(a, others).astype(real_dtype(x))

    scale, bias = expanded(scale), expanded(bias)
    gain = inverse_root(var + strength(eps, x))
    if where is not None:
        x = jnp.where(align_mask(where, x) | jnp.isfinite(x), x, jnp.zeros_like(x))
    # One factor in place of two, unless it would be as large as the input and its gradient with it.
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
    """Offsets of one shape come together first: backward, one sum serves the mean and the bias."""
    (x, mean, gain, bias), (dx, dmean, dgain, dbias) = primals, tangents
    if mean.shape == bias.shape == gain.shape:
        moved = dx * gain + (dbias - dmean * gain)
    else:
        moved = (dx - dmean) * gain + dbias
    return _affine(*primals), moved + (x - mean) * dgain


def check_eps(eps: ArrayLike) -> None:
    """Raises unless ``eps`` is one number, zero or positive."""
    check_scalar(eps, "eps")
    check_nonnegative(eps, "eps")


def check_shapes(shape: list[int], **arrays: jax.Array | None) -> None:
    """Raises unless the arrays have the shape of the feature axes."""
    for name, a in arrays.items():
        if a is not None and a.shape != tuple(shape):
            raise ValueError(
                f"`{name}` must have the shape of the feature axes, {tuple(shape)}, got {a.shape}."
            )
