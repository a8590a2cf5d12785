"""Reductions of per-example losses: the mean, the sum and count, or no reduction.

A reduction is a function of losses and of nonnegative weights with the same shape. A loss takes it
as ``reduce``.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxreg._checks import check_real
from jaxreg._numerics import weigh, widen


class SumAndCount(NamedTuple):
    """Sum of weighted losses and sum of the weights, to be added over batches and devices.

    Attributes:
      total: Sum of the weighted losses, a scalar, float32 or wider.
      count: Sum of the weights, a scalar of the same dtype, not always whole.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import targets
      >>> print(targets.SumAndCount(jnp.array(6.0), jnp.array(3.0)).mean())
      2.0
    """

    total: jax.Array
    # A scalar of the same dtype, not always whole. The name hides the method of tuples.
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]

    def mean(self) -> jax.Array:
        """Returns ``total / count``, or 0 with a gradient of 0 if ``count`` is 0."""
        empty = self.count == 0
        return self.total / jnp.where(empty, jnp.ones_like(self.count), self.count)


def sum_and_count(losses: jax.Array, weights: jax.Array) -> SumAndCount:
    r"""Returns the sum of the weighted losses, and the sum of the weights.

    .. math::

      \Big(\sum_i w_i L_i, \; \sum_i w_i\Big)

    For the mean over several micro-batches or devices, add up the pairs and divide once. A mean of
    the means would give an example more weight if few others in its batch count. Both sums are
    linear, and so are their gradients: ``jax.value_and_grad(f, has_aux=True)`` of a function that
    returns the pair gives the gradient of the sum.

    Args:
      losses: Real floating-point array :math:`L` of any shape.
      weights: Weights :math:`w`, zero or positive, of the same shape.

    Returns:
      The pair, float32 or wider; its ``mean()`` is the :func:`weighted_mean`.

    Raises:
      TypeError: ``losses`` or ``weights`` is not real and floating-point.
      ValueError: Their shapes differ.

    Example:
      Gradients of two micro-batches; only one label of the second counts:

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
    losses, weights = _widen_both(losses, weights)
    return SumAndCount(jnp.sum(weigh(weights, losses)), jnp.sum(weights))


def weighted_mean(losses: jax.Array, weights: jax.Array) -> jax.Array:
    r"""Returns the weighted mean of the losses.

    .. math::

      \frac{\sum_i w_i L_i}{\sum_i w_i}

    Args:
      losses: Real floating-point array :math:`L` of any shape.
      weights: Weights :math:`w`, zero or positive, of the same shape.

    Returns:
      Scalar, float32 or wider; 0 with a gradient of 0 if all weights are 0.

    Raises:
      TypeError: ``losses`` or ``weights`` is not real and floating-point.
      ValueError: Their shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import targets
      >>> print(targets.weighted_mean(jnp.array([1.0, 3.0, 9.0]), jnp.array([1.0, 0.5, 0.0])))
      1.6666666
    """
    return sum_and_count(losses, weights).mean()


def mean_of_all(losses: jax.Array, weights: jax.Array) -> jax.Array:
    r"""Returns the sum of the weighted losses divided by the static number of losses.

    .. math::

      \frac{1}{N} \sum_{i = 1}^N w_i L_i

    If every example counts, it equals the :func:`weighted_mean`, but does not sum the weights:
    devices that share a batch exchange only the sum of the losses. An example that does not count
    adds 0 to the sum and 1 to the number.

    Args:
      losses: Real floating-point array :math:`L` of any shape.
      weights: Weights :math:`w`, zero or positive, of the same shape.

    Returns:
      Scalar, float32 or wider.

    Raises:
      TypeError: ``losses`` or ``weights`` is not real and floating-point.
      ValueError: Their shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import targets
      >>> print(targets.mean_of_all(jnp.array([1.0, 3.0, 8.0]), jnp.ones(3)))
      4.0
    """
    losses, weights = _widen_both(losses, weights)
    return jnp.sum(weigh(weights, losses)) / max(losses.size, 1)


def per_example(losses: jax.Array, weights: jax.Array) -> jax.Array:
    r"""Returns the weighted losses without a reduction, :math:`w_i L_i`.

    Args:
      losses: Real floating-point array :math:`L` of any shape.
      weights: Weights :math:`w`, zero or positive, of the same shape.

    Returns:
      Array with the shape of ``losses``, float32 or wider; 0 for examples that do not count.

    Raises:
      TypeError: ``losses`` or ``weights`` is not real and floating-point.
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
    losses, weights = _widen_both(losses, weights)
    return weigh(weights, losses)


def _widen_both(losses: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Checks losses and weights, and casts both to the same dtype, float32 or wider."""
    check_real(losses, "losses")
    check_real(weights, "weights")
    if losses.shape != weights.shape:
        raise ValueError(
            f"`weights` must have the same shape as `losses`, {losses.shape}, got {weights.shape}."
        )
    losses = widen(losses)
    return losses, jnp.asarray(weights, losses.dtype)
