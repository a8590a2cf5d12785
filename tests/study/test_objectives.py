"""Losses and metrics of a task, against scikit-learn."""

import jax
import numpy as np
import pytest
from sklearn import metrics

from jaxreg.study import CLASSIFICATION, REGRESSION
from jaxreg.study.objectives import objective_for

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(60, 5)).astype(np.float32)
LOGITS[:, 4] -= 9
# Class 2 is rare, class 3 is only predicted, and class 4 not even that.
LABELS = RNG.choice(3, 60, p=[0.6, 0.35, 0.05]).astype(np.int32)
TARGETS = RNG.normal(size=(60, 2)).astype(np.float32)
PREDICTIONS = (TARGETS + RNG.normal(size=(60, 2)) / 2).astype(np.float32)


@pytest.fixture(scope="module")
def scores():
    """All losses and metrics of both tasks, by one program."""

    @jax.jit
    def compute(logits, predictions):
        classes = {m.name: m.score(logits, LABELS) for m in CLASSIFICATION.metrics}
        classes["loss"] = CLASSIFICATION.loss(logits, LABELS)
        numbers = {m.name: m.score(predictions, TARGETS) for m in REGRESSION.metrics}
        numbers["loss"] = REGRESSION.loss(predictions, TARGETS)
        # One number for each row, as many models give it.
        column = {m.name: m.score(predictions[:, :1], TARGETS[:, 0]) for m in REGRESSION.metrics}
        column["loss"] = REGRESSION.loss(predictions[:, :1], TARGETS[:, 0])
        flat = np.ones(60, np.float32)
        constant = [REGRESSION.metric.score(x, flat) for x in (predictions[:, 0], flat)]
        return classes, numbers, column, constant

    return jax.device_get(compute(LOGITS, PREDICTIONS))


def test_classification_has_the_scores_of_scikit_learn(scores):
    guess = LOGITS.argmax(axis=1)
    assert set(guess) == {0, 1, 2, 3}
    p = np.exp(np.float64(LOGITS))
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        balanced = metrics.balanced_accuracy_score(LABELS, guess)
    want = {
        "accuracy": metrics.accuracy_score(LABELS, guess),
        "balanced_accuracy": balanced,
        "macro_f1": metrics.f1_score(LABELS, guess, average="macro"),
        "loss": metrics.log_loss(LABELS, p / p.sum(axis=1, keepdims=True), labels=range(5)),
    }
    assert scores[0] == pytest.approx(want, rel=1e-5)


def test_regression_has_the_scores_of_scikit_learn(scores):
    for found, labels, predictions in (
        (scores[1], TARGETS, PREDICTIONS),
        (scores[2], TARGETS[:, 0], PREDICTIONS[:, 0]),
    ):
        error = metrics.mean_squared_error(labels, predictions)
        want = {
            "r2": metrics.r2_score(labels, predictions),
            "rmse": error**0.5,
            "mae": metrics.mean_absolute_error(labels, predictions),
            "loss": error,
        }
        assert found == pytest.approx(want, rel=1e-5)


def test_a_target_that_is_constant_is_met_or_not(scores):
    flat = np.ones(60)
    assert scores[3] == [metrics.r2_score(flat, PREDICTIONS[:, 0]), metrics.r2_score(flat, flat)]


def rows_of(metric, outputs, labels):
    assert metric.by_row is not None
    return metric.by_row(outputs, labels)


@pytest.fixture(scope="module")
def rows():
    """All metrics by row, with what they are of, by one program."""

    @jax.jit
    def compute(logits, predictions):
        pairs = ((CLASSIFICATION, logits, LABELS), (REGRESSION, predictions, TARGETS))
        return {
            metric.name: rows_of(metric, outputs, labels)
            for objective, outputs, labels in pairs
            for metric in objective.metrics
        }

    return jax.device_get(compute(LOGITS, PREDICTIONS))


def test_a_score_is_the_mean_over_its_rows(rows, scores):
    for name, values in rows.items():
        assert values.shape == (60,)
        np.testing.assert_allclose(values.mean(), (scores[0] | scores[1])[name], rtol=1e-5)


GUESSES = LOGITS.argmax(axis=1)
WEIGHTED = {
    "accuracy": lambda w: metrics.accuracy_score(LABELS, GUESSES, sample_weight=w),
    "macro_f1": lambda w: metrics.f1_score(LABELS, GUESSES, average="macro", sample_weight=w),
    "rmse": lambda w: metrics.mean_squared_error(TARGETS, PREDICTIONS, sample_weight=w) ** 0.5,
    "mae": lambda w: metrics.mean_absolute_error(TARGETS, PREDICTIONS, sample_weight=w),
}


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_row_counts_as_much_as_its_weight(name, rows):
    """The derivative of the score by the weight of a row, from scikit-learn's weights."""
    score = WEIGHTED[name]
    for row in range(0, 60, 7):
        more = np.ones(60)
        less = np.ones(60)
        more[row] += 1e-3
        less[row] -= 1e-3
        influence = (score(more) - score(less)) / 2e-3 * 60
        np.testing.assert_allclose(rows[name][row] - score(np.ones(60)), influence, atol=2e-4)


def test_a_row_of_a_rare_class_counts_more(rows):
    """The inverse of its share, over the classes that occur; R2 counts errors in variances."""
    shares = np.bincount(LABELS, minlength=5) / 60
    want = (GUESSES == LABELS) / shares[LABELS] / 3
    np.testing.assert_allclose(rows["balanced_accuracy"], want, rtol=1e-5)
    errors = (np.float64(PREDICTIONS) - TARGETS) ** 2 / TARGETS.var(axis=0)
    np.testing.assert_allclose(rows["r2"], 1 - errors.mean(axis=1), rtol=1e-4)


def test_another_metric_comes_first():
    names = [metric.name for metric in REGRESSION.with_metric("mae").metrics]
    assert names == ["mae", "r2", "rmse"]
    assert REGRESSION.with_metric("mae").metric.lower_is_better
    assert not CLASSIFICATION.metric.lower_is_better
    with pytest.raises(ValueError, match=r"`metric` for regression must be one of r2, .*, got f1"):
        REGRESSION.with_metric("f1")


def test_the_dtype_of_the_labels_says_the_task():
    assert objective_for(LABELS) is CLASSIFICATION
    assert objective_for(TARGETS) is REGRESSION
