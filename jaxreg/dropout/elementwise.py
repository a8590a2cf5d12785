"""Elementwise dropout, and PRNG keys that differ between the devices of a mesh."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import canonical_axes, check_floating, check_key, check_rate, is_static
from jaxreg._numerics import as_strength, keep_rate, nan_where, widen
from jaxreg._scopes import mark


@mark("rate")
def dropout(
    key: jax.Array,
    x: jax.Array,
    *,
    rate: ArrayLike,
    broadcast_axes: int | Sequence[int] = (),
    bits: _bits.Bits | None = None,
) -> jax.Array:
    r"""Drops random elements and scales up the rest (inverted dropout).

    .. math::

      y_i = \frac{m_i}{1 - p} \, x_i, \qquad m_i \sim \mathrm{Bernoulli}(1 - p)

    Args:
      key: PRNG key.
      x: Floating-point array of any shape.
      rate: Probability :math:`p` of dropping an element, in ``[0, 1]``; a rate of 1 gives zeros
        and zero gradients.
      broadcast_axes: Axes along which one decision is shared.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array with the shape and dtype of ``x``, equal to it in expectation.

    Raises:
      TypeError: ``x`` is not floating-point, or ``key`` is not a single PRNG key.
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
    mask_shape = tuple(1 if axis in shared else size for axis, size in enumerate(x.shape))
    p = jnp.clip(as_strength(rate, x), 0, 1)
    return _mask_and_scale(key, x, p, keep_rate(rate, x), mask_shape, bits)


@mark("rate")
def classical_dropout(
    key: jax.Array, x: jax.Array, *, rate: ArrayLike, bits: _bits.Bits | None = None
) -> jax.Array:
    r"""Drops random elements and leaves the rest unscaled (the original form of dropout).

    .. math::

      y_i = m_i x_i, \qquad m_i \sim \mathrm{Bernoulli}(1 - p)

    At evaluation time, apply :func:`classical_scale`. :func:`dropout` scales during training
    instead.

    Args:
      key: PRNG key.
      x: Floating-point array of any shape.
      rate: Probability :math:`p` of dropping an element, in ``[0, 1]``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array with the shape and dtype of ``x``, equal to ``(1 - rate) * x`` in expectation.

    Raises:
      TypeError: ``x`` is not floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``rate`` is a number outside ``[0, 1]``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> y = dropout.classical_dropout(jax.random.key(0), jnp.ones((100, 2)), rate=0.5)
      >>> print(jnp.unique(y))
      [0. 1.]

    References:
      Hinton et al., `Improving neural networks by preventing co-adaptation of feature detectors
      <https://arxiv.org/abs/1207.0580>`_, 2012
    """
    check_key(key)
    check_floating(x, "x")
    check_rate(rate)
    p = jnp.clip(as_strength(rate, x), 0, 1)
    return _mask(key, x, p, bits)


def classical_scale(x: jax.Array, *, rate: ArrayLike) -> jax.Array:
    r"""Multiplies ``x`` by ``1 - rate``, the evaluation counterpart of :func:`classical_dropout`.

    .. math::

      y_i = (1 - p) \, x_i

    Args:
      x: Floating-point array of any shape.
      rate: Probability :math:`p` of dropping an element during training, in ``[0, 1]``.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not floating-point.
      ValueError: ``rate`` is a number outside ``[0, 1]``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> print(dropout.classical_scale(jnp.array([2.0, 4.0]), rate=0.25))
      [1.5 3. ]

    References:
      Hinton et al., `Improving neural networks by preventing co-adaptation of feature detectors
      <https://arxiv.org/abs/1207.0580>`_, 2012
    """
    check_floating(x, "x")
    check_rate(rate)
    p = jnp.clip(as_strength(rate, x), 0, 1)
    # A product with 0 would keep NaN and infinities, which training always drops.
    scaled = jnp.where(p == 1, jnp.zeros_like(x), (widen(x) * (1 - p)).astype(x.dtype))
    return jnp.where(p == 0, x, scaled)


