"""Alpha dropout for self-normalizing networks: dropped elements take the lower limit of SELU."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import check_axes, check_floating, check_key, check_rate
from jaxreg._numerics import as_strength, widen
from jaxreg._scopes import mark

# Constants of SELU by Klambauer et al., equation 14, with the digits of their appendix.
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946
_SATURATION = -_SELU_SCALE * _SELU_ALPHA


@mark("rate")
def alpha_dropout(
    key: jax.Array, x: jax.Array, *, rate: ArrayLike, bits: _bits.Bits | None = None
) -> jax.Array:
    r"""Sets random elements to SELU's negative limit, preserving mean 0 and variance 1.

    .. math::

      y_i = a \, (m_i x_i + (1 - m_i) \alpha' - p \, \alpha'), \qquad
      m_i \sim \mathrm{Bernoulli}(1 - p), \qquad
      a = \bigl((1 - p) (1 + p \, \alpha'^2)\bigr)^{-1/2}

    with :math:`\alpha' = \lim_{x \to -\infty} \mathrm{selu}(x) \approx -1.7581`. Inputs with mean 0
    and variance 1 keep both. Because :math:`a` keeps the variance, the mean over masks is
    :math:`a (1 - p) \, x` instead of ``x``.

    Args:
      key: PRNG key.
      x: Floating-point array of any shape, such as the output of ``jax.nn.selu``.
      rate: Probability :math:`p` of dropping an element, in ``[0, 1]``; a rate of 1 gives zeros
        and zero gradients.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``rate`` is a number outside ``[0, 1]``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> x = jax.random.normal(jax.random.key(0), (400_000,))
      >>> y = dropout.alpha_dropout(jax.random.key(1), x, rate=0.3)
      >>> print(abs(jnp.round(jnp.mean(y), 1)), jnp.round(jnp.var(y), 1))
      0.0 1.0

    References:
      Klambauer et al., `Self-Normalizing Neural Networks
      <https://arxiv.org/abs/1706.02515>`_, 2017
    """
    check_key(key)
    check_floating(x, "x")
    check_rate(rate)
    p = jnp.clip(as_strength(rate, x), 0, 1)
    return _mask_and_rescale(key, x, p, x.shape, bits)


@mark("rate")
def feature_alpha_dropout(
    key: jax.Array, x: jax.Array, *, rate: ArrayLike, bits: _bits.Bits | None = None
) -> jax.Array:
    r"""Applies alpha dropout to whole channels of each example.

    .. math::

      y_{n s c} = a \, (m_{n c} x_{n s c} + (1 - m_{n c}) \alpha' - p \, \alpha'), \qquad
      m_{n c} \sim \mathrm{Bernoulli}(1 - p)

    with :math:`a` and :math:`\alpha'` as in :func:`alpha_dropout`, and one decision per channel, as
    in :func:`spatial_dropout`.

    Args:
      key: PRNG key.
      x: Floating-point array ``[batch, *spatial, channels]``.
      rate: Probability :math:`p` of dropping a channel, in ``[0, 1]``; a rate of 1 gives zeros
        and zero gradients.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``rate`` is a number outside ``[0, 1]``, or ``x`` has fewer than two axes.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> x = jnp.zeros((4, 8, 8, 32))
      >>> y = dropout.feature_alpha_dropout(jax.random.key(0), x, rate=0.5)
      >>> print(jnp.all(y == y[:, :1, :1]), jnp.unique(y).size)
      True 2

    References:
      Klambauer et al., `Self-Normalizing Neural Networks
      <https://arxiv.org/abs/1706.02515>`_, 2017; Tompson et al., `Efficient Object Localization
      Using Convolutional Networks <https://arxiv.org/abs/1411.4280>`_, 2015
    """
    check_key(key)
    check_floating(x, "x")
    check_axes(x, 2, "[batch, *spatial, channels]")
    check_rate(rate)
    p = jnp.clip(as_strength(rate, x), 0, 1)
    mask_shape = (x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1])
    return _mask_and_rescale(key, x, p, mask_shape, bits)


@partial(jax.jit, static_argnums=(3, 4))
@partial(jax.checkpoint, static_argnums=(3, 4))
def _mask_and_rescale(
    key: jax.Array,
    x: jax.Array,
    rate: jax.Array,
    mask_shape: tuple[int, ...],
    bits: _bits.Bits | None,
) -> jax.Array:
    """Sets elements to SELU's negative limit with probability ``rate``; restores the variance."""
    dropped = _bits.bernoulli(key, rate, mask_shape, like=x, bits=bits)
    if mask_shape != x.shape:
        dropped = _bits.once(dropped)
    saturation = as_strength(_SATURATION, x)
    # A rate of 1 gives zeros. Its slope is infinite, so the slope of a rate of 0 is used instead.
    certain = rate >= 1
    p = jnp.where(certain, jnp.zeros_like(rate), rate)
    slope = 1 / jnp.sqrt((1 - p) * (1 + p * saturation**2))
    # The equation subtracts two close numbers at a rate close to 1; this form loses no digits.
    low = slope * (1 - p) * saturation
    kept = slope * (widen(x) - p * saturation)
    # Converted booleans are 1 and 0 where they count. A scan would store arrays of both values.
    y = jnp.where(dropped, dropped.astype(kept.dtype) * low.astype(kept.dtype), kept)
    y = jnp.where(certain, (~dropped).astype(kept.dtype), y)
    return jnp.where(rate == 0, x, y.astype(x.dtype))
