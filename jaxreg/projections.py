"""Projections: functions ``w -> w`` onto a constraint set, the identity to the bit inside it.

:func:`jaxreg.transforms.project` keeps the parameters of an optimizer inside such a set. Whole-tree
sets (one ball for all parameters together) are in ``optax.projections``.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import canonical_axes, check_broadcasts, check_floating, check_nonnegative
from jaxreg._numerics import safe_norm, strength, widen

__all__ = ["max_norm"]


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
    check_nonnegative(radius, "radius")
    default = tuple(range(w.ndim - 1))
    axes = default if axis is None else canonical_axes(axis, w.ndim)
    per_unit = tuple(1 if a in axes else n for a, n in enumerate(w.shape))
    check_broadcasts(radius, "radius", per_unit)
    norm = safe_norm(w, axis=axes)
    bound = jnp.maximum(strength(radius, w), 0)
    outside = norm > bound
    # Aimed a rounding inside the ball, so that a projected unit is never outside it again.
    margin = jnp.finfo(w.dtype).eps / 2 + 4 * jnp.finfo(norm.dtype).eps
    # An infinite radius is outside no unit, and stays out of the product for the gradient's sake.
    inner = jnp.where(outside, bound, jnp.zeros_like(norm)) * (1 - margin)
    factor = inner / jnp.where(outside, norm, jnp.ones_like(norm))
    return jnp.where(outside, (widen(w) * factor).astype(w.dtype), w)
