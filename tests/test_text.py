"""Text: synonyms, insertions, deletions and swaps, against their rules counted out in full."""

import itertools
import math
from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxreg.augment import text

KEY = jax.random.key(60)
SAMPLES = 20_000
# Start, four words, end and padding whose ids say what they are.
SENTENCE = (1, 5, 6, 7, 8, 2, 90, 91, 92)
REAL = (True,) * 6 + (False,) * 3
SPECIAL = [1, 2]
SYNONYMS = {5: [15, 16, 17], 6: [26], 8: [38, 39]}
TABLE = text.neighbours_from_dictionary(SYNONYMS, vocabulary_size=60, k=3)


def sampled(function, tokens=SENTENCE, real=REAL, dtype=jnp.int32, samples=SAMPLES):
    """The results for many equal rows, as rows of the real tokens and of all."""
    rows = jnp.tile(jnp.asarray(tokens, dtype), (samples, 1))
    where = jnp.tile(jnp.asarray(real), (samples, 1))
    # As arguments: constants would be folded, which takes the compiler minutes.
    result = jax.jit(lambda rows, where: function(KEY, rows, where=where))(rows, where)
    edited, kept = result if isinstance(result, text.Edited) else (result, where)
    return [
        tuple(row[flags].tolist())
        for row, flags in zip(np.asarray(edited), np.asarray(kept), strict=True)
    ], np.asarray(edited)


def assert_distributed(rows, probabilities):
    """Only what can be is there, as often as it should be; a wrong distribution is told."""
    assert math.isclose(sum(probabilities.values()), 1, abs_tol=1e-9)
    counts = Counter(rows)
    assert set(counts) <= set(probabilities)
    outcomes = [o for o, p in probabilities.items() if p > 0]
    expected = len(rows) * np.array([probabilities[o] for o in outcomes])
    observed = np.array([counts[o] for o in outcomes], float)
    rare = expected < 5
    if rare.any():
        expected = np.append(expected[~rare], expected[rare].sum())
        observed = np.append(observed[~rare], observed[rare].sum())
    assert stats.chisquare(observed, expected).pvalue > 1e-6
    # The control: a twentieth of all moved to the most frequent outcome.
    wrong = 0.95 * observed
    wrong[expected.argmax()] += observed.sum() - wrong.sum()
    assert stats.chisquare(wrong, expected).pvalue < 1e-6


def added(table, outcome, probability):
    table[outcome] = table.get(outcome, 0) + probability


def rounded(exact):
    """The numbers that a number is rounded to, with their probabilities."""
    whole = math.floor(exact)
    return {whole: 1 - (exact - whole), whole + 1: exact - whole}


def test_synonyms_are_chosen_evenly_and_by_each_token_alone():
    rate, expected = 0.3, {}
    choices = [
        [(token, 1 - rate if token in SYNONYMS else 1.0)]
        + [(other, rate / len(SYNONYMS[token])) for other in SYNONYMS.get(token, ())]
        for token in SENTENCE[:6]
    ]
    for row in itertools.product(*choices):
        added(expected, tuple(t for t, _ in row), math.prod(p for _, p in row))
    call = partial(text.synonym_replacement, neighbours=TABLE, rate=rate, protected=SPECIAL)
    assert_distributed(sampled(call)[0], expected)


def test_deletions_leave_one_word_and_each_as_often():
    rate, expected = 0.6, {}
    for kept in itertools.product((True, False), repeat=4):
        words = tuple(w for w, k in zip(SENTENCE[1:5], kept, strict=True) if k)
        probability = math.prod((1 - rate) if k else rate for k in kept)
        for alternative in [words] if words else [(w,) for w in SENTENCE[1:5]]:
            share = probability if words else probability / 4
            added(expected, (1, *alternative, 2), share)
    call = partial(text.random_deletion, rate=rate, pad_id=0, protected=SPECIAL)
    rows, edited = sampled(call)
    assert_distributed(rows, expected)
    np.testing.assert_array_equal(edited[:, 6:], np.tile(SENTENCE[6:], (SAMPLES, 1)))
    for row, tokens in zip(rows[:500], edited, strict=False):
        assert (tokens[len(row) : 6] == 0).all()


