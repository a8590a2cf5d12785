"""Latent variables with a diagonal normal distribution."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import check_broadcasts, check_key, check_real, is_static
from jaxreg._numerics import align, as_strength, square, widen
from jaxreg._scopes import mark

# Noise of this variance is still within the range of float16.
_LARGEST = 24 * math.log(2)


@mark()
def gaussian_kl(mean: jax.Array, log_var: ArrayLike) -> jax.Array:
    r"""Returns the KL divergence of diagonal normal distributions from the standard normal one.

    .. math::

      \mathrm{KL}_i = \frac{1}{2} \sum_j \left(\mu_{ij}^2 + e^{l_{ij}} - 1 - l_{ij}\right)

    The divergence and its gradient are finite for every finite log variance: beyond 16.6 the
    exponential continues along its tangent. A variance of 0 gives an infinite divergence with a
    finite gradient.

    Args:
      mean: Means :math:`\mu`, real floating-point, ``[..., latent]``.
      log_var: Logarithms :math:`l` of the variances: a number, or an array that broadcasts to
        ``mean``.

    Returns:
      Array ``[...]``, float32 or wider. For the divergence of each latent separately, which
      :func:`free_bits` takes, pass ``mean[..., None]`` and ``log_var[..., None]``.

    Raises:
      TypeError: ``mean`` is not real floating-point.
      ValueError: ``mean`` has no axis, or ``log_var`` is NaN or does not broadcast to it.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import information
      >>> print(information.gaussian_kl(jnp.array([[0.0, 0.0], [2.0, 0.0]]), jnp.zeros(2)))
      [0. 2.]

    References:
      Kingma and Welling, `Auto-Encoding Variational Bayes <https://arxiv.org/abs/1312.6114>`_, 2014
    """
    check_gaussian(mean, log_var)
    log_var = align(log_var, mean)
    # Beyond the largest variance both parts are linear, so that no infinity is multiplied.
    low = jnp.minimum(log_var, _LARGEST)
    beyond = jnp.maximum(log_var - _LARGEST, 0)
    spread = jnp.expm1(low) - low + math.expm1(_LARGEST) * beyond
    return jnp.sum(square(widen(mean)) + spread, axis=-1) / 2


@mark()
def sample_gaussian(
    key: jax.Array, mean: jax.Array, log_var: ArrayLike, *, bits: _bits.Bits | None = None
) -> jax.Array:
    r"""Draws normal samples, differentiable in mean and log variance (reparametrization).

    .. math::

      z_i = \mu_i + e^{l_i / 2} \varepsilon_i, \qquad \varepsilon_i \sim \mathcal N(0, 1)

    The noise is a hash of the key and the position, as in :mod:`jaxreg.noise`; the backward pass
    draws it again instead of storing it. At evaluation time, use ``mean``, or average over several
    keys.

    Args:
      key: PRNG key.
      mean: Means :math:`\mu`, real floating-point, of any shape.
      log_var: Logarithms :math:`l` of the variances: a number, or an array that broadcasts to
        ``mean``. Minus infinity returns ``mean`` exactly; more than 16.6 counts as 16.6.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array with the shape and dtype of ``mean``.

    Raises:
      TypeError: ``mean`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``log_var`` is NaN or does not broadcast to ``mean``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import information
      >>> z = information.sample_gaussian(jax.random.key(0), jnp.full(100_000, 2.0), jnp.log(0.25))
      >>> print(jnp.round(jnp.mean(z), 1), jnp.round(jnp.std(z), 2))
      2.0 0.5

    References:
      Kingma and Welling, `Auto-Encoding Variational Bayes <https://arxiv.org/abs/1312.6114>`_, 2014
    """
    check_key(key)
    check_real(mean, "mean")
    _check_log_var(log_var, mean)
    return _sample(key, mean, as_strength(log_var, mean), bits)


def check_gaussian(mean: jax.Array, log_var: ArrayLike) -> None:
    """Raises unless ``mean`` is a real array ``[..., latent]`` to which ``log_var`` broadcasts."""
    check_real(mean, "mean")
    if mean.ndim == 0:
        raise ValueError("`mean` must have axes [..., latent], got a scalar; add an axis.")
    _check_log_var(log_var, mean)


def _check_log_var(log_var: ArrayLike, mean: jax.Array) -> None:
    if is_static(log_var) and math.isnan(log_var):  # pyright: ignore[reportArgumentType]
        raise ValueError("`log_var` must be a number, got nan; pass 0 for a variance of 1.")
    check_broadcasts(log_var, "log_var", mean.shape)


@partial(jax.jit, static_argnums=(3,))
@partial(jax.checkpoint, static_argnums=(3,))
def _sample(
    key: jax.Array, mean: jax.Array, log_var: jax.Array, bits: _bits.Bits | None
) -> jax.Array:
    log_var = align(log_var, mean)
    noise = _bits.normal(key, mean.shape, like=mean, bits=bits).astype(log_var.dtype)
    stddev = jnp.exp(jnp.minimum(log_var, _LARGEST) / 2)
    sample = (widen(mean) + stddev * noise).astype(mean.dtype)
    return jnp.where(log_var == -jnp.inf, mean, sample)
