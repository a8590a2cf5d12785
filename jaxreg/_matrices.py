r"""Kernels as matrices, and what moves their singular values, with finite derivatives.

The derivative of :math:`U f(S) V^T` is that of Daleckii and Krein. Its divided differences are
known in closed form here, so that repeated and vanishing singular values divide nothing.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp

from jaxreg._axes import Axes, split_axes
from jaxreg._numerics import peak, widen
from jaxreg._sharding import whole_along

exact = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def over(x: jax.Array, by: jax.Array) -> jax.Array:
    """Returns ``x / by``, and 0 where ``x`` is 0."""
    zero = x == 0
    return jnp.where(zero, x, x / jnp.where(zero, jnp.ones_like(by), by))


def tall_matrix(w: jax.Array, axis: Axes) -> jax.Array:
    """The matrix ``[everything else, outputs]``, or its transpose if that has more rows.

    It reorders elements, so that its inverse is its transpose as a linear function.
    """
    if w.ndim < 2:
        raise ValueError(
            f"`w` must have at least two axes, got shape {w.shape}; masks.kernels selects what has."
        )
    outputs, others = split_axes(w, axis)
    rows, columns = (math.prod(w.shape[a] for a in axes) for axes in (others, outputs))
    wide = whole_along(widen(w), range(w.ndim))
    matrix = jnp.transpose(wide, (*others, *outputs)).reshape(rows, columns)
    return matrix.T if rows < columns else matrix


@jax.custom_jvp
def soften(w: jax.Array, t: jax.Array) -> jax.Array:
    """Subtracts ``t`` from the singular values of a tall matrix, down to 0 at most."""
    if w.size == 0:
        return w
    scale, left, values, right, cut = _parts(w, t)
    kept = exact(left * (scale * jnp.maximum(values - cut, 0))[None], right)
    return jnp.where(values[0] <= cut, jnp.zeros_like(w), kept)


@soften.defjvp
def _soften_jvp(primals, tangents):
    (w, t), (tangent, by_t) = primals, tangents
    moved, along_t = _excess(w, t, tangent)
    return soften(w, t), moved - by_t * along_t


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def clip(w: jax.Array, t: jax.Array, slack: float) -> jax.Array:
    """Singular values of a tall matrix up to ``t``; ``w`` itself if none is over ``t + slack``."""
    if w.size == 0:
        return w
    scale, left, values, right, cut = _parts(w, t)
    clipped = exact(left * (scale * jnp.minimum(values, cut))[None], right)
    return jnp.where(values[0] <= cut * (1 + slack), w, clipped)


@clip.defjvp
def _clip_jvp(slack, primals, tangents):
    (w, t), (tangent, by_t) = primals, tangents
    # What stays as it is has all of its values within the threshold.
    moved, along_t = _excess(w, t, tangent, slack)
    return clip(w, t, slack), tangent - moved + by_t * along_t


def _parts(w: jax.Array, t: jax.Array) -> tuple[jax.Array, ...]:
    """Scale, singular value decomposition of the scaled matrix, and scaled threshold."""
    # Scaled, so that what a routine squares stays within range.
    scale = peak(w, axis=None).reshape(())
    # No singular value of numbers up to 1 is larger; and infinity minus itself is nothing.
    return scale, *_svd(w / scale), jnp.minimum(t / scale, 2 * w.size)


def _excess(
    w: jax.Array, t: jax.Array, tangent: jax.Array, slack: float = 0.0
) -> tuple[jax.Array, jax.Array]:
    """Derivatives of ``soften`` along ``tangent``, and along ``-t``."""
    if w.size == 0:
        return tangent, w
    _, left, values, right, cut = _parts(w, t)
    moved = exact(tangent, right.T)
    inner = exact(left.T, moved)
    above = (values > cut) & (values[0] > cut * (1 + slack))
    over_i, over_j = above[:, None], above[None]
    excess = jnp.where(above, values - cut, jnp.zeros_like(values))
    s_i, s_j, e_i, e_j = values[:, None], values[None], excess[:, None], excess[None]
    one_of_both = over_i != over_j
    apart = over(jnp.where(one_of_both, e_i - e_j, jnp.zeros_like(e_i - e_j)), s_i - s_j)
    apart = jnp.where(over_i & over_j, jnp.ones_like(apart), apart)
    together = over(e_i + e_j, s_i + s_j)
    turned = apart * (inner + inner.T) / 2 + together * (inner - inner.T) / 2
    outside = (moved - exact(left, inner)) * over(excess, values)[None]
    signs = left * above.astype(values.dtype)[None]
    return exact(exact(left, turned) + outside, right), exact(signs, right)


@jax.custom_jvp
def _svd(w: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Singular value decomposition of a tall matrix; pairs of equal values do not turn."""
    left, values, right = jnp.linalg.svd(w, full_matrices=False)
    return left, values, right


@_svd.defjvp
def _svd_jvp(primals, tangents):
    (w,), (tangent,) = primals, tangents
    left, values, right = _svd(w)
    rounding = len(w) * jnp.finfo(values.dtype).eps * jnp.max(values)
    moved = exact(tangent, right.T)
    inner = exact(left.T, moved)
    s_i, s_j = values[:, None], values[None]
    equal = jnp.abs(s_j - s_i) <= rounding
    gap = jnp.where(equal, jnp.ones_like(s_j - s_i), (s_j - s_i) * (s_j + s_i))
    turn_left = jnp.where(equal, jnp.zeros_like(gap), (inner * s_j + s_i * inner.T) / gap)
    turn_right = jnp.where(equal, jnp.zeros_like(gap), (s_i * inner + inner.T * s_j) / gap)
    there = values > rounding
    inverse = there / jnp.where(there, values, jnp.ones_like(values))
    outside = (moved - exact(left, inner)) * inverse[None]
    by_left = exact(left, turn_left) + outside
    return (left, values, right), (by_left, jnp.diagonal(inner), exact(turn_right.T, right))
