"""Hard concrete gates: random factors in [0, 1] that are exactly 0 or 1 with some probability."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import check_key
from jaxreg._gates import HIGH, LOW, TEMPERATURE, gate_strengths
from jaxreg._numerics import widen
from jaxreg._scopes import mark


@mark()
def hard_concrete(
    key: jax.Array,
    log_alpha: jax.Array,
    *,
    temperature: ArrayLike = TEMPERATURE,
    low: ArrayLike = LOW,
    high: ArrayLike = HIGH,
    bits: _bits.Bits | None = None,
) -> jax.Array:
    r"""Samples gates in ``[0, 1]`` with learnable probabilities of being exactly 0.

    .. math::

      z_i = \min(1, \max(0, \gamma + (\zeta - \gamma) s_i)), \qquad
      s_i = \sigma\left(\frac{\log u_i - \log(1 - u_i) + \log \alpha_i}{\beta}\right), \qquad
      u_i \sim \mathcal U(0, 1)

    Multiply weights, or outputs of units, by the gates, and add
    :func:`jaxreg.penalties.hard_concrete_l0` of the same arguments to the loss. Gates for groups of
    weights have a shape such as ``[groups, 1]``. At evaluation time, use
    :func:`hard_concrete_inference`.

    Args:
      key: PRNG key.
      log_alpha: Real floating-point parameters :math:`\log \alpha`, one per gate.
      temperature: Temperature :math:`\beta`, positive; less than 1e-6 counts as 1e-6.
      low: Lower end :math:`\gamma` before the gate is clipped to ``[0, 1]``, negative.
      high: Upper end :math:`\zeta`, above 1. The defaults are from Louizos et al.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Gates with the shape and dtype of ``log_alpha``.

    Raises:
      TypeError: ``log_alpha`` is not real and floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``temperature`` is a number that is not positive, ``low`` a number that is not
        negative, or ``high`` a number that is not above 1.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> gates = dropout.hard_concrete(jax.random.key(0), jnp.array([-20.0, 20.0]))
      >>> print(gates)
      [0. 1.]

    References:
      Louizos, Welling and Kingma, `Learning Sparse Neural Networks through L0 Regularization
      <https://arxiv.org/abs/1712.01312>`_, 2018, equations 10 and 11
    """
    check_key(key)
    heat, ends = gate_strengths(log_alpha, temperature, low, high)
    return _gates(key, log_alpha, heat, ends, bits)


def hard_concrete_inference(
    log_alpha: jax.Array, *, low: ArrayLike = LOW, high: ArrayLike = HIGH
) -> jax.Array:
    r"""Returns deterministic gates, the evaluation counterpart of :func:`hard_concrete`.

    .. math::

      \hat z_i = \min(1, \max(0, \gamma + (\zeta - \gamma) \, \sigma(\log \alpha_i)))

    Args:
      log_alpha: Real floating-point parameters :math:`\log \alpha`, one per gate.
      low: Lower end :math:`\gamma`, negative.
      high: Upper end :math:`\zeta`, above 1.

    Returns:
      Gates with the shape and dtype of ``log_alpha``.

    Raises:
      TypeError: ``log_alpha`` is not real and floating-point.
      ValueError: ``low`` is a number that is not negative, or ``high`` a number that is not above
        1.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> print(dropout.hard_concrete_inference(jnp.array([-3.0, 0.0, 3.0])))
      [0.  0.5 1. ]

    References:
      Louizos, Welling and Kingma, `Learning Sparse Neural Networks through L0 Regularization
      <https://arxiv.org/abs/1712.01312>`_, 2018, equation 13
    """
    _, ends = gate_strengths(log_alpha, TEMPERATURE, low, high)
    return _stretch(jax.nn.sigmoid(widen(log_alpha)), ends).astype(log_alpha.dtype)


@partial(jax.jit, static_argnums=(4,))
@partial(jax.checkpoint, static_argnums=(4,))
def _gates(
    key: jax.Array,
    log_alpha: jax.Array,
    heat: jax.Array,
    ends: tuple[jax.Array, jax.Array],
    bits: _bits.Bits | None,
) -> jax.Array:
    logits = widen(log_alpha)
    u = _bits.uniform(key, log_alpha.shape, like=log_alpha, bits=bits).astype(logits.dtype)
    noise = jnp.log(u / (1 - u))
    return _stretch(jax.nn.sigmoid((logits + noise) / heat), ends).astype(log_alpha.dtype)


def _stretch(soft: jax.Array, ends: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Maps ``[0, 1]`` linearly to the interval ``ends``, then clips to ``[0, 1]``."""
    low, high = ends
    return jnp.clip(low + (high - low) * soft, 0, 1)
