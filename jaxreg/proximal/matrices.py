"""Proximal operators of kernels reshaped to matrices ``[everything else, outputs]``."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._axes import Axes
from jaxreg._checks import check_nonnegative, check_real
from jaxreg._matrices import soften, tall_matrix
from jaxreg._numerics import as_strength


def nuclear(w: jax.Array, *, step: ArrayLike, axis: Axes = -1) -> jax.Array:
    r"""Soft-thresholds singular values: the proximal operator of the nuclear norm.

    .. math::

      \mathrm{prox}(W) = \sum_i \max(\sigma_i - t, 0) \, u_i v_i^\top

    The penalty is :func:`jaxreg.penalties.nuclear`. The rank falls by the number of singular values
    that are at most :math:`t`, apart from rounding. If all of them vanish, the result is exactly
    zero. It takes a singular value decomposition, about :math:`20 m n^2` operations for
    :math:`m \ge n`.

    It has no form in the metric of an adaptive optimizer, which scales each weight separately.

    If singular values repeat or vanish, first derivatives are correct and second derivatives are
    finite.

    Args:
      w: Real floating-point array with at least two axes, the matrix ``[everything else,
        outputs]``.
      step: Step size :math:`t`, a single number, zero or positive.
      axis: Output axes: ``(-2, -1)`` for the query, key and value kernels of attention,
        ``[features, heads, depth]``.

    Returns:
      Array with the shape and dtype of ``w``.

    Raises:
      TypeError: ``w`` is not real and floating-point.
      ValueError: ``step`` is negative or not a single number, ``w`` has fewer than two axes, or
        ``axis`` lies outside it.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import proximal
      >>> v = proximal.nuclear(jnp.diag(jnp.array([5.0, -0.5])), step=1.0)
      >>> print(jnp.diag(v).round(5) + 0)
      [4. 0.]

    References:
      Cai, Candès and Shen, `A Singular Value Thresholding Algorithm for Matrix Completion
      <https://arxiv.org/abs/0810.3286>`_, 2010
    """
    check_real(w, "w")
    check_nonnegative(step, "step")
    if jnp.ndim(step) != 0:
        raise ValueError(
            f"`step` must be a single number, got shape {jnp.shape(step)}; singular values cannot "
            "have a step size per weight, so chain transforms.proximal after the optimizer instead."
        )
    t = jnp.maximum(as_strength(step, w), 0)
    matrix, restore = jax.vjp(lambda w: tall_matrix(w, axis), w)
    return jnp.where(t == 0, w, restore(soften(matrix, t))[0])
