"""The one numerics core: wide accumulation, one rounding, norms without NaN."""

from collections.abc import Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from jaxreg._checks import is_static_zero
from jaxreg._sharding import place_like

Tree = TypeVar("Tree")


def wide_dtype(dtype: DTypeLike) -> jnp.dtype:
    """Returns the dtype to compute in: float32, or ``dtype`` where that is a wider float."""
    is_wide = jnp.issubdtype(dtype, jnp.inexact) and jnp.finfo(dtype).bits >= 32
    return jnp.dtype(dtype) if is_wide else jnp.dtype(jnp.float32)


def widen(x: jax.Array) -> jax.Array:
    """Casts ``x`` to the dtype that sums and products of it are computed in."""
    x = jnp.asarray(x)  # Else the sums of a NumPy array would be NumPy's.
    return x.astype(wide_dtype(x.dtype))


def as_strength(value: ArrayLike, x: jax.Array) -> jax.Array:
    """Casts a strength to the real dtype that a computation on ``x`` is done in.

    The one conversion of every strength: a Python number, a weakly typed and a float32 array then
    give the same program, and a narrow ``x`` does not round the strength.
    """
    return jnp.asarray(value, real_dtype(x))


def weigh(weight: jax.Array, x: jax.Array) -> jax.Array:
    """Returns ``weight * x``, and 0 where the weight is 0 and ``x`` infinite or NaN."""
    counts = (weight != 0) | jnp.isfinite(x)
    return weight * jnp.where(counts, x, jnp.zeros_like(x))


def divide(x: jax.Array, by: jax.Array) -> jax.Array:
    """Returns ``x / by`` in the dtype of ``x``, unbiased though ``by`` is off in its last digits.

    Ten times a bfloat16 number is often halfway between two others. Divided by 0.1 and a bit, as
    which float32 has ``1 - 0.9``, all of these would round toward zero. Rounded to 18 bits first
    they are halfway again, and half of them round up.
    """
    quotient = widen(x) / by
    if quotient.dtype != x.dtype:
        quotient = jax.lax.reduce_precision(quotient, exponent_bits=8, mantissa_bits=18)
    return quotient.astype(x.dtype)


def real_dtype(x: jax.Array) -> jnp.dtype:
    """Returns the dtype of real numbers, such as norms and counts, in computations on ``x``."""
    return jnp.finfo(wide_dtype(x.dtype)).dtype


def mean_dtype(x: jax.Array) -> jnp.dtype:
    """Dtype in which the mean of ``x`` is kept."""
    return jnp.dtype(jnp.complex64 if jnp.iscomplexobj(x) else jnp.float32)


def running_dtype(old: jax.Array, new: jax.Array) -> jnp.dtype:
    """Dtype of a running average: its own, float32 if that is narrower, complex where it has to be.

    In bfloat16 an average stops moving where a step is less than half its last digit.
    """
    dtype = wide_dtype(old.dtype)
    return jnp.promote_types(dtype, jnp.complex64) if jnp.iscomplexobj(new) else dtype


def align(value: ArrayLike, x: jax.Array) -> jax.Array:
    """A strength as it is if it is one number, else at the shape and the sharding of ``x``."""
    value = as_strength(value, x)
    if value.ndim == 0:
        return value
    return place_like(jnp.broadcast_to(value, x.shape), x)


def safe_norm(x: jax.Array, *, axis: int | tuple[int, ...] | None) -> jax.Array:
    r"""Euclidean norm whose value and derivatives are finite everywhere; keeps reduced axes.

    .. math::

      \|x\| = s \sqrt{\sum_i (x_i / s)^2}, \qquad s = \max_i |x_i|

    The scale :math:`s` keeps the squares within range, so that vectors of size 1e-30 and 1e30 have
    exact norms in float32. At zero the norm is 0 and so are its derivatives.
    """
    x = widen(x)
    if x.size == 0:
        return jnp.sqrt(jnp.sum(jnp.abs(x), axis=axis, keepdims=True))
    scale = peak(x, axis=axis)
    return scale * _root_of_squares(x / scale, axis)


