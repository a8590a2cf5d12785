"""Projections: functions ``w -> w`` onto a constraint set, the identity to the bit inside it.

:func:`jaxreg.transforms.project` keeps the parameters of an optimizer inside such a set. Whole-tree
sets (one ball for all parameters together) are in ``optax.projections``.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import (
    canonical_axes,
    check_broadcasts,
    check_floating,
    check_nonnegative,
    check_rate,
    check_real,
    check_scalar,
    is_static,
)
from jaxreg._matrices import clip, tall_matrix
from jaxreg._numerics import aligned, peak, safe_norm, strength, unit, widen
from jaxreg._sharding import place_like, whole_along
from jaxreg.reparam._shared import Axes

__all__ = ["l1_ball", "max_norm", "min_max_norm", "non_negative", "spectral_ball", "unit_norm"]


def max_norm(
    w: jax.Array, *, radius: ArrayLike, axis: int | tuple[int, ...] | None = None
) -> jax.Array:
    r"""Scales the incoming weights of every unit into a ball.

    .. math::

      w_j \leftarrow w_j \min\left(1, \frac{c}{\|w_j\|}\right)

    Args:
      w: Floating-point array.
      radius: Radius :math:`c`, zero or positive; infinity constrains nothing. One number, or one
        for each unit, with the reduced axes of size 1.
      axis: Axes that the norm of one unit runs over. By default all but the last, which holds the
        units of a dense or convolution kernel. The query, key and value kernels of attention,
        ``[features, heads, depth]``, need ``axis=0``; their output kernel, ``[heads, depth,
        features]``, the default.

    Returns:
      Array with the shape and dtype of ``w``. Units inside the ball are left as they are, to the
      bit; the others end on its surface or a few roundings inside it (at most 1e-6 of the
      radius in float32, and no unit outside).

    Raises:
      TypeError: ``w`` is not floating-point.
      ValueError: ``radius`` is a negative number or has another shape, or ``axis`` lies outside
        ``w``.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from jaxreg import projections
      >>> w = jnp.array([[3.0, 0.3], [4.0, 0.4]])
      >>> print(np.asarray(projections.max_norm(w, radius=1.0)).round(4))
      [[0.6 0.3]
       [0.8 0.4]]

    References:
      Srebro, Rennie and Jaakkola, `Maximum-Margin Matrix Factorization
      <https://papers.nips.cc/paper/2655-maximum-margin-matrix-factorization>`_, 2004;
      Srivastava et al., `Dropout
      <https://jmlr.org/papers/v15/srivastava14a.html>`_, 2014, section 5.1
    """
    check_floating(w, "w")
    axes, per_unit = _units(w, axis)
    _check_size(radius, "radius", per_unit)
    norm = safe_norm(w, axis=axes)
    bound = jnp.maximum(strength(radius, w), 0)
    outside = norm > bound
    # Aimed a rounding inside the ball, so that a projected unit is never outside it again.
    margin = _rounding(w, norm)
    # An infinite radius is outside no unit, and stays out of the product for the gradient's sake.
    inner = jnp.where(outside, bound, jnp.zeros_like(norm)) * (1 - margin)
    factor = inner / jnp.where(outside, norm, jnp.ones_like(norm))
    return jnp.where(outside, (widen(w) * factor).astype(w.dtype), w)


def unit_norm(w: jax.Array, *, axis: int | tuple[int, ...] | None = None) -> jax.Array:
    r"""Scales the incoming weights of every unit to norm 1.

    .. math::

      w_j \leftarrow \frac{w_j}{\|w_j\|}

    All points of the sphere are equally far from zero: a unit of zeros stays zero, with a
    derivative of 0. A norm of 1 up to rounding is left as it is.

    Args:
      w: Floating-point array.
      axis: Axes that the norm of one unit runs over, by default all but the last, as in
        :func:`max_norm`.

    Returns:
      Array with the shape and dtype of ``w``.

    Raises:
      TypeError: ``w`` is not floating-point.
      ValueError: ``axis`` lies outside ``w``.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from jaxreg import projections
      >>> w = jnp.array([[3.0, 0.0], [4.0, 0.0]])
      >>> print(np.asarray(projections.unit_norm(w)).round(4))
      [[0.6 0. ]
       [0.8 0. ]]

    References:
      Liu et al., `Deep Hyperspherical Learning <https://arxiv.org/abs/1711.03189>`_, 2017
    """
    check_floating(w, "w")
    axes, _ = _units(w, axis)
    norm = safe_norm(w, axis=axes)
    near = ~(jnp.abs(norm - 1) > 2 * _rounding(w, norm))  # NaN shows.
    direction = unit(w, axis=axes).astype(w.dtype)
    # The value of one and the derivative of the other: moves off the sphere have no effect.
    kept = jax.lax.stop_gradient(w) - (jax.lax.stop_gradient(direction) - direction)
    return jnp.where(near, kept, direction)


def min_max_norm(
    w: jax.Array,
    *,
    low: ArrayLike,
    high: ArrayLike,
    rate: ArrayLike = 1.0,
    axis: int | tuple[int, ...] | None = None,
) -> jax.Array:
    r"""Scales the incoming weights of every unit until their norm is within bounds.

    .. math::

      w_j \leftarrow w_j \frac{(1 - r) \|w_j\| + r \min(\max(\|w_j\|, a), b)}{\|w_j\|}

    At a rate of 1 it is the projection; a smaller one goes that part of the way. A unit of zeros
    has no direction to grow in and stays zero.

    Args:
      w: Floating-point array.
      low: Least norm :math:`a`, zero or positive: one number, or one for each unit, with the
        reduced axes of size 1.
      high: Largest norm :math:`b`, likewise, or infinity; in arrays it wins over a lower bound
        above it.
      rate: Rate :math:`r` in [0, 1]; 0 is the identity to the bit.
      axis: Axes that the norm of one unit runs over, by default all but the last, as in
        :func:`max_norm`.

    Returns:
      Array with the shape and dtype of ``w``. Units within the bounds, up to rounding, are left as
      they are, to the bit.

    Raises:
      TypeError: ``w`` is not floating-point.
      ValueError: ``low`` or ``high`` is negative or has another shape, ``low`` is larger than
        ``high``, ``rate`` is outside [0, 1], or ``axis`` lies outside ``w``.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from jaxreg import projections
      >>> w = jnp.array([[3.0, 0.3, 0.6], [4.0, 0.4, 0.8]])
      >>> print(np.asarray(projections.min_max_norm(w, low=1.0, high=2.0)).round(4))
      [[1.2 0.6 0.6]
       [1.6 0.8 0.8]]

    References:
      Chollet et al., `Keras <https://keras.io/api/layers/constraints/>`_, 2015, ``MinMaxNorm``
    """
    check_floating(w, "w")
    check_rate(rate)
    axes, per_unit = _units(w, axis)
    _check_size(low, "low", per_unit)
    _check_size(high, "high", per_unit)
    if is_static(low) and is_static(high) and low > high:  # pyright: ignore
        raise ValueError(f"`low` must be at most `high`, got {low} and {high}; swap them.")
    norm = safe_norm(w, axis=axes)
    least, most = (jnp.maximum(aligned(value, norm), 0) for value in (low, high))
    slack = 2 * _rounding(w, norm)
    inside = (norm >= jnp.minimum(least, most) * (1 - slack)) & (norm <= most * (1 + slack))
    r = jnp.clip(strength(rate, w), 0, 1)
    goal = (1 - r) * norm + r * jnp.minimum(jnp.maximum(norm, least), most)
    return jnp.where(inside | (r == 0), w, (goal * unit(w, axis=axes)).astype(w.dtype))


def spectral_ball(w: jax.Array, *, radius: ArrayLike, axis: Axes = -1) -> jax.Array:
    r"""Clips the singular values of a kernel: the closest matrix with no larger gain.

    .. math::

      W \leftarrow \sum_i \min(\sigma_i, c) \, u_i v_i^\top

    It takes a singular value decomposition at each step; :func:`jaxreg.reparam.spectral_norm` takes
    one matrix product, and divides all singular values by the largest one.

    Args:
      w: Real floating-point array with at least two axes, the matrix ``[everything else,
        outputs]``.
      radius: Largest singular value :math:`c`, one number, zero or positive; infinity constrains
        nothing.
      axis: Output axes: ``(-2, -1)`` for the query, key and value kernels of attention,
        ``[features, heads, depth]``.

    Returns:
      Array with the shape and dtype of ``w``. A matrix inside the ball is left as it is, to the
      bit; another one ends a few roundings inside.

    Raises:
      TypeError: ``w`` is not real and floating-point.
      ValueError: ``radius`` is negative or not one number, ``w`` has less than two axes, or
        ``axis`` lies outside it.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import projections
      >>> v = projections.spectral_ball(jnp.diag(jnp.array([5.0, -0.5])), radius=1.0)
      >>> print(jnp.diag(v).round(4))
      [ 1.  -0.5]

    References:
      Gouk et al., `Regularisation of Neural Networks by Enforcing Lipschitz Continuity
      <https://arxiv.org/abs/1804.04368>`_, 2018
    """
    check_real(w, "w")
    check_nonnegative(radius, "radius")
    check_scalar(radius, "radius")
    bound = jnp.maximum(strength(radius, w), 0)
    matrix, restore = jax.vjp(lambda w: tall_matrix(w, axis), w)
    # Aimed inside, so that rounding the result does not put it outside.
    steps = 8 + 2 * math.sqrt(matrix.shape[1])
    margin = float(jnp.finfo(w.dtype).eps) + steps * float(jnp.finfo(matrix.dtype).eps)
    clipped = clip(matrix, bound * (1 - margin), margin * (1 + 2 * margin))
    return jnp.where(jnp.isinf(bound), w, restore(clipped)[0])


def l1_ball(
    w: jax.Array, *, radius: ArrayLike, axis: int | tuple[int, ...] | None = None
) -> jax.Array:
    r"""Closest point with a sum of absolute values of at most a radius, for every unit.

    .. math::

      w_j \leftarrow \mathrm{sign}(w_j) \max(|w_j| - \theta, 0), \qquad
      \theta = \max_k \frac{1}{k} \Big(\sum_{i \le k} |w|_{(i)} - c\Big)

    with the magnitudes :math:`|w|_{(i)}` in falling order. Small weights become exactly zero.

    Args:
      w: Real floating-point array.
      radius: Radius :math:`c`, zero or positive; infinity constrains nothing. One number, or one
        for each unit, with the reduced axes of size 1.
      axis: Axes that the sum of one unit runs over, by default all but the last, as in
        :func:`max_norm`.

    Returns:
      Array with the shape and dtype of ``w``. Units inside the ball are left as they are, to the
      bit; the others end on its surface or some roundings inside it.

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
      <https://doi.org/10.1145/1390156.1390191>`_, 2008
    """
    check_real(w, "w")
    axes, per_unit = _units(w, axis)
    _check_size(radius, "radius", per_unit)
    if w.size == 0:
        return w
    size = jnp.abs(widen(w))
    scale = peak(size, axis=axes)
    total = jnp.sum(size / scale, axis=axes, keepdims=True)
    bound = jnp.maximum(aligned(radius, total), 0) / scale
    outside = total > bound
    numbers = math.prod(w.shape[a] for a in axes)
    # Aimed inside, by what rounding the result and adding it up may come to.
    margin = float(jnp.finfo(w.dtype).eps) / 2
    margin += (8 + math.sqrt(numbers)) * float(jnp.finfo(total.dtype).eps)
    inner = jnp.where(outside, bound, jnp.zeros_like(bound)) * (1 - margin)
    # Differences from the largest magnitude are exact where many are large and nearly equal.
    below = (size - jax.lax.stop_gradient(jnp.max(size, axis=axes, keepdims=True))) / scale
    excess = _excess(below, inner, axes)
    moved = jnp.where(excess > 0, jnp.sign(widen(w)) * scale * excess, jnp.zeros_like(excess))
    return jnp.where(outside, moved.astype(w.dtype), w)


def non_negative(w: jax.Array) -> jax.Array:
    r"""Replaces negative weights by zero.

    .. math::

      w_i \leftarrow \max(w_i, 0)

    The derivative at zero is 1, as that of every point of the set; :func:`jax.nn.relu` has 0.

    Args:
      w: Real floating-point array of any shape.

    Returns:
      Array with the shape and dtype of ``w``; what is not negative stays as it is, to the bit.

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
    # A comparison with zero alone is compiled to a maximum, which flushes subnormal numbers.
    return jnp.where(jnp.sign(w) < 0, jnp.zeros_like(w), w)


