"""Targets: smoothed and mixed labels, with integer labels and without a one-hot array; flooding.

A label outside ``[0, num_classes)``, such as the -1 or -100 of padding, contributes nothing.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import (
    check_between,
    check_broadcasts,
    check_integer,
    check_real,
    check_static_integer,
    is_static,
)
from jaxreg._labels import (
    check_labels,
    check_where,
    counted_examples,
    cross_entropies,
    is_class,
    only,
    widen_labels,
)
from jaxreg._numerics import aligned, mean_of, strength, weighted, widen

__all__ = [
    "flood",
    "mixed_cross_entropy",
    "smooth_labels",
    "smooth_labels_excluding",
    "smoothed_cross_entropy",
]


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
    share = _checked_share(labels, alpha, num_classes)
    return _rows(labels, 1 - share + share / num_classes, share / num_classes, num_classes)


def smooth_labels_excluding(labels: jax.Array, *, alpha: ArrayLike, num_classes: int) -> jax.Array:
    r"""Class distributions that leave a share of the probability to the other classes.

    .. math::

      q_k = \begin{cases} 1 - \alpha & k = y \\ \frac{\alpha}{K - 1} & \text{else} \end{cases}

    The convention of fairseq and of Flax's examples. It is :func:`smooth_labels` with
    :math:`\alpha K / (K - 1)`, and so :func:`smoothed_cross_entropy` with this is its loss without
    the rows. A single class has no others and keeps all of the probability.

    Args:
      labels: Integer class ids :math:`y`, ``[...]``.
      alpha: Share :math:`\alpha` in ``[0, 1]`` that is spread over the :math:`K - 1` other classes.
      num_classes: Number of classes :math:`K`.

    Returns:
      Float32 array ``[..., num_classes]`` whose rows sum to 1, or to 0 for a label out of range.

    Raises:
      TypeError: ``labels`` are not integers.
      ValueError: ``alpha`` is a number outside ``[0, 1]`` or ``num_classes`` is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import targets
      >>> print(targets.smooth_labels_excluding(jnp.array([0, -1]), alpha=0.5, num_classes=3))
      [[0.5  0.25 0.25]
       [0.   0.   0.  ]]

    References:
      Ott et al., `fairseq: A Fast, Extensible Toolkit for Sequence Modeling
      <https://arxiv.org/abs/1904.01038>`_, 2019
    """
    share = _checked_share(labels, alpha, num_classes)
    if num_classes == 1:
        share = jnp.zeros_like(share)
    return _rows(labels, 1 - share, share / max(num_classes - 1, 1), num_classes)


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
      TypeError: ``logits`` are not real floating-point or ``labels`` not integers.
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
    check_labels(logits, labels)
    check_between(alpha, "alpha", 0, 1, "the share of smoothing")
    check_where(where, labels.shape)
    share = jnp.clip(strength(alpha, logits), 0, 1)
    counted = counted_examples(labels, logits.shape[-1], where)
    logits = only(counted, widen(logits))
    return mean_of(cross_entropies(logits, labels, share), counted)


def mixed_cross_entropy(
    logits: jax.Array,
    labels_a: jax.Array,
    labels_b: jax.Array,
    *,
    lam: ArrayLike,
    alpha: ArrayLike = 0.0,
    where: jax.Array | None = None,
) -> jax.Array:
    r"""Mean cross entropy of mixed examples against the labels of both parts.

    .. math::

      L = \frac{1}{n_a} \sum_i \lambda_i \, \mathrm{CE}(z_i, a_i)
        + \frac{1}{n_b} \sum_i (1 - \lambda_i) \, \mathrm{CE}(z_i, b_i)

    The loss of mixup and of CutMix. Each sum runs over the examples with a label in range and a
    nonzero ``where``, whose numbers are :math:`n_a` and :math:`n_b`; over none of them it is 0.
    With ``lam`` 1 it is :func:`smoothed_cross_entropy` of the first labels alone.

    Args:
      logits: Unnormalized log probabilities :math:`z` of mixed examples, ``[..., num_classes]``.
      labels_a: Integer class ids :math:`a` of the first parts, ``[...]``.
      labels_b: Integer class ids :math:`b` of the second parts, ``[...]``.
      lam: Share :math:`\lambda` in ``[0, 1]`` of the first part: a number, or an array that
        broadcasts to the labels, such as one share for each example.
      alpha: Share in ``[0, 1]`` of smoothing, as of :func:`smoothed_cross_entropy`.
      where: Mask of the examples that count, of any dtype and the shape of the labels.

    Returns:
      Scalar, float32 or wider.

    Raises:
      TypeError: ``logits`` are not real floating-point, or the labels not integers.
      ValueError: ``lam`` or ``alpha`` is a number outside ``[0, 1]``, or the shapes do not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import targets
      >>> logits, a, b = jnp.zeros((3, 4)), jnp.arange(3), jnp.arange(3)[::-1]
      >>> loss = targets.mixed_cross_entropy(logits, a, b, lam=jnp.array([0.2, 0.5, 0.9]))
      >>> print(jnp.allclose(loss, jnp.log(4)))
      True

    References:
      Zhang et al., `mixup: Beyond Empirical Risk Minimization
      <https://arxiv.org/abs/1710.09412>`_, 2018
    """
    check_labels(logits, labels_a, "labels_a")
    check_labels(logits, labels_b, "labels_b")
    check_between(alpha, "alpha", 0, 1, "the share of smoothing")
    check_broadcasts(lam, "lam", labels_a.shape)
    if is_static(lam):
        check_between(lam, "lam", 0, 1, "the share of the first labels")
    check_where(where, labels_a.shape, "labels_a")
    share = jnp.clip(strength(alpha, logits), 0, 1)
    counted_a = counted_examples(labels_a, logits.shape[-1], where)
    counted_b = counted_examples(labels_b, logits.shape[-1], where)
    logits = only(counted_a | counted_b, widen(logits))
    first, second = (cross_entropies(logits, y, share) for y in (labels_a, labels_b))
    lam = jnp.clip(aligned(lam, first), 0, 1)
    return mean_of(weighted(lam, first), counted_a) + mean_of(weighted(1 - lam, second), counted_b)


def flood(loss: jax.Array, *, level: ArrayLike) -> jax.Array:
    r"""Turns a loss around that falls below a level.

    .. math::

      \tilde L = |L - b| + b

    Above the level this is the loss to the bit. Below it the gradient is that of the loss with its
    sign turned, and at the level it is 0. The paper floods the mean over a batch: an array is
    flooded element by element, which is another thing.

    Args:
      loss: Floating-point array of any shape, the mean loss of a batch as a rule.
      level: Level :math:`b` in units of the loss. Zero changes no loss that is zero or positive,
        and minus infinity none at all.

    Returns:
      Array with the shape and dtype of ``loss``.

    Raises:
      TypeError: ``loss`` is not real floating-point.
      ValueError: ``level`` is NaN or not a single number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import targets
      >>> print(targets.flood(jnp.array([0.25, 3.0]), level=1.0))
      [1.75 3.  ]

    References:
      Ishida et al., `Do We Need Zero Training Loss After Achieving Zero Training Error?
      <https://arxiv.org/abs/2002.08709>`_, 2020
    """
    check_real(loss, "loss")
    check_between(level, "level", -math.inf, math.inf)
    wide, level = widen(loss), strength(level, loss)
    turned = (2 * level - wide).astype(loss.dtype)
    still = jnp.where(wide == level, jax.lax.stop_gradient(loss), loss)
    return jnp.where(wide < level, turned, still)


def _checked_share(labels: jax.Array, alpha: ArrayLike, num_classes: int) -> jax.Array:
    check_integer(labels, "labels")
    check_between(alpha, "alpha", 0, 1, "the share of smoothing")
    check_static_integer(num_classes, "num_classes")
    if num_classes < 1:
        raise ValueError(f"`num_classes` must be at least 1, got {num_classes}.")
    return jnp.clip(jnp.asarray(alpha, jnp.float32), 0, 1)


def _rows(labels: jax.Array, own: jax.Array, other: jax.Array, num_classes: int) -> jax.Array:
    """Rows with one value at the label and another elsewhere, of zeros for a label out of range."""
    labels = jnp.asarray(labels)  # NumPy's int64 would be too wide a dtype to ask for.
    ids = jnp.arange(num_classes, dtype=widen_labels(labels).dtype)
    ids = jax.lax.expand_dims(ids, range(labels.ndim))
    rows = jnp.where(widen_labels(labels)[..., None] == ids, own, other)
    return jnp.where(is_class(labels, num_classes)[..., None], rows, jnp.zeros_like(rows))
