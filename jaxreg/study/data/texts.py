"""Prepares texts as word ids, with a vocabulary from the training rows only."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from jaxreg.study.data.preparation import Encoding, Preparation
from jaxreg.study.data.sentences import PADDING, UNKNOWN

_WORD = re.compile(r"\w+(?:'\w+)?")
_MOST_WORDS = 2000
_LONGEST = 64
# A word that occurs once in the training rows becomes unknown, so the unknown word is trained too.
_LEAST_COUNT = 2


def prepare_texts(texts: Sequence[str]) -> Preparation:
    """Prepares texts as rows of word ids.

    The vocabulary of a seed is the 2000 most frequent words among those that occur at least twice
    in its training rows. All other words share one id. The size of the vocabulary is an upper bound
    that is the same for all seeds. Words are in lower case.

    Args:
      texts: One text per row.

    Returns:
      The preparation; its rows are int32 ``[rows, length]``, padded with 0. Longer texts are cut.

    Raises:
      ValueError: No text has a word.
    """
    words = [_WORD.findall(text.lower()) for text in texts]
    lengths = np.array([len(each) for each in words])
    if not lengths.max(initial=0):
        raise ValueError("`data` must contain texts with words, got none.")
    length = int(min(np.ceil(np.quantile(lengths, 0.95)), _LONGEST))
    every = _number_words(words, max(length, 1))
    most = every.max() + 1
    vocabulary = 2 + min(_MOST_WORDS, np.count_nonzero(_count(every, most) >= _LEAST_COUNT))

    def fit(rows: np.ndarray) -> Encoding:
        counts = _count(every[rows], most)
        # Equally frequent words stay in alphabetical order.
        order = np.argsort(-counts, kind="stable")
        chosen = order[counts[order] >= _LEAST_COUNT][:_MOST_WORDS]
        ids = np.full(most, UNKNOWN, np.int32)
        ids[0] = PADDING
        ids[chosen] = 2 + np.arange(len(chosen))
        return Encoding(lambda rows: ids[every[rows]])

    if vocabulary == 2:
        raise ValueError("`data` must contain texts that share words, got no word twice.")
    notes = [
        f"Texts are read as words: {vocabulary - 2:,} words at most, {length} of each text; "
        f"{np.mean(lengths > length):.0%} of the texts are longer."
    ]
    empty = np.count_nonzero(lengths == 0)
    if empty:
        notes.append(f"Texts without a word: {empty:,}.")
    return Preparation("text", fit, int(vocabulary), tuple(notes))


def _number_words(words: Sequence[Sequence[str]], length: int) -> np.ndarray:
    """Returns ids from 1 in alphabetical order, ``[rows, length]``, padded with 0."""
    names = sorted({word for each in words for word in each[:length]})
    ids = {word: index for index, word in enumerate(names, 1)}
    every = np.zeros((len(words), length), np.int32)
    for row, each in enumerate(words):
        known = [ids[word] for word in each[:length]]
        every[row, : len(known)] = known
    return every


def _count(ids: np.ndarray, most: int) -> np.ndarray:
    """Counts words by id; padding is not counted."""
    counts = np.bincount(ids.ravel(), minlength=most)
    counts[0] = 0
    return counts
