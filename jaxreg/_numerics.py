"""Shared numerics: accumulation in float32 or wider, a single rounding, norms without NaN."""

from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from jaxreg._checks import is_static, is_static_zero
from jaxreg._sharding import place_like, varying_axes

Tree = TypeVar("Tree")


def wide_dtype(dtype: DTypeLike) -> jnp.dtype:
    """Returns the dtype to compute in: ``dtype`` if it is float32 or wider, otherwise float32."""
    is_wide = jnp.issubdtype(dtype, jnp.inexact) and jnp.finfo(dtype).bits >= 32
    return jnp.dtype(dtype) if is_wide else jnp.dtype(jnp.float32)


def widen(x: jax.Array) -> jax.Array:
    """Casts ``x`` to its :func:`wide_dtype`, for sums and products."""
    x = jnp.asarray(x)  # NumPy arrays would be summed by NumPy.
    return x.astype(wide_dtype(x.dtype))


def reread(*arrays: Any) -> tuple[Any, ...]:
    """Returns equal arrays, from which a CPU computes again what it computed from the given ones.

    On a CPU, a sum includes the operations on its elements only if nothing else needs their
    results. XLA takes equal operations on the same arrays for one, and then writes their results to
    memory: large ones, also where they come from small or narrow arrays. The given arrays
    themselves are written to memory, so that a loop that reads them does not repeat what they were
    computed from.
    """
    kinds = {tuple(varying_axes(array)) for array in jax.tree.leaves(arrays)}
    if len(kinds) > 1:  # Inside shard_map; together, all would vary along all axes.
        return tuple(_barrier_on_cpu(array) for array in arrays)
    return _barrier_on_cpu(arrays)


def _barrier_on_cpu(tree: Tree) -> Tree:
    return jax.lax.platform_dependent(
        tree, cpu=jax.lax.optimization_barrier, default=lambda tree: tree
    )


def as_strength(value: ArrayLike, x: jax.Array) -> jax.Array:
    """Casts a strength, such as a rate, to the real dtype of computations on ``x``.

    All strengths are converted here, so that a Python number, a weakly typed and a float32 array
    give the same program, and a narrow ``x`` does not round the strength.
    """
    return jnp.asarray(value, jnp.finfo(wide_dtype(x.dtype)).dtype)


def keep_rate(rate: ArrayLike, x: jax.Array) -> jax.Array:
    """Returns ``1 - rate`` in the real dtype for ``x``; a JAX array is clipped to ``[0, 1]``."""
    if not is_static(rate):
        return 1 - jnp.clip(as_strength(rate, x), 0, 1)
    # In float32, 1 - 0.9 is 2e-7 too large and 1 - 0.999 is 1e-5.
    return as_strength(1 - float(rate), x)  # pyright: ignore[reportArgumentType]


