"""Sentences with a feeling to tell."""

import numpy as np

from jaxreg.study.data import sentences


def test_sentences_say_what_their_labels_say():
    tokens, labels = sentences.sentences(500, seed=3, noise=0.0)
    good = set(sentences._GOOD)
    bad = set(sentences._BAD)
    assert not good & bad
    assert len(set(sentences.WORDS)) == len(sentences.WORDS)
    for row, label in zip(tokens, labels, strict=True):
        words = [sentences.WORDS[index] for index in row if index != sentences.PADDING]
        place = next(i for i, word in enumerate(words) if word in good | bad)
        assert label == ((words[place] in good) != ("not" in words[:place]))
        assert (row[len(words) :] == sentences.PADDING).all()
    assert sentences.UNKNOWN not in tokens
    assert 0.4 < labels.mean() < 0.6
    other, noisy = sentences.sentences(500, seed=3, noise=1.0)
    np.testing.assert_array_equal(other, tokens)
    np.testing.assert_array_equal(noisy, 1 - labels)
    # The longest sentence is not cut.
    assert (tokens[:, -1] != sentences.PADDING).any()
    assert "not" in sentences.WORDS


def test_words_are_as_frequent_as_the_docstring_says():
    """The k-th word of a kind has a share proportional to 1 / (k + 2)."""
    tokens, _ = sentences.sentences(4000, seed=1, noise=0.0)
    for kind in (sentences._NOUNS, sentences._GOOD, sentences._BAD):
        ids = [sentences.WORDS.index(word) for word in kind]
        counts = np.array([(tokens == index).sum() for index in ids])
        want = 1 / (np.arange(len(kind)) + 3)
        want *= counts.sum() / want.sum()
        assert (abs(counts - want) < 5 * np.sqrt(want)).all()


def test_parts_of_a_sentence_come_at_their_rates():
    tokens, _ = sentences.sentences(4000, seed=2, noise=0.0)
    index = {word: number for number, word in enumerate(sentences.WORDS)}
    clauses = np.isin(tokens, [index["was"], index["seemed"]]).sum()
    joined = np.isin(tokens, [index["although"], index["while"]]).sum()
    negated = (tokens == index["not"]).sum()
    emphatic = np.isin(tokens, [index["really"], index["very"], index["rather"]]).sum()
    assert clauses == 4000 + joined
    for count, rate, number in (
        (joined, 0.5, 4000), (negated, 0.3, clauses), (emphatic, 0.3, clauses),
    ):  # fmt: skip
        assert abs(count / number - rate) < 5 * np.sqrt(rate * (1 - rate) / number)
    assert (sentences.PADDING, sentences.UNKNOWN, sentences.LENGTH) == (0, 1, 12)
