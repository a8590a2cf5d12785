"""Stochastic depth of the whole batch, and the ramp of rates along the depth of a network."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import (
    check_floating,
    check_rate,
    check_static_integer,
    is_static,
    is_static_zero,
)
from jaxreg._numerics import widen
from jaxreg.dropout._drop import check_arguments, clipped, kept

Block = Callable[[jax.Array], jax.Array]


def drop_path_rates(final_rate: ArrayLike, depth: int) -> tuple[ArrayLike, ...]:
    r"""Rates of the blocks of a network, rising linearly from 0 to ``final_rate``.

    .. math::

      p_i = \frac{i}{d - 1} \, p, \qquad i = 0, \dots, d - 1

    Early blocks compute features that all others build on. The paper counts from 1, so that the
    first block is dropped too; this is the rule of ConvNeXt, of the vision transformers and of
    timm, whose first block always stays.

    Args:
      final_rate: Rate :math:`p` of the last block, in ``[0, 1]``; of the only one where there is
        one.
      depth: Number :math:`d` of blocks.

    Returns:
      Tuple of ``depth`` numbers, or arrays where ``final_rate`` is one, for :func:`drop_path` or
      :func:`stochastic_depth`.

    Raises:
      TypeError: ``depth`` is not an integer, or ``final_rate`` is an array of integers.
      ValueError: ``final_rate`` is a number outside ``[0, 1]``, or ``depth`` is less than 1.

    Example:
      >>> from jaxreg import dropout
      >>> dropout.drop_path_rates(0.5, 5)
      (0.0, 0.125, 0.25, 0.375, 0.5)

    References:
      Huang et al., `Deep Networks with Stochastic Depth
      <https://arxiv.org/abs/1603.09382>`_, 2016; Liu et al., `A ConvNet for the 2020s
      <https://arxiv.org/abs/2201.03545>`_, 2022
    """
    check_rate(final_rate, "final_rate")
    check_static_integer(depth, "depth")
    if depth < 1:
        raise ValueError(f"`depth` must be at least 1, got {depth}; pass the number of blocks.")
    last: Any = final_rate
    if not is_static(final_rate):
        check_floating(last, "final_rate")
        last = clipped(last, last)
    # The fraction comes first: the last one is 1, so that the last rate is `final_rate` exactly.
    return tuple(last * (i / (depth - 1)) for i in range(depth)) if depth > 1 else (last,)


def stochastic_depth(
    key: jax.Array,
    block: Block,
    x: jax.Array,
    *,
    rate: ArrayLike,
    cond: Callable[..., Any] = jax.lax.cond,
    bits: _bits.Bits | None = None,
) -> jax.Array:
    r"""Adds a residual block, or skips its computation, for the whole batch at once.

    .. math::

      y = x + \frac{m}{1 - p} \, f(x), \qquad m \sim \mathrm{Bernoulli}(1 - p)

    The one decision stands in a ``cond``: where :math:`m = 0` neither the block nor its backward
    pass is computed. ``jax.vmap`` over keys, rates or ``x`` turns a ``cond`` into a select, which
    computes the block each time. :func:`drop_path` decides for every example and always computes.
    On a CPU, XLA computes convolutions in a conditional some ten times slower than elsewhere, which
    is more than skipping saves; dense blocks are not affected. :func:`full_depth` is evaluation.

    Args:
      key: PRNG key.
      block: The function :math:`f`, without the shortcut; its result is like ``x``. It may close
        over parameters, and gradients reach them.
      x: Floating-point array of any shape.
      rate: Probability :math:`p` of skipping, in ``[0, 1]``. A number 0 decides nothing and always
        adds; a rate of 1 returns ``x``.
      cond: Called as ``cond(predicate, true_function, false_function, x)``, to pass a lifted one.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array with the shape and dtype of ``x``, equal to ``x + block(x)`` in expectation.

    Raises:
      TypeError: ``x`` is not floating-point, ``key`` is not one key, or ``block`` does not return
        an array of the dtype of ``x``.
      ValueError: ``rate`` is a number outside ``[0, 1]``, or ``block`` changes the shape.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> def step(x, key):
      ...     return x, dropout.stochastic_depth(key, jnp.ones_like, x, rate=0.5)
      >>> _, y = jax.lax.scan(step, jnp.zeros(()), jax.random.split(jax.random.key(0), 100))
      >>> print(jnp.unique(y))
      [0. 2.]

    References:
      Huang et al., `Deep Networks with Stochastic Depth
      <https://arxiv.org/abs/1603.09382>`_, 2016
    """
    check_arguments(key, x, rate)
    if is_static_zero(rate):
        return full_depth(block, x)
    p = clipped(rate, x)

    def added(x: jax.Array) -> jax.Array:
        return _sum(x, _checked(block(x), x), p, kept(rate, x))

    skipped = _bits.bernoulli(key, p, (), like=p, bits=bits)
    # A rate of NaN takes the branch that returns NaN; what it decides depends on the platform.
    return cond(~skipped | jnp.isnan(p), added, lambda x: x, x)


def full_depth(block: Block, x: jax.Array) -> jax.Array:
    r"""Adds a residual block: what evaluation makes of :func:`stochastic_depth`.

    .. math::

      y = x + f(x)

    Args:
      block: The function :math:`f`, without the shortcut; its result is like ``x``.
      x: Floating-point array of any shape.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not floating-point, or ``block`` does not return an array of its dtype.
      ValueError: ``block`` changes the shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> print(dropout.full_depth(jnp.square, jnp.array([1.0, 3.0])))
      [ 2. 12.]

    References:
      Huang et al., `Deep Networks with Stochastic Depth
      <https://arxiv.org/abs/1603.09382>`_, 2016
    """
    check_floating(x, "x")
    return x + _checked(block(x), x)


def _sum(x: jax.Array, branch: jax.Array, rate: jax.Array, keep_rate: jax.Array) -> jax.Array:
    """Returns ``x + branch / keep_rate`` with one rounding."""
    # Where a select computes both sides, dividing by 1 instead of 0 keeps NaN out of the gradient.
    keep_rate = jnp.where(rate >= 1, jnp.ones_like(rate), keep_rate)
    branch = widen(branch)
    branch = jnp.where(rate == 0, branch, branch / keep_rate)
    return (widen(x) + branch).astype(x.dtype)


def _checked(branch: jax.Array, x: jax.Array) -> jax.Array:
    """Raises unless the result of the block is like its input."""
    if not hasattr(branch, "dtype"):
        raise TypeError(f"`block` must return an array, got {type(branch).__name__}.")
    if branch.shape != x.shape:
        raise ValueError(
            f"`block` must return the shape of `x`, {x.shape}, got {branch.shape}; where the "
            "shortcut has weights of its own, use drop_path."
        )
    if branch.dtype != x.dtype:
        raise TypeError(
            f"`block` must return the dtype of `x`, {x.dtype}, got {branch.dtype}; cast it inside."
        )
    return branch
