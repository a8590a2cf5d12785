"""Result types of a study, which the report reads."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import NamedTuple

import jax
import numpy as np

from jaxreg import __version__
from jaxreg.study.objectives import CLASSIFICATION, Objective
from jaxreg.study.recipes import Recipe


class Interval(NamedTuple):
    """A mean with its confidence interval, in units of the metric (0.01 accuracy is a point).

    Attributes:
      mean: Mean over seeds.
      low: Lower end of the interval. The intervals of all arms hold jointly at 95%, and so do the
        intervals of an ablation.
      high: Upper end of the interval.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class ArmResult:
    """Results of one arm over all seeds, at the strength chosen on validation.

    Scores are of the first metric of the study.

    Attributes:
      name: Name of the arm, as on the command line.
      recipe: The recipe at the chosen strength; its leaves are Python numbers.
      strength: The chosen strength; None for an arm without strengths (the baseline, batch
        normalization, the combination).
      train: Training score, ``[seeds]``.
      validation: Validation score, ``[seeds]``.
      test: Test score, ``[seeds]``.
      train_loss: Plain loss on training rows after each epoch, ``[epochs, seeds]``: without noise,
        penalties, or changes of the batch and the labels. A run that stopped early repeats the
        value of its last epoch.
      validation_loss: Plain loss on the validation rows after each epoch, ``[epochs, seeds]``.
      strengths: The grid of strengths tried, ascending; empty for an arm without strengths.
      grid_validation: Validation score, ``[strengths, seeds]``.
      grid_test: Test score, ``[strengths, seeds]``.
      difference: Test score minus the baseline's, paired by seed; all zero for the baseline.
      others: Mean test score of each further metric, by its name.
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
    others: Mapping[str, float] = field(default_factory=dict)


class Ablation(NamedTuple):
    """A part of the combination, and the change in the test score without this part.

    Attributes:
      name: Name of the part, an arm of the combination.
      strength: Its strength in the combination; None if it has none.
      difference: Test score without this part minus the score of the whole combination, paired by
        seed. If a higher score is better, a number below 0 means that the part helps.
    """

    name: str
    strength: float | None
    difference: Interval


@dataclass(frozen=True)
class Study:
    """Results of a study: all arms, the chosen arm, and the settings.

    Attributes:
      arms: The arms in the order of the table; the first one is the baseline.
      chosen: Name of the arm with the best mean validation score.
      notes: Remarks, printed below the table.
      ablation: The combination without each of its parts; empty without a combination.
      objective: The task and its metrics; the first metric is the score.
      data: Name of the data set.
      sizes: Numbers of training, validation and test rows; None if they are unknown.
      command: The command that reproduces the study; empty for a study from Python.
      environment: Versions and device: ``python``, ``jax``, ``flax``, ``optax``, ``jaxreg``,
        ``device``.
    """

    arms: tuple[ArmResult, ...]
    chosen: str
    notes: tuple[str, ...] = ()
    ablation: tuple[Ablation, ...] = ()
    objective: Objective = CLASSIFICATION
    data: str = "your data"
    sizes: tuple[int, int, int] | None = None
    command: str = ""
    environment: Mapping[str, str] = field(default_factory=lambda: environment())

    @property
    def seeds(self) -> int:
        """Number of seeds of every arm."""
        return len(self.arms[0].test)

    @property
    def epochs(self) -> int:
        """Number of epochs of every run."""
        return len(self.arms[0].train_loss)

    @property
    def baseline(self) -> ArmResult:
        """The first arm."""
        return self.arms[0]

    @property
    def best(self) -> ArmResult:
        """The chosen arm."""
        return next(arm for arm in self.arms if arm.name == self.chosen)


def environment() -> dict[str, str]:
    """Returns the versions and the device of this process."""
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "flax", "optax")},
        "jaxreg": __version__,
        "device": f"{len(devices)} x {devices[0].device_kind}",
    }
