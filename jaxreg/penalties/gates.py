"""Penalty of the number of open gates."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._gates import HIGH, LOW, TEMPERATURE, gate_strengths
from jaxreg._numerics import widen
from jaxreg._scopes import mark


@mark()
def hard_concrete_l0(
    log_alpha: jax.Array,
    *,
    temperature: ArrayLike = TEMPERATURE,
    low: ArrayLike = LOW,
    high: ArrayLike = HIGH,
) -> jax.Array:
    r"""Returns the expected number of nonzero gates of :func:`jaxreg.dropout.hard_concrete`.

    .. math::

      R(\alpha) = \sum_i P(z_i \ne 0)
        = \sum_i \sigma\left(\log \alpha_i - \beta \log \frac{-\gamma}{\zeta}\right)

    It counts gates. To count gated weights instead, multiply it by the number of weights per gate.
    Louizos et al. add :math:`\lambda` times the count to the mean of the losses.

    Args:
      log_alpha: Real floating-point parameters :math:`\log \alpha`, one per gate.
      temperature: Temperature :math:`\beta`, positive; less than 1e-6 counts as 1e-6.
      low: Lower end :math:`\gamma`, negative.
      high: Upper end :math:`\zeta`, above 1. The defaults are from Louizos et al.

    Returns:
      Scalar, float32 or wider.

    Raises:
      TypeError: ``log_alpha`` is not real and floating-point.
      ValueError: ``temperature`` is a number that is not positive, ``low`` a number that is not
        negative, or ``high`` a number that is not above 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import penalties
      >>> print(penalties.hard_concrete_l0(jnp.array([-50.0, 50.0, 50.0])))
      2.0

    References:
      Louizos, Welling and Kingma, `Learning Sparse Neural Networks through L0 Regularization
      <https://arxiv.org/abs/1712.01312>`_, 2018, equation 12
    """
    heat, (bottom, top) = gate_strengths(log_alpha, temperature, low, high)
    shift = heat * (jnp.log(-bottom) - jnp.log(top))
    return jnp.sum(jax.nn.sigmoid(widen(log_alpha) - shift))
