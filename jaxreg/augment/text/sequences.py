"""Helpers for sequences of token ids: masks of real and protected tokens, and indexing."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from jaxreg._checks import check_broadcasts, check_rate, is_static
from jaxreg._labels import check_where, widen_labels
from jaxreg._sharding import explicit_sharding, place_like, whole_along

Ids = ArrayLike | Sequence[int]


class Edited(NamedTuple):
    """Edited tokens, and a boolean mask of real tokens.

    Attributes:
      tokens: Token ids ``[..., length]``.
      where: Booleans of the same shape that mark the real tokens.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.augment import text
      >>> tokens = jnp.array([7, 8, 9])
      >>> tokens, where = text.random_deletion(jax.random.key(0), tokens, rate=1.0, pad_id=0)
      >>> print(where, tokens[1:])
      [ True False False] [0 0]
    """

    tokens: jax.Array
    where: jax.Array


class Sequences(NamedTuple):
    """Token ids, and boolean masks of the real tokens and of the tokens that may change."""

    tokens: jax.Array
    real: jax.Array
    free: jax.Array


def read(tokens: jax.Array, where: jax.Array | None, protected: Ids | None) -> Sequences:
    """Checks tokens and masks; returns the tokens with masks of real and changeable positions.

    Raises:
      TypeError: ``tokens`` are not integers, or ``protected`` is neither ids nor booleans.
      ValueError: ``tokens`` have no axis, or the shapes do not fit.
    """
    check_tokens(tokens)
    check_where(where, tokens.shape, "tokens")
    tokens = whole_along(jnp.asarray(tokens), [tokens.ndim - 1])
    real = jnp.ones(tokens.shape, bool) if where is None else jnp.asarray(where).astype(bool)
    real = place_like(real, tokens)
    if protected is None:
        return Sequences(tokens, real, real)
    return Sequences(tokens, real, real & ~_is_protected(tokens, protected))


def check_tokens(tokens: jax.Array, name: str = "tokens") -> None:
    """Raises unless ``tokens`` is an array of integers with at least one axis."""
    if not hasattr(tokens, "dtype"):
        raise TypeError(
            f"`{name}` must be an array, got {type(tokens).__name__}; pass jnp.asarray(...)"
        )
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise TypeError(f"`{name}` must be integer token ids, got dtype {tokens.dtype}.")
    if tokens.ndim == 0:
        raise ValueError(f"`{name}` must have shape [..., length], got a single number.")


def check_id(value: ArrayLike, name: str, tokens: jax.Array) -> None:
    """Raises unless ``value`` is an integer; Python and NumPy ids must fit ``tokens.dtype``."""
    if jnp.ndim(value) != 0 or not jnp.issubdtype(jnp.result_type(value), jnp.integer):
        raise TypeError(f"`{name}` must be a single integer, got {value!r}.")
    limits = jnp.iinfo(tokens.dtype)
    if is_static(value) and not limits.min <= value <= limits.max:  # pyright: ignore
        raise ValueError(
            f"`{name}` must fit the {tokens.dtype} of `tokens`, got {value}; convert the tokens "
            "first, for example with tokens.astype(jnp.int32)."
        )


def clip_rate(rate: ArrayLike, name: str = "rate") -> jax.Array:
    """Checks a rate and returns it as float32, clipped to ``[0, 1]``."""
    check_rate(rate, name)
    return jnp.clip(jnp.asarray(rate, jnp.float32), 0, 1)


def for_rows(function: Callable[..., Any], tokens: jax.Array) -> Callable[..., Any]:
    """Lifts a function of single sequences to the leading axes of ``tokens`` with ``vmap``."""
    for _ in range(tokens.ndim - 1):
        function = jax.vmap(function)
    return function


def gather(table: jax.Array, tokens: jax.Array) -> jax.Array:
    """Returns the table row of each token; an id out of range gets an arbitrary row."""
    sharding = explicit_sharding(tokens)
    if sharding is not None:
        sharding = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec, None))
    table = whole_along(jnp.asarray(table), [0, 1])
    return table.at[widen_labels(tokens)].get(mode="clip", out_sharding=sharding)


def pick(words: jax.Array, count: jax.Array) -> jax.Array:
    """Reduces random words to int32 numbers in ``[0, count)``, or to 0 if ``count`` is 0."""
    return (words % jnp.maximum(count, 1).astype(jnp.uint32)).astype(jnp.int32)


def count(flags: jax.Array, axis: int | None = None) -> jax.Array:
    """Returns the number of true flags as int32."""
    return jnp.sum(flags, axis, dtype=jnp.int32)


def rank(flags: jax.Array, axis: int = 0) -> jax.Array:
    """Returns the number of true flags before each true flag, as int32."""
    return jnp.cumsum(flags, axis, dtype=jnp.int32) - 1


def places(row: jax.Array) -> jax.Array:
    """Returns the positions 0, 1, ... of a sequence as int32."""
    return jnp.arange(row.size, dtype=jnp.int32)


def in_front(flags: jax.Array) -> jax.Array:
    """Returns the positions of a sequence, stably sorted with flagged positions first."""
    place = jnp.where(flags, rank(flags), count(flags) + rank(~flags))
    # A stable sort of the flags gives the same result but takes several times as long.
    return (
        jnp.zeros_like(place)
        .at[place]
        .set(places(flags), mode="promise_in_bounds", unique_indices=True)
    )


def take(row: jax.Array, positions: jax.Array) -> jax.Array:
    """Returns the elements of a sequence at ``positions``, which are clipped to its end."""
    return row.at[positions].get(mode="clip")


def settle(
    ids: jax.Array, kept: jax.Array, slots: jax.Array, otherwise: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Moves the kept ids of a sequence, in their order, to its first slots.

    Args:
      ids: Token ids in their order.
      kept: Booleans that mark the ids to keep.
      slots: Booleans that mark the positions to fill.
      otherwise: Ids for all other positions, with the shape of ``slots``.

    Returns:
      The sequence, and booleans that mark the filled positions.
    """
    own = rank(slots)
    filled = slots & (own < count(kept))
    return jnp.where(filled, take(take(ids, in_front(kept)), own), otherwise), filled


def _is_protected(tokens: jax.Array, protected: Ids) -> jax.Array:
    """Returns a boolean mask of protected positions."""
    array = jnp.asarray(protected, None if np.size(protected) else jnp.int32)
    if array.dtype == bool:
        check_broadcasts(array, "protected", tokens.shape)
        return place_like(jnp.broadcast_to(array, tokens.shape), tokens)
    if not jnp.issubdtype(array.dtype, jnp.integer) or array.ndim > 1:
        raise TypeError(
            "`protected` must be a list of integer ids or a boolean array of positions, got "
            f"{array.dtype} of shape {array.shape}."
        )
    ids = widen_labels(tokens)
    same = ids[..., None] == array.astype(ids.dtype).reshape((1,) * ids.ndim + (-1,))
    return jnp.any(same, axis=-1)