def inserted(number, words, table, room):
    """All results of so many insertions into words between a start and an end."""
    sources = [w for w in words if table.get(w)]
    single = [
        (place, other, 1 / len(words) / len(sources) / len(table[w]))
        for place in range(len(words))
        for w in sources
        for other in table[w]
    ]
    result = {}
    for several in itertools.product(single, repeat=number):
        row = []
        for place, word in enumerate(words):
            row += [other for p, other, _ in several if p == place] + [word]
        added(result, (1, *row[:room], 2), math.prod(p for *_, p in several))
    return result


@pytest.mark.parametrize("room", [7, 5], ids=["all fit", "one is cut off"])
def test_insertions_are_synonyms_at_random_places(room):
    rate, expected = 0.4, {}  # 1.6 insertions
    for number, share in rounded(rate * 4).items():
        for row, p in inserted(number, SENTENCE[1:5], SYNONYMS, room).items():
            added(expected, row, share * p)
    call = partial(text.random_insertion, neighbours=TABLE, rate=rate, protected=SPECIAL)
    length = room + 2
    rows, edited = sampled(call, SENTENCE[:length], REAL[:length])
    assert_distributed(rows, expected)
    for row, tokens in zip(rows[:500], edited, strict=False):
        np.testing.assert_array_equal(tokens[len(row) :], SENTENCE[len(row) : length])


def test_words_without_synonyms_bring_nothing_in():
    tokens = jnp.tile(jnp.array([1, 5, 6, 2, 0, 0]), (50, 1))
    table = text.neighbours_from_dictionary({7: [8]}, vocabulary_size=9, k=1)
    call = partial(text.random_insertion, neighbours=table, rate=1.0, protected=SPECIAL)
    edited = call(KEY, tokens, where=tokens != 0)
    np.testing.assert_array_equal(edited.tokens, tokens)
    np.testing.assert_array_equal(edited.where, tokens != 0)


def test_swaps_are_transpositions_of_two_different_places():
    rate, expected = 0.4, {}
    pairs = list(itertools.combinations(range(1, 5), 2))
    for number, share in rounded(rate * 4).items():
        for several in itertools.product(pairs, repeat=number):
            row = list(SENTENCE[:6])
            for one, other in several:
                row[one], row[other] = row[other], row[one]
            added(expected, tuple(row), share / len(pairs) ** number)
    assert len(expected) == 1 + 6 + 11  # Itself, single swaps, and even permutations.
    call = partial(text.random_swap, rate=rate, protected=SPECIAL)
    assert_distributed(sampled(call)[0], expected)


CALLS = {
    "synonym_replacement": partial(text.synonym_replacement, neighbours=TABLE),
    "random_insertion": partial(text.random_insertion, neighbours=TABLE),
    "random_deletion": partial(text.random_deletion, pad_id=0),
    "random_swap": text.random_swap,
}


@pytest.mark.parametrize("name", CALLS)
def test_short_sequences(name):
    """Nothing, a single word, specials alone, padding alone, and full rows, at rates 0 to 1."""
    rows = [(90, 91, 92), (5, 91, 92), (1, 2, 92), (1, 5, 2), (5, 6, 8), (90, 5, 92), (90, 91, 6)]
    real = [t < 90 for row in rows for t in row]
    tokens, where = jnp.array(rows), jnp.array(real).reshape(-1, 3)
    results = {}
    call = jax.jit(partial(CALLS[name], where=where, protected=SPECIAL))
    for rate in (0.0, 0.5, 1.0):
        result = call(KEY, tokens, rate=rate)
        y, kept = map(np.asarray, result if isinstance(result, text.Edited) else (result, where))
        np.testing.assert_array_equal(y[[0, 2]], [rows[0], rows[2]])
        np.testing.assert_array_equal(kept[[0, 2]], [[False] * 3, [True, True, False]])
        results[rate] = y, kept
    np.testing.assert_array_equal(results[0.0][0], tokens)
    np.testing.assert_array_equal(results[0.0][1], where)
    y, kept = results[1.0]
    if name == "random_deletion":
        np.testing.assert_array_equal(kept.sum(1), [0, 1, 2, 3, 1, 1, 1])
        np.testing.assert_array_equal(y[[1, 3, 5, 6]], [rows[i] for i in (1, 3, 5, 6)])
    elif name == "random_insertion":
        np.testing.assert_array_equal(kept.sum(1), [0, 2, 2, 3, 3, 2, 1])
        assert y[1, 0] in SYNONYMS[5]
        assert y[1, 1] == 5
        assert y[5, 0] == 90  # Padding before the words stays.
        np.testing.assert_array_equal(y[3], (1, y[3, 1], 2))
        assert y[6, 2] == 26  # No room: the word itself is what is cut off.
    elif name == "synonym_replacement":
        assert {y[1, 0], y[3, 1], y[4, 0], y[5, 1]} <= set(SYNONYMS[5])
        assert y[6, 2] == 26
    else:
        np.testing.assert_array_equal(y[[1, 3, 5, 6]], [rows[i] for i in (1, 3, 5, 6)])
        assert sorted(y[4]) == [5, 6, 8]
    for empty in ((0, 4), (3, 0), (0,)):
        nothing = jnp.zeros(empty, jnp.int32)
        result = CALLS[name](KEY, nothing, rate=0.5)
        assert jax.tree.leaves(result)[0].shape == empty


