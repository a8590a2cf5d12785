"""Scores and losses of training runs."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

Array = Any


class Runs(NamedTuple):
    """Scores and losses of all recipes and seeds.

    Attributes:
      train: Training score at the end, ``[recipes, seeds]``: the first metric of the objective.
      validation: Validation score at the end, ``[recipes, seeds]``.
      test: Test score at the end, ``[recipes, seeds]``.
      loss: Validation loss at the end, ``[recipes, seeds]``.
      train_loss: Plain loss on training rows after each epoch, ``[recipes, epochs, seeds]``. It is
        without penalties, noise, or changes of the batch and the labels, so that arms are
        comparable. It is over as many training rows as there are validation rows.
      validation_loss: Plain loss on the validation rows after each epoch, of the same shape.
      others: Further metrics on the test rows by name, ``[recipes, seeds]``.
      test_rows: The test score of every test row, ``[recipes, rows, seeds]``, for the uncertainty
        that comes from the choice of test rows; None if it is unknown.
    """

    train: Array
    validation: Array
    test: Array
    loss: Array
    train_loss: Array
    validation_loss: Array
    others: dict[str, Array]
    test_rows: Array | None = None

    def rows(self, start: int, stop: int) -> Runs:
        """Returns the results of the recipes from ``start`` to ``stop``.

        Args:
          start: Index of the first recipe.
          stop: Index after the last recipe.
        """
        return jax.tree.map(lambda array: array[start:stop], self)
