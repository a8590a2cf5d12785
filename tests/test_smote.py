"""Oversampling against imbalanced-learn's figures and a loop in NumPy; mixtures against EM's."""

import json
import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.mixture import GaussianMixture

from jaxreg import augment

KEY = jax.random.key(120)
FIGURES = json.loads(
    (pathlib.Path(__file__).parent / "references" / "smote_imblearn.json").read_text()
)
X, LABELS = np.float32(FIGURES["x"]), np.array(FIGURES["labels"])
NEIGHBORS = FIGURES["neighbors"]
smote = partial(jax.jit, static_argnames=("neighbors", "distance"))(augment.smote)


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
    """Which of the pairs each new row lies between, and where."""
    starts, ends = (
        np.float64(x)[[pair[k] for pair in pairs]].reshape(len(pairs), -1) for k in (0, 1)
    )
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
    theirs = {(members[i], members[j]) for i, line in enumerate(FIGURES["nearest_of_class_1"])
              for j in line}  # fmt: skip
    assert set(pairs) == theirs
    new = smote(KEY, X, LABELS, wanted=jnp.ones(6000, int), neighbors=NEIGHBORS)
    found, share = on_segments(new, X, pairs)
    # Neighbors of each other share a segment, from either end.
    lines = {frozenset(pair) for pair in pairs}
    counts = {line: 0 for line in lines}
    for k in found:
        counts[frozenset(pairs[k])] += 1
    expected = [6000 / 21 * sum(frozenset(p) == line for p in pairs) for line in lines]
    assert stats.chisquare([counts[line] for line in lines], expected).pvalue > 1e-6
    one_way = np.array([(pair[1], pair[0]) not in pairs for pair in pairs])
    assert one_way.sum() == 3
    assert stats.kstest(share[one_way[found]], stats.uniform.cdf).pvalue > 1e-6


def test_moments_are_those_of_imbalanced_learn():
    number = 50_000
    new = smote(KEY, X, LABELS, wanted=jnp.ones(number, int), neighbors=NEIGHBORS)
    new = np.float64(new)
    error = 5 * (1 / number + 1 / FIGURES["new"]) ** 0.5
    np.testing.assert_array_less(abs(new.mean(0) - FIGURES["mean"]), error * new.std(0))
    second = new.T @ new / number
    spread = np.sqrt(np.outer(*[(new**4).mean(0) ** 0.5] * 2))
    np.testing.assert_array_less(abs(second - FIGURES["second_moment"]), error * spread)
    np.testing.assert_array_less(
        abs((new**4).mean(0) - FIGURES["fourth_moment"]), error * (new**4).std(0)
    )
    lacks = augment.lacking(LABELS, num_classes=3)
    np.testing.assert_array_equal(lacks, FIGURES["added"])
    assert FIGURES["labels_of_new"] == [1]


def test_every_row_is_of_the_class_wanted():
    wanted = np.repeat(np.arange(3), np.asarray(augment.lacking(LABELS, num_classes=3)))
    new = smote(KEY, X, LABELS, wanted=wanted, neighbors=NEIGHBORS)
    for label in (1, 2):
        rows = np.asarray(new)[wanted == label]
        assert len(rows) == FIGURES["added"][label]
        on_segments(rows, X, segments(X, LABELS, label, NEIGHBORS))


def test_classes_with_few_examples():
    """One example is repeated, none is zeros, and identical ones are neighbors."""
    x = jnp.array([[1.0, 2.0], [3.0, 3.0], [3.0, 3.0], [5.0, jnp.inf], [6.0, 0.0]])
    labels = jnp.array([0, 1, 1, 2, 2])
    wanted = jnp.array([0] * 5 + [1] * 5 + [3] * 5 + [-1] * 5)
    new = smote(KEY, x, labels, wanted=wanted)
    expected = np.repeat([[1, 2], [3, 3], [0, 0], [0, 0]], 5, axis=0)
    np.testing.assert_array_equal(new, expected)
    new = smote(KEY, x[:, :1], labels, wanted=jnp.full(9, 2))
    assert ((new >= 5) & (new <= 6)).all()
    assert len(np.unique(new)) == 9
    assert smote(KEY, x, labels, wanted=jnp.zeros(0, int)).shape == (0, 2)
    np.testing.assert_array_equal(smote(KEY, x[:1], labels[:1], wanted=labels[:1]), x[:1])


