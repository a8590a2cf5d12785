r"""Dropout rates as functions of the training step, like Optax schedules.

With :func:`functools.partial` they are schedules, ``partial(early_dropout, rate=0.1, steps=500)``,
and work wherever Optax or this library takes one. Every argument may be a traced array, even the
number of steps, so that one ``vmap`` runs several schedules side by side.

Use the schedules of Optax for linear and cosine ramps, warmups, staircases and their combinations:
``optax.linear_schedule``, ``cosine_decay_schedule``, ``warmup_cosine_decay_schedule``,
``piecewise_constant_schedule`` and ``join_schedules`` work for rates as for learning rates. For a
ramp over the depth of a network, use :func:`jaxreg.dropout.drop_path_rates`, whose last rate may
come from here; for a strength that follows a metric, use :mod:`jaxreg.training.plateau`.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from functools import partial
  >>> from jaxreg import dropout
  >>> from jaxreg.training import schedules
  >>> schedule = partial(schedules.late_dropout, rate=0.5, start=2)
  >>> def step(count, key):
  ...     y = dropout.dropout(key, jnp.ones(100), rate=schedule(count))
  ...     return count + 1, jnp.mean(y == 0)
  >>> _, dropped = jax.lax.scan(step, 0, jax.random.split(jax.random.key(0), 4))
  >>> print(dropped > 0)
  [False False  True  True]
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _signatures
from jaxreg._checks import check_nonnegative, check_rate, check_scalar

__all__ = ["curriculum_dropout", "early_dropout", "late_dropout"]


def curriculum_dropout(step: ArrayLike, *, rate: ArrayLike, gamma: ArrayLike) -> jax.Array:
    r"""Returns a dropout rate that rises from 0 toward its limit, fast at first.

    .. math::

      p(t) = p \, (1 - e^{-\gamma t})

    Training begins with the easy task, the whole network. Morerio et al. use
    :math:`\gamma = 10 / T` for :math:`T` steps, so that the last rate is within
    :math:`5 \cdot 10^{-5} \, p` of its limit. They state the probability of keeping a unit.

    Args:
      step: Number :math:`t` of finished steps or epochs, of any shape; negative ones count as 0.
      rate: Limit :math:`p`, a probability of dropping in ``[0, 1]``.
      gamma: Speed :math:`\gamma`, zero or positive: 0 never drops, infinity reaches the limit at
        :math:`t > 0`.

    Returns:
      Rate in float32, with the shape of ``step``.

    Raises:
      ValueError: ``rate`` is outside ``[0, 1]``, ``gamma`` is negative or NaN, or either is not a
        single number.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.training import schedules
      >>> rates = schedules.curriculum_dropout(jnp.arange(101), rate=0.5, gamma=10 / 100)
      >>> print(rates[0], rates[100] > 0.4999)
      0.0 True

    References:
      Morerio et al., `Curriculum Dropout <https://arxiv.org/abs/1703.06229>`_, 2017
    """
    check_rate(rate)
    _check_number(gamma, "gamma")
    t = _float32(step)
    # Avoids infinity times zero at step 0.
    risen = -jnp.expm1(-_float32(gamma) * jnp.where(t > 0, t, jnp.ones_like(t)))
    return _float32(rate) * jnp.where(t > 0, risen, jnp.zeros_like(t))


def early_dropout(step: ArrayLike, *, rate: ArrayLike, steps: ArrayLike) -> jax.Array:
    r"""Returns a dropout rate that falls linearly to 0 and remains there, against underfitting.

    .. math::

      p(t) = p \, \max(0, 1 - t / T)

    For Python numbers it equals ``optax.linear_schedule(rate, 0.0, steps)``; here ``steps`` may be
    traced, too. The other form of Liu et al., a constant rate that ends, is
    ``optax.piecewise_constant_schedule(rate, {steps: 0.0})``.

    Args:
      step: Number :math:`t` of finished steps or epochs, of any shape; negative ones count as 0.
      rate: Rate :math:`p` of the first step, a probability of dropping in ``[0, 1]``.
      steps: First step :math:`T` at which nothing is dropped, zero or positive; with infinity, the
        rate is constant.

    Returns:
      Rate in float32, with the shape of ``step``.

    Raises:
      ValueError: ``rate`` is outside ``[0, 1]``, ``steps`` is negative or NaN, or either is not a
        single number.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.training import schedules
      >>> print(schedules.early_dropout(jnp.arange(7), rate=0.5, steps=4))
      [0.5   0.375 0.25  0.125 0.    0.    0.   ]

    References:
      Liu et al., `Dropout Reduces Underfitting <https://arxiv.org/abs/2303.01500>`_, 2023
    """
    check_rate(rate)
    _check_number(steps, "steps")
    t = jnp.maximum(_float32(step), 0)
    last = _float32(steps)
    before = t < last
    left = 1 - t / jnp.where(last > 0, last, jnp.ones_like(last))
    return _float32(rate) * jnp.where(before, left, jnp.zeros_like(t))


def late_dropout(step: ArrayLike, *, rate: ArrayLike, start: ArrayLike) -> jax.Array:
    r"""Returns a dropout rate that jumps from 0 to ``rate`` at ``start``, against overfitting.

    .. math::

      p(t) = t \geq t_0 \; ? \; p : 0

    Args:
      step: Number :math:`t` of finished steps or epochs, of any shape.
      rate: Rate :math:`p` of the later steps, a probability of dropping in ``[0, 1]``.
      start: First step :math:`t_0` that drops, zero or positive; infinity never drops.

    Returns:
      Rate in float32, with the shape of ``step``.

    Raises:
      ValueError: ``rate`` is outside ``[0, 1]``, ``start`` is negative or NaN, or either is not a
        single number.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.training import schedules
      >>> print(schedules.late_dropout(jnp.arange(4), rate=0.5, start=2))
      [0.  0.  0.5 0.5]

    References:
      Liu et al., `Dropout Reduces Underfitting <https://arxiv.org/abs/2303.01500>`_, 2023
    """
    check_rate(rate)
    _check_number(start, "start")
    late = _float32(step) >= _float32(start)
    return jnp.where(late, _float32(rate), jnp.zeros_like(late, jnp.float32))


def _float32(value: ArrayLike) -> jax.Array:
    """Casts a step or a rate to float32, the dtype of schedules."""
    return jnp.asarray(value, jnp.float32)


def _check_number(value: ArrayLike, name: str) -> None:
    """Raises if ``value`` is not a scalar, or is a negative Python or NumPy number."""
    check_scalar(value, name)
    check_nonnegative(value, name)


_signatures.show(__name__)
