"""Categorical distributions, given by their logits."""

import jax
import jax.numpy as jnp

from jaxreg._labels import check_logits
from jaxreg._numerics import widen
from jaxreg._scopes import mark
from jaxreg._sharding import place_like


@mark()
def categorical_kl(logits_p: jax.Array, logits_q: jax.Array) -> jax.Array:
    r"""Returns the KL divergence between two categorical distributions, given by their logits.

    .. math::

      \mathrm{KL}(p \,\|\, q) = \sum_k p_k (\log p_k - \log q_k), \qquad
      p = \mathrm{softmax}(z_p), \quad q = \mathrm{softmax}(z_q)

    A class with probability 0 in :math:`p` contributes nothing. If :math:`q` excludes a class that
    :math:`p` has, the divergence is infinite, and the gradient comes from the other classes. To
    keep gradients out of a teacher, pass ``jax.lax.stop_gradient(logits_p)``.

    Args:
      logits_p: Unnormalized log probabilities of :math:`p`, ``[..., num_classes]``; minus infinity
        excludes a class, but at least one class must remain.
      logits_q: Unnormalized log probabilities of :math:`q`, with the same shape.

    Returns:
      Array ``[...]``, float32 or wider.

    Raises:
      TypeError: The logits are not real floating-point.
      ValueError: Their shapes differ or have no class.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import information
      >>> p, q = jnp.array([0.0, -jnp.inf]), jnp.array([0.0, 0.0])
      >>> print(jnp.allclose(information.categorical_kl(p, q), jnp.log(2)))
      True

    References:
      Kullback and Leibler, `On Information and Sufficiency
      <https://doi.org/10.1214/aoms/1177729694>`_, 1951
    """
    log_p, log_q = _log_probabilities(logits_p, logits_q)
    p = jnp.exp(log_p)
    return _expectation(p, p > 0, log_p, log_q)


@mark()
def symmetric_kl(logits_p: jax.Array, logits_q: jax.Array) -> jax.Array:
    r"""Returns the mean of both KL divergences between two categorical distributions (R-Drop).

    .. math::

      \frac{1}{2} \left(\mathrm{KL}(p \,\|\, q) + \mathrm{KL}(q \,\|\, p)\right)
        = \frac{1}{2} \sum_k (p_k - q_k) (\log p_k - \log q_k)

    R-Drop takes the logits of two passes with different dropout keys and adds this to the mean of
    their losses. It is half of Jeffreys' divergence.

    Args:
      logits_p: Unnormalized log probabilities of :math:`p`, ``[..., num_classes]``; minus infinity
        excludes a class, but at least one class must remain.
      logits_q: Unnormalized log probabilities of :math:`q`, with the same shape.

    Returns:
      Array ``[...]``, float32 or wider, never negative. If one distribution excludes a class that
      the other has, it is infinite, and the gradient comes from the other classes.

    Raises:
      TypeError: The logits are not real floating-point.
      ValueError: Their shapes differ or have no class.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import information
      >>> z = jnp.array([[0.0, 1.0], [3.0, -1.0]])
      >>> print(information.symmetric_kl(z, z + 5))
      [0. 0.]

    References:
      Liang et al., `R-Drop: Regularized Dropout for Neural Networks
      <https://arxiv.org/abs/2106.14448>`_, 2021
    """
    log_p, log_q = _log_probabilities(logits_p, logits_q)
    p = jnp.exp(log_p)
    q = jnp.exp(log_q)
    return _expectation(p - q, (p > 0) | (q > 0), log_p, log_q) / 2


@mark()
def confidence_penalty(logits: jax.Array) -> jax.Array:
    r"""Returns the negative entropy of a categorical distribution.

    .. math::

      -H(p) = \sum_k p_k \log p_k, \qquad p = \mathrm{softmax}(z)

    Added to the loss with a positive weight, it keeps predictions from becoming too confident.

    Args:
      logits: Unnormalized log probabilities :math:`z`, ``[..., num_classes]``; minus infinity
        excludes a class, but at least one class must remain.

    Returns:
      Array ``[...]`` of values in ``[-log(num_classes), 0]``, float32 or wider.

    Raises:
      TypeError: ``logits`` are not real floating-point.
      ValueError: ``logits`` have no class.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import information
      >>> value = information.confidence_penalty(jnp.zeros(4))
      >>> print(jnp.allclose(value, -jnp.log(4)))
      True

    References:
      Pereyra et al., `Regularizing Neural Networks by Penalizing Confident Output Distributions
      <https://arxiv.org/abs/1701.06548>`_, 2017
    """
    check_logits(logits, "logits")
    log_p = jax.nn.log_softmax(widen(logits))
    p = jnp.exp(log_p)
    return _expectation(p, p > 0, log_p, jnp.zeros_like(log_p))


