"""Searches that choose a few strengths to train with all seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from jaxreg.study.arms import ARMS
from jaxreg.study.grids import Grid, grid
from jaxreg.study.recipes import Recipe
from jaxreg.study.runs import Runs
from jaxreg.study.selection import best

TrainSome = Callable[[Sequence[Recipe], int], Runs]

_LEAST_SEEDS = 2


def random_grid(name: str, *, count: int, seed: int = 0) -> Grid:
    """Returns an arm with random strengths, log-uniform in the range of its grid.

    Args:
      name: Name of the arm.
      count: Number of strengths, at least 1.
      seed: Seed of the strengths; every arm draws its own.

    Returns:
      The grid; for an arm without strengths, the same as from :func:`jaxreg.study.grid`.

    Example:
      >>> from jaxreg.study.search import random_grid
      >>> strengths = random_grid("dropout", count=3).strengths
      >>> len(strengths), 0.1 <= min(strengths) <= max(strengths) <= 0.6
      (3, True)
    """
    row = ARMS.get(name)
    if row is None or row.grid is None:
        return grid(name)
    # The name decides the stream, so an arm has the same strengths whatever the other arms are.
    rng = np.random.default_rng([seed, *name.encode()])
    return grid(name, strengths=[row.grid.at(share) for share in rng.uniform(size=count)])


def halve(
    train: TrainSome, grids: Sequence[Grid], *, seeds: int, lower_is_better: bool = False
) -> tuple[Grid, ...]:
    """Halves the strengths of every arm and doubles the seeds, until one strength is left.

    A quarter of the seeds train all strengths, half of the seeds train the better half of the
    strengths, and so on. Strengths are compared on validation (Jamieson and Talwalkar 2016,
    Non-stochastic Best Arm Identification and Hyperparameter Optimization).

    Args:
      train: Function from recipes and a number of seeds to their results.
      grids: The arms.
      seeds: Number of seeds of the study.
      lower_is_better: Whether a smaller score is better.

    Returns:
      The arms with one strength each.
    """
    count = max(_LEAST_SEEDS, seeds // 4)
    while max(len(each.recipes) for each in grids) > 1:
        runs = train([recipe for each in grids for recipe in each.recipes], count)
        kept, start = [], 0
        for each in grids:
            stop = start + len(each.recipes)
            kept.append(_better_half(each, runs.rows(start, stop), lower_is_better=lower_is_better))
            start = stop
        grids = kept
        count = min(seeds, 2 * count)
    return tuple(grids)


def _better_half(each: Grid, rows: Runs, *, lower_is_better: bool) -> Grid:
    """Returns an arm with the better half of its strengths, rounded down to at least one."""
    left = list(range(len(each.recipes)))
    kept: list[int] = []
    for _ in range(max(1, math.floor(len(left) / 2))):
        index = best(rows.validation[left], rows.loss[left], lower_is_better=lower_is_better)
        kept.append(left.pop(index))
    kept.sort()
    strengths = tuple(each.strengths[index] for index in kept if each.strengths)
    return Grid(each.name, strengths, tuple(each.recipes[index] for index in kept))
