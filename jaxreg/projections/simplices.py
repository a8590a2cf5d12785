"""Projections onto sets with flat faces: the l1 ball, the simplex and the positive orthant."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_real, is_static
from jaxreg._numerics import as_strength, widen
from jaxreg._sharding import place_like
from jaxreg.projections._simplex import excess, power_of_two, surplus
from jaxreg.projections._units import check_size, units


def l1_ball(
    w: jax.Array, *, radius: ArrayLike, axis: int | tuple[int, ...] | None = None
) -> jax.Array:
    r"""Projects the weights of each unit onto the L1 ball of a given radius.

    .. math::

      w_j \leftarrow \mathrm{sign}(w_j) \max(|w_j| - \theta, 0), \qquad
      \sum_i \max(|w_{ij}| - \theta, 0) = c

    Small weights become exactly zero. Finding the level :math:`\theta` takes a few sums over the
    weights, and no sort.

    Args:
      w: Real floating-point array.
      radius: Radius :math:`c`, zero or positive; infinity means no constraint. A single number, or
        one per unit, with the reduced axes of size 1.
      axis: Axes over which the sum of a unit is taken, by default all but the last, as in
        :func:`max_norm`.

    Returns:
      Array with the shape and dtype of ``w``. Units inside the ball are unchanged, bit for bit; the
      others end on its surface or two roundings inside it, however many weights they have.

    Raises:
      TypeError: ``w`` is not real and floating-point.
      ValueError: ``radius`` is a negative number or has another shape, or ``axis`` lies outside
        ``w``.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from jaxreg import projections
      >>> w = jnp.array([[3.0, 0.5], [-2.5, 0.25], [1.0, 0.0]])
      >>> print(np.asarray(projections.l1_ball(w, radius=1.5)).round(4))
      [[ 1.    0.5 ]
       [-0.5   0.25]
       [ 0.    0.  ]]

    References:
      Duchi et al., `Efficient Projections onto the l1-Ball for Learning in High Dimensions
      <https://doi.org/10.1145/1390156.1390191>`_, 2008; Michelot, `A Finite Algorithm for Finding
      the Projection of a Point onto the Canonical Simplex
      <https://doi.org/10.1007/BF00938486>`_, 1986
    """
    check_real(w, "w")
    axes, per_unit = units(w, axis)
    check_size(radius, "radius", per_unit)
    if w.size == 0:
        return w
    size = jnp.abs(widen(w))
    largest = jax.lax.stop_gradient(jnp.max(size, axis=axes, keepdims=True))
    bound = jnp.maximum(_per_unit(radius, largest), 0)
    _, inverse = power_of_two(jnp.where(bound > 0, bound, largest))
    sizes = jax.lax.stop_gradient(jnp.minimum(size * inverse, 2))
    over = surplus(sizes, jax.lax.stop_gradient(bound * inverse), axes)
    outside = (over > 0) & jnp.isfinite(largest) & jnp.isfinite(bound)
    # Aims inside by the amount that rounding the weights may add to their sum.
    relative, absolute = _rounding_of_sums(w, axes)
    inner = jnp.where(outside, jnp.maximum(bound * (1 - relative) - absolute, 0), 0 * largest)
    moved = jnp.sign(widen(w)) * excess(size, inner, axes)
    return jnp.where(outside, moved.astype(w.dtype), w)


def simplex(w: jax.Array, *, axis: int | tuple[int, ...], total: ArrayLike = 1.0) -> jax.Array:
    r"""Projects ``w`` onto the simplex of nonnegative weights whose sum is ``total``.

    .. math::

      w_i \leftarrow \max(w_i - \theta, 0), \qquad \sum_i \max(w_i - \theta, 0) = t

    Use it for shares: weights of a mixture, of members of an ensemble, of tasks. Small weights
    become exactly zero, unlike with a softmax.

    Args:
      w: Real floating-point array. Minus infinity excludes a weight, but at least one weight must
        remain.
      axis: Axes over which each sum is taken.
      total: Sum :math:`t`, zero or positive: a single number, or one per unit, with the reduced
        axes of size 1.

    Returns:
      Array with the shape and dtype of ``w``. Its sums are off by at most one rounding, however
      many weights they have. A point of the simplex, up to that rounding, is unchanged, bit for
      bit. A unit that contains NaN or infinity becomes NaN.

    Raises:
      TypeError: ``w`` is not real and floating-point.
      ValueError: ``total`` is negative, infinite or has another shape, or ``axis`` lies outside
        ``w``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import projections
      >>> print(projections.simplex(jnp.array([1.0, 0.5, -2.0]), axis=0))
      [0.75 0.25 0.  ]

    References:
      Michelot, `A Finite Algorithm for Finding the Projection of a Point onto the Canonical Simplex
      <https://doi.org/10.1007/BF00938486>`_, 1986
    """
    check_real(w, "w")
    axes, per_unit = units(w, axis)
    check_size(total, "total", per_unit)
    if is_static(total) and math.isinf(total):  # pyright: ignore[reportArgumentType]
        raise ValueError("`total` must be finite, got inf; pass 1.0 for probabilities.")
    if w.size == 0:
        return w
    wide = widen(w)
    largest = jax.lax.stop_gradient(jnp.max(wide, axis=axes, keepdims=True))
    goal = jnp.maximum(_per_unit(total, largest), 0)
    point = jnp.where(jnp.isfinite(largest), excess(wide, goal, axes), jnp.nan * largest)
    scale, inverse = power_of_two(goal)
    fixed = jax.lax.stop_gradient(goal) * inverse
    off = surplus(jnp.clip(jax.lax.stop_gradient(wide) * inverse, 0, 4), fixed, axes)
    relative, absolute = _rounding_of_sums(w, axes)
    near = (jnp.abs(off) <= relative * fixed + absolute * inverse) & (largest <= 2 * scale)
    near = near & jnp.all(wide >= 0, axis=axes, keepdims=True)
    # The value of `w` and the derivative of its projection: moves off the simplex have no effect.
    point = point.astype(w.dtype)
    kept = jax.lax.stop_gradient(w) - (jax.lax.stop_gradient(point) - point)
    return jnp.where(near, kept, point)


def non_negative(w: jax.Array) -> jax.Array:
    r"""Replaces negative weights by zero.

    .. math::

      w_i \leftarrow \max(w_i, 0)

    The derivative at zero is 1, as at every point of the set; :func:`jax.nn.relu` has 0.

    Args:
      w: Real floating-point array of any shape.

    Returns:
      Array with the shape and dtype of ``w``; other weights are unchanged, bit for bit.

    Raises:
      TypeError: ``w`` is not real and floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import projections
      >>> print(projections.non_negative(jnp.array([3.0, 0.5, -2.0])))
      [3.  0.5 0. ]

    References:
      Chorowski and Zurada, `Learning Understandable Neural Networks with Nonnegative Weight
      Constraints <https://doi.org/10.1109/TNNLS.2014.2310059>`_, 2015
    """
    check_real(w, "w")
    # XLA would compile `w < 0` to a maximum, which flushes subnormal numbers, so compare the sign.
    return jnp.where(jnp.sign(w) < 0, jnp.zeros_like(w), w)


def _per_unit(value: ArrayLike, like: jax.Array) -> jax.Array:
    """Broadcasts ``value``, one number per unit, to the shape and the sharding of ``like``."""
    return place_like(jnp.broadcast_to(as_strength(value, like), like.shape), like)


def _rounding_of_sums(w: jax.Array, axes: tuple[int, ...]) -> tuple[float, float]:
    """Returns the largest relative and absolute error of sums of weights rounded to ``w.dtype``.

    The absolute part counts subnormal weights of a narrow dtype, which the wide one has as normal
    numbers.
    """
    wide = jnp.finfo(widen(w).dtype)
    narrow = jnp.finfo(w.dtype)
    if wide.bits == narrow.bits:
        return float(wide.eps), 0.0
    numbers = math.prod(w.shape[a] for a in axes)
    half = float(narrow.eps) / 2
    return half + float(wide.eps), numbers * float(narrow.smallest_subnormal) / 2
