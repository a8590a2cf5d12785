"""Masked tokens and spans, against their rules counted out in full, and BERT's shares."""

from functools import partial

import jax
import numpy as np
import pytest
from scipy import stats

from jaxreg import targets
from jaxreg.augment import text
from tests.augment.helpers import KEY
from tests.augment.text.helpers import SPECIAL, assert_distributed, assert_empty_ones_stay, batch
from tests.helpers import assert_rate, few

BERT = text.Replacement(mask_id=3, vocabulary_size=20)
MASK = text.Replacement(mask_id=3, vocabulary_size=20, masked=1.0, random=0.0)


def masked(function, tokens, **options):
    where = options.pop("where", np.ones(tokens.shape, bool))
    call = jax.jit(lambda tokens, where: function(KEY, tokens, where=where, **options))
    return map(np.asarray, call(tokens, where))


@pytest.mark.parametrize("function", [text.token_masking, text.span_masking])
def test_what_stands_in_place_of_chosen_tokens(function):
    tokens = np.tile(np.array([1, 7, 8, 9, 10, 11, 12, 2, 90], np.int16), (20_000, 1))
    where = tokens != 90
    # A mask that no random id can be.
    replacement = BERT._replace(mask_id=20)
    options = {"rate": 0.5, "replacement": replacement, "where": where, "protected": [1, 2]}
    y, labels = masked(function, tokens, **options)
    assert y.dtype == np.int16
    assert labels.dtype == np.int32
    chosen = labels >= 0
    np.testing.assert_array_equal(y[~chosen], tokens[~chosen])
    np.testing.assert_array_equal(labels[chosen], tokens[chosen])
    assert not chosen[:, [0, 7, 8]].any()
    if function is text.token_masking:
        for position in range(1, 7):
            assert_rate(chosen[:, position].mean(), 0.5, 20_000)
        # Independent of each other: the number of an example is binomial.
        numbers = np.bincount(chosen.sum(1), minlength=7)
        assert stats.chisquare(numbers, 20_000 * stats.binom(6, 0.5).pmf(range(7))).pvalue > 1e-6
        found = y[chosen]
        given = tokens[chosen]
        size = chosen.sum()
    else:
        assert (chosen.sum(1) == 3).all()
        # The tokens of a run share their fate; only the first is counted.
        first = chosen & ~np.roll(chosen, 1, axis=1)
        found = y[first]
        given = tokens[first]
        size = first.sum()
        inside = chosen & ~first
        assert ((y == 20) == np.roll(y == 20, 1, axis=1))[inside].all()
    # Of the random ids one in twenty is the token itself.
    expected = dict.fromkeys(range(20), 0.005) | {20: 0.8}
    for token in range(7, 13):
        own = given == token
        probabilities = expected | {token: expected[token] + 0.1}
        counts = np.bincount(found[own], minlength=21)
        assert (
            stats.chisquare(counts, own.sum() * np.array([*probabilities.values()])).pvalue > 1e-6
        )
    assert_rate((found == 20).mean(), 0.8, size)