@mark()
def jensen_shannon(logits: jax.Array) -> jax.Array:
    r"""Returns the Jensen-Shannon divergence of several categorical distributions.

    .. math::

      \mathrm{JS} = \frac{1}{V} \sum_v \mathrm{KL}(p_v \,\|\, m), \qquad
      m = \frac{1}{V} \sum_v p_v, \quad p_v = \mathrm{softmax}(z_v)

    It is symmetric, 0 if all views agree, and at most :math:`\log V`. AugMix adds 12 times its mean
    over the examples to the cross entropy, with the logits of an image and of two of its
    augmentations.

    Args:
      logits: Unnormalized log probabilities :math:`z` of :math:`V` views,
        ``[views, ..., num_classes]``; minus infinity excludes a class, but at least one class must
        remain.

    Returns:
      Array ``[...]``, float32 or wider.

    Raises:
      TypeError: ``logits`` are not real floating-point.
      ValueError: ``logits`` have no class, or no axis of views.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import information
      >>> apart = jnp.array([[0.0, -jnp.inf], [-jnp.inf, 0.0]])
      >>> print(jnp.allclose(information.jensen_shannon(apart), jnp.log(2)))
      True

    References:
      Lin, `Divergence Measures Based on the Shannon Entropy
      <https://doi.org/10.1109/18.61115>`_, 1991; Hendrycks et al., `AugMix
      <https://arxiv.org/abs/1912.02781>`_, 2020, equation 2
    """
    check_logits(logits, "logits")
    if logits.ndim < 2 or logits.shape[0] == 0:
        raise ValueError(
            f"`logits` must be of shape [views, ..., num_classes], got {logits.shape}; join the "
            "logits of the views with jnp.stack."
        )
    log_p = jax.nn.log_softmax(widen(logits))
    p = jnp.exp(log_p)
    # Relative to the largest view, so that the mean of equal views equals them exactly.
    top = jax.lax.stop_gradient(jnp.max(log_p, axis=0, keepdims=True))
    top = jnp.where(top == -jnp.inf, jnp.zeros_like(top), top)
    ratio = jnp.mean(jnp.exp(log_p - top), axis=0, keepdims=True)
    positive = ratio > 0
    log_ratio = jnp.log(jnp.where(positive, ratio, jnp.ones_like(ratio)))
    log_mean = place_like(jnp.broadcast_to(log_ratio + top, log_p.shape), log_p)
    return jnp.mean(_expectation(p, p > 0, log_p, log_mean), axis=0)


def _expectation(
    weights: jax.Array, counts: jax.Array, log_p: jax.Array, log_q: jax.Array
) -> jax.Array:
    """Returns the sum of ``weights * (log_p - log_q)`` over the classes marked by ``counts``.

    An infinite difference is added as a constant; multiplying it would make the gradient NaN.
    """
    excluded = (log_p == -jnp.inf) | (log_q == -jnp.inf)
    used = counts & ~excluded
    zero = jnp.zeros_like(log_p)
    difference = jnp.where(used, log_p, zero) - jnp.where(used, log_q, zero)
    total = jnp.sum(weights * difference, axis=-1)
    infinite = jnp.any(counts & excluded, axis=-1)
    return total + jnp.where(infinite, jnp.full_like(total, jnp.inf), jnp.zeros_like(total))


def _log_probabilities(logits_p: jax.Array, logits_q: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Checks two arrays of logits, and returns the log softmax of both in the wider dtype."""
    check_logits(logits_p, "logits_p")
    check_logits(logits_q, "logits_q")
    if logits_p.shape != logits_q.shape:
        raise ValueError(
            f"`logits_q` must have the same shape as `logits_p`, {logits_p.shape}, got "
            f"{logits_q.shape}."
        )
    p = widen(logits_p)
    q = widen(logits_q)
    dtype = jnp.promote_types(p.dtype, q.dtype)
    p = p.astype(dtype)
    q = place_like(q.astype(dtype), p)
    return jax.nn.log_softmax(p), jax.nn.log_softmax(q)
