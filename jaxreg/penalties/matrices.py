"""Penalties of kernels reshaped to matrices ``[everything else, outputs]``."""

import jax
import jax.numpy as jnp

from jaxreg._axes import Axes
from jaxreg._checks import check_floating, check_real
from jaxreg._matrices import spread_tall_matrix, tall_matrix
from jaxreg._numerics import square
from jaxreg._scopes import mark
from jaxreg.penalties._singular import along, every_direction, gram, largest_direction


@mark()
def orthogonality(w: jax.Array, *, axis: Axes = -1) -> jax.Array:
    r"""Returns the squared distance of the Gram matrix from the identity (soft orthogonality).

    .. math::

      R(W) = \|W^\top W - I\|_F^2, \qquad W \in \mathbb R^{m \times n}, \; m \ge n

    :math:`W` is the matrix ``[everything else, outputs]`` if it has at least as many rows as
    columns; then its columns become orthonormal, one per output. Otherwise :math:`W` is the
    transpose of that matrix, and the rows of ``[everything else, outputs]`` become orthonormal,
    since more outputs than inputs cannot all be orthonormal. The penalty is zero only if the
    columns of :math:`W` are orthonormal. The double form
    :math:`\|W^\top W - I\|_F^2 + \|W W^\top - I\|_F^2` is twice this plus the constant
    :math:`m - n`.

    Args:
      w: Floating-point array with at least two axes; the Gram matrix of a complex one is
        :math:`W^H W`.
      axis: Output axes: ``(-2, -1)`` for the query, key and value kernels of attention,
        ``[features, heads, depth]``.

    Returns:
      Scalar, float32 or wider.

    Raises:
      TypeError: ``w`` is not floating-point.
      ValueError: ``w`` has fewer than two axes, or ``axis`` lies outside it.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import penalties
      >>> print(penalties.orthogonality(jnp.eye(4, 2)), penalties.orthogonality(jnp.zeros((4, 2))))
      0.0 2.0

    References:
      Bansal, Chen and Wang, `Can We Gain More from Orthogonality Regularizations in Training Deep
      CNNs? <https://arxiv.org/abs/1810.09102>`_, 2018
    """
    check_floating(w, "w")
    matrix = spread_tall_matrix(w, axis)
    return jnp.sum(square(gram(matrix) - jnp.eye(matrix.shape[1], dtype=matrix.dtype)))


@mark()
def spectral(w: jax.Array, *, axis: Axes = -1) -> jax.Array:
    r"""Returns the spectral norm of a kernel, its largest singular value.

    .. math::

      R(W) = \sigma_1, \qquad \nabla R = u_1 v_1^\top

    Yoshida and Miyato penalize half of its square: ``jnp.square(spectral(w)) / 2``. Unlike
    :func:`jaxreg.reparam.spectral_norm_sigma`, it is exact and needs no state. It takes the
    eigenvalues of the smaller Gram matrix, :math:`\min(m, n)^3` operations; a power iteration from
    a random start takes hundreds of steps to be as accurate.

    If the largest singular value is repeated, up to rounding, the gradient is the mean of
    :math:`u v^\top` over its pairs; at zero it is 0. Both are the subgradients nearest to zero.

    Args:
      w: Real floating-point array with at least two axes, the matrix ``[everything else,
        outputs]``.
      axis: Output axes.

    Returns:
      Scalar, float32 or wider.

    Raises:
      TypeError: ``w`` is not real and floating-point.
      ValueError: ``w`` has fewer than two axes, or ``axis`` lies outside it.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import penalties
      >>> w = jnp.diag(jnp.array([5.0, 2.0]))
      >>> print(penalties.spectral(w))
      5.0
      >>> print(jax.grad(penalties.spectral)(w))
      [[1. 0.]
       [0. 0.]]

    References:
      Yoshida and Miyato, `Spectral Norm Regularization for Improving the Generalizability of Deep
      Learning <https://arxiv.org/abs/1705.10941>`_, 2017
    """
    check_real(w, "w")
    return along(largest_direction, spread_tall_matrix(w, axis))


@mark()
def nuclear(w: jax.Array, *, axis: Axes = -1) -> jax.Array:
    r"""Returns the nuclear norm (sum of singular values), which favors kernels of low rank.

    .. math::

      R(W) = \sum_i \sigma_i, \qquad \nabla R = \sum_{\sigma_i > 0} u_i v_i^\top

    If the rank is deficient, up to rounding, the gradient is the subgradient nearest to zero, and
    second derivatives are taken along matrices of the same rank.

    Args:
      w: Real floating-point array with at least two axes, the matrix ``[everything else,
        outputs]``.
      axis: Output axes.

    Returns:
      Scalar, float32 or wider.

    Raises:
      TypeError: ``w`` is not real and floating-point.
      ValueError: ``w`` has fewer than two axes, or ``axis`` lies outside it.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import penalties
      >>> print(penalties.nuclear(jnp.diag(jnp.array([5.0, -2.0]))))
      7.0

    References:
      Recht, Fazel and Parrilo, `Guaranteed Minimum-Rank Solutions of Linear Matrix Equations via
      Nuclear Norm Minimization <https://arxiv.org/abs/0706.4138>`_, 2010
    """
    check_real(w, "w")
    return along(every_direction, tall_matrix(w, axis))
