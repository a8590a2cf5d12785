"""Stochastic depth for the whole batch, and drop rates that rise linearly with depth."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import (
    check_floating,
    check_key,
    check_rate,
    check_static_integer,
    is_static,
    is_static_zero,
)
from jaxreg._numerics import as_strength, keep_rate, widen
from jaxreg._scopes import mark

Block = Callable[[jax.Array], jax.Array]


def drop_path_rates(final_rate: ArrayLike, depth: int) -> tuple[ArrayLike, ...]:
    r"""Returns one drop rate per block, rising linearly from 0 to ``final_rate``.

    .. math::

      p_i = \frac{i}{d - 1} \, p, \qquad i = 0, \dots, d - 1

    Early blocks compute features that all others build on. The first block is always kept, as in
    ConvNeXt, vision transformers and timm. Huang et al. count from 1, so that it is dropped too.

    Args:
      final_rate: Rate :math:`p` of the last block, or of the only one, in ``[0, 1]``.
      depth: Number :math:`d` of blocks.

    Returns:
      Tuple of ``depth`` numbers for :func:`drop_path` or :func:`stochastic_depth`; arrays if
      ``final_rate`` is an array.

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
        last = jnp.clip(as_strength(last, last), 0, 1)
    if depth == 1:
        return (last,)
    # The fraction is computed first: the last one is 1, so that the last rate is exact.
    return tuple(last * (i / (depth - 1)) for i in range(depth))


@mark("rate")
def stochastic_depth(
    key: jax.Array,
    block: Block,
    x: jax.Array,
    *,
    rate: ArrayLike,
    cond: Callable[..., Any] = jax.lax.cond,
    bits: _bits.Bits | None = None,
) -> jax.Array:
    r"""Adds a residual block's output to ``x``, or randomly skips the block for the whole batch.

    .. math::

      y = x + \frac{m}{1 - p} \, f(x), \qquad m \sim \mathrm{Bernoulli}(1 - p)

    The decision is a ``cond``: if :math:`m = 0`, neither the block nor its backward pass is
    computed. ``jax.vmap`` over keys, rates or ``x`` turns the ``cond`` into a select, which always
    computes the block. :func:`drop_path` decides for every example and always computes. Use
    :func:`full_depth` at evaluation time.

    On CPU, XLA computes convolutions in a conditional about ten times slower than elsewhere, which
    costs more than skipping saves. A select in place of the ``cond`` always computes the block, at
    full speed: ``cond=lambda added, yes, no, x: jnp.where(added, yes(x), no(x))``. Dense layers are
    not affected.

    Args:
      key: PRNG key.
      block: The function :math:`f`, without the shortcut; its result has the shape and dtype of
        ``x``. It may close over parameters, and gradients reach them.
      x: Floating-point array of any shape.
      rate: Probability :math:`p` of skipping, in ``[0, 1]``. A Python or NumPy 0 always adds and
        draws nothing; a rate of 1 returns ``x``.
      cond: Function called as ``cond(predicate, true_function, false_function, x)``. Inside a Flax
        module, pass a lifted one, such as ``nnx.cond``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array with the shape and dtype of ``x``, equal to ``x + block(x)`` in expectation.

    Raises:
      TypeError: ``x`` is not floating-point, ``key`` is not a single PRNG key, or ``block`` does
        not return an array of the dtype of ``x``.
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
    check_key(key)
    check_floating(x, "x")
    check_rate(rate)
    if is_static_zero(rate):
        return full_depth(block, x)
    p = jnp.clip(as_strength(rate, x), 0, 1)

    def add_branch(x: jax.Array) -> jax.Array:
        branch = block(x)
        _check_branch(branch, x)
        return _sum(x, branch, p, keep_rate(rate, x))

    skipped = _bits.bernoulli(key, p, (), like=p, bits=bits)
    # The decision at a rate of NaN depends on the platform, so always add, which returns NaN.
    return cond(~skipped | jnp.isnan(p), add_branch, lambda x: x, x)


def full_depth(block: Block, x: jax.Array) -> jax.Array:
    r"""Adds a residual block's output to ``x``: the evaluation mode of :func:`stochastic_depth`.

    .. math::

      y = x + f(x)

    Args:
      block: The function :math:`f`, without the shortcut; its result has the shape and dtype of
        ``x``.
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
    branch = block(x)
    _check_branch(branch, x)
    return x + branch


def _sum(x: jax.Array, branch: jax.Array, p: jax.Array, keep: jax.Array) -> jax.Array:
    """Returns ``x + branch / keep`` with one rounding, where ``keep`` is ``1 - p``."""
    # A select computes both sides: dividing by 1 instead of 0 keeps NaN out of the gradient.
    keep = jnp.where(p >= 1, jnp.ones_like(p), keep)
    branch = widen(branch)
    branch = jnp.where(p == 0, branch, branch / keep)
    return (widen(x) + branch).astype(x.dtype)


def _check_branch(branch: jax.Array, x: jax.Array) -> None:
    """Raises unless the block's output ``branch`` has the shape and dtype of ``x``."""
    if not hasattr(branch, "dtype"):
        raise TypeError(f"`block` must return an array, got {type(branch).__name__}.")
    if branch.shape != x.shape:
        raise ValueError(
            f"`block` must keep the shape of `x`, {x.shape}, got {branch.shape}; if the "
            "shortcut has weights of its own, use drop_path."
        )
    if branch.dtype != x.dtype:
        raise TypeError(
            f"`block` must keep the dtype of `x`, {x.dtype}, got {branch.dtype}; cast its result."
        )