def widen_for(x: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Returns ``x`` for a function whose result is cast to ``dtype`` and must be rounded once."""
    return x if x.dtype == dtype else widen(x)


def nan_where(unknown: jax.Array, x: jax.Array) -> jax.Array:
    """Returns ``x``, or NaN everywhere if ``unknown``.

    Around a scan, JAX computes once and stores what does not depend on the step, such as an array
    of NaN. This one does depend on it.
    """
    return jnp.where(unknown, jax.lax.stop_gradient(x) * jnp.nan, x)


def weigh(weight: jax.Array, x: jax.Array) -> jax.Array:
    """Returns ``weight * x``; a weight of 0 gives 0 even if ``x`` is infinite or NaN."""
    counts = (weight != 0) | jnp.isfinite(x)
    return weight * jnp.where(counts, x, jnp.zeros_like(x))


def real_dtype(x: jax.Array) -> jnp.dtype:
    """Returns the dtype of real numbers, such as norms and counts, in computations on ``x``."""
    return jnp.finfo(wide_dtype(x.dtype)).dtype


def mean_dtype(x: jax.Array) -> jnp.dtype:
    """Returns the dtype of a running mean of ``x``: float32, or complex64 if ``x`` is complex."""
    return jnp.dtype(jnp.complex64 if jnp.iscomplexobj(x) else jnp.float32)


def running_dtype(old: jax.Array, new: jax.Array) -> jnp.dtype:
    """Returns a running average's dtype: at least float32, and complex if ``new`` is complex.

    In bfloat16 an average stops moving when a step is less than half its last digit.
    """
    dtype = wide_dtype(old.dtype)
    return jnp.promote_types(dtype, jnp.complex64) if jnp.iscomplexobj(new) else dtype


def align(value: ArrayLike, x: jax.Array) -> jax.Array:
    """Casts a strength for ``x``; an array also gets the shape and sharding of ``x``."""
    value = as_strength(value, x)
    if value.ndim == 0:
        return value
    return place_like(jnp.broadcast_to(value, x.shape), x)


def safe_norm(x: jax.Array, *, axis: int | tuple[int, ...] | None) -> jax.Array:
    r"""Returns the Euclidean norm with finite derivatives everywhere; keeps the reduced axes.

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
    """Returns the largest magnitude as a divisor without gradient; 1 if it is 0 or not finite."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=axis, keepdims=True))
    # Neither the scale nor its inverse may be subnormal, which many devices flush to zero.
    least = 2 * jnp.finfo(largest.dtype).tiny
    # XLA multiplies constant divisors, and the square of `least` underflows, so a zero becomes 1.
    scales = jnp.isfinite(largest) & (largest != 0)
    return jnp.where(scales, jnp.clip(largest, least, 1 / least), jnp.ones_like(largest))


def _root_of_squares(x: jax.Array, axis: int | tuple[int, ...] | None) -> jax.Array:
    """Returns the root of the sum of squares; at zero, the root and its derivatives are 0."""
    total = jnp.sum(square(x), axis=axis, keepdims=True)
    positive = total != 0
    root = jnp.sqrt(jnp.where(positive, total, jnp.ones_like(total)))
    return jnp.where(positive, root, jnp.zeros_like(total))


def offset_scale(params: Mapping[str, jax.Array], offset: ArrayLike) -> dict[str, jax.Array]:
    """Returns a norm's parameters with ``offset`` added to ``scale`` in float32 or wider.

    A bfloat16 ``scale`` near zero keeps digits that its sum with 1 in bfloat16 would lose.
    """
    if "scale" not in params or is_static_zero(offset):
        return dict(params)
    scale = params["scale"]
    return {**params, "scale": widen(scale) + as_strength(offset, scale)}


def stop_derivatives(tree: Tree) -> Tree:
    """Applies ``jax.lax.stop_gradient`` to the leaves of a tree."""
    return jax.lax.stop_gradient(tree)


def inverse_root(x: jax.Array) -> jax.Array:
    """Returns the inverse square root, or 0 at 0 (a constant feature).

    It is also 0 at infinity, a variance that overflowed, and its derivatives there are not NaN.
    """
    flat = (x <= 0) | (x == jnp.inf)
    root = jax.lax.rsqrt(jnp.where(flat, jnp.ones_like(x), x))
    return jnp.where(flat, jnp.zeros_like(x), root)


def square(x: jax.Array) -> jax.Array:
    """Returns the squared magnitude, which is real even if ``x`` is complex."""
    return (x * x.conj()).real


def round_to(value: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Rounds float32 numbers as a cast to ``dtype`` does, in a form that compilers keep.

    Compilers may remove a cast to ``dtype`` and back, and so skip the rounding.

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
    """Rounds to a dtype of fewer than 16 bits, such as float8_e4m3fn, whose range is not IEEE's."""
    info = jnp.finfo(dtype)
    _, exponent = jnp.frexp(value)
    spacing = jnp.ldexp(jnp.ones_like(value), exponent - 1 - info.nmant)
    spacing = jnp.maximum(spacing, float(info.smallest_subnormal))
    nearest = jnp.round(value / spacing) * spacing
    # The dtype decides whether overflow gives infinity, NaN or the largest number.
    beyond = float(np.float32(np.float32(np.inf).astype(info.dtype)))
    return jnp.where(jnp.abs(nearest) > float(info.max), jnp.sign(value) * beyond, nearest)
