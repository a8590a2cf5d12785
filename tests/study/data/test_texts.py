"""Texts as ids of words."""

import numpy as np
import pytest

from jaxreg.study.data.texts import prepare_texts

TEXTS = ["The cat sat.", "the DOG sat", "a cat", "isn't it? it isn't", "the the the", "bird"] * 4


def test_words_of_the_training_rows_get_ids_by_frequency():
    found = prepare_texts(TEXTS)
    assert (found.kind, found.vocabulary) == ("text", 2 + 8)
    rows = np.array([0, 2, 4, 6, 8])
    encode = found.fit(rows).encode
    # "the" 5 times, "cat" 4, "a" 2 and "sat" 2, in alphabetical order.
    np.testing.assert_array_equal(
        encode(np.array([0, 1, 2, 3, 5])),
        [[2, 3, 5, 0], [2, 1, 5, 0], [4, 3, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]],
    )
    assert encode(rows).dtype == np.int32


def test_a_word_that_occurs_once_in_training_is_unknown():
    encode = prepare_texts(TEXTS).fit(np.arange(3)).encode
    np.testing.assert_array_equal(encode(np.array([1])), [[4, 1, 3, 0]])


def test_the_vocabulary_is_as_large_for_every_seed():
    rng = np.random.default_rng(0)
    found = prepare_texts(TEXTS)
    for _ in range(20):
        rows = rng.permutation(24)[:12]
        assert found.fit(rows).encode(np.arange(24)).max() < found.vocabulary


def test_rare_words_beyond_the_vocabulary_are_unknown():
    texts = [f"w{i} w{i} w{i // 2} w{i // 2}" for i in range(2500)]
    found = prepare_texts(texts)
    assert found.vocabulary == 2002
    encoded = found.fit(np.arange(2500)).encode(np.arange(2500))
    assert encoded.max() == 2001
    assert (encoded == 1).any()


def test_long_texts_are_cut_and_counted():
    texts = ["a b"] * 90 + ["a b c"] * 8 + ["x " * 50] * 2
    found = prepare_texts(texts)
    assert found.fit(np.arange(100)).encode(np.arange(100)).shape == (100, 3)
    assert "2% of the texts are longer" in found.notes[0]
    longest = prepare_texts(["x " * 500] * 10)
    assert longest.fit(np.arange(10)).encode(np.arange(10)).shape == (10, 64)


def test_texts_without_a_word_are_padding():
    found = prepare_texts(["", "?!", "a", "a"])
    np.testing.assert_array_equal(found.fit(np.arange(4)).encode(np.arange(3)), [[0], [0], [2]])
    assert "Texts without a word: 2." in found.notes


@pytest.mark.parametrize(
    ("texts", "message"),
    [(["", "?"], "`data` must contain texts with words"), (["a", "b"], "got no word twice")],
)
def test_texts_that_say_nothing_raise(texts, message):
    with pytest.raises(ValueError, match=message):
        prepare_texts(texts)