@mark("rate")
def gaussian_dropout(
    key: jax.Array, x: jax.Array, *, rate: ArrayLike, bits: _bits.Bits | None = None
) -> jax.Array:
    r"""Multiplies ``x`` by Gaussian noise with the mean and variance of an inverted dropout mask.

    .. math::

      y_i = x_i (1 + \sigma \varepsilon_i), \qquad \varepsilon_i \sim \mathcal N(0, 1), \qquad
      \sigma^2 = \frac{p}{1 - p}

    Args:
      key: PRNG key.
      x: Floating-point array of any shape.
      rate: Rate :math:`p` of dropout with the same variance, in ``[0, 1)``. An array is clipped to
        the largest float32 below 1.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array with the shape and dtype of ``x``, equal to it in expectation.

    Raises:
      TypeError: ``x`` is not floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``rate`` is a number outside ``[0, 1)``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> y = dropout.gaussian_dropout(jax.random.key(0), jnp.ones(100_000), rate=0.2)
      >>> print(jnp.round(jnp.var(y), 2))
      0.25

    References:
      Srivastava et al., `Dropout: A Simple Way to Prevent Neural Networks from Overfitting
      <https://jmlr.org/papers/v15/srivastava14a.html>`_, 2014, section 10
    """
    check_key(key)
    check_floating(x, "x")
    check_rate(rate)
    if is_static(rate) and float(rate) == 1:  # pyright: ignore[reportArgumentType]
        raise ValueError(
            f"`rate` of `gaussian_dropout` must be below 1, got {rate}: the variance would be "
            "infinite; use a smaller rate."
        )
    largest = 1 - float(np.finfo(np.float32).epsneg)
    p = jnp.clip(as_strength(rate, x), 0, largest)
    return _gaussian(key, x, p, bits)


def fold_in_axis(key: jax.Array, axis_name: str | tuple[str, ...]) -> jax.Array:
    """Returns a different key on each device of a mesh axis, inside ``shard_map`` or ``pmap``.

    Plain ``jit`` does not need it: the mask is drawn for the global array. Inside ``shard_map``
    each device sees only its shard, and one key would draw the same mask on each.

    Args:
      key: PRNG key, the same on all devices.
      axis_name: Mesh axis or axes along which the keys differ.

    Returns:
      Key that depends on the position along the axes.

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


@partial(jax.jit, static_argnums=(4, 5))
@partial(jax.checkpoint, static_argnums=(4, 5))
def _mask_and_scale(
    key: jax.Array,
    x: jax.Array,
    p: jax.Array,
    keep: jax.Array,
    mask_shape: tuple[int, ...],
    bits: _bits.Bits | None,
) -> jax.Array:
    """Drops elements with probability ``p``; divides the rest by ``keep``, which is ``1 - p``."""
    dropped = _bits.below(_bits.draw(key, mask_shape, like=x, bits=bits), p)
    if mask_shape != x.shape:
        dropped = _bits.once(dropped)
    # A rate of 1 drops everything: dividing by 1 instead of 0 keeps NaN out of the gradient.
    keep = jnp.where(p >= 1, jnp.ones_like(p), keep)
    scaled = widen(x) / keep
    if scaled.dtype != x.dtype:
        # With p = 0.9, bfloat16 quotients are often halfway between two numbers. In float32 the
        # divisor is slightly off, which would round all of these ties the same way. Rounding to
        # 18 bits first restores the ties, and half of them round up.
        scaled = jax.lax.reduce_precision(scaled, exponent_bits=8, mantissa_bits=18)
    # The converted boolean is 0 where it counts. A scan would store an array of zeros.
    scaled = jnp.where(dropped, (~dropped).astype(scaled.dtype), scaled).astype(x.dtype)
    # Even a division by 1 is not exact on devices that flush subnormal numbers to zero.
    return jnp.where(p == 0, x, scaled)


@partial(jax.jit, static_argnums=(3,))
@partial(jax.checkpoint, static_argnums=(3,))
def _mask(key: jax.Array, x: jax.Array, rate: jax.Array, bits: _bits.Bits | None) -> jax.Array:
    dropped = _bits.bernoulli(key, rate, x.shape, like=x, bits=bits)
    kept = jnp.where(dropped, (~dropped).astype(x.dtype), x)
    return nan_where(jnp.isnan(rate), kept)


@partial(jax.jit, static_argnums=(3,))
@partial(jax.checkpoint, static_argnums=(3,))
def _gaussian(key: jax.Array, x: jax.Array, rate: jax.Array, bits: _bits.Bits | None) -> jax.Array:
    noise = _bits.normal(key, x.shape, like=x, bits=bits).astype(rate.dtype)
    # The root has an infinite derivative at 0: a rate of 0 takes the other branch.
    odds = jnp.where(rate == 0, jnp.ones_like(rate), rate / (1 - rate))
    noisy = (widen(x) * (1 + jnp.sqrt(odds) * noise)).astype(x.dtype)
    return jnp.where(rate == 0, x, noisy)