def test_protected_may_be_positions():
    tokens = jnp.array([[5, 5, 6, 8]] * 50)
    positions, all_of = jnp.array([True, False, False, True]), jnp.ones((50, 4), bool)
    for call in CALLS.values():
        result = jax.jit(partial(call, rate=0.5, protected=positions))(KEY, tokens)
        y, kept = map(np.asarray, result if isinstance(result, text.Edited) else (result, all_of))
        assert (y[:, 0] == 5).all()
        assert all(row[k][-1] == 8 for row, k in zip(y, kept, strict=True))
        assert (y != np.asarray(tokens)).any()


def test_ids_out_of_range_have_no_synonyms():
    tokens = jnp.array([-100, 5, 60, 1000])
    y = text.synonym_replacement(KEY, tokens, neighbours=TABLE, rate=1.0)
    np.testing.assert_array_equal(y[jnp.array([0, 2, 3])], [-100, 60, 1000])
    edge = jnp.array([[3, -1], [-1, 2], [1, 9], [4, -7]])  # Its last row has none in range.
    y = text.synonym_replacement(KEY, jnp.array([0, 1, 2, 3]), neighbours=edge, rate=1.0)
    np.testing.assert_array_equal(y, [3, 2, 1, 3])
    for nothing in (jnp.zeros((5, 0), jnp.int32), jnp.zeros((0, 2), jnp.int32)):
        y = text.synonym_replacement(KEY, tokens, neighbours=nothing, rate=1.0)
        np.testing.assert_array_equal(y, tokens)


def test_a_dictionary_becomes_a_table():
    table = text.neighbours_from_dictionary(
        {2: [2, 0, 1, 0, 3], np.int64(0): (), 3: iter([1])}, vocabulary_size=4, k=2
    )
    assert table.dtype == jnp.int32
    np.testing.assert_array_equal(table, [[-1, -1], [-1, -1], [0, 1], [1, -1]])


def nearest(embeddings, k, excluded=(), least=-1.0):
    """Neighbours in float64, one pair after the other."""
    norms = np.linalg.norm(embeddings, axis=1)
    table = np.full((len(embeddings), k), -1)
    usable = [i for i in range(len(embeddings)) if norms[i] > 0 and i not in excluded]
    for i in usable:
        cosines = {
            j: embeddings[i] @ embeddings[j] / (norms[i] * norms[j]) for j in usable if j != i
        }
        best = sorted((j for j in cosines if cosines[j] >= least), key=lambda j: (-cosines[j], j))
        table[i, : len(best[:k])] = best[:k]
    return table


