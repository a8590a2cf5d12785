"""Penalties: functions ``w -> scalar`` of one array, to be added to the loss.

Sums are accumulated in float32 or wider and returned so. Where a penalty has a kink the gradient
is the subgradient nearest to zero. :func:`total` sums a penalty over the parameters of a model; a
weight is a factor outside.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxreg._checks import check_floating, is_floating
from jaxreg._numerics import square, widen

__all__ = ["l1", "l2", "total"]


def l1(w: jax.Array) -> jax.Array:
    r"""Sum of absolute values (lasso).

    .. math::

      R(w) = \sum_i |w_i|

    A gradient step on it shrinks weights but never lands on zero; :func:`jaxreg.proximal.l1` does.

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
    zero = w == 0
    # The derivative that JAX gives the absolute value at zero is 1.
    size = jnp.abs(widen(jnp.where(zero, jnp.ones_like(w), w)))
    return jnp.sum(jnp.where(zero, jnp.zeros_like(size), size))


def l2(w: jax.Array) -> jax.Array:
    r"""One half of the sum of squares (ridge).

    .. math::

      R(w) = \frac{1}{2} \sum_i w_i^2

    Its gradient is ``w``, so that its weight is the ``weight_decay`` of Optax and torch. Keras
    omits the factor one half: a Keras weight is half of ours.

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


def total(
    params: Any,
    penalty: Callable[[jax.Array], jax.Array],
    mask: Any | Callable[[Any], Any] | None = None,
) -> jax.Array:
    r"""Sums a penalty over the arrays of a parameter tree.

    .. math::

      \sum_{w \in \text{params},\; \text{mask}(w)} R(w)

    Args:
      params: Any pytree: Linen parameters, an NNX state, a list of arrays. Leaves that are not
        floating-point (counters, keys) are passed over.
      penalty: Function of one array, such as :func:`l1`.
      mask: Tree of booleans shaped like ``params``, or a function that makes one, such as
        :func:`jaxreg.masks.kernels`; everything counts if absent.

    Returns:
      Scalar, float32 or wider.

    Raises:
      ValueError: The tree of ``mask`` differs from that of ``params``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import masks, penalties
      >>> params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
      >>> print(penalties.total(params, penalties.l1, masks.kernels))
      6.0
    """
    leaves, tree = jax.tree.flatten(params)
    chosen = mask(params) if callable(mask) else mask
    everything = tree.unflatten([True] * len(leaves))
    flags, mask_tree = jax.tree.flatten(everything if mask is None else chosen)
    if mask_tree != tree:
        raise ValueError(
            f"`mask` must have the tree structure of `params`, got {mask_tree} for {tree}."
        )
    terms = [
        penalty(jnp.asarray(w))
        for w, use in zip(leaves, flags, strict=True)
        if use and is_floating(w)
    ]
    return functools.reduce(_add_wide, terms, jnp.zeros((), jnp.float32))


def _add_wide(a: jax.Array, b: jax.Array) -> jax.Array:
    """Adds sums of arrays of different dtypes in the widest of them."""
    dtype = max(a.dtype, b.dtype, key=lambda d: d.itemsize)
    return a.astype(dtype) + b.astype(dtype)
