"""Result types of a study, which the report reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxreg.study.recipes import Recipe


class Interval(NamedTuple):
    """A mean with its confidence interval, in accuracy (0.01 is one percentage point)."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Arm:
    """Results of one technique over all seeds, at the strength chosen on validation.

    Attributes:
      name: Name of the arm, as on the command line.
      recipe: The recipe at the chosen strength; its leaves are Python numbers.
      strength: The chosen strength; None for an arm without strengths (the baseline, batch
        normalization, the combination).
      train: Training accuracy, ``[seeds]``.
      validation: Validation accuracy, ``[seeds]``.
      test: Test accuracy, ``[seeds]``.
      train_loss: Mean training loss of each epoch, ``[epochs, seeds]``. A run that stopped early
        repeats the value of its last epoch.
      validation_loss: Validation loss after each epoch, ``[epochs, seeds]``, repeated likewise.
      strengths: The grid of strengths tried, ascending; empty for an arm without strengths.
      grid_validation: Validation accuracy, ``[strengths, seeds]``.
      grid_test: Test accuracy, ``[strengths, seeds]``.
      difference: Test accuracy minus the baseline's, paired by seed; all zero for the baseline.
    """

    name: str
    recipe: Recipe
    strength: float | None
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    train_loss: np.ndarray
    validation_loss: np.ndarray
    strengths: tuple[float, ...]
    grid_validation: np.ndarray
    grid_test: np.ndarray
    difference: Interval


@dataclass(frozen=True)
class Study:
    """Results of a study: all arms, the chosen arm, and the settings.

    Attributes:
      data: Name of the data set.
      arms: The arms in the order of the table; the first one is the baseline.
      chosen: Name of the arm with the best mean validation accuracy.
      seeds: Number of seeds of every arm.
      epochs: Number of epochs of every run.
      sizes: Rows of the training, validation and test sets.
      command: The command that reproduces the study.
      environment: Versions and device: ``python``, ``jax``, ``flax``, ``optax``, ``jaxreg``,
        ``device``.
      notes: Remarks, printed below the table.
    """

    data: str
    arms: tuple[Arm, ...]
    chosen: str
    seeds: int
    epochs: int
    sizes: tuple[int, int, int]
    command: str
    environment: dict[str, str]
    notes: tuple[str, ...] = ()
