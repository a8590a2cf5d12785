"""Results of a study as plain values: the runner fills them, the report reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxreg.study.recipes import Recipe


class Interval(NamedTuple):
    """A mean with the two ends of its confidence interval, in accuracy (0.01 is one point)."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Arm:
    """One technique at the strength that validation chose, over all seeds.

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
      validation_loss: Validation loss after each epoch, ``[epochs, seeds]``, continued likewise.
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
    """A finished study.

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
      notes: Remarks of the protocol, to print below the table.
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
