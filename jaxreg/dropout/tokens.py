"""Dropout of tokens, so that later layers only compute on the kept tokens."""

import math

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxreg import _bits
from jaxreg._checks import (
    check_axes,
    check_floating,
    check_key,
    check_rate,
    check_static_integer,
    is_static,
)
from jaxreg._scopes import mark
from jaxreg._sharding import explicit_sharding, whole_along

_LAYOUT = "[batch, tokens, ...]"


@mark("rate")
def patch_dropout(
    key: jax.Array,
    x: jax.Array,
    *,
    rate: float,
    prefix: int = 1,
    bits: _bits.Bits | None = None,
) -> tuple[jax.Array, jax.Array]:
    r"""Keeps a random subset of each example's tokens in their original order (PatchDropout).

    .. math::

      y_n = (x_{n i})_{i \in S_n}, \qquad S_n \sim \mathrm{Uniform}
      \{ S \subseteq \{1, \dots, N\} : |S| = k \}, \qquad k = \max(1, \lfloor N (1 - p) \rfloor)

    Nothing is scaled, since attention averages over the tokens. Add position embeddings before, or
    look them up with the returned indices.

    Args:
      key: PRNG key.
      x: Floating-point array ``[batch, tokens, ...]``.
      rate: Share :math:`p` of the :math:`N` tokens after the prefix to drop, a Python or NumPy
        number in ``[0, 1]``. It determines the shape of the result, so it cannot be traced. At
        least one token is kept.
      prefix: Number of leading tokens, such as a class token, that are always kept.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      The kept tokens ``[batch, prefix + k, ...]`` with the dtype of ``x``, and their positions in
      ``x``, ``int32[batch, prefix + k]``, prefix included. A rate of 0 returns ``x``.

    Raises:
      TypeError: ``x`` is not floating-point, ``key`` is not a single PRNG key, ``rate`` is a JAX
        array, or ``prefix`` is not an integer.
      ValueError: ``rate`` is outside ``[0, 1]``, ``x`` has fewer than two axes, or ``prefix`` is
        larger than the number of tokens.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> x = jnp.ones((4, 1 + 196, 32))
      >>> kept, indices = dropout.patch_dropout(jax.random.key(0), x, rate=0.5)
      >>> print(kept.shape, jnp.all(indices[:, 0] == 0), jnp.all(jnp.diff(indices) > 0))
      (4, 99, 32) True True

    References:
      Liu et al., `PatchDropout: Economizing Vision Transformers Using Patch Dropout
      <https://arxiv.org/abs/2208.07220>`_, 2023
    """
    check_key(key)
    check_floating(x, "x")
    check_axes(x, 2, _LAYOUT)
    _check_static(rate)
    _check_prefix(prefix, x)
    number = x.shape[1] - prefix
    count = min(number, _count_kept(number, rate))
    if count == number:
        return every_patch(x)
    whole = whole_along(x, [1])
    shape = x.shape[:2] + (1,) * (x.ndim - 2)
    words = _bits.draw(key, shape, like=whole, bits=bits).reshape(x.shape[:2])
    # The tokens with the smallest words are kept, a random set. The prefix gets words of zero, and
    # among equal words the first tokens win.
    words = jnp.where(_positions(whole) < prefix, jnp.zeros_like(words), words)
    chosen = jnp.argsort(words, axis=1)[:, : prefix + count]
    chosen = jnp.sort(chosen, axis=1).astype(jnp.int32)
    return jax.vmap(_take)(whole, chosen), chosen


def every_patch(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    r"""Returns all tokens and their positions, the evaluation counterpart of :func:`patch_dropout`.

    .. math::

      y_n = (x_{n i})_{i = 0, \dots, T - 1}

    Args:
      x: Floating-point array ``[batch, tokens, ...]``.

    Returns:
      ``x``, and the positions of its tokens, ``int32[batch, tokens]``.

    Raises:
      TypeError: ``x`` is not floating-point.
      ValueError: ``x`` has fewer than two axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> x, indices = dropout.every_patch(jnp.ones((2, 3, 8)))
      >>> print(indices)
      [[0 1 2]
       [0 1 2]]
    """
    check_floating(x, "x")
    check_axes(x, 2, _LAYOUT)
    return x, _positions(x)


def _positions(x: jax.Array) -> jax.Array:
    """Returns the position of every token, int32 ``[batch, tokens]``, sharded like ``x``."""
    sharding = explicit_sharding(x)
    if sharding is not None:
        sharding = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[:2]))
    return jax.lax.broadcasted_iota(jnp.int32, x.shape[:2], dimension=1, out_sharding=sharding)


def _take(tokens: jax.Array, chosen: jax.Array) -> jax.Array:
    """Gathers the tokens of one example at the sorted, unique positions ``chosen``.

    The hints avoid bounds checks, and atomic additions in the backward pass.
    """
    return tokens.at[chosen].get(
        mode="promise_in_bounds", unique_indices=True, indices_are_sorted=True
    )


def _count_kept(number: int, rate: float) -> int:
    """Returns the floor of ``number * (1 - rate)``, tolerating rounding error, and at least 1."""
    rounding = number * 2.0**-22  # Four rounding errors of a float32 rate.
    return max(1, math.floor(number * (1 - float(rate)) + rounding))


def _check_static(rate: float) -> None:
    """Raises unless ``rate`` is a Python or NumPy number in ``[0, 1]``."""
    if not is_static(rate):
        raise TypeError(
            "`rate` of `patch_dropout` must be a Python or NumPy number, since the shape of the "
            f"result depends on it, got {type(rate).__name__}; pass float(rate) outside of "
            "jax.jit, and inside make it a static argument of jax.jit."
        )
    check_rate(rate)


def _check_prefix(prefix: int, x: jax.Array) -> None:
    """Raises unless ``prefix`` is an integer from 0 to the number of tokens."""
    check_static_integer(prefix, "prefix")
    if not 0 <= prefix <= x.shape[1]:
        raise ValueError(
            f"`prefix` must be in [0, {x.shape[1]}], the number of tokens of `x`, got {prefix}; "
            "pass the number of class tokens."
        )
