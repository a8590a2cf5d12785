"""Oversampling: imbalanced-learn's figures, and the neighbors of the paper one by one."""

import json
import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxreg.augment import tables
from tests.augment.helpers import KEY

REFERENCES = pathlib.Path(__file__).parents[2] / "references"
FIGURES = json.loads((REFERENCES / "smote_imblearn.json").read_text())
X = np.float32(FIGURES["x"])
LABELS = np.array(FIGURES["labels"], np.int32)
NEIGHBORS = FIGURES["neighbors"]
smote = partial(jax.jit, static_argnames=("neighbors", "distance"))(tables.smote)


def segments(x, labels, label, neighbors):
    """All pairs of an example and one of its nearest of the class, as in the paper."""
    members = np.flatnonzero(labels == label)
    pairs = []
    for i in members:
        others = members[members != i]
        distances = [np.sum((x[i].astype(np.float64) - x[j]) ** 2) for j in others]
        pairs += [(i, j) for j in others[np.argsort(distances, kind="stable")[:neighbors]]]
    return pairs


def on_segments(new, x, pairs):
    """Finds the pair that each new row lies between, and its position."""
    starts = np.float64(x)[[pair[0] for pair in pairs]].reshape(len(pairs), -1)
    ends = np.float64(x)[[pair[1] for pair in pairs]].reshape(len(pairs), -1)
    rows = np.float64(new).reshape(len(new), 1, -1)
    direction = (ends - starts)[None]
    share = np.sum((rows - starts) * direction, -1) / np.sum(direction**2, -1)
    error = np.linalg.norm(rows - starts - share[..., None] * direction, axis=-1)
    found = error.argmin(axis=1)
    line = np.arange(len(new))
    assert error[line, found].max() < 1e-4
    return found, share[line, found]


def test_new_rows_lie_between_neighbors_all_as_likely():
    pairs = segments(X, LABELS, 1, NEIGHBORS)
    assert len(pairs) == 21
    members = np.flatnonzero(LABELS == 1)
    nearest = FIGURES["nearest_of_class_1"]
    theirs = {(members[i], members[j]) for i, line in enumerate(nearest) for j in line}
    assert set(pairs) == theirs
    number = 50_000
    new = np.asarray(smote(KEY, X, LABELS, wanted=np.ones(number, np.int32), neighbors=NEIGHBORS))
    found, share = on_segments(new[:6000], X, pairs)
    # Neighbors of each other share a segment, from either end.
    lines = [*{frozenset(pair) for pair in pairs}]
    counts = [sum(frozenset(pairs[k]) == line for k in found) for line in lines]
    expected = [6000 / 21 * sum(frozenset(p) == line for p in pairs) for line in lines]
    assert stats.chisquare(counts, expected).pvalue > 1e-6
    one_way = np.array([(pair[1], pair[0]) not in pairs for pair in pairs])
    assert one_way.sum() == 3
    assert stats.kstest(share[one_way[found]], stats.uniform.cdf).pvalue > 1e-6
    # The moments equal imbalanced-learn's.
    new = np.float64(new)
    error = 5 * (1 / number + 1 / FIGURES["new"]) ** 0.5
    np.testing.assert_array_less(abs(new.mean(0) - FIGURES["mean"]), error * new.std(0))
    second = new.T @ new / number
    root = (new**4).mean(0) ** 0.5
    spread = np.sqrt(np.outer(root, root))
    np.testing.assert_array_less(abs(second - FIGURES["second_moment"]), error * spread)
    np.testing.assert_array_less(
        abs((new**4).mean(0) - FIGURES["fourth_moment"]), error * (new**4).std(0)
    )


def test_every_row_is_of_the_class_wanted():
    lacks = jax.jit(lambda y: tables.shortfall(y, num_classes=3))(LABELS)
    np.testing.assert_array_equal(lacks, FIGURES["added"])
    assert FIGURES["labels_of_new"] == [1]
    wanted = np.arange(60, dtype=np.int32) % 3
    new = np.asarray(smote(KEY, X, LABELS, wanted=wanted, neighbors=NEIGHBORS))
    for label in range(3):
        on_segments(new[wanted == label], X, segments(X, LABELS, label, NEIGHBORS))


