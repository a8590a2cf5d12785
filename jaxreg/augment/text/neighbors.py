"""Synonyms: tables of neighbor ids, and replacement of tokens by their neighbors."""

from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import check_between, check_key, check_real, check_static_integer
from jaxreg._labels import widen_labels
from jaxreg._numerics import as_strength, unit
from jaxreg._scopes import mark
from jaxreg._sharding import whole_along
from jaxreg.augment.text.sequences import (
    Ids,
    check_tokens,
    clip_rate,
    count,
    gather,
    pick,
    rank,
    read,
)

# Number of rows of the similarity matrix in memory at once.
_BLOCK = 256


@mark("rate")
def synonym_replacement(
    key: jax.Array,
    tokens: jax.Array,
    *,
    neighbors: jax.Array,
    rate: ArrayLike,
    where: jax.Array | None = None,
    protected: Ids | None = None,
) -> jax.Array:
    r"""Replaces random tokens by random neighbors (synonyms).

    .. math::

      y_i = \begin{cases}
        u_i & \text{with probability } p, \; u_i \sim \mathrm{Uniform}(N(x_i)) \\
        x_i & \text{otherwise, or if } N(x_i) = \emptyset
      \end{cases}

    EDA replaces a fixed number :math:`\max(1, \lfloor p \, l \rfloor)` of its :math:`l` words; here
    each token is drawn independently. EDA keeps stop words. To do the same, give them rows without
    neighbors, or list them in ``protected``.

    Args:
      key: PRNG key.
      tokens: Token ids ``[..., length]``.
      neighbors: Table ``[vocabulary, k]`` of the ids :math:`N`; ids outside ``[0, vocabulary)``,
        such as -1, mean no neighbor. A token out of range has no neighbors.
      rate: Probability :math:`p` of replacing a token, in ``[0, 1]``.
      where: Booleans like ``tokens`` that mark real tokens; all by default.
      protected: Ids to keep, or a boolean array of positions.

    Returns:
      Tokens of the same shape and dtype.

    Raises:
      TypeError: ``tokens`` or ``neighbors`` are not integers, or ``key`` is not a single PRNG key.
      ValueError: ``rate`` is a number outside ``[0, 1]``, the shapes do not fit, or the dtype of
        ``tokens`` is too narrow for the ids of the table.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.augment import text
      >>> table = text.neighbors_from_dictionary({5: [6], 6: [5]}, vocabulary_size=9, k=2)
      >>> tokens = jnp.array([1, 5, 7, 6, 2])
      >>> print(text.synonym_replacement(jax.random.key(0), tokens, neighbors=table, rate=1.0))
      [1 6 7 5 2]

    References:
      Wei and Zou, `EDA: Easy Data Augmentation Techniques for Boosting Performance on Text
      Classification Tasks <https://arxiv.org/abs/1901.11196>`_, 2019
    """
    check_key(key)
    tokens, _, free = read(tokens, where, protected)
    rate = clip_rate(rate)
    near, known = lookup(neighbors, tokens)
    decide, choose = jax.random.split(key)
    replaced = free & _bits.below(_bits.draw(decide, tokens.shape, like=tokens), rate)
    words = _bits.draw(choose, tokens.shape, like=tokens)
    return jnp.where(replaced & jnp.any(known, -1), one_of(near, known, words), tokens)