@pytest.mark.slow
def test_neighbours_are_those_of_the_cosines():
    size = 300  # More than a block.
    embeddings = (
        np.random.default_rng(0).normal(size=(size, 5)) * np.geomspace(1e-20, 1e18, size)[:, None]
    )
    embeddings[7] = 0
    given = jnp.asarray(embeddings, jnp.float32)
    exact = np.asarray(given, np.float64)
    for k, excluded, least in ((4, (), -1.0), (2, (0, 5, 299), 0.9), (299, (3,), -1.0)):
        found = text.neighbours_from_embeddings(given, k=k, excluded=excluded, least=least)
        expected = nearest(exact, k, excluded, least)
        assert found.dtype == jnp.int32
        assert np.mean(np.asarray(found) != expected) < 1e-3  # Cosines that are a rounding apart.
        np.testing.assert_array_equal(np.sort(found), np.sort(expected))
    opposite = jnp.array([[1.0, 0.0], [-1.0, 0.0], [jnp.nan, 1.0]], jnp.bfloat16)
    np.testing.assert_array_equal(
        text.neighbours_from_embeddings(opposite, k=1).ravel(), [1, 0, -1]
    )


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: text.random_swap(KEY, [1, 2], rate=0.5), TypeError, r"`tokens` must be an array"),
        (
            lambda: text.random_swap(KEY, jnp.ones(3), rate=0.5),
            TypeError,
            r"`tokens` must hold integer token ids, got dtype float32",
        ),
        (
            lambda: text.random_swap(KEY, jnp.int32(3), rate=0.5),
            ValueError,
            r"`tokens` must have the shape \[\.\.\., length\]",
        ),
        (
            lambda: text.random_swap(KEY, jnp.arange(3), rate=1.5),
            ValueError,
            r"`rate` must be a probability in \[0, 1\], got 1\.5",
        ),
        (
            lambda: text.random_swap(KEY, jnp.arange(3), rate=0.5, where=jnp.ones(2, bool)),
            ValueError,
            r"`where` must have the shape of `tokens`, \(3,\), got \(2,\)",
        ),
        (
            lambda: text.random_swap(KEY, jnp.arange(3), rate=0.5, protected=[0.5]),
            TypeError,
            r"`protected` must be a list of integer ids or a boolean array of positions, got float",
        ),
        (
            lambda: text.random_swap(KEY, jnp.arange(3), rate=0.5, protected=jnp.ones(2, bool)),
            ValueError,
            r"`protected` must broadcast to shape \(3,\)",
        ),
        (lambda: text.random_swap(3, jnp.arange(3), rate=0.5), TypeError, r"`key` must be"),
        (
            lambda: text.random_deletion(KEY, jnp.arange(3), rate=0.5, pad_id=0.5),
            TypeError,
            r"`pad_id` must be one integer, got 0\.5",
        ),
        (
            lambda: text.random_deletion(KEY, jnp.arange(3, dtype=jnp.uint8), rate=0.5, pad_id=-1),
            ValueError,
            r"`pad_id` must fit the uint8 of `tokens`, got -1",
        ),
        (
            lambda: CALLS["random_insertion"](KEY, jnp.arange(3), rate=0.5, neighbours=TABLE[0]),
            ValueError,
            r"`neighbours` must have the shape \[vocabulary, k\], got \(3,\)",
        ),
        (
            lambda: CALLS["synonym_replacement"](
                KEY, jnp.arange(3, dtype=jnp.int8), rate=0.5, neighbours=jnp.zeros((129, 1), int)
            ),
            ValueError,
            r"`tokens` must have a dtype that holds the 129 ids of `neighbours`, got int8",
        ),
        (
            lambda: text.neighbours_from_dictionary({0: [4]}, vocabulary_size=4, k=1),
            ValueError,
            r"`mapping` must hold ids in \[0, 4\), the vocabulary, got 4",
        ),
        (
            lambda: text.neighbours_from_dictionary({"a": [0]}, vocabulary_size=4, k=1),
            TypeError,
            r"`mapping` must be an integer",
        ),
        (
            lambda: text.neighbours_from_dictionary({}, vocabulary_size=4, k=0),
            ValueError,
            r"`k` must be positive, got 0",
        ),
        (
            lambda: text.neighbours_from_embeddings(jnp.ones((3, 2)), k=3),
            ValueError,
            r"`k` must be in \[1, 3\)",
        ),
        (
            lambda: text.neighbours_from_embeddings(jnp.ones(3), k=1),
            ValueError,
            r"`embeddings` must have the shape \[vocabulary, dim\]",
        ),
        (
            lambda: text.neighbours_from_embeddings(jnp.ones((3, 2), int), k=1),
            TypeError,
            r"`embeddings` must have a floating-point dtype",
        ),
        (
            lambda: text.neighbours_from_embeddings(jnp.ones((3, 2)), k=1, least=2.0),
            ValueError,
            r"`least` must be a number in \[-1, 1\], got 2\.0",
        ),
    ],
)
def test_what_cannot_be_is_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
