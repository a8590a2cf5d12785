"""Sentences of good or bad sentiment from a small grammar: text that needs no download.

The main clause says that something was good or bad; a ``not`` may negate it. A subordinate clause
about something else may follow, which does not affect the label::

    the waiter was not really charming although my soup seemed bland      -> bad
    this concert seemed superb                                            -> good

Words are about as frequent as in a natural language: the k-th word of a kind has a probability
proportional to :math:`1 / (k + 2)`, so many words of the test set are rare in a small training set.
"""

from __future__ import annotations

import numpy as np

PADDING = 0
UNKNOWN = 1
LENGTH = 12


def _words(text: str) -> list[str]:
    return text.split()


_GOOD = _words(
    "good great nice lovely fine pleasant superb charming delightful excellent splendid "
    "brilliant warm fresh elegant clever tasty graceful gentle radiant crisp vivid stunning "
    "flawless refined polished cheerful sublime inspired exquisite"
)
_BAD = _words(
    "bad poor dull awful bland boring weak clumsy stale dreadful noisy rude shabby horrible "
    "tedious sloppy bitter gloomy crude greasy dismal lifeless hollow tiresome grim careless "
    "muddled soggy wretched insipid"
)
_NOUNS = _words(
    "film meal book concert soup waiter hotel song story actor room play wine melody cake "
    "speaker garden novel dinner painting ending service view chorus plot bread dancer script "
    "dessert stage"
)
_SMALL = _words("the this that my was seemed not really very rather although while")
WORDS = ("<padding>", "<unknown>", *_SMALL, *_NOUNS, *_GOOD, *_BAD)
_IDS = {word: index for index, word in enumerate(WORDS)}


def sentences(count: int, *, seed: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Generates random sentences with sentiment labels.

    Args:
      count: Number of sentences.
      seed: Seed of the words and of the flipped labels.
      noise: Share of the labels that are flipped, in ``[0, 1]``.

    Returns:
      Ids of :data:`WORDS`, ``[count, LENGTH]``, padded with ``PADDING``, and the labels
      ``[count]``: 1 for good and 0 for bad.

    Example:
      >>> from jaxreg.study.data.sentences import sentences
      >>> tokens, labels = sentences(1000, seed=0, noise=0.1)
      >>> tokens.shape, bool(0.4 < labels.mean() < 0.6)
      ((1000, 12), True)
    """
    rng = np.random.default_rng(seed)
    tokens = np.full((count, LENGTH), PADDING, np.int32)
    labels = np.zeros(count, np.int32)
    for row in range(count):
        words, good = _clause(rng)
        if rng.random() < 0.5:
            words += [_one_of(rng, ["although", "while"]), *_clause(rng)[0]]
        tokens[row, : len(words)] = [_IDS[word] for word in words][:LENGTH]
        labels[row] = good != (rng.random() < noise)
    return tokens, labels


def _clause(rng: np.random.Generator) -> tuple[list[str], bool]:
    """Returns the words of a random clause, and True if its sentiment is positive."""
    good = rng.random() < 0.5
    negated = rng.random() < 0.3
    words = [_one_of(rng, ["the", "this", "that", "my"]), _frequent(rng, _NOUNS)]
    words.append(_one_of(rng, ["was", "seemed"]))
    if negated:
        words.append("not")
    # The adverb is drawn even if it is left out; otherwise the data set would change.
    adverb = _one_of(rng, ["really", "very", "rather"])
    if rng.random() < 0.3:
        words.append(adverb)
    words.append(_frequent(rng, _GOOD if good else _BAD))
    return words, good != negated


def _one_of(rng: np.random.Generator, words: list[str]) -> str:
    return words[rng.integers(len(words))]


def _frequent(rng: np.random.Generator, words: list[str]) -> str:
    weights = 1 / (np.arange(len(words)) + 3)
    return words[rng.choice(len(words), p=weights / weights.sum())]
