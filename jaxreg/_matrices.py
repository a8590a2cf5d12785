r"""Reshapes kernels to matrices and changes their singular values, with finite derivatives.

The derivative of :math:`U f(S) V^T` follows Daleckii and Krein. Its divided differences are
computed in closed form, so that repeated and zero singular values cause no division by zero.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp

from jaxreg._axes import Axes, split_axes
from jaxreg._numerics import peak, widen
from jaxreg._sharding import whole_along

exact = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def safe_divide(x: jax.Array, by: jax.Array) -> jax.Array:
    """Returns ``x / by``, and 0 where ``x`` is 0, even if ``by`` is 0 too."""
    zero = x == 0
    return jnp.where(zero, x, x / jnp.where(zero, jnp.ones_like(by), by))


def tall_matrix(w: jax.Array, axis: Axes) -> jax.Array:
    """Reshapes a kernel to ``[other axes, outputs]``, transposed if the transpose has more rows.

    It only reorders elements, so that its transpose as a linear function is its inverse. On an
    Explicit mesh every device gets the whole matrix, which decompositions need.
    """
    return whole_along(spread_tall_matrix(w, axis), (0, 1))


def spread_tall_matrix(w: jax.Array, axis: Axes) -> jax.Array:
    """Returns :func:`tall_matrix`, whose rows stay split if the first axis among them is split."""
    if w.ndim < 2:
        raise ValueError(
            f"`w` must have at least two axes, got shape {w.shape}; select kernels with "
            "masks.kernels."
        )
    outputs, others = split_axes(w, axis)
    rows = math.prod(w.shape[a] for a in others)
    columns = math.prod(w.shape[a] for a in outputs)
    order = (*others, *outputs) if rows >= columns else (*outputs, *others)
    wide = whole_along(widen(w), order[1:])
    return jnp.transpose(wide, order).reshape(max(rows, columns), min(rows, columns))


@jax.custom_jvp
def soften(w: jax.Array, t: jax.Array) -> jax.Array:
    """Soft-thresholds the singular values of a tall matrix by ``t``."""
    if w.size == 0:
        return w
    scale, left, values, right, cut = _parts(w, t)
    softened = exact(left * (scale * jnp.maximum(values - cut, 0))[None], right)
    return jnp.where(values[0] <= cut, jnp.zeros_like(w), softened)


@soften.defjvp
def _soften_jvp(primals, tangents):
    w, t = primals
    dw, dt = tangents
    along_w, along_t = _excess(w, t, dw)
    return soften(w, t), along_w - dt * along_t


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def clip(w: jax.Array, t: jax.Array, slack: float) -> jax.Array:
    """Clips singular values of a tall matrix to ``t`` if the largest exceeds ``t * (1 + slack)``.

    Args:
      w: Tall matrix.
      t: Largest singular value of the result.
      slack: Relative excess over ``t`` up to which ``w`` is returned unchanged.
    """
    if w.size == 0:
        return w
    scale, left, values, right, cut = _parts(w, t)
    clipped = exact(left * (scale * jnp.minimum(values, cut))[None], right)
    return jnp.where(values[0] <= cut * (1 + slack), w, clipped)


@clip.defjvp
def _clip_jvp(slack, primals, tangents):
    w, t = primals
    dw, dt = tangents
    # The excess is 0 for a matrix that is returned unchanged.
    along_w, along_t = _excess(w, t, dw, slack)
    return clip(w, t, slack), dw - along_w + dt * along_t


def _parts(w: jax.Array, t: jax.Array) -> tuple[jax.Array, ...]:
    """Returns a scale, the SVD of ``w`` divided by it, and ``t`` divided by it."""
    # Scale the matrix so that the squares in the decomposition stay in range.
    scale = peak(w, axis=None).reshape(())
    left, values, right = _svd(w / scale)
    # Singular values of the scaled matrix are below `2 * w.size`. An infinite threshold would give
    # NaN in differences.
    cut = jnp.minimum(t / scale, 2 * w.size)
    return scale, left, values, right, cut


def _excess(
    w: jax.Array, t: jax.Array, dw: jax.Array, slack: float = 0.0
) -> tuple[jax.Array, jax.Array]:
    """Returns the derivatives of :func:`soften` along ``dw``, and with respect to ``-t``."""
    if w.size == 0:
        return dw, w
    _, left, values, right, cut = _parts(w, t)
    rotated = exact(dw, right.T)
    inner = exact(left.T, rotated)
    above = (values > cut) & (values[0] > cut * (1 + slack))
    excess = jnp.where(above, values - cut, jnp.zeros_like(values))
    s_i = values[:, None]
    s_j = values[None]
    e_i = excess[:, None]
    e_j = excess[None]
    above_i = above[:, None]
    above_j = above[None]
    # Divided differences of the excess, symmetric and antisymmetric. For two values above the
    # threshold the quotient is exactly 1.
    differences = jnp.where(above_i != above_j, e_i - e_j, jnp.zeros_like(e_i - e_j))
    symmetric = safe_divide(differences, s_i - s_j)
    symmetric = jnp.where(above_i & above_j, jnp.ones_like(symmetric), symmetric)
    antisymmetric = safe_divide(e_i + e_j, s_i + s_j)
    within = symmetric * (inner + inner.T) / 2 + antisymmetric * (inner - inner.T) / 2
    outside = (rotated - exact(left, inner)) * safe_divide(excess, values)[None]
    signs = left * above.astype(values.dtype)[None]
    return exact(exact(left, within) + outside, right), exact(signs, right)


@jax.custom_jvp
def _svd(w: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the thin SVD of a tall matrix, with a finite derivative at equal singular values."""
    left, values, right = jnp.linalg.svd(w, full_matrices=False)
    return left, values, right


@_svd.defjvp
def _svd_jvp(primals, tangents):
    (w,) = primals
    (dw,) = tangents
    left, values, right = _svd(w)
    rounding = len(w) * jnp.finfo(values.dtype).eps * jnp.max(values)
    rotated = exact(dw, right.T)
    inner = exact(left.T, rotated)
    s_i = values[:, None]
    s_j = values[None]
    equal = jnp.abs(s_j - s_i) <= rounding
    gap = jnp.where(equal, jnp.ones_like(s_j - s_i), (s_j - s_i) * (s_j + s_i))
    turn_left = jnp.where(equal, jnp.zeros_like(gap), (inner * s_j + s_i * inner.T) / gap)
    turn_right = jnp.where(equal, jnp.zeros_like(gap), (s_i * inner + inner.T * s_j) / gap)
    nonzero = values > rounding
    inverse = nonzero / jnp.where(nonzero, values, jnp.ones_like(values))
    outside = (rotated - exact(left, inner)) * inverse[None]
    d_left = exact(left, turn_left) + outside
    return (left, values, right), (d_left, jnp.diagonal(inner), exact(turn_right.T, right))