def _units(
    w: jax.Array, axis: int | tuple[int, ...] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Axes that one unit runs over, and the shape of one number for each unit."""
    axes = tuple(range(w.ndim - 1)) if axis is None else canonical_axes(axis, w.ndim)
    return axes, tuple(1 if a in axes else n for a, n in enumerate(w.shape))


def _check_size(value: ArrayLike, name: str, per_unit: tuple[int, ...]) -> None:
    """Raises unless ``value`` is a size for each unit."""
    check_nonnegative(value, name)
    check_broadcasts(value, name, per_unit)


def _rounding(w: jax.Array, norm: jax.Array) -> float:
    """How far off a norm may be, relative to it, after ``w`` was rounded once."""
    return float(jnp.finfo(w.dtype).eps) / 2 + 4 * float(jnp.finfo(norm.dtype).eps)


def _excess(below: jax.Array, total: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """What is over one level, which is such that it sums to ``total``."""
    level = _level(*jax.lax.stop_gradient((below, total)), axes)
    active = below >= level
    over = jnp.where(active, below - level, jnp.zeros_like(below))
    # A step of Newton's method is exact once the active ones are known, and so is its derivative.
    surplus = jnp.sum(over, axis=axes, keepdims=True) - total
    count = jnp.sum(active, axis=axes, keepdims=True).astype(below.dtype)
    excess = below - level - surplus / jnp.maximum(count, 1)
    return jnp.where(excess > 0, excess, jnp.zeros_like(excess))


def _level(below: jax.Array, total: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The level from sums of the largest numbers: that of the right number of them is highest."""
    others = tuple(a for a in range(below.ndim) if a not in axes)
    units = tuple(below.shape[a] for a in others)
    numbers = math.prod(below.shape[a] for a in axes)
    ordered = jnp.transpose(whole_along(below, axes), (*others, *axes)).reshape(*units, numbers)
    sums = jnp.cumsum(jnp.sort(ordered, axis=-1, descending=True), axis=-1)
    counts = jnp.arange(1, numbers + 1, dtype=below.dtype).reshape((1,) * len(units) + (-1,))
    levels = (sums - jnp.transpose(total, (*others, *axes)).reshape(*units, 1)) / counts
    return place_like(jnp.expand_dims(jnp.max(levels, axis=-1), axes), total)