def lookup(neighbors: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the neighbor ids ``[..., length, k]`` of tokens, and a mask of valid neighbors."""
    check_tokens(neighbors, "neighbors")
    if neighbors.ndim != 2:
        raise ValueError(f"`neighbors` must have shape [vocabulary, k], got {neighbors.shape}.")
    size = neighbors.shape[0]
    if size > jnp.iinfo(tokens.dtype).max + 1:
        raise ValueError(
            f"`tokens` must have a dtype for the {size} ids of `neighbors`, got "
            f"{tokens.dtype}; convert them with tokens.astype(jnp.int32)."
        )
    if neighbors.size == 0:
        nothing = jnp.zeros_like(tokens)[..., None]
        return nothing, nothing > 0
    near = widen_labels(gather(neighbors, tokens))
    ids = widen_labels(tokens)[..., None]
    known = (near >= 0) & (near < size) & (ids >= 0) & (ids < size)
    return near.astype(tokens.dtype), known


def one_of(near: jax.Array, known: jax.Array, words: jax.Array) -> jax.Array:
    """Returns a valid neighbor of each token, chosen by a random word, or 0 without neighbors."""
    is_chosen = known & (rank(known, -1) == pick(words, count(known, -1))[..., None])
    return jnp.sum(jnp.where(is_chosen, near, jnp.zeros_like(near)), axis=-1, dtype=near.dtype)


def neighbors_from_dictionary(
    mapping: Mapping[int, Iterable[int]], *, vocabulary_size: int, k: int
) -> jax.Array:
    """Builds a table of neighbors from a dictionary of synonym ids, on the host.

    Args:
      mapping: For some ids, the ids of their synonyms. Repeated ids and the id itself do not count;
        of more than ``k`` ids the first are used.
      vocabulary_size: Number of ids.
      k: Number of neighbors in a row.

    Returns:
      ``int32[vocabulary_size, k]``, where -1 means no neighbor.

    Raises:
      TypeError: A size or an id is not an integer.
      ValueError: An id is outside ``[0, vocabulary_size)``, or a size is not positive.

    Example:
      >>> from jaxreg.augment import text
      >>> print(text.neighbors_from_dictionary({0: [2, 1], 2: [0]}, vocabulary_size=3, k=2))
      [[ 2  1]
       [-1 -1]
       [ 0 -1]]
    """
    for name, size in (("vocabulary_size", vocabulary_size), ("k", k)):
        check_static_integer(size, name)
        if size < 1:
            raise ValueError(f"`{name}` must be positive, got {size}.")
    table = np.full((vocabulary_size, k), -1, np.int32)
    for own, synonyms in mapping.items():
        different = dict.fromkeys((own, *synonyms))
        for identifier in different:
            _check_member(identifier, vocabulary_size)
        row = [*different][1 : k + 1]
        table[own, : len(row)] = row
    return jnp.asarray(table)


def neighbors_from_embeddings(
    embeddings: jax.Array, *, k: int, excluded: Ids = (), least: ArrayLike = -1.0
) -> jax.Array:
    r"""Builds a table of nearest neighbors by cosine similarity of embeddings.

    .. math::

      N(i) = \operatorname*{arg\,top}_k {}_{j \ne i} \;
      \frac{e_i^T e_j}{\|e_i\| \|e_j\|}

    Args:
      embeddings: Real floating-point array ``[vocabulary, dim]``.
      k: Number of neighbors of each token, less than the vocabulary size.
      excluded: Ids, such as special ones, that neither have neighbors nor are neighbors.
      least: Smallest cosine of a neighbor, in ``[-1, 1]``.

    Returns:
      ``int32[vocabulary, k]``, the nearest first, where -1 means no neighbor. Among equal cosines
      the lowest id is first. A vector of zeros has no neighbors and is no neighbor.

    Raises:
      TypeError: ``embeddings`` is not real floating-point, or ``k`` is not an integer.
      ValueError: ``embeddings`` is not a matrix, ``k`` is not in ``[1, vocabulary)``, or ``least``
        is a number outside ``[-1, 1]``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.augment import text
      >>> embeddings = jnp.array([[1.0, 0.0], [5.0, 1.0], [0.0, 1.0], [0.1, 3.0]])
      >>> print(text.neighbors_from_embeddings(embeddings, k=1).ravel())
      [1 0 3 2]
    """
    check_real(embeddings, "embeddings")
    if embeddings.ndim != 2:
        raise ValueError(f"`embeddings` must have shape [vocabulary, dim], got {embeddings.shape}.")
    size = embeddings.shape[0]
    check_static_integer(k, "k")
    if not 1 <= k < size:
        raise ValueError(f"`k` must be in [1, {size}), less than the vocabulary size, got {k}.")
    check_between(least, "least", -1, 1)
    embeddings = jnp.asarray(embeddings)
    directions = unit(whole_along(embeddings, [0, 1]), axis=-1)
    ids = jnp.arange(size, dtype=jnp.int32)
    _, _, included = read(ids, None, excluded)
    included = included & jnp.any(directions != 0, axis=-1)

    def nearest(own: tuple[jax.Array, jax.Array]) -> jax.Array:
        index, direction = own
        cosines = jnp.matmul(directions, direction, precision=jax.lax.Precision.HIGHEST)
        counts = included & included[index] & (ids != index) & (cosines >= lowest)
        best, found = jax.lax.top_k(jnp.where(counts, cosines, -jnp.inf), k)
        return jnp.where(jnp.isfinite(best), found, -1).astype(jnp.int32)

    # Rounding may bring a cosine of exactly `least`, such as -1, below it.
    lowest = as_strength(least, embeddings) - 1e-6
    return jax.lax.map(nearest, (ids, directions), batch_size=_BLOCK)


def _check_member(identifier: int, size: int) -> None:
    check_static_integer(identifier, "mapping")
    if not 0 <= identifier < size:
        raise ValueError(
            f"`mapping` must contain ids in [0, {size}), the vocabulary, got {identifier}; enlarge "
            "`vocabulary_size` or omit this id."
        )
