"""Targets: label smoothing and mixed labels without one-hot arrays, and flooding.

A label outside ``[0, num_classes)``, such as -1 or -100 for padding, contributes nothing. The
argument ``reduce`` combines the losses of the examples: :func:`weighted_mean` by default,
:func:`sum_and_count` to add up micro-batches and devices, :func:`mean_of_all` if every example
counts, :func:`per_example`, or your own function of the losses and their weights.

With ``shard_map``, where each device holds a part of the batch:

>>> from functools import partial
>>> import jax, jax.numpy as jnp
>>> from jax.sharding import AxisType, PartitionSpec as P
>>> from jaxreg import targets
>>> mesh = jax.make_mesh((1,), ("data",), (AxisType.Auto,))
>>> @partial(jax.shard_map, mesh=mesh, in_specs=P("data"), out_specs=P())
... def loss(logits, labels):
...     sums = targets.smoothed_cross_entropy(
...         logits, labels, alpha=0.1, reduce=targets.sum_and_count
...     )
...     return jax.lax.psum(sums, "data").mean()
>>> print(jnp.allclose(loss(jnp.zeros((3, 4)), jnp.array([0, 3, -1])), jnp.log(4)))
True
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _signatures
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
    check_logits,
    check_weights,
    cross_entropies,
    distribution_cross_entropies,
    example_weights,
    is_class,
    keep_weighted,
    widen_labels,
)
from jaxreg._numerics import align, as_strength, weigh, widen
from jaxreg._reductions import (
    SumAndCount,
    mean_of_all,
    per_example,
    sum_and_count,
    weighted_mean,
)
from jaxreg._scopes import mark
from jaxreg._sharding import place_like

__all__ = [
    "SumAndCount",
    "flood",
    "mean_of_all",
    "mixed_cross_entropy",
    "per_example",
    "smooth_labels",
    "smooth_labels_excluding",
    "smoothed_cross_entropy",
    "sum_and_count",
    "weighted_mean",
]


@mark("alpha")
def smooth_labels(labels: jax.Array, *, alpha: ArrayLike, num_classes: int) -> jax.Array:
    r"""Returns smoothed labels: probability ``alpha`` is spread evenly over all classes.

    .. math::

      q_k = (1 - \alpha) [k = y] + \frac{\alpha}{K}

    Args:
      labels: Integer class ids :math:`y`, ``[...]``.
      alpha: Share :math:`\alpha` in ``[0, 1]`` that is spread over all :math:`K` classes, the true
        one included (the convention of Szegedy et al., torch, Keras and Optax).
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
    share = _check_share(labels, alpha, num_classes)
    return _rows(labels, 1 - share + share / num_classes, share / num_classes, num_classes)


