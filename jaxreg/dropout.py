"""Dropout: functions ``(key, x) -> x`` that randomly remove parts of ``x``.

All of them keep the shape and dtype of ``x``. A ``rate`` is the probability of *dropping*; it may
be a traced array. A rate of 0 is the identity to the bit. A Python or NumPy rate outside ``[0, 1]``
raises; an array is clipped to that range. Products are computed in float32 and rounded once, so
that low precision is as unbiased as float32. The backward pass draws the mask again from the key
and stores no mask.

There is no evaluation mode: evaluation means not calling the function.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import canonical_axes, check_floating, check_key, check_rate
from jaxreg._numerics import strength, widen

__all__ = ["dropout", "fold_in_axis"]


def dropout(
    key: jax.Array,
    x: jax.Array,
    *,
    rate: ArrayLike,
    broadcast_axes: int | Sequence[int] = (),
) -> jax.Array:
    r"""Drops elements at random and scales the others up (inverted dropout).

    .. math::

      y_i = \frac{m_i}{1 - p} \, x_i, \qquad m_i \sim \mathrm{Bernoulli}(1 - p)

    Args:
      key: PRNG key.
      x: Floating-point array of any shape.
      rate: Probability :math:`p` of dropping an element, in ``[0, 1]``; a rate of 1 gives zeros
        and zero gradients.
      broadcast_axes: Axes along which one decision is shared.

    Returns:
      Array with the shape and dtype of ``x``, equal to it in expectation.

    Raises:
      TypeError: ``x`` is not floating-point, or ``key`` is not one key.
      ValueError: ``rate`` is a number outside ``[0, 1]``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> y = dropout.dropout(jax.random.key(0), jnp.ones((100, 2)), rate=0.5)
      >>> print(jnp.unique(y))
      [0. 2.]

    References:
      Srivastava et al., `Dropout: A Simple Way to Prevent Neural Networks from Overfitting
      <https://jmlr.org/papers/v15/srivastava14a.html>`_, 2014
    """
    check_key(key)
    check_floating(x, "x")
    check_rate(rate)
    shared = canonical_axes(broadcast_axes, x.ndim, "broadcast_axes")
    shape = tuple(1 if axis in shared else size for axis, size in enumerate(x.shape))
    return _drop(key, x, jnp.clip(strength(rate, x), 0, 1), shape)


def fold_in_axis(key: jax.Array, axis_name: str | tuple[str, ...]) -> jax.Array:
    """Gives every device of a named mesh axis its own key, inside ``shard_map`` or ``pmap``.

    Under plain ``jit`` nothing is needed: the mask is drawn for the global array. Inside
    ``shard_map`` each device sees only its shard, and one key would draw the same mask on each.

    Args:
      key: PRNG key, the same on all devices.
      axis_name: The mesh axis, or axes, over which the keys have to differ.

    Returns:
      A key that depends on the position along the axes.

    Example:
      >>> import jax
      >>> from jaxreg import dropout
      >>> def bits(key):
      ...     return jax.random.bits(dropout.fold_in_axis(key, "device"))
      >>> same_key = jax.vmap(bits, in_axes=None, axis_size=4, axis_name="device")
      >>> len(set(same_key(jax.random.key(0)).tolist()))
      4
    """
    check_key(key)
    return jax.random.fold_in(key, jax.lax.axis_index(axis_name))


@partial(jax.checkpoint, static_argnums=(3,))
def _drop(key: jax.Array, x: jax.Array, rate: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    dropped = _bits.bernoulli(key, rate, shape, like=x)
    # A rate of 1 drops everything: dividing by 1 instead of 0 keeps NaN out of the gradient.
    keep_rate = jnp.where(rate >= 1, jnp.ones_like(rate), 1 - rate)
    scaled = (widen(x) / keep_rate).astype(x.dtype)
    # Not even a division by 1 is exact where subnormal numbers are flushed to zero.
    return jnp.where(rate == 0, x, jnp.where(dropped, jnp.zeros_like(x), scaled))
