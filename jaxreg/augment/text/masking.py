"""Masking of single tokens or spans, for a model to predict."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import check_key, check_static_integer, is_static
from jaxreg._labels import widen_labels
from jaxreg._scopes import mark
from jaxreg.augment.text.sequences import (
    Ids,
    check_id,
    clip_rate,
    count,
    for_rows,
    pick,
    places,
    rank,
    read,
    take,
)


class Masked(NamedTuple):
    """Masked tokens, and labels: the original ids of the chosen tokens, and -1 elsewhere.

    Losses of :mod:`jaxreg.targets` ignore labels of -1.

    Attributes:
      tokens: Token ids after masking, with the shape and dtype of the original ones.
      labels: Original ids of the chosen tokens, and -1 elsewhere, in a signed dtype of at least 32
        bits.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.augment import text
      >>> always = text.Replacement(mask_id=4, vocabulary_size=50, masked=1.0, random=0.0)
      >>> tokens, key = jnp.array([1, 17, 2]), jax.random.key(0)
      >>> masked = text.token_masking(key, tokens, rate=1.0, replacement=always, protected=[1, 2])
      >>> print(masked.tokens, masked.labels)
      [1 4 2] [-1 17 -1]
    """

    tokens: jax.Array
    labels: jax.Array


class Replacement(NamedTuple):
    """Replacement rule for the chosen tokens, with BERT's shares by default.

    The other chosen tokens are unchanged.

    Attributes:
      mask_id: Id that stands for a masked token.
      vocabulary_size: Number of ids to draw random ones from.
      masked: Share of the chosen tokens that become ``mask_id``.
      random: Share of the chosen tokens that become an id drawn uniformly from ``[0,
        vocabulary_size)``.

    Example:
      >>> from jaxreg.augment import text
      >>> print(text.Replacement(mask_id=4, vocabulary_size=50))
      Replacement(mask_id=4, vocabulary_size=50, masked=0.8, random=0.1)
    """

    mask_id: ArrayLike
    vocabulary_size: int
    masked: ArrayLike = 0.8
    random: ArrayLike = 0.1


@mark("rate")
def token_masking(
    key: jax.Array,
    tokens: jax.Array,
    *,
    rate: ArrayLike,
    replacement: Replacement,
    where: jax.Array | None = None,
    protected: Ids | None = None,
) -> Masked:
    r"""Chooses random tokens to predict and replaces most of them (BERT).

    .. math::

      y_i = \begin{cases}
        \text{mask} & \text{with probability } 0.8 \, p \\
        u_i \sim \mathrm{Uniform}\{0, \dots, V - 1\} & \text{with probability } 0.1 \, p \\
        x_i & \text{otherwise}
      \end{cases}

    The last case includes the :math:`0.1 \, p` that are chosen and unchanged. Each token is drawn
    independently. Devlin et al. use :math:`p = 0.15`.

    Args:
      key: PRNG key.
      tokens: Token ids ``[..., length]``.
      rate: Probability :math:`p` of choosing a token, in ``[0, 1]``.
      replacement: The mask, the size :math:`V` of the vocabulary, and the shares if they differ.
      where: Booleans like ``tokens`` that mark real tokens; all by default.
      protected: Ids that are never chosen, or a boolean array of positions.

    Returns:
      Tokens of the same shape and dtype, and the labels.

    Raises:
      TypeError: ``tokens`` or the ids of ``replacement`` are not integers, or ``key`` is not a
        single PRNG key.
      ValueError: ``rate`` or a share is a number outside ``[0, 1]``, the shares sum to more than 1,
        or the shapes or the dtype do not fit.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.augment import text
      >>> bert = text.Replacement(mask_id=4, vocabulary_size=50)
      >>> tokens = jnp.full((200, 500), 7)
      >>> masked = text.token_masking(jax.random.key(0), tokens, rate=0.15, replacement=bert)
      >>> selected = masked.labels == 7
      >>> print(f"{selected.mean():.2f} {(masked.tokens[selected] == 4).mean():.1f}")
      0.15 0.8

    References:
      Devlin et al., `BERT: Pre-training of Deep Bidirectional Transformers for Language
      Understanding <https://arxiv.org/abs/1810.04805>`_, 2018
    """
    check_key(key)
    tokens, _, free = read(tokens, where, protected)
    rate = clip_rate(rate)
    choose, decide, sample = jax.random.split(key, 3)
    selected = free & _bits.below(_bits.draw(choose, tokens.shape, like=tokens), rate)
    fate = _bits.draw(decide, tokens.shape, like=tokens)
    return _replace(sample, tokens, selected, fate, replacement)


@mark("rate")
def span_masking(
    key: jax.Array,
    tokens: jax.Array,
    *,
    rate: ArrayLike,
    replacement: Replacement,
    lengths: tuple[ArrayLike, int] = (0.2, 10),
    where: jax.Array | None = None,
    protected: Ids | None = None,
) -> Masked:
    r"""Chooses random spans of tokens to predict and replaces most of them (SpanBERT).

    .. math::

      \Pr(\ell) = \frac{q (1 - q)^{\ell - 1}}{1 - (1 - q)^{L}}, \qquad \ell = 1, \dots, L

    Spans of such random lengths begin at uniformly drawn tokens that are not chosen yet, until
    :math:`\lceil p \, l \rceil` of the :math:`l` unprotected tokens are chosen; the last span is
    cut to that. A span ends before a protected token or padding, and may overlap earlier spans.
    With :math:`q = 0.2` and :math:`L = 10` the mean length is 3.8: the "clipped" distribution of
    Joshi et al. excludes all lengths above 10.

    Adjacent chosen tokens are replaced in the same way, by the shares of :class:`Replacement`; each
    random id is drawn independently.

    Args:
      key: PRNG key.
      tokens: Token ids ``[..., length]``.
      rate: Share :math:`p` of the tokens, in ``[0, 1]``; Joshi et al. use 0.15.
      replacement: The mask, the size of the vocabulary, and the shares if they are not BERT's.
      lengths: Probability :math:`q` that a span ends with a token, in ``(0, 1)``, and the largest
        length :math:`L`.
      where: Booleans like ``tokens`` that mark real tokens; all by default.
      protected: Ids that are never chosen, or a boolean array of positions.

    Returns:
      Tokens of the same shape and dtype, and the labels. Spans are chosen one at a time, so a batch
      takes as many steps as its example with the most spans.

    Raises:
      TypeError: ``tokens`` or the ids of ``replacement`` are not integers, or ``key`` is not a
        single PRNG key.
      ValueError: ``rate`` or a share is a number outside ``[0, 1]``, the shares sum to more than 1,
        ``lengths`` are out of range, or the shapes or the dtype do not fit.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.augment import text
      >>> bert = text.Replacement(mask_id=4, vocabulary_size=50)
      >>> tokens = jnp.full((3, 100), 7)
      >>> masked = text.span_masking(jax.random.key(0), tokens, rate=0.15, replacement=bert)
      >>> print(jnp.sum(masked.labels == 7, axis=1))
      [15 15 15]

    References:
      Joshi et al., `SpanBERT: Improving Pre-training by Representing and Predicting Spans
      <https://arxiv.org/abs/1907.10529>`_, 2019, section 3.1
    """
    check_key(key)
    tokens, _, free = read(tokens, where, protected)
    rate = clip_rate(rate)
    if tokens.size == 0:
        return _with_labels(tokens, free, tokens)
    keys = jax.random.split(key, 4)
    starts = _bits.draw(keys[0], tokens.shape, like=tokens)
    fate = _bits.draw(keys[2], tokens.shape, like=tokens)
    sizes = _lengths(_bits.uniform(keys[1], tokens.shape, like=tokens), lengths)
    selected = _spans(free, starts, sizes, rate)
    fate = for_rows(_of_run, tokens)(selected, fate)
    return _replace(keys[3], tokens, selected, fate, replacement)


def _spans(free: jax.Array, starts: jax.Array, sizes: jax.Array, rate: jax.Array) -> jax.Array:
    """Returns a boolean mask of random spans that cover a fraction ``rate`` of the free tokens."""
    counts = count(free, -1).astype(jnp.float32)
    # At the rate 0.15, 20 tokens have a budget of 3, but some roundings of the product exceed 3.
    budget = jnp.ceil(rate * counts - counts * 2.0**-22).astype(jnp.int32)

    def has_budget(state):
        turn, _, left = state
        return (turn < free.shape[-1]) & jnp.any(left > 0)

    def step(state):
        turn, selected, left = state

        def choose(free, selected, left, starts, sizes):
            span = _span(free, selected, starts[turn], sizes[turn])
            fresh = span & ~selected
            fresh = fresh & (rank(fresh) < left)
            return selected | fresh, left - count(fresh)

        return turn + 1, *for_rows(choose, free)(free, selected, left, starts, sizes)

    _, selected, _ = jax.lax.while_loop(has_budget, step, (0, free & (sizes < 0), budget))
    return selected


def _span(free: jax.Array, selected: jax.Array, word: jax.Array, size: jax.Array) -> jax.Array:
    """Returns a boolean mask of a span that begins at a random token not selected yet."""
    fresh = free & ~selected
    start = jnp.argmax(fresh & (rank(fresh) == pick(word, count(fresh)))).astype(jnp.int32)
    ends = rank(~free)
    distance = places(free) - start
    return free & (distance >= 0) & (distance < size) & (ends == ends[start])


def _of_run(selected: jax.Array, words: jax.Array) -> jax.Array:
    """Gives each run of adjacent selected tokens the random word of the run's first token."""
    first = selected & ~jnp.concatenate([jnp.zeros_like(selected[:1]), selected[:-1]])
    return take(words, jax.lax.cummax(jnp.where(first, places(words), 0)))