@mark("alpha")
def smooth_labels_excluding(labels: jax.Array, *, alpha: ArrayLike, num_classes: int) -> jax.Array:
    r"""Returns smoothed labels: probability ``alpha`` is spread evenly over the other classes.

    .. math::

      q_k = \begin{cases} 1 - \alpha & k = y \\ \frac{\alpha}{K - 1} & \text{else} \end{cases}

    This is the convention of fairseq and of Flax's examples. It is :func:`smooth_labels` with
    :math:`\alpha K / (K - 1)`; :func:`smoothed_cross_entropy` with that value computes the same
    loss without these arrays. If there is only one class, it keeps all of the probability.

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
    share = _check_share(labels, alpha, num_classes)
    if num_classes == 1:
        share = jnp.zeros_like(share)
    return _rows(labels, 1 - share, share / max(num_classes - 1, 1), num_classes)


@mark("alpha")
def smoothed_cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    *,
    alpha: ArrayLike,
    where: jax.Array | None = None,
    reduce: Callable[[jax.Array, jax.Array], Any] = weighted_mean,
) -> Any:
    r"""Returns the mean cross entropy with label smoothing, for class ids or distributions.

    .. math::

      L = \frac{\sum_i w_i L_i}{\sum_i w_i}, \qquad
      L_i = \log \sum_k e^{z_{ik}} - (1 - \alpha) z_{i y_i} - \frac{\alpha}{K} \sum_k z_{ik}

    The weight :math:`w_i` is 0 for a label out of range and for a row of zeros; if all weights are
    0, the loss and its gradient are 0. With ``alpha=0`` it is the cross entropy.

    Args:
      logits: Unnormalized log probabilities :math:`z`, ``[..., num_classes]``.
      labels: Integer class ids :math:`y`, ``[...]``, or distributions :math:`q` with the shape of
        ``logits``, such as the labels of mixed examples: then :math:`\sum_k q_{ik} z_{ik}` replaces
        :math:`z_{i y_i}`.
      alpha: Share :math:`\alpha` in ``[0, 1]`` that is spread over all :math:`K` classes.
      where: Mask, or weights :math:`w`, of the examples: booleans or numbers that are zero or
        positive, ``[...]``. ``class_weights[labels]`` weights the classes, as torch's ``weight``
        does without smoothing.
      reduce: Function of the losses and the weights, both ``[...]``; :mod:`jaxreg.targets` lists
        the choices.

    Returns:
      Scalar, float32 or wider; with another ``reduce``, whatever it returns.

    Raises:
      TypeError: ``logits`` are not real floating-point, or ``labels`` are neither integers nor
        distributions.
      ValueError: ``alpha`` is a number outside ``[0, 1]``, a NumPy array of weights has a negative
        one, or the shapes do not fit.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment, targets
      >>> loss = targets.smoothed_cross_entropy(jnp.zeros((3, 4)), jnp.arange(3), alpha=0.1)
      >>> print(jnp.allclose(loss, jnp.log(4)))
      True

      Mixup with smoothing, timm's default; CutMix works the same way:

      >>> x, y, model = jnp.ones((3, 8)), jnp.arange(3), jax.nn.relu
      >>> mixed = augment.random_mixup(jax.random.key(0), x, y, alpha=0.8, num_classes=8)
      >>> logits = model(mixed.x)
      >>> loss = targets.smoothed_cross_entropy(logits, mixed.labels, alpha=0.1)
      >>> print(jnp.allclose(loss, jnp.log(8)))
      True

    References:
      Szegedy et al., `Rethinking the Inception Architecture for Computer Vision
      <https://arxiv.org/abs/1512.00567>`_, 2016
    """
    check_between(alpha, "alpha", 0, 1, "a share of smoothing")
    if _are_distributions(logits, labels):
        losses, weights = _losses_of_rows(logits, labels, alpha, where)
        return reduce(losses, weights)
    check_labels(logits, labels)
    check_weights(where, labels.shape)
    share = jnp.clip(as_strength(alpha, logits), 0, 1)
    wide = widen(logits)
    weights = example_weights(is_class(labels, logits.shape[-1]), where, wide.dtype)
    return reduce(cross_entropies(keep_weighted(weights, wide), labels, share), weights)


@mark("share")
def mixed_cross_entropy(
    logits: jax.Array,
    labels_a: jax.Array,
    labels_b: jax.Array,
    *,
    share: ArrayLike,
    alpha: ArrayLike = 0.0,
    where: jax.Array | None = None,
    reduce: Callable[[jax.Array, jax.Array], Any] = weighted_mean,
) -> Any:
    r"""Returns the mean cross entropy of mixed examples (mixup, CutMix) against both labels.

    .. math::

      L = \frac{\sum_i w_i L_i}{\sum_i w_i}, \qquad
      L_i = \lambda_i \, \mathrm{CE}(z_i, a_i) + (1 - \lambda_i) \, \mathrm{CE}(z_i, b_i)

    This is the loss of mixup and of CutMix. A label out of range adds nothing to :math:`L_i`. The
    weight :math:`w_i` is 0 if no label in range has a share; if all weights are 0, the loss and its
    gradient are 0. The loss equals :func:`smoothed_cross_entropy` of the mixed label distributions,
    but never builds them. With a share of 1 it is the loss of the first labels. If only one of the
    two labels is out of range, torch's ``lam * loss(labels_a) + (1 - lam) * loss(labels_b)``
    differs: it takes the mean of each part over its own labels.

    Args:
      logits: Unnormalized log probabilities :math:`z` of mixed examples, ``[..., num_classes]``.
      labels_a: Integer class ids :math:`a` of the first parts, ``[...]``.
      labels_b: Integer class ids :math:`b` of the second parts, ``[...]``.
      share: Share :math:`\lambda` in ``[0, 1]`` of the first part: a number, or an array that
        broadcasts to the labels, such as one share per example.
      alpha: Share in ``[0, 1]`` of smoothing, as in :func:`smoothed_cross_entropy`.
      where: Mask or weights :math:`w` of the examples, as in :func:`smoothed_cross_entropy`.
      reduce: Function of the losses and the weights, as in :func:`smoothed_cross_entropy`.

    Returns:
      Scalar, float32 or wider; with another ``reduce``, whatever it returns.

    Raises:
      TypeError: ``logits`` are not real floating-point, or the labels are not integers.
      ValueError: ``share`` or ``alpha`` is a number outside ``[0, 1]``, a NumPy array of weights
        has a negative one, or the shapes do not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import targets
      >>> logits, a, b = jnp.zeros((3, 4)), jnp.arange(3), jnp.arange(3)[::-1]
      >>> loss = targets.mixed_cross_entropy(logits, a, b, share=jnp.array([0.2, 0.5, 0.9]))
      >>> print(jnp.allclose(loss, jnp.log(4)))
      True

    References:
      Zhang et al., `mixup: Beyond Empirical Risk Minimization
      <https://arxiv.org/abs/1710.09412>`_, 2018
    """
    check_labels(logits, labels_a, "labels_a")
    check_labels(logits, labels_b, "labels_b")
    check_between(alpha, "alpha", 0, 1, "a share of smoothing")
    check_broadcasts(share, "share", labels_a.shape)
    if is_static(share):
        check_between(share, "share", 0, 1, "a share of the first labels")
    check_weights(where, labels_a.shape, "labels_a")
    smoothing = jnp.clip(as_strength(alpha, logits), 0, 1)
    wide = widen(logits)
    classes = logits.shape[-1]
    share = jnp.clip(align(share, jnp.sum(wide, axis=-1)), 0, 1)
    first = jnp.where(is_class(labels_a, classes), share, jnp.zeros_like(share))
    second = jnp.where(is_class(labels_b, classes), 1 - share, jnp.zeros_like(share))
    weights = example_weights((first != 0) | (second != 0), where, wide.dtype)
    wide = keep_weighted(weights, wide)
    losses = weigh(first, cross_entropies(wide, labels_a, smoothing))
    losses += weigh(second, cross_entropies(wide, labels_b, smoothing))
    return reduce(losses, weights)


@mark("level")
def flood(loss: jax.Array, *, level: ArrayLike) -> jax.Array:
    r"""Floods a loss: reflects values below ``level`` to the same distance above it.

    .. math::

      \tilde L = |L - b| + b

    Above the level this is exactly the loss. Below it the gradient has the opposite sign, and at
    the level it is 0. Ishida et al. flood the mean over a batch. An array is flooded element by
    element, which gives a different result.

    Args:
      loss: Floating-point array of any shape, usually the mean loss of a batch.
      level: Level :math:`b` in units of the loss. A level of 0 changes no loss that is zero or
        positive, and minus infinity changes no loss at all.

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
    wide = widen(loss)
    level = as_strength(level, loss)
    turned = (2 * level - wide).astype(loss.dtype)
    still = jnp.where(wide == level, jax.lax.stop_gradient(loss), loss)
    return jnp.where(wide < level, turned, still)


