"""Insertions, deletions and swaps, against their rules counted out in full."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.augment import text
from tests.augment.helpers import KEY
from tests.augment.text.helpers import (
    REAL,
    SAMPLES,
    SENTENCE,
    SHORT,
    SPECIAL,
    SYNONYMS,
    TABLE,
    added,
    assert_distributed,
    assert_empty_ones_stay,
    assert_protected_positions_stay,
    assert_same_on_eight_devices,
    batch,
    in_a_row,
    on_short_rows,
    parts,
    rounded,
    sampled,
)

CALLS = {
    "random_insertion": partial(text.random_insertion, neighbors=TABLE),
    "random_deletion": partial(text.random_deletion, pad_id=0),
    "random_swap": text.random_swap,
}


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


INSERTIONS = partial(text.random_insertion, neighbors=TABLE, rate=0.4, protected=SPECIAL)


@pytest.mark.parametrize("before", [0, 2], ids=["all fit", "one is cut off"])
def test_insertions_are_synonyms_at_random_places(before):
    """Padding before the start leaves less room behind the end."""
    room, expected = 7 - before, {}
    for number, share in rounded(0.4 * 4).items():  # 1.6 insertions
        for row, p in inserted(number, SENTENCE[1:5], SYNONYMS, room).items():
            added(expected, row, share * p)
    tokens = (93, 94)[:before] + SENTENCE[: 9 - before]
    real = (False,) * before + REAL[: 9 - before]
    rows, edited = sampled(INSERTIONS, tokens, real)
    assert_distributed(rows, expected)
    np.testing.assert_array_equal(edited[:, :before], [tokens[:before]] * SAMPLES)
    for row, ids in zip(rows[:500], edited, strict=False):
        end = before + len(row)
        np.testing.assert_array_equal(ids[end:], tokens[end:])


def test_words_without_synonyms_bring_nothing_in():
    tokens = np.tile(np.array([1, 5, 6, 2, 0, 0], np.int32), (50, 1))
    table = text.neighbors_from_dictionary({7: [8]}, vocabulary_size=9, k=1)
    call = partial(text.random_insertion, neighbors=table, rate=1.0, protected=SPECIAL)
    edited = jax.jit(lambda x, where: call(KEY, x, where=where))(tokens, tokens != 0)
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


def test_rows_are_edited_one_by_one():
    """The number of swaps depends on a row's length; an empty row has none."""
    tokens = np.tile(np.arange(4, 12, dtype=np.int32), (4000, 1))
    lengths = np.tile([0, 1, 2, 8], 1000)
    where = np.arange(8) < lengths[:, None]
    swapped = jax.jit(lambda x, where: text.random_swap(KEY, x, rate=0.25, where=where))
    changed = (np.asarray(swapped(tokens, where)) != tokens).sum(axis=1)
    assert not changed[lengths < 2].any()
    # Half a swap of two words, and two of eight, which may take each other back.
    two, eight = changed[lengths == 2], changed[lengths == 8]
    assert abs((two == 2).mean() - 0.5) < 5 * 0.5 / 1000**0.5
    assert set(eight) <= {0, 3, 4}
    assert abs((eight == 0).mean() - 1 / 28) < 5 * (27 / 28**2 / 1000) ** 0.5


def test_deletions_of_short_rows():
    y, kept = on_short_rows(partial(CALLS["random_deletion"], protected=SPECIAL))
    np.testing.assert_array_equal(kept.sum(1), [0, 1, 2, 3, 1, 1, 1])
    np.testing.assert_array_equal(y[[1, 3, 5, 6]], [SHORT[i] for i in (1, 3, 5, 6)])


def test_insertions_into_short_rows():
    y, kept = on_short_rows(partial(CALLS["random_insertion"], protected=SPECIAL))
    np.testing.assert_array_equal(kept.sum(1), [0, 2, 2, 3, 3, 2, 1])
    assert y[1, 0] in SYNONYMS[5]
    assert y[1, 1] == 5
    assert y[5, 0] == 90  # Padding before the words stays.
    np.testing.assert_array_equal(y[3], (1, y[3, 1], 2))
    assert y[6, 2] == 26  # No room: the word itself is what is cut off.


def test_swaps_of_short_rows():
    y, _ = on_short_rows(partial(CALLS["random_swap"], protected=SPECIAL))
    np.testing.assert_array_equal(y[[1, 3, 5, 6]], [SHORT[i] for i in (1, 3, 5, 6)])
    assert sorted(y[4]) == [5, 6, 8]


@pytest.mark.parametrize("name", CALLS)
def test_empty_rows_and_protected_positions_stay(name):
    assert_empty_ones_stay(CALLS[name])
    assert_protected_positions_stay(CALLS[name])


@pytest.mark.exhaustive
def test_rows_are_the_same_on_eight_devices():
    assert_same_on_eight_devices(partial(CALLS["random_insertion"], protected=SPECIAL))


# All other tests have int32.
@pytest.mark.parametrize(
    ("name", "dtype"),
    [("random_insertion", np.uint8), ("random_deletion", np.int16), ("random_swap", np.uint32)],
)
def test_padding_and_special_tokens_stay(name, dtype):
    tokens, real = batch(270, 8, dtype)
    call = jax.jit(
        lambda x, where, rate: CALLS[name](KEY, x, rate=rate, where=where, protected=SPECIAL)
    )
    for rate in (0.4, 1.0):
        y, kept = parts(call(tokens, real, rate), real)
        assert y.dtype == dtype
        padding = ~real & ~kept
        np.testing.assert_array_equal(y[padding], tokens[padding])
        assert (kept.any(1) == real.any(1)).all()
        assert (y[kept] < 90).all()
        special = np.isin(tokens, SPECIAL) & real
        if name == "random_swap":
            np.testing.assert_array_equal(y[special], tokens[special])
            np.testing.assert_array_equal(np.sort(y[real]), np.sort(tokens[real]))
            continue
        for new, k, old, r in zip(y, kept, tokens, real, strict=True):
            after, before = new[k], old[r]
            words = before[~np.isin(before, SPECIAL)]
            assert (
                after[np.isin(after, SPECIAL)].tolist() == before[np.isin(before, SPECIAL)].tolist()
            )
            if name == "random_deletion":
                assert in_a_row(before.tolist(), after.tolist())
                assert bool(words.size) == bool((~np.isin(after, SPECIAL)).any())
            elif not k[-1]:  # Nothing was cut off.
                assert in_a_row(after.tolist(), before.tolist())


def test_a_table_of_another_rank_is_named():
    with pytest.raises(ValueError, match=r"`neighbors` must have shape \[vocabulary, k\]"):
        text.random_insertion(KEY, jnp.arange(3), rate=0.5, neighbors=TABLE[0])