def test_series_have_distances_over_all_steps_or_of_your_own():
    x = np.random.default_rng(1).normal(size=(12, 6, 2)).astype(np.float32)
    labels = np.arange(12) % 2
    new = smote(KEY, x, labels, wanted=jnp.zeros(40, int), neighbors=2)
    on_segments(new, x, segments(x, labels, 0, 2))

    def first_channel(x, one):
        return jnp.sum((x[..., 0] - one[None, :, 0]) ** 2, axis=1)

    new = smote(KEY, x, labels, wanted=jnp.zeros(40, int), neighbors=2, distance=first_channel)
    on_segments(new, x, segments(x[..., 0], labels, 0, 2))


@pytest.mark.slow
def test_blocks_of_rows_give_what_all_at_once_do(monkeypatch):
    wanted = jnp.arange(11) % 3
    whole = augment.smote(KEY, X, LABELS, wanted=wanted)
    monkeypatch.setattr(augment.oversampling, "_BLOCK", 4 * X.size)
    np.testing.assert_array_equal(augment.smote(KEY, X, LABELS, wanted=wanted), whole)


def test_lacking_ignores_other_labels():
    labels = jnp.array([-1, 3, 0, 0, 100, 1], jnp.int8)
    np.testing.assert_array_equal(augment.lacking(labels, num_classes=3), [0, 1, 2])


def clusters(seed=3):
    """Two classes, of two correlated Gaussians and of one."""
    rng = np.random.default_rng(seed)
    skewed = np.array([[1.0, 0.8, 0.0], [0.0, 0.5, 0.0], [0.3, 0.0, 0.7]])
    parts = [
        rng.normal(size=(n, 3)) @ skewed + m for n, m in ((150, 4.0), (100, -3.0), (120, 90.0))
    ]
    order = rng.permutation(370)
    return np.float32(np.concatenate(parts))[order], np.repeat([0, 1], [250, 120])[order]


fit = partial(jax.jit, static_argnames=("num_classes", "components", "steps"))(augment.fit_mixture)


def test_mixtures_are_those_of_scikit_learn():
    x, labels = clusters()
    found = fit(KEY, x, labels, num_classes=2, components=2, steps=30)
    theirs = GaussianMixture(2, n_init=3, random_state=0, tol=1e-7, max_iter=500)
    theirs.fit(np.float64(x[labels == 0]))
    order, wanted = np.argsort(found.means[0, :, 0]), np.argsort(theirs.means_[:, 0])
    np.testing.assert_allclose(found.weights[0][order], theirs.weights_[wanted], atol=1e-4)
    np.testing.assert_allclose(found.means[0][order], theirs.means_[wanted], atol=1e-3)
    np.testing.assert_allclose(found.covariances[0][order], theirs.covariances_[wanted], atol=1e-3)
    single = fit(KEY, x, labels, num_classes=2, components=1, steps=1)
    own = np.float64(x[labels == 1])
    np.testing.assert_allclose(single.means[1, 0], own.mean(0), atol=1e-4)
    covariance = np.cov(own.T, bias=True) + 1e-6 * np.eye(3)
    np.testing.assert_allclose(single.covariances[1, 0], covariance, atol=1e-5)


def test_samples_are_of_the_mixture_of_their_class():
    means = jnp.array([[[0.0, 50.0], [100.0, 0.0]], [[-100.0, 0.0], [7.0, -60.0]]])
    covariances = jnp.array([[[4.0, 1.2], [1.2, 1.0]]] * 2) * jnp.array([1.0, 9.0])[:, None, None]
    mixture = augment.Mixture(
        jnp.array([[0.3, 0.7], [1.0, 0.0]]), means, jnp.stack([covariances] * 2)
    )
    wanted = jnp.arange(8000) % 2
    new = np.asarray(jax.jit(augment.mixture_sampling)(KEY, mixture, wanted=wanted), np.float64)
    other = new[1::2]
    assert np.abs(other[:, 0] + 100).max() < 20
    new = new[::2]
    second = new[:, 0] > 50
    assert stats.binomtest(int(second.sum()), 4000, 0.7).pvalue > 1e-6
    for k, rows in enumerate((new[~second], new[second])):
        root = np.linalg.cholesky(np.float64(covariances[k]))
        white = np.linalg.solve(root, (rows - np.float64(means[0, k])).T)
        assert abs(np.corrcoef(white)[0, 1]) < 5 / len(rows) ** 0.5
        for line in white:
            assert stats.kstest(line, stats.norm.cdf).pvalue > 1e-6


