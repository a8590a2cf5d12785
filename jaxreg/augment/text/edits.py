"""Random deletion, insertion and swaps of tokens."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import check_key
from jaxreg._scopes import mark
from jaxreg.augment.text.neighbors import lookup, one_of
from jaxreg.augment.text.sequences import (
    Edited,
    Ids,
    check_id,
    clip_rate,
    count,
    for_rows,
    in_front,
    pick,
    places,
    rank,
    read,
    settle,
    take,
)


@mark("rate")
def random_deletion(
    key: jax.Array,
    tokens: jax.Array,
    *,
    rate: ArrayLike,
    pad_id: ArrayLike,
    where: jax.Array | None = None,
    protected: Ids | None = None,
) -> Edited:
    r"""Deletes random tokens and closes the gaps.

    .. math::

      y = (x_i)_{i : m_i = 1}, \qquad m_i \sim \mathrm{Bernoulli}(1 - p)

    At least one unprotected token remains: if all are deleted, one of them, drawn uniformly, is
    kept.

    Args:
      key: PRNG key.
      tokens: Token ids ``[..., length]``.
      rate: Probability :math:`p` of deleting a token, in ``[0, 1]``.
      pad_id: Id for the freed positions.
      where: Booleans like ``tokens`` that mark real tokens; all by default.
      protected: Ids to keep, or a boolean array of positions.

    Returns:
      Tokens of the same shape and dtype, and booleans that mark the real ones. The remaining tokens
      move to the first positions of real tokens and keep their order.

    Raises:
      TypeError: ``tokens`` or ``pad_id`` are not integers, or ``key`` is not a single PRNG key.
      ValueError: ``rate`` is a number outside ``[0, 1]``, the shapes do not fit, or ``pad_id`` does
        not fit the dtype.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.augment import text
      >>> tokens = jnp.array([1, 5, 6, 7, 2, 0])  # start, three words, end, padding
      >>> edited = text.random_deletion(
      ...     jax.random.key(0), tokens, rate=1.0, pad_id=0, where=tokens != 0, protected=[1, 2]
      ... )
      >>> print(edited.where, edited.tokens[2:])
      [ True  True  True False False False] [2 0 0 0]

    References:
      Wei and Zou, `EDA: Easy Data Augmentation Techniques for Boosting Performance on Text
      Classification Tasks <https://arxiv.org/abs/1901.11196>`_, 2019
    """
    check_key(key)
    tokens, real, free = read(tokens, where, protected)
    rate = clip_rate(rate)
    check_id(pad_id, "pad_id", tokens)
    if tokens.size == 0:
        return Edited(tokens, real)
    words = _bits.draw(key, tokens.shape, like=tokens)
    deleted = free & _bits.below(words, rate)

    def edit(tokens, real, free, deleted, words):
        # If all are deleted, all words are below the rate, and each is equally often the highest.
        highest = jnp.argmax(jnp.where(free, words, jnp.zeros_like(words)))
        kept = real & ~(deleted & (places(tokens) != highest.astype(jnp.int32)))
        padding = jnp.where(real, jnp.asarray(pad_id, tokens.dtype), tokens)
        return settle(tokens, kept, real, padding)

    return Edited(*for_rows(edit, tokens)(tokens, real, free, deleted, words))


@mark("rate")
def random_insertion(
    key: jax.Array,
    tokens: jax.Array,
    *,
    neighbors: jax.Array,
    rate: ArrayLike,
    where: jax.Array | None = None,
    protected: Ids | None = None,
) -> Edited:
    r"""Inserts neighbors (synonyms) of random tokens at random positions.

    .. math::

      n = \lfloor p \, l + v \rfloor, \qquad v \sim \mathrm{U}(0, 1)

    where :math:`l` is the number of unprotected tokens. Each insertion draws, uniformly from the
    original sequence, one of these tokens that has neighbors, one of its neighbors, and one of the
    :math:`l` tokens to insert it before. So nothing is inserted before a protected first token or
    after a protected last one.

    EDA rounds :math:`p \, l` down but not to 0, and draws each insertion from the result of the
    previous ones.

    Args:
      key: PRNG key.
      tokens: Token ids ``[..., length]``.
      neighbors: Table ``[vocabulary, k]``, see :func:`synonym_replacement`.
      rate: Number of insertions per token :math:`p`, in ``[0, 1]``.
      where: Booleans like ``tokens`` that mark real tokens; all by default.
      protected: Ids to keep, or a boolean array of positions.

    Returns:
      Tokens of the same shape and dtype, and booleans that mark the real ones. Insertions push the
      other tokens into the padding after the last of them. If that is too short, the last
      unprotected tokens are cut off.

    Raises:
      TypeError: ``tokens`` or ``neighbors`` are not integers, or ``key`` is not a single PRNG key.
      ValueError: ``rate`` is a number outside ``[0, 1]``, the shapes do not fit, or the dtype of
        ``tokens`` is too narrow for the ids of the table.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.augment import text
      >>> table = text.neighbors_from_dictionary({5: [6]}, vocabulary_size=9, k=1)
      >>> tokens = jnp.array([1, 5, 2, 0, 0])
      >>> edited = text.random_insertion(
      ...     jax.random.key(0), tokens, neighbors=table, rate=1.0, where=tokens != 0,
      ...     protected=[1, 2],
      ... )
      >>> print(edited.tokens, edited.where)
      [1 6 5 2 0] [ True  True  True  True False]

    References:
      Wei and Zou, `EDA: Easy Data Augmentation Techniques for Boosting Performance on Text
      Classification Tasks <https://arxiv.org/abs/1901.11196>`_, 2019
    """
    check_key(key)
    tokens, real, free = read(tokens, where, protected)
    rate = clip_rate(rate)
    near, known = lookup(neighbors, tokens)
    if tokens.size == 0:
        return Edited(tokens, real)
    keys = jax.random.split(key, 4)
    sources = _bits.draw(keys[0], tokens.shape, like=tokens)
    synonyms = _bits.draw(keys[1], tokens.shape, like=tokens)
    spots = _bits.draw(keys[2], tokens.shape, like=tokens)
    rounding = _rounding(keys[3], tokens)

    def edit(tokens, real, free, near, known, sources, synonyms, spots, rounding):
        eligible = free & jnp.any(known, -1)
        source = take(in_front(eligible), pick(sources, count(eligible)))
        number = jnp.where(jnp.any(eligible), _operations(rate, free, rounding), 0)
        inserted = one_of(take(near, source), take(known, source), synonyms)
        before = take(in_front(free), pick(spots, count(free)))
        return _insert(tokens, real, free, inserted, before, number)

    arrays = (tokens, real, free, near, known, sources, synonyms, spots, rounding)
    return Edited(*for_rows(edit, tokens)(*arrays))


@mark("rate")
def random_swap(
    key: jax.Array,
    tokens: jax.Array,
    *,
    rate: ArrayLike,
    where: jax.Array | None = None,
    protected: Ids | None = None,
) -> jax.Array:
    r"""Swaps random pairs of tokens.

    .. math::

      n = \lfloor p \, l + v \rfloor, \qquad v \sim \mathrm{U}(0, 1)

    is the number of swaps, and :math:`l` the number of unprotected tokens. For each swap, all pairs
    of two different positions are equally likely. EDA rounds :math:`p \, l` down but not to 0.

    Args:
      key: PRNG key.
      tokens: Token ids ``[..., length]``.
      rate: Number of swaps per token :math:`p`, in ``[0, 1]``.
      where: Booleans like ``tokens`` that mark real tokens; all by default.
      protected: Ids that keep their positions, or a boolean array of positions.

    Returns:
      Tokens of the same shape and dtype. Swaps run one at a time, so a batch takes as many steps as
      its example with the most swaps.

    Raises:
      TypeError: ``tokens`` are not integers, or ``key`` is not a single PRNG key.
      ValueError: ``rate`` is a number outside ``[0, 1]``, or the shapes do not fit.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.augment import text
      >>> tokens = jnp.array([1, 5, 6, 2])
      >>> print(text.random_swap(jax.random.key(0), tokens, rate=0.5, protected=[1, 2]))
      [1 6 5 2]

    References:
      Wei and Zou, `EDA: Easy Data Augmentation Techniques for Boosting Performance on Text
      Classification Tasks <https://arxiv.org/abs/1901.11196>`_, 2019
    """
    check_key(key)
    tokens, _, free = read(tokens, where, protected)
    rate = clip_rate(rate)
    if tokens.size == 0:
        return tokens
    keys = jax.random.split(key, 3)
    firsts = _bits.draw(keys[0], tokens.shape, like=tokens)
    seconds = _bits.draw(keys[1], tokens.shape, like=tokens)

    def pairs(free, firsts, seconds, rounding):
        number = count(free)
        first = pick(firsts, number)
        second = pick(seconds, number - 1)
        # Skips the first, so that all others are equally likely.
        second = jnp.where(second >= first, second + 1, second)
        order = in_front(free)
        swaps = jnp.where(number > 1, _operations(rate, free, rounding), 0)
        return take(order, first), take(order, second), swaps

    by_row = for_rows(pairs, tokens)
    first, second, number = by_row(free, firsts, seconds, _rounding(keys[2], tokens))

    def step(turn, tokens):
        def swap(tokens, first, second, number):
            pair = jnp.stack([first[turn], second[turn]])
            swapped = tokens.at[pair].set(tokens[pair[::-1]])
            return jnp.where(turn < number, swapped, tokens)

        return for_rows(swap, tokens)(tokens, first, second, number)

    return jax.lax.fori_loop(0, jnp.max(number), step, tokens)


def _rounding(key: jax.Array, tokens: jax.Array) -> jax.Array:
    """Draws a uniform number in ``(0, 1)`` for each sequence, for stochastic rounding."""
    shape = (*tokens.shape[:-1], 1)
    return _bits.uniform(key, shape, like=tokens).reshape(shape[:-1])


def _operations(rate: jax.Array, free: jax.Array, rounding: jax.Array) -> jax.Array:
    """Returns the number of edits: ``rate`` times the ``free`` tokens, rounded at random.

    ``rounding`` is a uniform draw, so the mean is exact.
    """
    exact = rate * count(free).astype(jnp.float32)
    whole = jnp.floor(exact)
    return (whole + (rounding < exact - whole).astype(jnp.float32)).astype(jnp.int32)


def _insert(
    tokens: jax.Array,
    real: jax.Array,
    free: jax.Array,
    inserted: jax.Array,
    before: jax.Array,
    number: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Inserts ``inserted[:number]`` into a sequence, each id before its position in ``before``."""
    positions = places(tokens)
    beyond = 2 * tokens.size
    keys = jnp.concatenate(
        [
            jnp.where(positions < number, 2 * before, beyond),
            jnp.where(real, 2 * positions + 1, beyond),
        ]
    )
    order = jnp.argsort(keys, stable=True)
    ids = take(jnp.concatenate([inserted, tokens]), order)
    fixed = take(jnp.concatenate([jnp.zeros_like(free), real & ~free]), order)
    present = places(ids) < number + count(real)
    # Includes the padding after the last real token; padding before it stays in place.
    slots = real | jnp.flip(rank(jnp.flip(real)) < 0)
    room = count(slots) - count(fixed)
    kept = present & (fixed | (rank(present & ~fixed) < room))
    return settle(ids, kept, slots, tokens)
