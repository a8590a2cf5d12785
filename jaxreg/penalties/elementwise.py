"""Penalties that are sums over single weights."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_broadcasts, check_floating, check_nonnegative
from jaxreg._numerics import align, square, widen
from jaxreg._scopes import mark


@mark()
def l1(w: jax.Array) -> jax.Array:
    r"""Returns the sum of absolute values (lasso).

    .. math::

      R(w) = \sum_i |w_i|

    Gradient steps shrink weights but do not make them exactly zero; :func:`jaxreg.proximal.l1`
    does.

    Args:
      w: Floating-point array of any shape.

    Returns:
      Scalar, float32 or wider.

    Raises:
      TypeError: ``w`` is not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import penalties
      >>> print(penalties.l1(jnp.array([3.0, -4.0])))
      7.0

    References:
      Tibshirani, `Regression Shrinkage and Selection via the Lasso
      <https://doi.org/10.1111/j.2517-6161.1996.tb02080.x>`_, 1996
    """
    check_floating(w, "w")
    return jnp.sum(magnitude(w))


@mark()
def l2(w: jax.Array) -> jax.Array:
    r"""Returns one half of the sum of squares (ridge).

    .. math::

      R(w) = \frac{1}{2} \sum_i w_i^2

    Its gradient is ``w``, so its weight is the ``weight_decay`` of Optax and torch. Keras omits the
    factor one half: the same penalty has half the weight there.

    Args:
      w: Floating-point array of any shape.

    Returns:
      Scalar, float32 or wider.

    Raises:
      TypeError: ``w`` is not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import penalties
      >>> print(penalties.l2(jnp.array([3.0, -4.0])))
      12.5

    References:
      Hoerl and Kennard, `Ridge Regression: Biased Estimation for Nonorthogonal Problems
      <https://doi.org/10.1080/00401706.1970.10488634>`_, 1970
    """
    check_floating(w, "w")
    return jnp.sum(square(widen(w))) / 2


@mark("l1")
def elastic_net(w: jax.Array, *, l1: ArrayLike, l2: ArrayLike) -> jax.Array:
    r"""Returns the weighted sum of :func:`l1` and :func:`l2`.

    .. math::

      R(w) = \sum_i \lambda_{1 i} |w_i| + \frac{1}{2} \sum_i \lambda_{2 i} w_i^2

    In scikit-learn's terms, ``l1`` is ``alpha * l1_ratio`` and ``l2`` is ``alpha * (1 -
    l1_ratio)``. Keras's ``L1L2`` omits the factor one half, so its ``l2`` is half of this one.
    Gradient steps do not make weights exactly zero; :func:`jaxreg.proximal.elastic_net` does.

    Args:
      w: Floating-point array of any shape.
      l1: Weight :math:`\lambda_1` of the absolute values, zero or positive. An array that
        broadcasts to ``w`` weights each value separately (adaptive lasso).
      l2: Weight :math:`\lambda_2` of the squares, zero or positive; may be an array too.

    Returns:
      Scalar, float32 or wider.

    Raises:
      TypeError: ``w`` is not floating-point.
      ValueError: ``l1`` or ``l2`` is a negative number or does not broadcast to ``w``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import penalties
      >>> print(penalties.elastic_net(jnp.array([3.0, -4.0]), l1=1.0, l2=2.0))
      32.0

    References:
      Zou and Hastie, `Regularization and Variable Selection via the Elastic Net
      <https://doi.org/10.1111/j.1467-9868.2005.00503.x>`_, 2005
    """
    check_floating(w, "w")
    for value, name in ((l1, "l1"), (l2, "l2")):
        check_nonnegative(value, name)
        check_broadcasts(value, name, w.shape)
    wide = widen(w)
    # The weight multiplies one factor first, so a weight of zero gives zero even if the square
    # overflows.
    squares = (align(l2, w) * wide * wide.conj()).real
    return jnp.sum(align(l1, w) * magnitude(w)) + jnp.sum(squares) / 2


@mark()
def distance(w: jax.Array, start: jax.Array) -> jax.Array:
    r"""Returns one half of the squared distance from a starting point (L2-SP).

    .. math::

      R(w) = \frac{1}{2} \sum_i (w_i - w^0_i)^2

    Use it for fine-tuning: it pulls weights toward the pretrained ones instead of zero. For a whole
    model, call :func:`total` as ``total(params, distance, rest=(start,))``, where ``start`` is a
    tree with the structure of ``params``.

    New layers have no pretrained weights. Li et al. penalize them by :func:`l2` with a weight of
    its own: add ``total(params, l2, new)``, and pass the first ``total`` a mask of the other
    layers. The leaves of ``start`` that its mask leaves out are not read.

    The gradient flows to ``start`` too; pass ``jax.lax.stop_gradient(start)`` if the start is
    itself a parameter and should not move.

    Args:
      w: Floating-point array of any shape.
      start: Floating-point array :math:`w^0` with the shape of ``w``.

    Returns:
      Scalar, float32 or wider.

    Raises:
      TypeError: ``w`` or ``start`` is not floating-point.
      ValueError: ``start`` has a different shape from ``w``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import penalties
      >>> print(penalties.distance(jnp.array([3.0, -4.0]), jnp.array([3.0, -2.0])))
      2.0

    References:
      Li, Grandvalet and Davoine, `Explicit Inductive Bias for Transfer Learning with Convolutional
      Networks <https://arxiv.org/abs/1802.01483>`_, 2018
    """
    check_floating(w, "w")
    check_floating(start, "start")
    if start.shape != w.shape:
        raise ValueError(
            f"`start` must have the same shape as `w`, {w.shape}, got {start.shape}; mask out "
            "weights without a start, such as a new head."
        )
    w = widen(w)
    start = widen(start)
    dtype = jnp.promote_types(w.dtype, start.dtype)
    return jnp.sum(square(w.astype(dtype) - start.astype(dtype))) / 2


def magnitude(w: jax.Array) -> jax.Array:
    """Returns absolute values in float32 or wider, with derivative 0 at 0 (``jnp.abs`` has 1)."""
    zero = w == 0
    size = jnp.abs(widen(jnp.where(zero, jnp.ones_like(w), w)))
    return jnp.where(zero, jnp.zeros_like(size), size)