def test_random_ids_of_a_span_are_drawn_one_by_one():
    tokens = np.full((4000, 6), 7, np.int32)
    always = BERT._replace(masked=0.0, random=1.0)
    y, _ = masked(text.span_masking, tokens, rate=1.0, replacement=always)
    table = np.zeros((20, 20), int)
    np.add.at(table, (y[:, 0], y[:, 1]), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-6
    assert stats.chisquare(np.bincount(y.ravel(), minlength=20)).pvalue > 1e-6


def spans(free, budget, ends, most):
    """The distribution of the chosen positions, by all starts and all lengths in turn."""
    weights = ends * (1 - ends) ** np.arange(most)
    lengths = dict(enumerate(weights / weights.sum(), start=1))
    states = {frozenset(): 1.0}
    result = {}
    while states:
        following = {}
        for chosen, p in states.items():
            if len(chosen) >= budget:
                result[tuple(sorted(chosen))] = result.get(tuple(sorted(chosen)), 0) + p
                continue
            starts = [i for i, f in enumerate(free) if f and i not in chosen]
            for start in starts:
                for length, share in lengths.items():
                    span = set(chosen)
                    for i in range(start, min(start + length, len(free))):
                        if not free[i] or len(span) >= budget:
                            break
                        span.add(i)
                    span = frozenset(span)
                    following[span] = following.get(span, 0) + p * share / len(starts)
        states = following
    return result


@few(
    ("free", "rate", "budget"),
    [("0110111100", 0.5, 3), ("1111111", 0.5, 4), ("111", 0.01, 1)],
)
def test_spans_are_distributed_as_in_the_paper(free, rate, budget):
    free = np.array([c == "1" for c in free])
    tokens = np.tile(np.arange(10, 10 + free.size, dtype=np.int32), (20_000, 1))
    where = np.broadcast_to(free, tokens.shape)
    options = {"replacement": MASK, "lengths": (0.3, 3), "where": where}
    _, labels = masked(text.span_masking, tokens, rate=rate, **options)
    rows = [tuple(np.flatnonzero(row).tolist()) for row in labels >= 0]
    assert_distributed(rows, spans(free.tolist(), budget, 0.3, 3))


def test_lengths_of_spans_are_geometric_and_3_8_in_the_mean():
    share = np.random.default_rng(0).random(100_000, np.float32)
    drawn = jax.jit(lambda share: text.masking._lengths(share, (0.2, 10)))(share)
    counts = np.bincount(drawn, minlength=11)
    weights = 0.2 * 0.8 ** np.arange(10)
    assert counts[0] == 0
    assert counts.size == 11
    assert stats.chisquare(counts[1:], 100_000 * weights / weights.sum()).pvalue > 1e-6
    assert abs(np.mean(drawn) - 3.797) < 5 * np.std(drawn) / 100_000**0.5


def test_the_budget_is_the_rate_rounded_up():
    lengths = np.arange(0, 41)
    where = np.arange(40) < lengths[:, None]
    tokens = np.full((41, 40), 7, np.int32)
    call = jax.jit(
        lambda x, rate: text.span_masking(KEY, x, rate=rate, replacement=MASK, where=where)
    )
    for percent in (0, 15, 20, 35, 100):
        _, labels = call(tokens, percent / 100)
        number = np.sum(np.asarray(labels) >= 0, axis=1)
        np.testing.assert_array_equal(number, -(-lengths * percent // 100))
        assert not (np.asarray(labels) >= 0)[~np.asarray(where)].any()


def test_labels_go_into_the_losses_as_they_are():
    tokens = np.arange(12, dtype=np.int32).reshape(2, 6)
    logits = np.sin(np.arange(2 * 6 * 20.0, dtype=np.float32)).reshape(2, 6, 20)

    @jax.jit
    def run(tokens, logits):
        _, labels = text.token_masking(KEY, tokens, rate=0.5, replacement=BERT)
        return labels, targets.smoothed_cross_entropy(logits, labels, alpha=0.0)

    labels, loss = run(tokens, logits)
    chosen = np.asarray(labels) >= 0
    assert 0 < (~chosen).sum() < 12
    logs = logits - np.log(np.exp(logits.astype(np.float64)).sum(-1, keepdims=True))
    np.testing.assert_allclose(loss, -logs[chosen, tokens[chosen]].mean(), rtol=1e-5)


@pytest.mark.parametrize("function", [text.token_masking, text.span_masking])
def test_rates_of_0_and_1_and_nothing_to_mask(function):
    tokens = np.array([[7, 8, 90], [90, 91, 92], [1, 2, 9]], np.uint8)
    options = {"replacement": MASK, "where": tokens < 90, "protected": (1, 2)}
    call = jax.jit(lambda x, rate: function(KEY, x, rate=rate, **options))
    for off in (0.0, -3.0):
        y, labels = call(tokens, off)
        np.testing.assert_array_equal(y, tokens)
        assert (np.asarray(labels) == -1).all()
    y, labels = call(tokens, 1.0)
    np.testing.assert_array_equal(y, [[3, 3, 90], [90, 91, 92], [1, 2, 3]])
    np.testing.assert_array_equal(labels, [[7, 8, -1], [-1] * 3, [-1, -1, 9]])
    assert_empty_ones_stay(partial(function, replacement=MASK))


@pytest.mark.parametrize(
    ("function", "dtype"),
    [
        (text.token_masking, np.uint8),
        (text.span_masking, np.uint8),
        (text.token_masking, np.uint32),
    ],
)
def test_padding_and_special_tokens_stay(function, dtype):
    tokens, real = batch(90, 8, dtype)
    options = {"rate": 1.0, "replacement": BERT, "where": real, "protected": SPECIAL}
    y, labels = masked(function, tokens, **options)
    assert y.dtype == dtype
    fixed = ~real | np.isin(tokens, SPECIAL)
    np.testing.assert_array_equal(y[fixed], tokens[fixed])
    np.testing.assert_array_equal(labels, np.where(fixed, -1, tokens.astype(np.int64)))


WRONG = [
    ({"replacement": BERT._replace(mask_id=0.5)}, TypeError, r"`mask_id` must be a single integer"),
    ({"replacement": BERT._replace(mask_id=300)}, ValueError, r"`mask_id` must fit the uint8"),
    ({"replacement": BERT._replace(vocabulary_size=0)}, ValueError, r"`vocabulary_size` must be p"),
    ({"replacement": BERT._replace(vocabulary_size=300)}, ValueError, r"`vocabulary_size` must f"),
    ({"replacement": BERT._replace(masked=1.5)}, ValueError, r"`masked` must be a probability"),
    ({"replacement": BERT._replace(random=-0.1)}, ValueError, r"`random` must be a probability"),
    ({"replacement": BERT._replace(random=0.5)}, ValueError, r"`masked` and `random` .*got 1\.3"),
    ({"rate": -0.5}, ValueError, r"`rate` must be a probability in \[0, 1\], got -0\.5"),
    ({"where": np.ones(3, bool)}, ValueError, r"`where` must have the same shape as `tokens`"),
]
WRONG_LENGTHS = [
    ({"lengths": (1.0, 10)}, ValueError, r"`lengths` must be a probability in \(0, 1\)"),
    ({"lengths": (0.2, 0)}, ValueError, r"`lengths` .*largest length of at least 1, got \(0\.2, 0"),
    ({"lengths": (0.2, 10.0)}, TypeError, r"`lengths` must be an integer"),
]


@pytest.mark.parametrize(("wrong", "kind", "message"), WRONG + WRONG_LENGTHS)
def test_wrong_arguments_are_named(wrong, kind, message):
    tokens = np.zeros((2, 3), np.uint8)
    functions = (
        (text.span_masking,) if "lengths" in wrong else (text.token_masking, text.span_masking)
    )
    for function in functions:
        with pytest.raises(kind, match=message):
            jax.eval_shape(
                partial(function, **{"rate": 0.5, "replacement": BERT} | wrong), KEY, tokens
            )


@few(("chosen", "number"), [(7, 13), (3, 21), (15, 25), (3, 20)])
def test_a_budget_of_whole_tokens_is_met_though_its_rate_is_rounded_up(chosen, number):
    tokens = np.full((4, number), 7, np.int32)
    call = jax.jit(lambda x, rate: text.span_masking(KEY, x, rate=rate, replacement=MASK).labels)
    for more in (0, 1):
        labels = np.asarray(call(tokens, (chosen + 0.01 * more) / number))
        np.testing.assert_array_equal((labels == 7).sum(1), chosen + more)