def _lengths(share: jax.Array, lengths: tuple[ArrayLike, int]) -> jax.Array:
    """Maps uniform numbers to span lengths from a truncated geometric distribution."""
    end, most = lengths
    check_static_integer(most, "lengths")
    if most < 1 or (is_static(end) and not 0 < float(end) < 1):  # pyright: ignore
        raise ValueError(
            "`lengths` must be a probability in (0, 1) that a span ends and a largest length of "
            f"at least 1, got {lengths}."
        )
    further = jnp.log1p(-jnp.asarray(end, jnp.float32))
    drawn = jnp.floor(jnp.log1p(share * jnp.expm1(most * further)) / further)
    return 1 + jnp.clip(drawn, 0, most - 1).astype(jnp.int32)


def _replace(
    key: jax.Array,
    tokens: jax.Array,
    selected: jax.Array,
    fate: jax.Array,
    replacement: Replacement,
) -> Masked:
    """Masks, replaces or keeps each selected token, decided by its random word in ``fate``."""
    masked, random = _check_shares(replacement, tokens)
    ids = _bits.draw(key, tokens.shape, like=tokens) % jnp.uint32(replacement.vocabulary_size)
    is_masked = selected & _bits.below(fate, masked)
    is_random = selected & ~is_masked & _bits.below(fate, jnp.minimum(masked + random, 1))
    y = jnp.where(is_masked, jnp.asarray(replacement.mask_id, tokens.dtype), tokens)
    y = jnp.where(is_random, ids.astype(tokens.dtype), y)
    return _with_labels(tokens, selected, y)


def _with_labels(tokens: jax.Array, selected: jax.Array, y: jax.Array) -> Masked:
    signed = jnp.int64 if tokens.dtype.itemsize == 8 else jnp.int32
    return Masked(y, jnp.where(selected, widen_labels(tokens).astype(signed), -1))


def _check_shares(replacement: Replacement, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Checks ``replacement``; returns the fractions of tokens to mask and to replace at random."""
    mask_id, size, masked, random = replacement
    check_id(mask_id, "mask_id", tokens)
    check_static_integer(size, "vocabulary_size")
    if size < 1:
        raise ValueError(f"`vocabulary_size` must be positive, got {size}.")
    check_id(size - 1, "vocabulary_size", tokens)
    masked_share = clip_rate(masked, "masked")
    random_share = clip_rate(random, "random")
    if is_static(masked) and is_static(random):
        total = math.fsum((float(masked), float(random)))  # pyright: ignore
        if total > 1 + 1e-6:
            raise ValueError(f"`masked` and `random` must sum to at most 1, got {total}.")
    return masked_share, random_share
