r"""Proximal operators: functions ``w -> w`` that minimize a penalty near ``w``.

.. math::

  \mathrm{prox}_{t R}(w) = \arg\min_v \; \tfrac{1}{2} \|v - w\|^2 + t \, R(v)

The threshold :math:`t` is a number or an array that broadcasts to ``w``, zero or positive; negative
elements of an array count as 0. A threshold of 0 is the identity to the bit.
:func:`jaxreg.transforms.proximal` takes such a step after each step of an optimizer.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_broadcasts, check_floating, check_nonnegative
from jaxreg._numerics import aligned, widen

__all__ = ["elastic_net", "l1", "l2"]


def l1(w: jax.Array, *, threshold: ArrayLike) -> jax.Array:
    r"""Soft threshold, the proximal operator of the sum of absolute values.

    .. math::

      \mathrm{prox}(w)_i = \mathrm{sign}(w_i) \max(|w_i| - t, 0)

    Weights within the threshold become exactly zero, in every dtype.

    Args:
      w: Floating-point array of any shape.
      threshold: Threshold :math:`t`, zero or positive.

    Returns:
      Array with the shape and dtype of ``w``.

    Raises:
      TypeError: ``w`` is not floating-point.
      ValueError: ``threshold`` is a negative number or does not broadcast to ``w``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import proximal
      >>> print(proximal.l1(jnp.array([3.0, 0.5, -2.0]), threshold=1.0))
      [ 2.  0. -1.]

    References:
      Parikh and Boyd, `Proximal Algorithms
      <https://web.stanford.edu/~boyd/papers/prox_algs.html>`_, 2014, section 6.5.2
    """
    t = _check_threshold(w, threshold)
    return jnp.where(t == 0, w, _soft(widen(w), t).astype(w.dtype))


def l2(w: jax.Array, *, threshold: ArrayLike) -> jax.Array:
    r"""Proximal operator of one half of the sum of squares.

    .. math::

      \mathrm{prox}(w) = \frac{w}{1 + t}

    It shrinks all weights by the same factor, and unlike a gradient step of any length never past
    zero: decay that is implicit.

    Args:
      w: Floating-point array of any shape.
      threshold: Threshold :math:`t`, zero or positive.

    Returns:
      Array with the shape and dtype of ``w``.

    Raises:
      TypeError: ``w`` is not floating-point.
      ValueError: ``threshold`` is a negative number or does not broadcast to ``w``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import proximal
      >>> print(proximal.l2(jnp.array([3.0, -2.0]), threshold=1.0))
      [ 1.5 -1. ]

    References:
      Parikh and Boyd, `Proximal Algorithms
      <https://web.stanford.edu/~boyd/papers/prox_algs.html>`_, 2014, section 6.1.1
    """
    t = _check_threshold(w, threshold)
    return jnp.where(t == 0, w, (widen(w) / (1 + t)).astype(w.dtype))


def elastic_net(w: jax.Array, *, l1: ArrayLike, l2: ArrayLike, threshold: ArrayLike) -> jax.Array:
    r"""Proximal operator of :func:`jaxreg.penalties.elastic_net`.

    .. math::

      \mathrm{prox}(w)_i = \frac{\mathrm{sign}(w_i) \max(|w_i| - t \lambda_1, 0)}{1 + t \lambda_2}

    Bind the weights for :func:`jaxreg.transforms.proximal`: ``partial(elastic_net, l1=0.5,
    l2=0.5)``.

    Args:
      w: Floating-point array of any shape.
      l1: Weight :math:`\lambda_1` of the absolute values, zero or positive; negative elements of an
        array count as 0.
      l2: Weight :math:`\lambda_2` of the squares, likewise.
      threshold: Threshold :math:`t`, zero or positive.

    Returns:
      Array with the shape and dtype of ``w``.

    Raises:
      TypeError: ``w`` is not floating-point.
      ValueError: ``l1``, ``l2`` or ``threshold`` is a negative number or does not broadcast to
        ``w``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import proximal
      >>> w = jnp.array([3.0, 0.5, -2.0])
      >>> print(proximal.elastic_net(w, l1=1.0, l2=1.0, threshold=1.0))
      [ 1.   0.  -0.5]

    References:
      Parikh and Boyd, `Proximal Algorithms
      <https://web.stanford.edu/~boyd/papers/prox_algs.html>`_, 2014, section 6.5.3
    """
    t = _check_threshold(w, threshold)
    cut = _times(t, _check_threshold(w, l1, "l1"))
    shrink = _times(t, _check_threshold(w, l2, "l2"))
    moved = (_soft(widen(w), cut) / (1 + shrink)).astype(w.dtype)
    return jnp.where((cut == 0) & (shrink == 0), w, moved)


def _check_threshold(w: jax.Array, value: ArrayLike, name: str = "threshold") -> jax.Array:
    """Checks a threshold or a factor of it; what is traced and negative counts as 0."""
    check_floating(w, "w")
    check_nonnegative(value, name)
    check_broadcasts(value, name, w.shape)
    return jnp.maximum(aligned(value, w), 0)


def _times(threshold: jax.Array, factor: jax.Array) -> jax.Array:
    """Product in which a zero wins over infinity."""
    nothing = (threshold == 0) | (factor == 0)
    return jnp.where(nothing, jnp.zeros_like(nothing, factor.dtype), threshold * factor)


def _soft(wide: jax.Array, t: jax.Array) -> jax.Array:
    """Soft threshold."""
    return jnp.where(jnp.abs(wide) <= t, jnp.zeros_like(wide), wide - t * _sign(wide))


def _sign(w: jax.Array) -> jax.Array:
    """Direction of each number; that of a complex one turns with it, which JAX's sign does not."""
    if not jnp.iscomplexobj(w):
        return jnp.sign(w)
    zero = w == 0
    safe = jnp.where(zero, jnp.ones_like(w), w)
    return jnp.where(zero, w, safe / jnp.abs(safe))
