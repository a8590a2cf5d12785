"""Sequences rewritten by a user's models: paraphrases and back-translations."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import check_key
from jaxreg._scopes import mark
from jaxreg._sharding import explicit_sharding, place_like
from jaxreg.augment.text.sequences import (
    Edited,
    check_id,
    check_tokens,
    clip_rate,
    for_rows,
    read,
    settle,
)

Rewrite = Callable[[jax.Array, jax.Array, jax.Array], Any]


@mark("probability")
def paraphrase(
    key: jax.Array,
    tokens: jax.Array,
    *,
    function: Rewrite,
    probability: ArrayLike,
    pad_id: ArrayLike,
    where: jax.Array | None = None,
) -> Edited:
    """Replaces random sequences by paraphrases that ``function`` returns.

    Args:
      key: PRNG key.
      tokens: Token ids ``[..., length]``.
      function: Takes a key, all tokens and the booleans that mark real ones, and returns its tokens
        and booleans, ``[..., any length]`` in the dtype of ``tokens``. Paraphrasing can be traced
        if ``function`` can.
      probability: Probability of replacing a sequence, in ``[0, 1]``.
      pad_id: Id for padding in replaced sequences.
      where: Booleans like ``tokens`` that mark real tokens; all by default.

    Returns:
      Tokens of the same shape and dtype, and booleans that mark the real ones. The real tokens of a
      new sequence come first, cut off at ``length``, followed by ``pad_id``. A sequence of only
      padding is unchanged, and so is a sequence for which the function returns no real token.

    Raises:
      TypeError: ``tokens`` or ``pad_id`` are not integers, ``key`` is not a single PRNG key, or
        ``function`` does not return a pair of tokens, in the dtype of ``tokens``, and booleans.
      ValueError: ``probability`` is a number outside ``[0, 1]``, or shapes do not fit.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.augment import text
      >>> def backwards(key, tokens, where):
      ...     return tokens[..., ::-1], where[..., ::-1]
      >>> tokens = jnp.array([[5, 6, 7, 0]])
      >>> print(text.paraphrase(
      ...     jax.random.key(0), tokens, function=backwards, probability=1.0, pad_id=0,
      ...     where=tokens != 0,
      ... ).tokens)
      [[7 6 5 0]]
    """
    check_key(key)
    tokens, real, _ = read(tokens, where, None)
    rate = clip_rate(probability, "probability")
    check_id(pad_id, "pad_id", tokens)
    coin, own = jax.random.split(key)
    other, present = _check_result(function(own, tokens, real), tokens, "function")
    if other.dtype != tokens.dtype:
        raise TypeError(
            f"`function` must return tokens of dtype {tokens.dtype}, got {other.dtype}; convert "
            "them with .astype(tokens.dtype)."
        )
    if tokens.size == 0 or other.shape[-1] == 0:
        return Edited(tokens, real)
    padding = jnp.full_like(tokens, jnp.asarray(pad_id, tokens.dtype))
    slots = jnp.ones_like(real)
    fitted, filled = for_rows(settle, tokens)(other, present, slots, padding)
    replaced = _bits.bernoulli(coin, rate, (*tokens.shape[:-1], 1), like=tokens)
    replaced = replaced & jnp.any(real, -1, keepdims=True) & filled[..., :1]
    replaced = place_like(jnp.broadcast_to(replaced, tokens.shape), tokens)
    return Edited(jnp.where(replaced, fitted, tokens), jnp.where(replaced, filled, real))


@mark("probability")
def back_translation(
    key: jax.Array,
    tokens: jax.Array,
    *,
    forward: Rewrite,
    backward: Rewrite,
    probability: ArrayLike,
    pad_id: ArrayLike,
    where: jax.Array | None = None,
) -> Edited:
    """Translates random sequences into another language and back.

    Args:
      key: PRNG key.
      tokens: Token ids ``[..., length]``.
      forward: Takes a key, all tokens and the booleans that mark real ones, and returns the tokens
        of the translation and their booleans, ``[..., any length]`` of any integer dtype.
      backward: Takes a key and the results of ``forward``, and returns tokens and booleans in the
        dtype of ``tokens``.
      probability: Probability of replacing a sequence, in ``[0, 1]``.
      pad_id: Id for padding in replaced sequences.
      where: Booleans like ``tokens`` that mark real tokens; all by default.

    Returns:
      Tokens of the same shape and dtype, and booleans that mark the real ones, see
      :func:`paraphrase`.

    Raises:
      TypeError: ``tokens`` or ``pad_id`` are not integers, ``key`` is not a single PRNG key, or a
        function does not return a pair of integer tokens and booleans, or ``backward`` does not
        keep the dtype of ``tokens``.
      ValueError: ``probability`` is a number outside ``[0, 1]``, or shapes do not fit.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.augment import text
      >>> def forward(key, tokens, where):
      ...     return tokens // 2, where  # Ids 4 and 5 have the same translation.
      >>> def backward(key, tokens, where):
      ...     return 2 * tokens, where
      >>> print(text.back_translation(
      ...     jax.random.key(0), jnp.array([[5, 7, 4]]), forward=forward, backward=backward,
      ...     probability=1.0, pad_id=0,
      ... ).tokens)
      [[4 6 4]]

    References:
      Sennrich, Haddow and Birch, `Improving Neural Machine Translation Models with Monolingual Data
      <https://arxiv.org/abs/1511.06709>`_, 2015
      Xie et al., `Unsupervised Data Augmentation for Consistency Training
      <https://arxiv.org/abs/1904.12848>`_, 2019
    """

    def there_and_back(key: jax.Array, tokens: jax.Array, where: jax.Array) -> Any:
        there, back = jax.random.split(key)
        foreign, present = _check_result(forward(there, tokens, where), tokens, "forward")
        return _check_result(backward(back, foreign, present), tokens, "backward")

    return paraphrase(
        key,
        tokens,
        function=there_and_back,
        probability=probability,
        pad_id=pad_id,
        where=where,
    )


def _check_result(result: Any, tokens: jax.Array, name: str) -> tuple[jax.Array, jax.Array]:
    """Checks the tokens and mask that a function returned, and shards them like ``tokens``."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(
            f"`{name}` must return two arrays, tokens and booleans that mark the real ones, got "
            f"{type(result).__name__}."
        )
    other = jnp.asarray(result[0])
    where = jnp.asarray(result[1])
    check_tokens(other, name)
    if other.shape[:-1] != tokens.shape[:-1] or where.shape != other.shape:
        shape = ", ".join([*map(str, tokens.shape[:-1]), "any length"])
        raise ValueError(
            f"`{name}` must return tokens of shape [{shape}] and booleans of the same shape, got "
            f"{other.shape} and {where.shape}; keep all axes of `tokens` but the last."
        )
    if where.dtype != bool:
        raise TypeError(f"`{name}` must return booleans as its second array, got {where.dtype}.")
    return _by_row(other, tokens), _by_row(where, tokens)


def _by_row(value: jax.Array, tokens: jax.Array) -> jax.Array:
    """Reshards ``value`` like ``tokens``, with a last axis that is not split across devices."""
    sharding = explicit_sharding(tokens)
    if sharding is None:
        return value
    spec = PartitionSpec(*sharding.spec[:-1], None)
    return jax.sharding.reshard(value, NamedSharding(sharding.mesh, spec))
