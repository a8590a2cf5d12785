"""Projections of kernels reshaped to matrices ``[everything else, outputs]``."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._axes import Axes
from jaxreg._checks import check_nonnegative, check_real, check_scalar
from jaxreg._matrices import clip, tall_matrix
from jaxreg._numerics import as_strength


def spectral_ball(w: jax.Array, *, radius: ArrayLike, axis: Axes = -1) -> jax.Array:
    r"""Clips the singular values of a kernel to at most ``radius``.

    .. math::

      W \leftarrow \sum_i \min(\sigma_i, c) \, u_i v_i^\top

    Each call computes a singular value decomposition. :func:`jaxreg.reparam.spectral_norm` needs
    only products with vectors, but divides all singular values by the largest one.

    Args:
      w: Real floating-point array with at least two axes, treated as a matrix ``[everything else,
        outputs]``.
      radius: Largest singular value :math:`c`, a single number, zero or positive; infinity means no
        constraint.
      axis: Output axes: ``(-2, -1)`` for the query, key and value kernels of attention,
        ``[features, heads, depth]``.

    Returns:
      Array with the shape and dtype of ``w``. A matrix inside the ball is unchanged, bit for bit;
      any other lands inside its boundary, by a few rounding errors.

    Raises:
      TypeError: ``w`` is not real and floating-point.
      ValueError: ``radius`` is negative or not a single number, ``w`` has fewer than two axes, or
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
    bound = jnp.maximum(as_strength(radius, w), 0)
    matrix, restore = jax.vjp(lambda w: tall_matrix(w, axis), w)
    # Aims inside the ball, so that rounding the result does not put it outside.
    steps = 8 + 2 * math.sqrt(matrix.shape[1])
    margin = float(jnp.finfo(w.dtype).eps) + steps * float(jnp.finfo(matrix.dtype).eps)
    clipped = clip(matrix, bound * (1 - margin), margin * (1 + 2 * margin))
    return jnp.where(jnp.isinf(bound), w, restore(clipped)[0])
