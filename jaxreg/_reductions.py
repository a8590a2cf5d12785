"""Reductions of the losses of examples: to their mean, to a sum and a count, or to none.

A reduction is a function of losses and weights of one shape, the weights zero or positive. A loss
takes one as ``reduce``.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxreg._checks import check_real
from jaxreg._numerics import weigh, widen


class SumAndCount(NamedTuple):
    """Sum of weighted losses and sum of the weights, which add up over batches and devices.

    >>> import jax.numpy as jnp
    >>> from jaxreg import targets
    >>> print(targets.SumAndCount(jnp.array(6.0), jnp.array(3.0)).mean())
    2.0
    """

    total: jax.Array  # shape=(), float32 or wider
    count: jax.Array  # shape=(), of the same dtype; a sum of weights, not always whole

    def mean(self) -> jax.Array:
        """Quotient of the two; 0 with a gradient of 0 where nothing was counted."""
        empty = self.count == 0
        return self.total / jnp.where(empty, jnp.ones_like(self.count), self.count)


def sum_and_count(losses: jax.Array, weights: jax.Array) -> SumAndCount:
    r"""Sum of the weighted losses, and the sum of the weights.

    .. math::

      \Big(\sum_i w_i L_i, \; \sum_i w_i\Big)

    The mean over several micro-batches or devices is the quotient of the sums over all of them, and
    not the mean of their means: these weigh an example more where few of its batch count. Both are
    linear, and so are their gradients: ``jax.value_and_grad(f, has_aux=True)`` of a function that
    returns the pair gives the gradient of the sum.

    Args:
      losses: Real floating-point array :math:`L` of any shape.
      weights: Weights :math:`w` of the same shape.

    Returns:
      The pair, float32 or wider; its ``mean()`` is the :func:`weighted_mean`.

    Raises:
      TypeError: ``losses`` or ``weights`` are not real floating-point.
      ValueError: Their shapes differ.

    Example:
      Gradients of two micro-batches, of which the second has one label that counts:

      >>> import jax, jax.numpy as jnp
      >>> from functools import partial
      >>> from jaxreg import targets
      >>> loss = partial(targets.smoothed_cross_entropy, alpha=0.1, reduce=targets.sum_and_count)
      >>> def sums(w, labels):
      ...     return loss(w * jnp.eye(3), labels)
      >>> parts = [jax.value_and_grad(sums, has_aux=True)(2.0, jnp.array(y))
      ...          for y in ([0, 1, 2], [0, -1, -1])]
      >>> (total, count), slope = jax.tree.map(jnp.add, *parts)
      >>> print(count, round(float(total / count), 3), round(float(slope / count), 3))
      4.0 0.373 -0.146
    """
    losses, weights = _checked(losses, weights)
    return SumAndCount(jnp.sum(weigh(weights, losses)), jnp.sum(weights))


def weighted_mean(losses: jax.Array, weights: jax.Array) -> jax.Array:
    r"""Mean of the losses, each with its weight.

    .. math::

      \frac{\sum_i w_i L_i}{\sum_i w_i}

    Args:
      losses: Real floating-point array :math:`L` of any shape.
      weights: Weights :math:`w` of the same shape.

    Returns:
      Scalar, float32 or wider; 0 with a gradient of 0 where all weights are 0.

    Raises:
      TypeError: ``losses`` or ``weights`` are not real floating-point.
      ValueError: Their shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import targets
      >>> print(targets.weighted_mean(jnp.array([1.0, 3.0, 9.0]), jnp.array([1.0, 0.5, 0.0])))
      1.6666666
    """
    return sum_and_count(losses, weights).mean()


def mean_of_all(losses: jax.Array, weights: jax.Array) -> jax.Array:
    r"""Sum of the weighted losses over the number of all of them, which is known beforehand.

    .. math::

      \frac{1}{N} \sum_{i = 1}^N w_i L_i

    The :func:`weighted_mean` where every example counts, without counting: on a batch that is
    spread over devices nothing but the sum of the losses is exchanged. An example that does not
    count adds 0 to the sum and 1 to the number.

    Args:
      losses: Real floating-point array :math:`L` of any shape.
      weights: Weights :math:`w` of the same shape.

    Returns:
      Scalar, float32 or wider.

    Raises:
      TypeError: ``losses`` or ``weights`` are not real floating-point.
      ValueError: Their shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import targets
      >>> print(targets.mean_of_all(jnp.array([1.0, 3.0, 8.0]), jnp.ones(3)))
      4.0
    """
    losses, weights = _checked(losses, weights)
    return jnp.sum(weigh(weights, losses)) / max(losses.size, 1)


def per_example(losses: jax.Array, weights: jax.Array) -> jax.Array:
    r"""The weighted losses themselves, :math:`w_i L_i`.

    Args:
      losses: Real floating-point array :math:`L` of any shape.
      weights: Weights :math:`w` of the same shape.

    Returns:
      Array of the shape of ``losses``, float32 or wider; 0 for what does not count.

    Raises:
      TypeError: ``losses`` or ``weights`` are not real floating-point.
      ValueError: Their shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import targets
      >>> logits, labels = jnp.zeros((3, 4)), jnp.array([0, 3, -1])
      >>> loss = targets.smoothed_cross_entropy(
      ...     logits, labels, alpha=0.1, reduce=targets.per_example
      ... )
      >>> print(jnp.allclose(loss, jnp.log(4) * jnp.array([1, 1, 0])))
      True
    """
    losses, weights = _checked(losses, weights)
    return weigh(weights, losses)


def _checked(losses: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both in the dtype of the sums."""
    check_real(losses, "losses")
    check_real(weights, "weights")
    if losses.shape != weights.shape:
        raise ValueError(
            f"`weights` must have the shape of `losses`, {losses.shape}, got {weights.shape}."
        )
    losses = widen(losses)
    return losses, jnp.asarray(weights, losses.dtype)
