"""Rows of docs/coming_from/scikit_learn.md: gradients at scikit-learn's solutions are zero."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge, SGDRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC
from sklearn.utils.class_weight import compute_class_weight

from jaxreg import masks, normalization, penalties, targets
from jaxreg.training import early_stopping
from tests.exhaustive.docs.coming_from.figures import close

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = X @ np.array([1.0, -2.0, 0.5, 0.0]) + RNG.normal(size=60)
N = len(X)


@pytest.fixture(autouse=True)
def in_double():
    with jax.enable_x64():
        yield


def slope(loss, *at):
    return np.concatenate([np.ravel(g) for g in jax.grad(loss, argnums=range(len(at)))(*at)])


def test_ridge():
    alpha = 3.0
    w = Ridge(alpha, fit_intercept=False, solver="cholesky").fit(X, Y).coef_

    def loss(w):
        return 0.5 * jnp.mean((Y - X @ w) ** 2) + alpha / N * penalties.l2(w)

    close(slope(loss, w), np.zeros(4), atol=1e-10)


def test_logistic_regression():
    """Intercepts are left out."""
    c = 0.3
    labels = (Y > 0).astype(int)
    model = LogisticRegression(C=c, tol=1e-10, max_iter=1000).fit(X, labels)

    def loss(w, b):
        logits = jnp.stack([jnp.zeros(N), X @ w + b], axis=1)
        entropy = targets.smoothed_cross_entropy(logits, labels, alpha=0.0)
        return entropy + penalties.l2(w) / (c * N)

    found = slope(loss, jnp.asarray(model.coef_[0]), jnp.asarray(model.intercept_[0]))
    close(found, np.zeros(5), atol=1e-6)


def test_sgd():
    """With a constant step a long run is near the minimum of a mean with ``alpha`` times l2."""
    alpha = 0.1
    model = SGDRegressor(
        alpha=alpha, fit_intercept=False, learning_rate="invscaling", eta0=0.05, power_t=0.5,
        max_iter=20_000, tol=None, random_state=0,
    )  # fmt: skip
    w = model.fit(X, Y).coef_
    exact = np.linalg.solve(X.T @ X / N + alpha * np.eye(4), X.T @ Y / N)
    close(w, exact, atol=0.02)
    loss = lambda w: 0.5 * jnp.mean((Y - X @ w) ** 2) + alpha * penalties.l2(w)  # noqa: E731
    close(slope(loss, jnp.asarray(exact)), np.zeros(4), atol=1e-10)


def test_linear_svc():
    """The squared hinge loss, with the intercept as a weight."""
    c = 0.5
    labels = np.where(Y > 0, 1.0, -1.0)
    model = LinearSVC(C=c, fit_intercept=False, tol=1e-10, max_iter=100_000).fit(X, labels)

    def loss(w):
        margins = jnp.maximum(0.0, 1 - labels * (X @ w))
        return jnp.mean(margins**2) + penalties.l2(w) / (c * N)

    close(slope(loss, jnp.asarray(model.coef_[0])), np.zeros(4), atol=1e-5)


def test_the_penalty_of_a_network():
    """Its loss is the mean cross entropy plus ``alpha / (2 n)`` times all squared weights."""
    labels = (Y > 0).astype(int)
    model = MLPClassifier(
        (3,), alpha=2.0, solver="lbfgs", max_iter=3, random_state=0, activation="tanh"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, labels)
    params = {
        str(i): {"kernel": jnp.asarray(w), "bias": jnp.asarray(b)}
        for i, (w, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True))
    }
    hidden = jnp.tanh(X @ params["0"]["kernel"] + params["0"]["bias"])
    z = hidden @ params["1"]["kernel"] + params["1"]["bias"]
    logits = jnp.concatenate([jnp.zeros_like(z), z], axis=1)
    entropy = targets.smoothed_cross_entropy(logits, labels, alpha=0.0)
    penalty = 2.0 / N * penalties.total(params, penalties.l2, masks.kernels)
    close(entropy + penalty, model.loss_, rtol=1e-5)


def test_early_stopping_of_a_network():
    """scikit-learn stops when more than ``n_iter_no_change`` epochs brought no ``tol``."""
    labels = (Y > 0).astype(int)
    model = MLPClassifier(
        (3,), early_stopping=True, n_iter_no_change=3, tol=1e-2, max_iter=200, random_state=0
    ).fit(X, labels)
    scores = np.asarray(model.validation_scores_, np.float32)
    state = early_stopping.init(jnp.zeros(()))
    stopped = []
    for score in scores:
        state = early_stopping.update_maximizing(
            state, score, jnp.zeros(()), patience=3, min_delta=1e-2
        )
        stopped.append(bool(state.should_stop))
    assert stopped.index(True) + 2 == len(scores)


def test_normalize():
    x = X.copy()
    x[3] = 0
    close(normalization.l2_normalize(x), normalize(x), rtol=1e-10)


def test_balanced_classes():
    """A weighted mean, in which every class has the same total weight."""
    labels = np.array([0] * 45 + [1] * 15)
    weights = compute_class_weight("balanced", classes=np.array([0, 1]), y=labels)
    logits = RNG.normal(size=(60, 2))
    loss = targets.smoothed_cross_entropy(
        logits, labels, alpha=0.0, where=jnp.asarray(weights)[labels]
    )
    each = targets.smoothed_cross_entropy(logits, labels, alpha=0.0, reduce=targets.per_example)
    close(loss, (each[:45].mean() + each[45:].mean()) / 2, rtol=1e-6)