def test_mixtures_of_series_empty_classes_and_constants():
    x = jnp.concatenate([jnp.full((6, 4, 2), 1e4), jnp.ones((3, 4, 2))]).astype(jnp.bfloat16)
    labels = jnp.array([0] * 6 + [2] * 3)
    found = fit(KEY, x, labels, num_classes=3, components=2, steps=5)
    assert found.means.shape == (3, 2, 4, 2)
    assert all(jnp.isfinite(part).all() and part.dtype == jnp.float32 for part in found)
    new = augment.mixture_sampling(KEY, found, wanted=jnp.array([0, 1, 2, 2]))
    assert new.shape == (4, 4, 2)
    wanted = np.array([9984.0, 0.0, 1.0, 1.0])[:, None, None]
    np.testing.assert_allclose(new, np.broadcast_to(wanted, new.shape), atol=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: augment.smote(KEY, X, LABELS[:5], wanted=LABELS),
            r"`labels` must be class ids of shape \(24,\), got shape \(5,\)",
        ),
        (
            lambda: augment.smote(KEY, X, LABELS, wanted=jnp.int32(1)),
            r"`wanted` must be class ids of shape \[new\], got shape \(\)",
        ),
        (
            lambda: augment.smote(KEY, X, LABELS, wanted=LABELS, neighbors=0),
            r"`neighbors` must be at least 1, got 0",
        ),
        (
            lambda: augment.smote(KEY, X[:0], LABELS[:0], wanted=LABELS),
            r"`x` must have the shape \[examples, ...\] with examples, got \(0, 3\)",
        ),
        (lambda: augment.lacking(LABELS, num_classes=0), r"`num_classes` must be at least 1"),
        (
            lambda: augment.fit_mixture(KEY, X, LABELS, num_classes=3, components=0, steps=1),
            r"`components` must be at least 1, got 0",
        ),
        (
            lambda: augment.fit_mixture(KEY, X, LABELS[:2], num_classes=3, components=1, steps=1),
            r"`x` must have the shape .* got \(24, 3\) and \(2,\)",
        ),
        (
            lambda: augment.fit_mixture(
                KEY, X, LABELS, num_classes=3, components=1, steps=1, ridge=-1.0
            ),
            r"`ridge` must be zero or positive, got -1\.0",
        ),
        (
            lambda: augment.mixture_sampling(
                KEY, augment.Mixture(*[jnp.ones((1,) * n) for n in (2, 3, 4)]), wanted=jnp.int32(0)
            ),
            r"`wanted` must be class ids of shape \[new\]",
        ),
    ],
)
def test_what_cannot_be_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_one_key_is_one_sample_on_any_number_of_devices():
    mesh = jax.make_mesh((8,), ("device",), axis_types=(jax.sharding.AxisType.Explicit,))
    wanted = jnp.arange(16) % 3
    options = {"num_classes": 3, "components": 2, "steps": 3}
    expected = smote(KEY, X, LABELS, wanted=wanted)
    fitted = fit(KEY, X, LABELS, **options)
    with jax.set_mesh(mesh):
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("device"))
        x, labels, sharded = (jax.device_put(a, sharding) for a in (X, LABELS, wanted))
        np.testing.assert_allclose(smote(KEY, x, labels, wanted=sharded), expected, atol=1e-6)
        again = fit(KEY, x, labels, **options)
        for a, b in zip(again, fitted, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)
        new = jax.jit(augment.mixture_sampling)(KEY, again, wanted=sharded)
    plain = jax.jit(augment.mixture_sampling)(KEY, fitted, wanted=wanted)
    np.testing.assert_allclose(new, plain, atol=1e-3)