def test_classes_with_few_examples():
    """One example is repeated, none is zeros, and identical ones are neighbors."""
    x = np.float32([[1.0, 2.0], [3.0, 3.0], [3.0, 3.0], [5.0, np.inf], [6.0, 0.0]])
    labels = np.int32([0, 1, 1, 2, 2])
    wanted = np.int32([0] * 5 + [1] * 5 + [3] * 5 + [-1] * 5)
    new = smote(KEY, x, labels, wanted=wanted)
    expected = np.repeat([[1, 2], [3, 3], [0, 0], [0, 0]], 5, axis=0)
    np.testing.assert_array_equal(new, expected)
    new = np.asarray(smote(KEY, x[:, :1], labels, wanted=np.full(9, 2, np.int32)))
    assert ((new >= 5) & (new <= 6)).all()
    assert len(np.unique(new)) == 9
    assert smote(KEY, x, labels, wanted=np.zeros(0, np.int32)).shape == (0, 2)
    np.testing.assert_array_equal(smote(KEY, x[:1], labels[:1], wanted=labels[:1]), x[:1])


def test_an_example_infinitely_far_is_a_neighbor_of_the_class_before_those_of_others():
    x = np.float32([[0.0], [1e30], [0.1]])
    new = np.asarray(smote(KEY, x, np.int32([0, 0, 1]), wanted=np.zeros(50, np.int32), neighbors=2))
    assert new.min() >= 0
    assert np.median(new) > 1e29


def test_series_have_distances_over_all_steps_or_of_your_own():
    x = np.random.default_rng(1).normal(size=(12, 6, 2)).astype(np.float32)
    labels = np.arange(12, dtype=np.int32) % 2
    wanted = np.zeros(40, np.int32)
    new = np.asarray(smote(KEY, x, labels, wanted=wanted, neighbors=2))
    assert new.shape == (40, 6, 2)
    on_segments(new, x, segments(x, labels, 0, 2))

    def first_channel(x, one):
        return jnp.sum((x[..., 0] - one[None, :, 0]) ** 2, axis=1)

    new = np.asarray(smote(KEY, x, labels, wanted=wanted, neighbors=2, distance=first_channel))
    on_segments(new, x, segments(x[..., 0], labels, 0, 2))


def test_blocks_of_rows_give_what_all_at_once_do(monkeypatch):
    wanted = np.arange(11, dtype=np.int32) % 3
    whole = jax.jit(lambda x: tables.smote(KEY, x, LABELS, wanted=wanted))(X)
    monkeypatch.setattr(tables.oversampling, "_BLOCK", 4 * X.size)
    blocks = jax.jit(lambda x: tables.smote(KEY, x, LABELS, wanted=wanted))(X)
    np.testing.assert_array_equal(blocks, whole)


def test_dtypes_are_kept_and_labels_may_be_narrow():
    x = jnp.asarray(X, jnp.bfloat16)
    call = jax.jit(lambda x: tables.smote(KEY, x, np.int8(LABELS), wanted=np.full(7, 1, np.uint8)))
    new = call(x)
    assert new.dtype == jnp.bfloat16
    on_class = np.asarray(x, np.float32)[LABELS == 1]
    assert (np.asarray(new, np.float32) <= on_class.max(0)).all()
    assert (np.asarray(new, np.float32) >= on_class.min(0)).all()


def test_the_shortfall_ignores_other_labels():
    labels = np.array([-1, 3, 0, 0, 100, 1], np.int8)
    found = jax.jit(lambda y: tables.shortfall(y, num_classes=3))(labels)
    np.testing.assert_array_equal(found, [0, 1, 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: tables.smote(KEY, X, LABELS[:5], wanted=LABELS),
            r"`labels` must be class ids of shape \(24,\), got shape \(5,\)",
        ),
        (
            lambda: tables.smote(KEY, X, LABELS, wanted=np.int32(1)),
            r"`wanted` must be class ids of shape \[new\], got shape \(\)",
        ),
        (
            lambda: tables.smote(KEY, X, LABELS, wanted=LABELS, neighbors=0),
            r"`neighbors` must be at least 1, got 0",
        ),
        (
            lambda: tables.smote(KEY, X[:0], LABELS[:0], wanted=LABELS),
            r"`x` must have at least one example, .* got shape \(0, 3\)",
        ),
        (
            lambda: tables.shortfall(LABELS, num_classes=0),
            r"`num_classes` must be at least 1",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_labels_have_to_be_integers():
    for labels, wanted in ((LABELS.astype(float), LABELS), (LABELS, LABELS.astype(float))):
        with pytest.raises(TypeError, match=r"must .*integer"):
            tables.smote(KEY, X, labels, wanted=wanted)
