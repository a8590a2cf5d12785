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
from jaxreg._numerics import strength, widen

__all__ = ["l1"]


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
    check_floating(w, "w")
    check_nonnegative(threshold, "threshold")
    check_broadcasts(threshold, "threshold", w.shape)
    t = jnp.maximum(strength(threshold, w), 0)
    wide = widen(w)
    size = jnp.abs(wide)
    shrunk = jnp.where(size <= t, jnp.zeros_like(wide), wide - t * _sign(wide))
    return jnp.where(t == 0, w, shrunk.astype(w.dtype))


def _sign(w: jax.Array) -> jax.Array:
    """Direction of each number; that of a complex one turns with it, which JAX's sign does not."""
    if not jnp.iscomplexobj(w):
        return jnp.sign(w)
    zero = w == 0
    safe = jnp.where(zero, jnp.ones_like(w), w)
    return jnp.where(zero, w, safe / jnp.abs(safe))
