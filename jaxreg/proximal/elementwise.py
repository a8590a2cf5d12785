"""Elementwise proximal operators, and the validation of step sizes."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import (
    check_broadcasts,
    check_floating,
    check_nonnegative,
    check_real,
    is_static,
)
from jaxreg._numerics import align, widen


def l1(w: jax.Array, *, step: ArrayLike) -> jax.Array:
    r"""Applies soft thresholding, the proximal operator of the sum of absolute values.

    .. math::

      \mathrm{prox}(w)_i = \mathrm{sign}(w_i) \max(|w_i| - t, 0)

    Weights with a magnitude of at most the step size become exactly zero, in every dtype.

    Args:
      w: Floating-point array of any shape.
      step: Step size :math:`t`, zero or positive.

    Returns:
      Array with the shape and dtype of ``w``.

    Raises:
      TypeError: ``w`` is not floating-point.
      ValueError: ``step`` is a negative number or does not broadcast to ``w``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import proximal
      >>> print(proximal.l1(jnp.array([3.0, 0.5, -2.0]), step=1.0))
      [ 2.  0. -1.]

    References:
      Parikh and Boyd, `Proximal Algorithms
      <https://web.stanford.edu/~boyd/papers/prox_algs.html>`_, 2014, section 6.5.2
    """
    t = check_step(w, step)
    return jnp.where(t == 0, w, soft(widen(w), t).astype(w.dtype))


def l2(w: jax.Array, *, step: ArrayLike) -> jax.Array:
    r"""Applies the proximal operator of one half of the sum of squares.

    .. math::

      \mathrm{prox}(w) = \frac{w}{1 + t}

    It shrinks all weights by the same factor. Unlike a gradient step, it never moves a weight past
    zero, however large the step size. It is an implicit (backward Euler) step of weight decay.

    Args:
      w: Floating-point array of any shape.
      step: Step size :math:`t`, zero or positive.

    Returns:
      Array with the shape and dtype of ``w``.

    Raises:
      TypeError: ``w`` is not floating-point.
      ValueError: ``step`` is a negative number or does not broadcast to ``w``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import proximal
      >>> print(proximal.l2(jnp.array([3.0, -2.0]), step=1.0))
      [ 1.5 -1. ]

    References:
      Parikh and Boyd, `Proximal Algorithms
      <https://web.stanford.edu/~boyd/papers/prox_algs.html>`_, 2014, section 6.1.1
    """
    t = check_step(w, step)
    return jnp.where(t == 0, w, (widen(w) / (1 + t)).astype(w.dtype))


def elastic_net(w: jax.Array, *, l1: ArrayLike, l2: ArrayLike, step: ArrayLike) -> jax.Array:
    r"""Applies the proximal operator of :func:`jaxreg.penalties.elastic_net`.

    .. math::

      \mathrm{prox}(w)_i = \frac{\mathrm{sign}(w_i) \max(|w_i| - t \lambda_1, 0)}{1 + t \lambda_2}

    Bind the weights for :func:`jaxreg.transforms.proximal`: ``partial(elastic_net, l1=0.5,
    l2=0.5)``.

    Args:
      w: Floating-point array of any shape.
      l1: Weight :math:`\lambda_1` of the absolute values, zero or positive; negative elements of an
        array count as 0.
      l2: Weight :math:`\lambda_2` of the squares, in the same form as ``l1``.
      step: Step size :math:`t`, zero or positive.

    Returns:
      Array with the shape and dtype of ``w``.

    Raises:
      TypeError: ``w`` is not floating-point.
      ValueError: ``l1``, ``l2`` or ``step`` is a negative number or does not broadcast to ``w``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import proximal
      >>> w = jnp.array([3.0, 0.5, -2.0])
      >>> print(proximal.elastic_net(w, l1=1.0, l2=1.0, step=1.0))
      [ 1.   0.  -0.5]

    References:
      Parikh and Boyd, `Proximal Algorithms
      <https://web.stanford.edu/~boyd/papers/prox_algs.html>`_, 2014, section 6.5.3
    """
    t = check_step(w, step)
    cut = times(t, check_step(w, l1, "l1"))
    shrink = times(t, check_step(w, l2, "l2"))
    moved = (soft(widen(w), cut) / (1 + shrink)).astype(w.dtype)
    return jnp.where((cut == 0) & (shrink == 0), w, moved)


def l0(w: jax.Array, *, step: ArrayLike) -> jax.Array:
    r"""Applies hard thresholding, a proximal operator of the number of nonzero weights.

    .. math::

      \mathrm{prox}(w)_i = w_i \text{ if } |w_i| > \sqrt{2 t}, \text{ else } 0

    Keeping a weight costs :math:`t` and removing it costs half of its square. Weights with a
    magnitude of at most :math:`\sqrt{2 t}` become exactly zero; the others are unchanged, bit for
    bit. The penalty is not convex: at :math:`\sqrt{2 t}` itself both are minima, and a small change
    in the weight makes a large change in the result. The derivative with respect to the step size
    is 0.

    Args:
      w: Floating-point array of any shape.
      step: Step size :math:`t`, zero or positive.

    Returns:
      Array with the shape and dtype of ``w``.

    Raises:
      TypeError: ``w`` is not floating-point.
      ValueError: ``step`` is a negative number or does not broadcast to ``w``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import proximal
      >>> print(proximal.l0(jnp.array([3.0, 0.5, 1.0, -1.25]), step=0.5))
      [ 3.    0.    0.   -1.25]

    References:
      Blumensath and Davies, `Iterative Thresholding for Sparse Approximations
      <https://doi.org/10.1007/s00041-008-9035-z>`_, 2008
    """
    t = check_step(w, step)
    cut = 2 * jnp.sqrt(t / 2)  # Doubling the step instead could overflow.
    cut = jax.lax.stop_gradient(cut)
    return jnp.where((jnp.abs(widen(w)) <= cut) & (t != 0), jnp.zeros_like(w), w)


def box(w: jax.Array, *, low: ArrayLike, high: ArrayLike, step: ArrayLike) -> jax.Array:
    r"""Clips weights to ``[low, high]``: the proximal operator of the box's indicator function.

    .. math::

      \mathrm{prox}(w)_i = \min(\max(w_i, a_i), b_i)

    Every multiple of infinity is infinity, so all positive step sizes have the same effect. A step
    size of 0 switches the box off, as a learning rate of 0 does in
    :func:`jaxreg.transforms.proximal`.

    Args:
      w: Real floating-point array of any shape.
      low: Lower bounds :math:`a`, which broadcast to ``w``; minus infinity means no bound.
      high: Upper bounds :math:`b`, which broadcast to ``w``; in arrays they override larger lower
        bounds.
      step: Step size, zero or positive.

    Returns:
      Array with the shape and dtype of ``w``; weights inside the box are unchanged, bit for bit.

    Raises:
      TypeError: ``w`` is not real and floating-point.
      ValueError: ``low`` is larger than ``high``, ``step`` is a negative number, or one of them
        does not broadcast to ``w``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import proximal
      >>> print(proximal.box(jnp.array([3.0, 0.5, -2.0]), low=0.0, high=1.0, step=0.1))
      [1.  0.5 0. ]

    References:
      Parikh and Boyd, `Proximal Algorithms
      <https://web.stanford.edu/~boyd/papers/prox_algs.html>`_, 2014, section 6.2.4
    """
    check_real(w, "w")
    t = check_step(w, step)
    for value, name in ((low, "low"), (high, "high")):
        check_broadcasts(value, name, w.shape)
    if is_static(low) and is_static(high) and not low <= high:  # pyright: ignore
        raise ValueError(f"`low` must be at most `high`, got {low} and {high}; swap them.")
    a = align(low, w)
    b = align(high, w)
    wide = widen(w)
    raised = jnp.where(wide < a, a, wide)
    moved = jnp.where(raised > b, b, raised)
    return jnp.where((moved == wide) | jnp.isnan(wide) | (t == 0), w, moved.astype(w.dtype))


def check_step(w: jax.Array, value: ArrayLike, name: str = "step") -> jax.Array:
    """Validates ``value``, clips it to at least 0 and expands it to broadcast to ``w``."""
    check_floating(w, "w")
    check_nonnegative(value, name)
    check_broadcasts(value, name, w.shape)
    return jnp.maximum(align(value, w), 0)


def times(step: jax.Array, factor: jax.Array) -> jax.Array:
    """Returns ``step * factor``, and 0 for 0 times infinity."""
    nothing = (step == 0) | (factor == 0)
    return jnp.where(nothing, jnp.zeros_like(nothing, factor.dtype), step * factor)


def soft(wide: jax.Array, t: jax.Array) -> jax.Array:
    """Moves elements toward 0 by ``t``, without crossing 0 (soft thresholding)."""
    return jnp.where(jnp.abs(wide) <= t, jnp.zeros_like(wide), wide - t * _sign(wide))


def _sign(w: jax.Array) -> jax.Array:
    """Returns the sign; if complex, ``w / abs(w)`` with the derivative that ``jnp.sign`` lacks."""
    if not jnp.iscomplexobj(w):
        return jnp.sign(w)
    zero = w == 0
    safe = jnp.where(zero, jnp.ones_like(w), w)
    return jnp.where(zero, w, safe / jnp.abs(safe))
