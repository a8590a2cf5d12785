"""Norms of singular values, with finite derivatives even if singular values repeat or vanish.

Both norms are linear along rays, so each is the inner product of a matrix and the norm's gradient,
a sum of :math:`g_i u_i v_i^T` over singular pairs. They differ in the factors :math:`g`.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from jaxreg._matrices import exact, safe_divide
from jaxreg._numerics import peak
from jaxreg._sharding import place_like, whole_along, whole_sharding


def gram(x: jax.Array) -> jax.Array:
    """Returns the Gram matrix of the columns of ``x``, in full precision, on every device."""
    return exact(x.conj().T, x, out_sharding=whole_sharding(x))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def along(direction: Callable[[jax.Array], jax.Array], w: jax.Array) -> jax.Array:
    """Returns the norm whose gradient is ``direction(w)``."""
    return jnp.sum(w * direction(w))


@along.defjvp
def _along_jvp(direction, primals, tangents):
    (w,), (tangent,) = primals, tangents
    slope = direction(w)
    return jnp.sum(w * slope), jnp.sum(slope * tangent)


@jax.custom_jvp
def largest_direction(w: jax.Array) -> jax.Array:
    """Returns the gradient of the largest singular value of a tall matrix."""
    if w.size == 0:
        return w
    w = w / peak(w, axis=None)
    # The Gram matrix keeps the digits of the largest values, and costs several times less.
    squares, vectors = jnp.linalg.eigh(gram(w))
    values = jnp.sqrt(jnp.maximum(squares, 0))
    return exact(exact(w, vectors * safe_divide(_largest(values), values)[None]), vectors.T)


@jax.custom_jvp
def every_direction(w: jax.Array) -> jax.Array:
    """Returns the gradient of the sum of singular values of a tall matrix."""
    if w.size == 0:
        return w
    # Scaled, so that squares inside the routine are in range.
    left, values, right = jnp.linalg.svd(w / peak(w, axis=None), full_matrices=False)
    return exact(left * _nonzero(values, len(w))[None], right)


@largest_direction.defjvp
def _largest_jvp(primals, tangents):
    (w,), (tangent,) = primals, tangents
    return largest_direction(w), _turn(w, tangent, _largest)


@every_direction.defjvp
def _every_jvp(primals, tangents):
    (w,), (tangent,) = primals, tangents
    return every_direction(w), _turn(w, tangent, lambda values: _nonzero(values, len(w)))


def _turn(w: jax.Array, tangent: jax.Array, factors: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Differentiates the sum of :math:`g_i u_i v_i^T` along ``tangent`` (Daleckii and Krein).

    Rotations among pairs with the same factor have no effect, so the result is never divided by
    the gap between their singular values.
    """
    if w.size == 0:
        return tangent
    like = tangent
    scale = peak(w, axis=None)
    w = whole_along(w / scale, (0, 1))
    tangent = whole_along(tangent / scale, (0, 1))
    left, values, right = jnp.linalg.svd(w, full_matrices=False)
    g = factors(values)
    moved = exact(tangent, right.T)
    inner = exact(left.T, moved)
    apart = safe_divide(g[:, None] - g[None], values[:, None] - values[None])
    together = safe_divide(g[:, None] + g[None], values[:, None] + values[None])
    turned = apart * (inner + inner.T) / 2 + together * (inner - inner.T) / 2
    outside = (moved - exact(left, inner)) * safe_divide(g, values)[None]
    return place_like(exact(exact(left, turned) + outside, right), like)


def _largest(values: jax.Array) -> jax.Array:
    """Returns 1 for the largest singular value, split evenly among ties, and 0 elsewhere."""
    top = jnp.max(values)
    near = values >= top * (1 - len(values) * jnp.finfo(values.dtype).eps)
    shares = near.astype(values.dtype) / jnp.sum(near).astype(values.dtype)
    return jnp.where(top == 0, jnp.zeros_like(shares), shares)


def _nonzero(values: jax.Array, rows: int) -> jax.Array:
    """Returns 1 for each singular value above the rounding error, else 0."""
    least = rows * jnp.finfo(values.dtype).eps * jnp.max(values)
    return jnp.where(values <= least, jnp.zeros_like(values), jnp.ones_like(values))
