"""Projections of the weights of each unit onto balls, spheres and shells."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_between, check_floating, is_static
from jaxreg._numerics import align, as_strength, safe_norm, unit, widen
from jaxreg.projections._units import check_size, units


def max_norm(
    w: jax.Array, *, radius: ArrayLike, axis: int | tuple[int, ...] | None = None
) -> jax.Array:
    r"""Scales down the incoming weights of each unit whose norm exceeds ``radius``.

    .. math::

      w_j \leftarrow w_j \min\left(1, \frac{c}{\|w_j\|}\right)

    Args:
      w: Floating-point array.
      radius: Radius :math:`c`, zero or positive; infinity means no constraint. A single number, or
        one per unit, with the reduced axes of size 1.
      axis: Axes over which the norm of a unit is taken. By default all but the last, which holds
        the units of a dense or convolution kernel. The query, key and value kernels of attention,
        ``[features, heads, depth]``, need ``axis=0``; their output kernel, ``[heads, depth,
        features]``, needs the default.

    Returns:
      Array with the shape and dtype of ``w``. Units inside the ball are unchanged, bit for bit; the
      others end on its surface or a few roundings inside it (at most 1e-6 of the radius in float32,
      and no unit outside).

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
    axes, per_unit = units(w, axis)
    check_size(radius, "radius", per_unit)
    norm = safe_norm(w, axis=axes)
    bound = jnp.maximum(as_strength(radius, w), 0)
    outside = norm > bound
    # Aims one rounding inside the ball, so that a projected unit is never outside it.
    margin = _rounding(w, norm)
    # No unit is outside an infinite radius; keeping it out of the product avoids a NaN gradient.
    inner = jnp.where(outside, bound, jnp.zeros_like(norm)) * (1 - margin)
    factor = inner / jnp.where(outside, norm, jnp.ones_like(norm))
    return jnp.where(outside, (widen(w) * factor).astype(w.dtype), w)


def unit_norm(w: jax.Array, *, axis: int | tuple[int, ...] | None = None) -> jax.Array:
    r"""Scales the incoming weights of every unit to norm 1.

    .. math::

      w_j \leftarrow \frac{w_j}{\|w_j\|}

    All points of the sphere are equally far from zero, so a unit of zeros remains zero, with a
    derivative of 0. A unit whose norm is 1 up to rounding is unchanged.

    Args:
      w: Floating-point array.
      axis: Axes over which the norm of a unit is taken, by default all but the last, as in
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
    axes, _ = units(w, axis)
    norm = safe_norm(w, axis=axes)
    near = ~(jnp.abs(norm - 1) > 2 * _rounding(w, norm))  # True for NaN, which is then returned.
    direction = unit(w, axis=axes).astype(w.dtype)
    # The value of `w` and the derivative of its direction: moves off the sphere have no effect.
    kept = jax.lax.stop_gradient(w) - (jax.lax.stop_gradient(direction) - direction)
    return jnp.where(near, kept, direction)


def min_max_norm(
    w: jax.Array,
    *,
    low: ArrayLike,
    high: ArrayLike,
    relaxation: ArrayLike = 1.0,
    axis: int | tuple[int, ...] | None = None,
) -> jax.Array:
    r"""Scales the incoming weights of each unit to a norm within ``[low, high]``.

    .. math::

      w_j \leftarrow w_j \frac{(1 - r) \|w_j\| + r \min(\max(\|w_j\|, a), b)}{\|w_j\|}

    A relaxation of 1 gives the projection, a smaller relaxation an average with ``w``. A unit of
    zeros has no direction to grow in and remains zero.

    Args:
      w: Floating-point array.
      low: Least norm :math:`a`, zero or positive: a single number, or one per unit, with the
        reduced axes of size 1.
      high: Largest norm :math:`b`, zero or positive, infinity included, in the same form as
        ``low``. In arrays and traced values, a ``high`` below ``low`` takes precedence.
      relaxation: Weight :math:`r` of the projection in an average with ``w``, in [0, 1]; 0 returns
        ``w`` exactly.
      axis: Axes over which the norm of a unit is taken, by default all but the last, as in
        :func:`max_norm`.

    Returns:
      Array with the shape and dtype of ``w``. Units within the bounds, up to rounding, are
      unchanged, bit for bit.

    Raises:
      TypeError: ``w`` is not floating-point.
      ValueError: ``low`` or ``high`` is negative or has another shape, both are numbers and ``low``
        is larger, ``relaxation`` is outside [0, 1], or ``axis`` lies outside ``w``.

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
    check_between(relaxation, "relaxation", 0, 1, "a share of the way to the shell")
    axes, per_unit = units(w, axis)
    check_size(low, "low", per_unit)
    check_size(high, "high", per_unit)
    if is_static(low) and is_static(high) and low > high:  # pyright: ignore
        raise ValueError(f"`low` must be at most `high`, got {low} and {high}; swap them.")
    norm = safe_norm(w, axis=axes)
    least = jnp.maximum(align(low, norm), 0)
    most = jnp.maximum(align(high, norm), 0)
    slack = 2 * _rounding(w, norm)
    inside = (norm >= jnp.minimum(least, most) * (1 - slack)) & (norm <= most * (1 + slack))
    r = jnp.clip(as_strength(relaxation, w), 0, 1)
    goal = (1 - r) * norm + r * jnp.minimum(jnp.maximum(norm, least), most)
    return jnp.where(inside | (r == 0), w, (goal * unit(w, axis=axes)).astype(w.dtype))


def _rounding(w: jax.Array, norm: jax.Array) -> float:
    """Returns the largest relative error of the norm of weights rounded to the dtype of ``w``."""
    return float(jnp.finfo(w.dtype).eps) / 2 + 4 * float(jnp.finfo(norm.dtype).eps)
