"""Losses that limit the information in a representation."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_between, check_nonnegative, check_real, check_scalar
from jaxreg._labels import (
    check_labels,
    check_weights,
    cross_entropies,
    example_weights,
    is_class,
    keep_weighted,
)
from jaxreg._numerics import align, as_strength, weigh, widen
from jaxreg._reductions import weighted_mean
from jaxreg._scopes import mark
from jaxreg.information.gaussian import check_gaussian, gaussian_kl


@mark("beta")
def beta_vae_loss(
    distortion: jax.Array,
    mean: jax.Array,
    log_var: ArrayLike,
    *,
    beta: ArrayLike,
    where: jax.Array | None = None,
    reduce: Callable[[jax.Array, jax.Array], Any] = weighted_mean,
) -> Any:
    r"""Returns the beta-VAE loss: the mean distortion plus ``beta`` times the KL divergence.

    .. math::

      L = \frac{\sum_i w_i L_i}{\sum_i w_i}, \qquad
      L_i = d_i + \beta \, \mathrm{KL}\big(
          \mathcal N(\mu_i, \mathrm{diag}(e^{l_i})) \,\|\, \mathcal N(0, I)\big)

    The divergence is summed over the last axis of ``mean``. With ``beta=1`` and
    :math:`d_i = -\log p(x_i \mid z_i)`, summed over the whole example, it is the loss of a
    variational autoencoder. With ``beta=0`` it is the mean distortion. If all weights :math:`w` are
    0, the loss and its gradient are 0.

    Args:
      distortion: Reconstruction error :math:`d` of each example, real floating-point, ``[...]``.
      mean: Means :math:`\mu` of the latents, real floating-point, ``[..., latent]``.
      log_var: Logarithms :math:`l` of their variances, which broadcast to ``mean``; see
        :func:`gaussian_kl`.
      beta: Weight :math:`\beta` of the divergence, zero or positive.
      where: Mask, or weights :math:`w`, of the examples: booleans or numbers that are zero or
        positive, with the shape of ``distortion``.
      reduce: Function of the losses and the weights, as in
        :func:`jaxreg.targets.smoothed_cross_entropy`.

    Returns:
      Scalar, float32 or wider; with another ``reduce``, whatever it returns.

    Raises:
      TypeError: ``distortion`` or ``mean`` is not real floating-point.
      ValueError: ``beta`` is a negative number or not a single number, ``log_var`` is NaN, or the
        shapes do not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import information
      >>> d, mean = jnp.ones(2), jnp.full((2, 3), 2.0)
      >>> print(information.beta_vae_loss(d, mean, jnp.zeros((2, 3)), beta=0.5))
      4.0

    References:
      Higgins et al., `beta-VAE: Learning Basic Visual Concepts with a Constrained Variational
      Framework <https://openreview.net/forum?id=Sy2fzU9gl>`_, 2017
    """
    check_real(distortion, "distortion")
    _check_rate(mean, log_var, beta, distortion.shape, "distortion")
    check_weights(where, distortion.shape, "distortion")
    wide = widen(distortion)
    weights = example_weights(jnp.ones_like(wide, bool), where, wide.dtype)
    return reduce(_lagrangian(wide, mean, log_var, beta, weights), weights)


@mark("beta")
def bottleneck_loss(
    logits: jax.Array,
    labels: jax.Array,
    mean: jax.Array,
    log_var: ArrayLike,
    *,
    beta: ArrayLike,
    where: jax.Array | None = None,
    reduce: Callable[[jax.Array, jax.Array], Any] = weighted_mean,
) -> Any:
    r"""Returns the information bottleneck loss: cross entropy plus ``beta`` times KL divergence.

    .. math::

      L = \frac{\sum_i w_i L_i}{\sum_i w_i}, \qquad
      L_i = -\log \mathrm{softmax}(z_i)_{y_i} + \beta \, \mathrm{KL}\big(
          \mathcal N(\mu_i, \mathrm{diag}(e^{l_i})) \,\|\, \mathcal N(0, I)\big)

    It is the variational bound of the information bottleneck, for a classifier on a noisy code. The
    divergence is summed over the last axis of ``mean``. It is an upper bound on the code's
    information about the input; the cross entropy gives a lower bound on its information about the
    label. Compute the logits from a code drawn by :func:`sample_gaussian`. The weight :math:`w_i`
    is 0 for a label out of range; if all are 0, the loss and its gradient are 0. With ``beta=0`` it
    is the cross entropy.

    Args:
      logits: Unnormalized log probabilities :math:`z`, ``[..., num_classes]``.
      labels: Integer class ids :math:`y`, ``[...]``.
      mean: Means :math:`\mu` of the codes, real floating-point, ``[..., latent]``.
      log_var: Logarithms :math:`l` of their variances, which broadcast to ``mean``; see
        :func:`gaussian_kl`.
      beta: Weight :math:`\beta` of the divergence, zero or positive; Alemi et al. use 0.001 on
        MNIST.
      where: Mask, or weights :math:`w`, of the examples: booleans or numbers that are zero or
        positive, with the shape of ``labels``.
      reduce: Function of the losses and the weights, as in
        :func:`jaxreg.targets.smoothed_cross_entropy`.

    Returns:
      Scalar, float32 or wider; with another ``reduce``, whatever it returns.

    Raises:
      TypeError: ``logits`` or ``mean`` is not real floating-point, or ``labels`` are not integers.
      ValueError: ``beta`` is a negative number or not a single number, ``log_var`` is NaN, or the
        shapes do not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import information
      >>> mean, log_var = jnp.full((2, 3), 2.0), jnp.zeros((2, 3))
      >>> loss = information.bottleneck_loss(
      ...     jnp.zeros((2, 4)), jnp.array([0, 3]), mean, log_var, beta=0.5
      ... )
      >>> print(jnp.allclose(loss, jnp.log(4) + 3))
      True

    References:
      Alemi et al., `Deep Variational Information Bottleneck <https://arxiv.org/abs/1612.00410>`_,
      2017
    """
    check_labels(logits, labels)
    _check_rate(mean, log_var, beta, labels.shape, "labels")
    check_weights(where, labels.shape)
    wide = widen(logits)
    weights = example_weights(is_class(labels, logits.shape[-1]), where, wide.dtype)
    distortion = cross_entropies(keep_weighted(weights, wide), labels, jnp.zeros((), wide.dtype))
    return reduce(_lagrangian(distortion, mean, log_var, beta, weights), weights)


@mark("level")
def free_bits(
    kl: jax.Array,
    *,
    level: ArrayLike,
    where: jax.Array | None = None,
    reduce: Callable[[jax.Array, jax.Array], jax.Array] = weighted_mean,
) -> jax.Array:
    r"""Returns the sum of the mean KL divergences of latent groups, each at least ``level``.

    .. math::

      R = \sum_g \max\Big(\lambda, \; \frac{\sum_i w_i \mathrm{KL}_{ig}}{\sum_i w_i}\Big)

    A group whose mean divergence is at most the level has no gradient, so nothing pushes it toward
    the prior. With ``level=0`` it is the sum of the means. The means are 0 if all weights :math:`w`
    are 0.

    Args:
      kl: Divergence of each example and group, real floating-point, ``[..., groups]``. To make
        every latent its own group, pass ``gaussian_kl(mean[..., None], log_var[..., None])``.
      level: Free amount :math:`\lambda` of each group in nats, zero or positive.
      where: Mask, or weights :math:`w`, of the examples: booleans or numbers that are zero or
        positive, with the shape of ``kl`` without its last axis.
      reduce: Function of the divergences of one group and the weights that returns their mean.
        Inside ``shard_map``, pass the mean over all devices: ``lambda kl, w:
        jax.lax.psum(targets.sum_and_count(kl, w), "data").mean()``.

    Returns:
      Scalar, float32 or wider.

    Raises:
      TypeError: ``kl`` is not real floating-point.
      ValueError: ``kl`` has no axis, ``level`` is a negative number or not a single number, or the
        shape of ``where`` does not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import information
      >>> mean, log_var = jnp.array([[2.0, 0.1], [2.0, -0.1]]), jnp.zeros((2, 2))
      >>> kl = information.gaussian_kl(mean[..., None], log_var[..., None])
      >>> print(information.free_bits(kl, level=0.5))
      2.5

    References:
      Kingma et al., `Improving Variational Inference with Inverse Autoregressive Flow
      <https://arxiv.org/abs/1606.04934>`_, 2016
    """
    check_real(kl, "kl")
    if kl.ndim == 0:
        raise ValueError("`kl` must have axes [..., groups], got a scalar; add an axis.")
    check_between(level, "level", 0, math.inf)
    check_weights(where, kl.shape[:-1], "kl", " without its last axis")
    kl = widen(kl)
    weights = example_weights(jnp.ones_like(jnp.sum(kl, -1), bool), where, kl.dtype)
    means = jax.vmap(reduce, in_axes=(-1, None))(keep_weighted(weights, kl), weights)
    level = as_strength(level, kl)
    return jnp.sum(jnp.where(means <= level, level, means))


def _lagrangian(
    distortion: jax.Array, mean: jax.Array, log_var: ArrayLike, beta: ArrayLike, weights: jax.Array
) -> jax.Array:
    """Returns ``distortion + beta * KL`` of each example."""
    log_var = keep_weighted(weights, align(log_var, mean))
    rate = gaussian_kl(keep_weighted(weights, mean), log_var)
    beta = jnp.maximum(as_strength(beta, mean), 0)
    dtype = jnp.promote_types(distortion.dtype, rate.dtype)
    rate = weigh(beta, rate)
    return distortion.astype(dtype) + rate.astype(dtype)


def _check_rate(
    mean: jax.Array, log_var: ArrayLike, beta: ArrayLike, examples: tuple[int, ...], name: str
) -> None:
    check_gaussian(mean, log_var)
    if mean.shape[:-1] != examples:
        raise ValueError(
            f"`mean` must have the shape of `{name}`, {examples}, followed by an axis of latents, "
            f"got {mean.shape}; reshape it to one row per example."
        )
    check_scalar(beta, "beta")
    check_nonnegative(beta, "beta")