def unit(x: jax.Array, *, axis: int | tuple[int, ...] | None) -> jax.Array:
    r"""Returns :math:`x / \|x\|` in float32 or wider; at zero it is 0 and so are its derivatives.

    The peak divides before the norm does, since the derivative of a division squares the divisor.
    """
    x = widen(x)
    if x.size == 0:
        return x
    x = x / peak(x, axis=axis)
    norm = _root_of_squares(x, axis)
    positive = norm != 0
    return jnp.where(positive, x, jnp.zeros_like(x)) / jnp.where(
        positive, norm, jnp.ones_like(norm)
    )


def peak(x: jax.Array, *, axis: int | tuple[int, ...] | None) -> jax.Array:
    """Largest magnitude as a constant to divide by, so that squares of quotients are in range."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=axis, keepdims=True))
    # Neither the scale nor its inverse may be subnormal, which many devices flush to zero.
    least = 2 * jnp.finfo(largest.dtype).tiny
    # XLA multiplies constant divisors, and `least` squared underflows: a known zero gets 1.
    scales = jnp.isfinite(largest) & (largest != 0)
    return jnp.where(scales, jnp.clip(largest, least, 1 / least), jnp.ones_like(largest))


def _root_of_squares(x: jax.Array, axis: int | tuple[int, ...] | None) -> jax.Array:
    """Root of the sum of squares; at zero it is 0 and so are its derivatives."""
    total = jnp.sum(square(x), axis=axis, keepdims=True)
    positive = total != 0
    root = jnp.sqrt(jnp.where(positive, total, jnp.ones_like(total)))
    return jnp.where(positive, root, jnp.zeros_like(total))


def offset_scale(params: Mapping[str, jax.Array], offset: ArrayLike) -> dict[str, jax.Array]:
    """Parameters of a norm with a number added to the factor, in float32 or wider.

    A bfloat16 factor near zero keeps its digits, which its sum with one would lose.
    """
    if "scale" not in params or is_static_zero(offset):
        return dict(params)
    scale = params["scale"]
    return {**params, "scale": widen(scale) + as_strength(offset, scale)}


def stop_derivatives(tree: Tree) -> Tree:
    """The same values, through which no derivative goes."""
    return jax.lax.stop_gradient(tree)


def inverse_root(x: jax.Array) -> jax.Array:
    """Inverse square root, and 0 at 0, where a constant feature has nothing to scale.

    At infinity, a variance that overflowed, it is 0 too, with derivatives that are not NaN.
    """
    flat = (x <= 0) | (x == jnp.inf)
    root = jax.lax.rsqrt(jnp.where(flat, jnp.ones_like(x), x))
    return jnp.where(flat, jnp.zeros_like(x), root)


def square(x: jax.Array) -> jax.Array:
    """Squared magnitude, real for complex input too."""
    return (x * x.conj()).real


def round_to(value: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Rounds as a cast to a narrower dtype does, in a form that compilers do not remove.

    They may keep the digits that a cast there and back would lose.

    Args:
      value: Real numbers in float32.
      dtype: Dtype of 16 bits or fewer.

    Returns:
      The rounded numbers, in float32.
    """
    info = jnp.finfo(dtype)
    if info.bits < 16:
        return _round_to_few_bits(value, dtype)
    nearest = jax.lax.reduce_precision(value, info.nexp, info.nmant)
    if info.tiny == jnp.finfo(value.dtype).tiny:
        return nearest
    # The reduction flushes numbers below the normal range of float16 to zero; a cast keeps them.
    spacing = float(info.smallest_subnormal)
    return jnp.where(jnp.abs(value) < info.tiny, jnp.round(value / spacing) * spacing, nearest)


def _round_to_few_bits(value: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Rounding to a dtype whose range is not that of IEEE's, such as float8_e4m3fn."""
    info = jnp.finfo(dtype)
    _, exponent = jnp.frexp(value)
    spacing = jnp.ldexp(jnp.ones_like(value), exponent - 1 - info.nmant)
    spacing = jnp.maximum(spacing, float(info.smallest_subnormal))
    nearest = jnp.round(value / spacing) * spacing
    # Infinity, NaN or the largest number, as the dtype has it.
    beyond = float(np.float32(np.float32(np.inf).astype(info.dtype)))
    return jnp.where(jnp.abs(nearest) > float(info.max), jnp.sign(value) * beyond, nearest)
