"""Rows of tokens: flags ranked and packed in NumPy, protected ids, ids that fit their dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.augment import text
from jaxreg.augment.text import sequences
from tests.augment.helpers import KEY

FLAGS = np.random.default_rng(0).random((6, 9)) < 0.4
IDS = np.random.default_rng(1).integers(4, 50, (6, 9)).astype(np.int32)


def test_flags_are_counted_ranked_and_put_in_front():
    @jax.jit
    def run(flags):
        rows = jax.vmap(lambda row: (sequences.rank(row), sequences.in_front(row)))(flags)
        return rows, sequences.count(flags), sequences.count(flags, -1), sequences.rank(flags, -1)

    (ranks, fronts), number, numbers, same = run(FLAGS)
    np.testing.assert_array_equal(ranks, np.cumsum(FLAGS, 1) - 1)
    np.testing.assert_array_equal(same, ranks)
    assert number == FLAGS.sum()
    np.testing.assert_array_equal(numbers, FLAGS.sum(1))
    for row, front in zip(FLAGS, fronts, strict=True):
        np.testing.assert_array_equal(front, [*np.flatnonzero(row), *np.flatnonzero(~row)])


def test_kept_ids_settle_in_the_slots_from_the_left():
    kept = FLAGS & (IDS % 3 > 0)
    slots = ~np.roll(FLAGS, 1, axis=1)
    otherwise = -IDS
    settle = jax.jit(jax.vmap(sequences.settle))
    settled, filled = settle(IDS, kept, slots, otherwise)
    for i in range(6):
        expected = otherwise[i].copy()
        there = np.zeros(9, bool)
        for place, one in zip(np.flatnonzero(slots[i]), IDS[i][kept[i]], strict=False):
            expected[place] = one
            there[place] = True
        np.testing.assert_array_equal(settled[i], expected)
        np.testing.assert_array_equal(filled[i], there)


def test_a_word_picks_a_number_below_the_count():
    words = np.array([0, 5, 7, 2**32 - 1], np.uint32)
    counts = np.array([3, 5, 0, 10], np.int32)
    np.testing.assert_array_equal(jax.jit(sequences.pick)(words, counts), [0, 0, 0, 5])


def test_protected_may_be_ids_or_positions():
    tokens = np.array([[1, 5, 6, 2], [5, 1, 7, 7]], np.uint8)
    where = np.array([[True, True, True, False], [True] * 4])

    @jax.jit
    def run(tokens, where):
        positions = np.array([True, False, False, False])
        choices = (None, [], [1, 2], [1, 300, -1], np.int32(5), positions)
        return [sequences.read(tokens, where, one) for one in choices]

    kept, none, ids, others, single, places = run(tokens, where)
    for one in (kept, none):
        np.testing.assert_array_equal(one.free, where)
    np.testing.assert_array_equal(ids.free, where & ~np.isin(tokens, [1, 2]))
    np.testing.assert_array_equal(others.free, where & (tokens != 1))
    np.testing.assert_array_equal(single.free, where & (tokens != 5))
    np.testing.assert_array_equal(places.free, where & ~np.array([True, False, False, False]))
    for one in (kept, ids, places):
        np.testing.assert_array_equal(one.real, where)
        np.testing.assert_array_equal(one.tokens, tokens)
    everything = jax.jit(lambda x: sequences.read(x, None, None))(tokens)
    assert np.asarray(everything.real).all()


def test_rows_of_a_table_are_gathered_and_cut_off_at_its_ends():
    table = np.arange(12, dtype=np.int32).reshape(4, 3)
    tokens = np.array([[0, 3], [-1, 9]], np.int8)
    found = jax.jit(lambda t, x: sequences.gather(t, x))(table, tokens)
    np.testing.assert_array_equal(found[0], table[[0, 3]])
    np.testing.assert_array_equal(found[1, 1], table[3])


def test_rates_that_are_traced_are_cut_off():
    rates = jax.jit(lambda r: sequences.clip_rate(r))
    for given, expected in ((-1.0, 0), (0.25, 0.25), (7.0, 1)):
        assert rates(given) == expected


ROW = np.arange(3)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: text.random_swap(KEY, [1, 2], rate=0.5), TypeError, r"`tokens` must be an array"),
        (
            lambda: text.random_swap(KEY, np.ones(3), rate=0.5),
            TypeError,
            r"`tokens` must be integer token ids, got dtype float",
        ),
        (
            lambda: text.random_swap(KEY, np.int32(3), rate=0.5),
            ValueError,
            r"`tokens` must have shape \[\.\.\., length\]",
        ),
        (
            lambda: text.random_swap(KEY, ROW, rate=1.5),
            ValueError,
            r"`rate` must be a probability in \[0, 1\], got 1\.5",
        ),
        (
            lambda: text.random_swap(KEY, ROW, rate=0.5, where=np.ones(2, bool)),
            ValueError,
            r"`where` must have the same shape as `tokens`, \(3,\), got \(2,\)",
        ),
        (
            lambda: text.random_swap(KEY, ROW, rate=0.5, protected=[0.5]),
            TypeError,
            r"`protected` must be a list of integer ids or a boolean array of positions, got float",
        ),
        (
            lambda: text.random_swap(KEY, ROW, rate=0.5, protected=np.ones((2, 2), int)),
            TypeError,
            r"`protected` must be a list of integer ids .* of shape \(2, 2\)",
        ),
        (
            lambda: text.random_swap(KEY, ROW, rate=0.5, protected=np.ones(2, bool)),
            ValueError,
            r"`protected` must broadcast to shape \(3,\)",
        ),
        (lambda: text.random_swap(3, ROW, rate=0.5), TypeError, r"`key` must be"),
        (
            lambda: text.random_deletion(KEY, ROW, rate=0.5, pad_id=0.5),
            TypeError,
            r"`pad_id` must be a single integer, got 0\.5",
        ),
        (
            lambda: text.random_deletion(KEY, ROW, rate=0.5, pad_id=np.arange(2)),
            TypeError,
            r"`pad_id` must be a single integer",
        ),
        (
            lambda: text.random_deletion(KEY, np.uint8(ROW), rate=0.5, pad_id=-1),
            ValueError,
            r"`pad_id` must fit the uint8 of `tokens`, got -1",
        ),
        (
            lambda: text.random_deletion(KEY, np.uint8(ROW), rate=0.5, pad_id=256),
            ValueError,
            r"`pad_id` must fit the uint8 of `tokens`, got 256",
        ),
    ],
)
def test_wrong_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_ids_at_the_ends_of_a_dtype_fit():
    for dtype, pad_id in ((jnp.uint8, 255), (jnp.uint8, 0), (jnp.int8, -128), (jnp.int8, 127)):
        tokens = jax.ShapeDtypeStruct((3,), dtype)
        y = jax.eval_shape(
            lambda x, pad_id=pad_id: text.random_deletion(KEY, x, rate=0.5, pad_id=pad_id), tokens
        )
        assert y.tokens.dtype == dtype
