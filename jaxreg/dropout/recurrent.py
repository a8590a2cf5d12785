"""Zoneout: random units of a recurrent network keep their old state."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import check_floating, check_key, check_rate
from jaxreg._numerics import as_strength, nan_where, widen
from jaxreg._scopes import mark
from jaxreg._sharding import place_like


@mark("rate")
def zoneout(
    key: jax.Array,
    new: jax.Array,
    old: jax.Array,
    *,
    rate: ArrayLike,
    bits: _bits.Bits | None = None,
) -> jax.Array:
    r"""Keeps the old state of random units and the new state of all other units.

    .. math::

      h_i = m_i h^\text{old}_i + (1 - m_i) h^\text{new}_i, \qquad m_i \sim \mathrm{Bernoulli}(p)

    Units that keep their state pass information and gradients through the time step unchanged. For
    an LSTM, call it once for each of its two states, each with its own key and rate. Use
    :func:`zoneout_mean` at evaluation time.

    Args:
      key: PRNG key, a new one for each time step.
      new: State that the cell has computed, a floating-point array of any shape.
      old: Previous state, with the same shape and dtype.
      rate: Probability :math:`p` that a unit keeps its old state, in ``[0, 1]``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array with the shape and dtype of ``new``; exactly ``new`` at a rate of 0 and ``old`` at 1.

    Raises:
      TypeError: ``new`` is not floating-point, ``old`` has a different dtype, or ``key`` is not a
        single PRNG key.
      ValueError: ``rate`` is a number outside ``[0, 1]``, or ``old`` has a different shape.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> new, old = jnp.ones(100), jnp.full(100, 2.0)
      >>> print(jnp.unique(dropout.zoneout(jax.random.key(0), new, old, rate=0.1)))
      [1. 2.]

    References:
      Krueger et al., `Zoneout: Regularizing RNNs by Randomly Preserving Hidden Activations
      <https://arxiv.org/abs/1606.01305>`_, 2017
    """
    check_key(key)
    _check_states(new, old)
    check_rate(rate)
    return _zoneout(key, new, old, jnp.clip(as_strength(rate, new), 0, 1), bits)


def zoneout_mean(new: jax.Array, old: jax.Array, *, rate: ArrayLike) -> jax.Array:
    r"""Returns the expectation of :func:`zoneout` over its random masks, for evaluation.

    .. math::

      h_i = p \, h^\text{old}_i + (1 - p) \, h^\text{new}_i

    Args:
      new: State that the cell has computed, a floating-point array of any shape.
      old: Previous state, with the same shape and dtype.
      rate: Probability :math:`p` that a unit keeps its old state during training, in ``[0, 1]``.

    Returns:
      Array with the shape and dtype of ``new``; exactly ``new`` at a rate of 0 and ``old`` at 1.

    Raises:
      TypeError: ``new`` is not floating-point, or ``old`` has a different dtype.
      ValueError: ``rate`` is a number outside ``[0, 1]``, or ``old`` has a different shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> print(dropout.zoneout_mean(jnp.array([4.0]), jnp.array([8.0]), rate=0.25))
      [5.]

    References:
      Krueger et al., `Zoneout: Regularizing RNNs by Randomly Preserving Hidden Activations
      <https://arxiv.org/abs/1606.01305>`_, 2017
    """
    _check_states(new, old)
    check_rate(rate)
    p = jnp.clip(as_strength(rate, new), 0, 1)
    old = place_like(old, new)
    mean = (p * widen(old) + (1 - p) * widen(new)).astype(new.dtype)
    # A product with 0 would keep NaN and infinities of the state that the mean excludes.
    return jnp.where(p == 0, new, jnp.where(p == 1, old, mean))


@partial(jax.jit, static_argnums=(4,))
@partial(jax.checkpoint, static_argnums=(4,))
def _zoneout(
    key: jax.Array, new: jax.Array, old: jax.Array, rate: jax.Array, bits: _bits.Bits | None
) -> jax.Array:
    kept = _bits.bernoulli(key, rate, new.shape, like=new, bits=bits)
    state = jnp.where(kept, place_like(old, new), new)
    return nan_where(jnp.isnan(rate), state)


def _check_states(new: jax.Array, old: jax.Array) -> None:
    """Raises unless ``new`` and ``old`` are floating-point arrays of equal shape and dtype."""
    check_floating(new, "new")
    check_floating(old, "old")
    if old.dtype != new.dtype:
        raise TypeError(
            f"`old` must have the same dtype as `new`, {new.dtype}, got {old.dtype}; "
            "convert it with old.astype(new.dtype)."
        )
    if old.shape != new.shape:
        raise ValueError(f"`old` must have the same shape as `new`, {new.shape}, got {old.shape}.")
