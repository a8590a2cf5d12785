"""Synonyms: chosen evenly by each token alone, from tables of cosines one pair after the other."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.augment import text
from jaxreg.augment.text import neighbors
from tests.augment.helpers import KEY
from tests.augment.text.helpers import (
    SENTENCE,
    SPECIAL,
    SYNONYMS,
    TABLE,
    added,
    assert_distributed,
    assert_empty_ones_stay,
    assert_protected_positions_stay,
    assert_same_on_eight_devices,
    batch,
    on_short_rows,
    sampled,
)
from tests.helpers import few

replaced = partial(text.synonym_replacement, neighbors=TABLE)


def test_synonyms_are_chosen_evenly_and_by_each_token_alone():
    rate, expected = 0.3, {}
    choices = [
        [(token, 1 - rate if token in SYNONYMS else 1.0)]
        + [(other, rate / len(SYNONYMS[token])) for other in SYNONYMS.get(token, ())]
        for token in SENTENCE[:6]
    ]
    for row in itertools.product(*choices):
        added(expected, tuple(t for t, _ in row), math.prod(p for _, p in row))
    assert_distributed(sampled(partial(replaced, rate=rate, protected=SPECIAL))[0], expected)


def test_short_rows():
    y, _ = on_short_rows(partial(replaced, protected=SPECIAL))
    assert {y[1, 0], y[3, 1], y[4, 0], y[5, 1]} <= set(SYNONYMS[5])
    assert y[6, 2] == 26
    assert_empty_ones_stay(replaced)
    assert_protected_positions_stay(replaced)


@pytest.mark.exhaustive
def test_rows_are_the_same_on_eight_devices():
    assert_same_on_eight_devices(partial(replaced, protected=SPECIAL))


@few("dtype", [np.uint8, np.int32, np.int16, np.uint32], ids=lambda d: d.__name__)
def test_padding_and_special_tokens_stay(dtype):
    tokens, real = batch(90, 8, dtype)
    call = jax.jit(lambda x, where: replaced(KEY, x, rate=1.0, where=where, protected=SPECIAL))
    y = np.asarray(call(tokens, real))
    assert y.dtype == dtype
    fixed = ~real | np.isin(tokens, [*SPECIAL, 4, 7])
    np.testing.assert_array_equal(y[fixed], tokens[fixed])
    for token, others in SYNONYMS.items():
        assert set(y[real & (tokens == token)]) == set(others)


def test_ids_out_of_range_have_no_synonyms():
    tokens = np.array([-100, 5, 60, 1000], np.int32)
    edge = jnp.array([[3, -1], [-1, 2], [1, 9], [4, -7]])  # Its last row has none.
    nothing = jnp.zeros((5, 0), jnp.int32), jnp.zeros((0, 2), jnp.int32)

    @jax.jit
    def run(tokens):
        replace = partial(text.synonym_replacement, KEY, rate=1.0)
        none = [replace(tokens, neighbors=table) for table in nothing]
        return replace(tokens, neighbors=TABLE), replace(jnp.arange(4), neighbors=edge), none

    y, of_edge, none = run(tokens)
    np.testing.assert_array_equal(np.asarray(y)[[0, 2, 3]], [-100, 60, 1000])
    np.testing.assert_array_equal(of_edge, [3, 2, 1, 3])
    for same in none:
        np.testing.assert_array_equal(same, tokens)


def test_the_first_and_the_last_id_have_synonyms():
    table = jnp.array([[2], [-1], [0]])
    call = jax.jit(lambda x: text.synonym_replacement(KEY, x, neighbors=table, rate=1.0))
    np.testing.assert_array_equal(call(np.arange(3, dtype=np.int32)), [2, 1, 0])


def test_a_dictionary_becomes_a_table():
    table = text.neighbors_from_dictionary(
        {2: [2, 0, 1, 0, 3], np.int64(0): (), 3: iter([1])}, vocabulary_size=4, k=2
    )
    assert table.dtype == jnp.int32
    np.testing.assert_array_equal(table, [[-1, -1], [-1, -1], [0, 1], [1, -1]])


def nearest(embeddings, k, excluded=(), least=-1.0):
    """Neighbors in float64, one pair after the other."""
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


@few(
    ("k", "excluded", "least"),
    [(2, (0, 5, 29), 0.5), (4, (), -1.0), (29, (3,), -1.0), (3, (), 0.9)],
)
def test_neighbors_are_those_of_the_cosines(k, excluded, least, monkeypatch):
    monkeypatch.setattr(neighbors, "_BLOCK", 16)  # Of which 30 rows need two.
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(30, 5)) * np.geomspace(1e-20, 1e18, 30)[:, None]
    embeddings[7] = 0
    given = embeddings.astype(np.float32)
    call = jax.jit(lambda x: text.neighbors_from_embeddings(x, k=k, excluded=excluded, least=least))
    found = call(given)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, nearest(given.astype(np.float64), k, excluded, least))


def test_opposite_directions_are_neighbors_and_nan_is_none():
    opposite = jnp.array([[1.0, 0.0], [-1.0, 0.0], [jnp.nan, 1.0]], jnp.bfloat16)
    found = jax.jit(lambda x: text.neighbors_from_embeddings(x, k=1))(opposite)
    np.testing.assert_array_equal(np.ravel(found), [1, 0, -1])


ONES = np.ones((3, 2), np.float32)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: text.synonym_replacement(KEY, np.arange(3), rate=0.5, neighbors=TABLE[0]),
            ValueError,
            r"`neighbors` must have shape \[vocabulary, k\], got \(3,\)",
        ),
        (
            lambda: text.synonym_replacement(
                KEY, np.int8([1]), rate=0.5, neighbors=np.zeros((129, 1), int)
            ),
            ValueError,
            r"`tokens` must have a dtype for the 129 ids of `neighbors`, got int8",
        ),
        (
            lambda: text.neighbors_from_dictionary({0: [4]}, vocabulary_size=4, k=1),
            ValueError,
            r"`mapping` must contain ids in \[0, 4\), the vocabulary, got 4",
        ),
        (
            lambda: text.neighbors_from_dictionary({-1: [0]}, vocabulary_size=4, k=1),
            ValueError,
            r"`mapping` must contain ids in \[0, 4\), the vocabulary, got -1",
        ),
        (
            lambda: text.neighbors_from_dictionary({"a": [0]}, vocabulary_size=4, k=1),
            TypeError,
            r"`mapping` must be an integer",
        ),
        (
            lambda: text.neighbors_from_dictionary({}, vocabulary_size=4, k=0),
            ValueError,
            r"`k` must be positive, got 0",
        ),
        (
            lambda: text.neighbors_from_embeddings(ONES, k=3),
            ValueError,
            r"`k` must be in \[1, 3\)",
        ),
        (
            lambda: text.neighbors_from_embeddings(ONES, k=0),
            ValueError,
            r"`k` must be in \[1, 3\)",
        ),
        (
            lambda: text.neighbors_from_embeddings(ONES[0], k=1),
            ValueError,
            r"`embeddings` must have shape \[vocabulary, dim\]",
        ),
        (
            lambda: text.neighbors_from_embeddings(ONES.astype(int), k=1),
            TypeError,
            r"`embeddings` must have a floating-point dtype",
        ),
        (
            lambda: text.neighbors_from_embeddings(ONES, k=1, least=2.0),
            ValueError,
            r"`least` must be a number in \[-1, 1\], got 2\.0",
        ),
    ],
)
def test_wrong_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_a_narrow_dtype_may_just_hold_the_vocabulary():
    table = jnp.zeros((128, 1), jnp.int32)
    call = partial(text.synonym_replacement, KEY, rate=0.5, neighbors=table)
    assert jax.eval_shape(call, np.int8([1])).dtype == np.int8
