"""Token ids with recognizable roles, and complete distributions of rows."""

import math
from collections import Counter
from functools import partial

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import stats

from jaxreg.augment import text
from tests.augment.helpers import KEY

SAMPLES = 20_000
# Start, four words, end and padding.
SENTENCE = (1, 5, 6, 7, 8, 2, 90, 91, 92)
REAL = (True,) * 6 + (False,) * 3
SPECIAL = [1, 2]
SYNONYMS = {5: [15, 16, 17], 6: [26], 8: [38, 39]}
TABLE = text.neighbors_from_dictionary(SYNONYMS, vocabulary_size=60, k=3)


def parts(result, where):
    """Tokens and the mask of real tokens, in NumPy; the function may change the mask."""
    tokens, kept = result if isinstance(result, text.Edited) else (result, where)
    return np.asarray(tokens), np.asarray(kept)


@partial(jax.jit, static_argnums=0)
def of_samples(function, rows, where):
    """The result for rows passed as arguments: the compiler takes minutes to fold constants."""
    return function(KEY, rows, where=where)


def sampled(function, tokens=SENTENCE, real=REAL, samples=SAMPLES):
    """The results for many equal rows: the real tokens of each row, and all tokens."""
    rows = np.tile(np.array(tokens, np.int32), (samples, 1))
    where = np.tile(np.array(real), (samples, 1))
    edited, kept = parts(of_samples(function, rows, where), where)
    return [tuple(r[k].tolist()) for r, k in zip(edited, kept, strict=True)], edited


def assert_distributed(rows, probabilities):
    """Only possible rows occur, with the right frequencies; wrong frequencies are noticed."""
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
    # As a control, a twentieth of all rows moves to the most frequent outcome.
    wrong = 0.95 * observed
    wrong[expected.argmax()] += observed.sum() - wrong.sum()
    assert stats.chisquare(wrong, expected).pvalue < 1e-6


def added(table, outcome, probability):
    table[outcome] = table.get(outcome, 0) + probability


def rounded(exact):
    """The possible roundings of a number, with their probabilities."""
    whole = math.floor(exact)
    return {whole: 1 - (exact - whole), whole + 1: exact - whole}


def batch(number=16, length=8, dtype=np.int32):
    """Rows of all lengths from 0, between a start and an end, with padding around them."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(90, 99, (number, length))
    for row in range(number):
        words = rng.integers(4, 9, row % (length + 1))
        if row % 3:
            words[:1] = 1
            words[-1:] = 2
        start = (length - len(words)) // 2 * (row % 2)
        tokens[row, start : start + len(words)] = words
    return tokens.astype(dtype), tokens < 90


def in_a_row(tokens, part):
    """Returns whether a list of ids is a subsequence of another."""
    rest = iter(tokens)
    return all(one in rest for one in part)


# No word, a single word, special tokens only, padding before and after, a full row.
SHORT = [(90, 91, 92), (5, 91, 92), (1, 2, 92), (1, 5, 2), (5, 6, 8), (90, 5, 92), (90, 91, 6)]


def on_short_rows(function):
    """The result at rate 1, after checks that rate 0 changes nothing and rates are clipped."""
    tokens = np.array(SHORT, np.int32)
    where = tokens < 90
    call = jax.jit(lambda tokens, where, rate: function(KEY, tokens, rate=rate, where=where))
    results = {}
    for rate in (0.0, 0.5, 1.0):
        y, kept = parts(call(tokens, where, rate), where)
        np.testing.assert_array_equal(y[[0, 2]], [SHORT[0], SHORT[2]])
        np.testing.assert_array_equal(kept[[0, 2]], [[False] * 3, [True, True, False]])
        results[rate] = y, kept
    np.testing.assert_array_equal(results[0.0][0], tokens)
    np.testing.assert_array_equal(results[0.0][1], where)
    for beyond, end in ((-3.0, 0.0), (7.0, 1.0)):  # A traced rate is clipped.
        y, kept = parts(call(tokens, where, beyond), where)
        np.testing.assert_array_equal(y, results[end][0])
        np.testing.assert_array_equal(kept, results[end][1])
    return results[1.0]


def assert_empty_ones_stay(function):
    for empty in ((0, 4), (3, 0), (0,)):
        tokens = jax.ShapeDtypeStruct(empty, "int32")
        result = jax.eval_shape(lambda tokens: function(KEY, tokens, rate=0.5), tokens)
        for part in jax.tree.leaves(result):
            assert part.shape == empty


def assert_protected_positions_stay(function):
    tokens = np.array([[5, 5, 6, 8]] * 50, np.int32)
    where = np.ones((50, 4), bool)
    positions = np.array([True, False, False, True])
    call = jax.jit(lambda tokens: function(KEY, tokens, rate=0.5, protected=positions))
    y, kept = parts(call(tokens), where)
    assert (y[:, 0] == 5).all()
    assert all(row[k][-1] == 8 for row, k in zip(y, kept, strict=True))
    assert (y != tokens).any()


def assert_same_on_eight_devices(function):
    """Rows in two halves on four pairs of devices give the same result as on one device."""
    tokens, where = batch()

    def run(tokens, where):
        return function(KEY, tokens, rate=0.5, where=where)

    expected = jax.jit(run)(tokens, where)
    mesh = jax.make_mesh((4, 2), ("row", "column"), axis_types=(AxisType.Explicit,) * 2)
    with jax.set_mesh(mesh):
        sharding = NamedSharding(mesh, PartitionSpec("row", "column"))
        result = jax.jit(run)(*jax.device_put((tokens, where), sharding))
    for one, other in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)
