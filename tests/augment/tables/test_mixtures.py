"""Mixtures of Gaussians: scikit-learn's fit, and samples of the mixture of their class."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.mixture import GaussianMixture

from jaxreg.augment import tables
from tests.augment.helpers import KEY, assert_distribution, assert_independent

compiled = partial(jax.jit, static_argnames=("num_classes", "components", "steps"))
fitted = compiled(tables.fit_mixture)
sample = jax.jit(tables.sample_mixture)


def fit(*arguments, **options):
    """A mixture in NumPy."""
    return tables.Mixture(*map(np.asarray, fitted(*arguments, **options)))


def clusters():
    """Two classes, of two correlated Gaussians and of one, and rows that are of no class."""
    rng = np.random.default_rng(3)
    skewed = np.array([[1.0, 0.8, 0.0], [0.0, 0.5, 0.0], [0.3, 0.0, 0.7]])
    parts = [
        rng.normal(size=(n, 3)) @ skewed + m
        for n, m in ((150, 4.0), (100, -3.0), (120, 90.0), (10, np.nan))
    ]
    order = rng.permutation(380)
    labels = np.repeat(np.int32([0, 1, -1]), [250, 120, 10])
    return np.float32(np.concatenate(parts))[order], labels[order]


def test_mixtures_are_those_of_scikit_learn():
    x, labels = clusters()
    found = fit(KEY, x, labels, num_classes=2, components=2, steps=12)
    theirs = GaussianMixture(2, random_state=0, tol=1e-7, max_iter=500)
    theirs.fit(np.float64(x[labels == 0]))
    order = np.argsort(found.means[0, :, 0])
    wanted = np.argsort(theirs.means_[:, 0])
    np.testing.assert_allclose(found.weights[0][order], theirs.weights_[wanted], atol=1e-4)
    np.testing.assert_allclose(found.means[0][order], theirs.means_[wanted], atol=1e-3)
    np.testing.assert_allclose(found.covariances[0][order], theirs.covariances_[wanted], atol=1e-3)
    np.testing.assert_allclose(np.sum(found.weights, axis=1), 1, atol=1e-5)


def test_steps_are_those_of_scikit_learn_from_the_same_start():
    """After two steps from the mean rows and the covariance of all, before it has converged."""
    x, labels = clusters()
    own = np.float64(x[labels == 0])
    start = fit(KEY, x, labels, num_classes=2, components=2, steps=0)
    # It starts at two different rows, with equal weights and the covariance of the class.
    for mean in np.asarray(start.means[0]):
        assert abs(own - mean).max(1).min() < 1e-4
    assert abs(start.means[0, 0] - start.means[0, 1]).max() > 1e-3
    np.testing.assert_array_equal(start.weights, np.full((2, 2), 0.5))
    covariance = np.cov(own.T, bias=True)
    np.testing.assert_allclose(start.covariances[0], [covariance] * 2, rtol=1e-4, atol=1e-3)
    means = np.float64(start.means[0])
    weights = np.full(2, 0.5)
    covariances = [covariance] * 2
    for _ in range(2):
        density = [
            w * stats.multivariate_normal(m, c).pdf(own)
            for w, m, c in zip(weights, means, covariances, strict=True)
        ]
        share = np.stack(density, axis=1)
        share /= share.sum(axis=1, keepdims=True)
        weights = share.mean(axis=0)
        means = share.T @ own / share.sum(axis=0)[:, None]
        covariances = [
            (share[:, k, None] * (own - means[k])).T @ (own - means[k]) / share[:, k].sum()
            for k in range(2)
        ]
    found = fit(KEY, x, labels, num_classes=2, components=2, steps=2)
    np.testing.assert_allclose(found.weights[0], weights, atol=1e-4)
    np.testing.assert_allclose(found.means[0], means, atol=1e-3)
    np.testing.assert_allclose(found.covariances[0], covariances, atol=2e-3)


def test_one_component_has_the_moments_of_its_class():
    x, labels = clusters()
    own = np.float64(x[labels == 1])
    for ridge in (0.5, 2.0):
        single = fit(KEY, x, labels, num_classes=2, components=1, steps=1, ridge=ridge)
        np.testing.assert_allclose(single.means[1, 0], own.mean(0), atol=1e-4)
        covariance = np.cov(own.T, bias=True) + ridge * np.eye(3)
        np.testing.assert_allclose(single.covariances[1, 0], covariance, atol=1e-4)
        np.testing.assert_allclose(single.weights, np.ones((2, 1)), atol=1e-6)


def test_a_ridge_is_at_least_a_millionth_of_the_variance():
    """Rows on a line: the covariance is singular but for the ridge."""
    x = np.float32(np.linspace(-300, 300, 41))[:, None] * np.float32([1, 1])
    single = fit(KEY, x, np.zeros(41, np.int32), num_classes=1, components=1, steps=1)
    variance = np.var(np.float64(x[:, 0]))
    smallest = np.linalg.eigvalsh(np.float64(single.covariances[0, 0]))[0]
    np.testing.assert_allclose(smallest, 1e-6 * variance, rtol=0.3)
    new = sample(KEY, single, wanted=np.zeros(5, np.int32))
    assert np.isfinite(new).all()


def test_first_means_are_far_apart():
    """With one row far away among many, k-means++ nearly always starts there, too."""
    x = np.float32(np.r_[np.random.default_rng(0).normal(size=30) * 0.01, 50.0])[:, None]
    keys = jax.random.split(KEY, 200)
    run = jax.jit(
        jax.vmap(
            lambda key: (
                tables.fit_mixture(
                    key, x, np.zeros(31, np.int32), num_classes=1, components=2, steps=0
                ).means
            )
        )
    )
    means = np.sort(np.asarray(run(keys))[:, 0, :, 0], axis=1)
    assert (means[:, 1] > 49).all()
    # The other one is any of the rows.
    assert len(np.unique(means[:, 0].round(5))) > 25


def test_samples_are_of_the_mixture_of_their_class():
    means = np.float32([[[0.0, 50.0], [100.0, 0.0]], [[-100.0, 0.0], [7.0, -60.0]]])
    covariances = np.float32([[[4.0, 1.2], [1.2, 1.0]], [[36.0, 10.8], [10.8, 9.0]]])
    weights = np.float32([[0.3, 0.7], [1.0, 0.0]])
    mixture = tables.Mixture(weights, means, np.stack([covariances] * 2))
    wanted = np.arange(8000, dtype=np.int32) % 2
    new = np.asarray(sample(KEY, mixture, wanted=wanted), np.float64)
    other = new[1::2]
    assert np.abs(other[:, 0] + 100).max() < 20
    new = new[::2]
    second = new[:, 0] > 50
    assert stats.binomtest(int(second.sum()), 4000, 0.7).pvalue > 1e-6
    for k, rows in enumerate((new[~second], new[second])):
        root = np.linalg.cholesky(np.float64(covariances[k]))
        white = np.linalg.solve(root, (rows - np.float64(means[0, k])).T)
        assert_independent(*white)
        for line in white:
            assert_distribution(line, stats.norm)


def test_mixtures_of_series_empty_classes_and_constants():
    x = np.concatenate([np.full((6, 4, 2), 1e4), np.ones((3, 4, 2))])
    labels = np.int32([0] * 6 + [2] * 3)
    narrow = jnp.asarray(x.astype(np.float32)).astype(jnp.bfloat16)
    found = fit(KEY, narrow, labels, num_classes=3, components=2, steps=5)
    assert found.means.shape == (3, 2, 4, 2)
    for part in found:
        assert np.isfinite(part).all()
        assert part.dtype == np.float32
    new = sample(KEY, found, wanted=np.int32([0, 1, 2, 9]))
    assert new.shape == (4, 4, 2)
    expected = np.array([9984.0, 0.0, 1.0, 1.0])[:, None, None]
    np.testing.assert_allclose(new, np.broadcast_to(expected, new.shape), atol=0.01)


X = np.zeros((24, 3), np.float32)
LABELS = np.zeros(24, np.int32)
OPTIONS = {"num_classes": 3, "components": 1, "steps": 1}


@pytest.mark.parametrize(
    ("x", "labels", "options", "message"),
    [
        (X, LABELS, {"components": 0}, r"`components` must be at least 1, got 0"),
        (X, LABELS, {"num_classes": 0}, r"`num_classes` must be at least 1, got 0"),
        (X, LABELS, {"steps": -1}, r"`steps` must be at least 0, got -1"),
        (X, LABELS[:2], {}, r"`x` must have at least one .* got shapes \(24, 3\) and \(2,\)"),
        (X[:0], LABELS[:0], {}, r"`x` must have at least one example"),
        (X, LABELS, {"ridge": -1.0}, r"`ridge` must be zero or positive, got -1\.0"),
    ],
)
def test_wrong_arguments_of_a_fit_are_named(x, labels, options, message):
    with pytest.raises(ValueError, match=message):
        tables.fit_mixture(KEY, x, labels, **OPTIONS | options)


def test_a_single_class_wanted_is_named():
    mixture = tables.Mixture(*[np.ones((1,) * n, np.float32) for n in (2, 3, 4)])
    with pytest.raises(ValueError, match=r"`wanted` must be class ids of shape \[new\]"):
        tables.sample_mixture(KEY, mixture, wanted=np.int32(0))
