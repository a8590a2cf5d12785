"""Objectives of a study: the loss of a task, and the metrics that compare models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxreg import targets


class Metric(NamedTuple):
    """A number that compares the outputs of a model with the labels.

    Attributes:
      name: Its name on the command line and in the report.
      score: ``(outputs, labels) -> number``.
      lower_is_better: Whether a smaller number is better.
      percent: Whether the report shows it in percent.
      by_row: ``(outputs, labels) -> [rows]``, values whose mean over rows is the score; if the
        score is not a mean over rows, its first-order expansion in the weights of the rows. Without
        it, intervals are over seeds only.
    """

    name: str
    score: Callable[[jax.Array, jax.Array], jax.Array]
    lower_is_better: bool = False
    percent: bool = False
    by_row: Callable[[jax.Array, jax.Array], jax.Array] | None = None


class Objective(NamedTuple):
    """The loss and the metrics of a task.

    Attributes:
      task: One of :data:`jaxreg.study.arms.TASKS`.
      loss: ``(outputs, labels) -> number``, the plain loss of a batch.
      metrics: The metrics; the first one chooses strengths and arms.
    """

    task: str
    loss: Callable[[jax.Array, jax.Array], jax.Array]
    metrics: tuple[Metric, ...]

    @property
    def metric(self) -> Metric:
        """The metric that chooses strengths and arms."""
        return self.metrics[0]

    def with_metric(self, name: str) -> Objective:
        """Returns the objective with another metric first.

        Args:
          name: Name of one of the metrics.

        Raises:
          ValueError: The task has no such metric.
        """
        found = [metric for metric in self.metrics if metric.name == name]
        if not found:
            listed = ", ".join(metric.name for metric in self.metrics)
            raise ValueError(f"`metric` for {self.task} must be one of {listed}, got {name}.")
        return self._replace(metrics=(*found, *(m for m in self.metrics if m.name != name)))


def cross_entropy(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the mean cross entropy for class ids or distributions."""
    return targets.smoothed_cross_entropy(outputs, labels, alpha=0.0)


def squared_error(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the mean squared error."""
    return jnp.square(outputs.reshape(labels.shape) - labels).mean()


def accuracy(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the share of the rows whose largest output is the label's."""
    return jnp.mean(outputs.argmax(axis=-1) == labels)


def balanced_accuracy(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the share of right rows of each class, averaged over the classes that occur."""
    hits, rows, _ = _counts(outputs, labels)
    return (hits / jnp.maximum(rows, 1)).sum() / jnp.maximum((rows > 0).sum(), 1)


def macro_f1(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the mean F1 score of the classes that occur or are predicted."""
    hits, rows, predicted = _counts(outputs, labels)
    total = rows + predicted
    return (2 * hits / jnp.maximum(total, 1)).sum() / jnp.maximum((total > 0).sum(), 1)


def _counts(outputs: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns for each class how many rows are right, have the label, and are predicted."""
    classes = outputs.shape[-1]
    own = jax.nn.one_hot(labels, classes)
    guess = jax.nn.one_hot(outputs.argmax(axis=-1), classes)
    return (own * guess).sum(axis=0), own.sum(axis=0), guess.sum(axis=0)


def r2(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the share of the variance that is explained (R2), averaged over the targets."""
    labels = labels.reshape(len(labels), -1)
    residual = jnp.square(labels - outputs.reshape(labels.shape)).sum(axis=0)
    total = jnp.square(labels - labels.mean(axis=0)).sum(axis=0)
    # As in scikit-learn, a constant target scores 1 if it is predicted exactly, else 0.
    constant = jnp.where(residual > 0, 1.0, 0.0)
    return jnp.mean(1 - jnp.where(total > 0, residual / jnp.where(total > 0, total, 1), constant))


def rmse(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the root of the mean squared error, in standard deviations of the training labels."""
    return jnp.sqrt(squared_error(outputs, labels))


def mae(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the mean absolute error, in standard deviations of the training labels."""
    return jnp.abs(outputs.reshape(labels.shape) - labels).mean()


def accuracy_by_row(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns 1 for every right row and 0 for every wrong one."""
    return (outputs.argmax(axis=-1) == labels).astype(jnp.float32)


def balanced_accuracy_by_row(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns ``1 / (classes * share of the row's class)`` for every right row, else 0."""
    _, rows, _ = _counts(outputs, labels)
    weights = len(labels) / jnp.maximum(rows, 1) / jnp.maximum((rows > 0).sum(), 1)
    return weights[labels] * accuracy_by_row(outputs, labels)


def macro_f1_by_row(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the macro F1 score plus the influence of every row on it."""
    hits, rows, predicted = _counts(outputs, labels)
    total = rows + predicted
    f1 = 2 * hits / jnp.maximum(total, 1)
    guesses = outputs.argmax(axis=-1)
    weights = len(labels) / jnp.maximum(total, 1) / jnp.maximum((total > 0).sum(), 1)
    hit = 2 * weights[labels] * (guesses == labels)
    cost = (weights * f1)[labels] + (weights * f1)[guesses]
    return macro_f1(outputs, labels) + hit - cost


def r2_by_row(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns 1 minus the squared error of every row, in units of the variance."""
    labels = labels.reshape(len(labels), -1)
    variance = jnp.square(labels - labels.mean(axis=0)).mean(axis=0)
    errors = jnp.square(labels - outputs.reshape(labels.shape))
    return 1 - (errors / jnp.where(variance > 0, variance, len(labels))).mean(axis=1)


def rmse_by_row(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the RMSE plus the influence of every row on it."""
    labels = labels.reshape(len(labels), -1)
    errors = jnp.square(labels - outputs.reshape(labels.shape)).mean(axis=1)
    root = jnp.sqrt(errors.mean())
    return root + (errors - errors.mean()) / jnp.where(root > 0, 2 * root, 1)


def mae_by_row(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the absolute error of every row, averaged over the targets."""
    labels = labels.reshape(len(labels), -1)
    return jnp.abs(labels - outputs.reshape(labels.shape)).mean(axis=1)


CLASSIFICATION = Objective(
    "classification",
    cross_entropy,
    (
        Metric("accuracy", accuracy, percent=True, by_row=accuracy_by_row),
        Metric(
            "balanced_accuracy", balanced_accuracy, percent=True, by_row=balanced_accuracy_by_row
        ),
        Metric("macro_f1", macro_f1, percent=True, by_row=macro_f1_by_row),
    ),
)
REGRESSION = Objective(
    "regression",
    squared_error,
    (
        Metric("r2", r2, percent=True, by_row=r2_by_row),
        Metric("rmse", rmse, lower_is_better=True, by_row=rmse_by_row),
        Metric("mae", mae, lower_is_better=True, by_row=mae_by_row),
    ),
)
OBJECTIVES = {objective.task: objective for objective in (CLASSIFICATION, REGRESSION)}


def objective_for(labels: Any) -> Objective:
    """Returns classification for integer labels and regression for floating-point ones."""
    return CLASSIFICATION if jnp.issubdtype(labels.dtype, jnp.integer) else REGRESSION