def _are_distributions(logits: jax.Array, labels: jax.Array) -> bool:
    """Returns whether ``labels`` are rows of probabilities rather than class ids."""
    dtype = getattr(labels, "dtype", None)
    floating = dtype is not None and jnp.issubdtype(dtype, jnp.floating)
    return bool(floating) and labels.shape == getattr(logits, "shape", None)


def _losses_of_rows(
    logits: jax.Array, rows: jax.Array, alpha: ArrayLike, where: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Returns losses and weights for labels that are distributions; rows of zeros have weight 0."""
    check_logits(logits, "logits")
    check_weights(where, logits.shape[:-1], "labels", " without its last axis")
    wide = widen(logits)
    rows = widen(rows)
    dtype = jnp.promote_types(wide.dtype, rows.dtype)
    wide = wide.astype(dtype)
    rows = place_like(rows.astype(dtype), wide)
    weights = example_weights(jnp.any(rows != 0, axis=-1), where, dtype)
    share = jnp.clip(as_strength(alpha, wide), 0, 1)
    wide = keep_weighted(weights, wide)
    rows = keep_weighted(weights, rows)
    return distribution_cross_entropies(wide, rows, share), weights


def _check_share(labels: jax.Array, alpha: ArrayLike, num_classes: int) -> jax.Array:
    """Checks the arguments of label smoothing; returns ``alpha`` clipped to ``[0, 1]``."""
    check_integer(labels, "labels")
    check_between(alpha, "alpha", 0, 1, "a share of smoothing")
    check_static_integer(num_classes, "num_classes")
    if num_classes < 1:
        raise ValueError(f"`num_classes` must be at least 1, got {num_classes}.")
    return jnp.clip(jnp.asarray(alpha, jnp.float32), 0, 1)


def _rows(labels: jax.Array, own: jax.Array, other: jax.Array, num_classes: int) -> jax.Array:
    """Returns rows with ``own`` at the label and ``other`` elsewhere; zeros for invalid labels."""
    labels = jnp.asarray(labels)  # NumPy's int64 would be too wide a dtype to ask for.
    ids = jnp.arange(num_classes, dtype=widen_labels(labels).dtype)
    ids = jax.lax.expand_dims(ids, range(labels.ndim))
    rows = jnp.where(widen_labels(labels)[..., None] == ids, own, other)
    return jnp.where(is_class(labels, num_classes)[..., None], rows, jnp.zeros_like(rows))


_signatures.show(__name__)
