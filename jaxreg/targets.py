"""Targets: label smoothing, with integer labels and without a one-hot array.

A label outside ``[0, num_classes)``, such as the -1 or -100 of padding, contributes nothing.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_between, check_floating, check_integer
from jaxreg._numerics import strength, widen

__all__ = ["smooth_labels", "smoothed_cross_entropy"]


def smooth_labels(labels: jax.Array, *, alpha: ArrayLike, num_classes: int) -> jax.Array:
    r"""Class distributions that leave a share of the probability to all classes.

    .. math::

      q_k = (1 - \alpha) [k = y] + \frac{\alpha}{K}

    Args:
      labels: Integer class ids :math:`y`, ``[...]``.
      alpha: Share :math:`\alpha` in ``[0, 1]`` that is spread over all :math:`K` classes, the true
        one included (the convention of the paper, torch, Keras and Optax).
      num_classes: Number of classes :math:`K`.

    Returns:
      Float32 array ``[..., num_classes]`` whose rows sum to 1, or to 0 for a label out of range.

    Raises:
      TypeError: ``labels`` are not integers.
      ValueError: ``alpha`` is a number outside ``[0, 1]`` or ``num_classes`` is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import targets
      >>> print(targets.smooth_labels(jnp.array([0, -1]), alpha=0.5, num_classes=2))
      [[0.75 0.25]
       [0.   0.  ]]

    References:
      Szegedy et al., `Rethinking the Inception Architecture for Computer Vision
      <https://arxiv.org/abs/1512.00567>`_, 2016
    """
    check_integer(labels, "labels")
    check_between(alpha, "alpha", 0, 1, "the share of smoothing")
    if num_classes < 1:
        raise ValueError(f"`num_classes` must be at least 1, got {num_classes}.")
    share = jnp.clip(jnp.asarray(alpha, jnp.float32), 0, 1)
    labels = _widen_labels(labels)
    rows = _is_class(labels, num_classes)[..., None].astype(jnp.float32)
    # Labels out of range have an all-zero row.
    return (1 - share) * jax.nn.one_hot(
        labels, num_classes, dtype=jnp.float32
    ) + rows * share / num_classes


def smoothed_cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    *,
    alpha: ArrayLike,
    where: jax.Array | None = None,
) -> jax.Array:
    r"""Mean cross entropy against smoothed labels, from integer class ids.

    .. math::

      L = \frac{1}{n} \sum_i \Big( \log \sum_k e^{z_{ik}} - (1 - \alpha) z_{i y_i}
          - \frac{\alpha}{K} \sum_k z_{ik} \Big)

    The mean runs over the :math:`n` examples with a label in range and a nonzero ``where``; with
    none of them the loss and its gradient are 0. With ``alpha`` 0 it is the cross entropy.

    Args:
      logits: Unnormalized log probabilities :math:`z`, ``[..., num_classes]``.
      labels: Integer class ids :math:`y`, ``[...]``.
      alpha: Share :math:`\alpha` in ``[0, 1]`` that is spread over all :math:`K` classes.
      where: Mask of the examples that count, of any dtype and the shape of ``labels``.

    Returns:
      Scalar, float32 or wider.

    Raises:
      TypeError: ``logits`` are not floating-point or ``labels`` not integers.
      ValueError: ``alpha`` is a number outside ``[0, 1]``, or the shapes do not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import targets
      >>> loss = targets.smoothed_cross_entropy(jnp.zeros((3, 4)), jnp.arange(3), alpha=0.1)
      >>> print(jnp.allclose(loss, jnp.log(4)))
      True

    References:
      Szegedy et al., `Rethinking the Inception Architecture for Computer Vision
      <https://arxiv.org/abs/1512.00567>`_, 2016
    """
    check_floating(logits, "logits")
    check_integer(labels, "labels")
    check_between(alpha, "alpha", 0, 1, "the share of smoothing")
    _check_shapes(logits, labels, where)
    share = jnp.clip(strength(alpha, logits), 0, 1)
    logits, labels = widen(logits), _widen_labels(labels)
    counted = _is_class(labels, logits.shape[-1])
    if where is not None:
        counted &= where.astype(bool)
    # The examples that do not count may hold anything, and 0 * inf in their gradient would be NaN.
    logits = jnp.where(counted[..., None], logits, jnp.zeros((), logits.dtype))
    losses = jnp.where(counted, _losses(logits, labels, share), jnp.zeros((), logits.dtype))
    return jnp.sum(losses) / jnp.maximum(jnp.sum(counted), 1).astype(losses.dtype)


def _losses(logits: jax.Array, labels: jax.Array, share: jax.Array) -> jax.Array:
    num_classes = logits.shape[-1]
    own = _own_logits(logits, labels)
    mean = jnp.sum(logits, -1) / num_classes
    spread = jnp.where(share > 0, share * mean, jnp.zeros_like(mean))
    return jax.nn.logsumexp(logits, axis=-1) - (1 - share) * own - spread


def _own_logits(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The logits of the labels, without a one-hot array."""
    if jax.typeof(logits).sharding.spec[-1] is None:
        safe = jnp.clip(labels, 0, logits.shape[-1] - 1)
        return jnp.squeeze(jnp.take_along_axis(logits, safe[..., None], axis=-1), -1)
    # A gather cannot cross the devices that share the classes of an Explicit mesh.
    ids = jax.lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)
    chosen = jnp.where(ids == labels[..., None], logits, jnp.zeros((), logits.dtype))
    return jnp.sum(chosen, axis=-1)


def _widen_labels(labels: jax.Array) -> jax.Array:
    """Makes room for the number of classes in the dtype of the labels."""
    return labels.astype(jnp.int32) if labels.dtype.itemsize < 4 else labels


def _is_class(labels: jax.Array, num_classes: int) -> jax.Array:
    return (labels >= 0) & (labels < num_classes)


def _check_shapes(logits: jax.Array, labels: jax.Array, where: jax.Array | None) -> None:
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"`labels` must have the shape of `logits` without its last axis, got {labels.shape} "
            f"for logits of shape {logits.shape}."
        )
    if where is not None and where.shape != labels.shape:
        raise ValueError(
            f"`where` must have the shape of `labels`, {labels.shape}, got {where.shape}."
        )
