"""Grids: the recipes of an arm over its strengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jaxreg.study.arms import find
from jaxreg.study.recipes import Recipe


class Grid(NamedTuple):
    """An arm to train: its recipes, one per strength.

    Attributes:
      name: Name of the arm.
      strengths: Strengths, ascending; empty for an arm without strengths.
      recipes: One recipe per strength, or a single recipe without strengths.
    """

    name: str
    strengths: tuple[float, ...]
    recipes: tuple[Recipe, ...]


def grid(name: str, *, count: int = 5, strengths: Sequence[float] | None = None) -> Grid:
    """Returns the grid of an arm: a recipe for each of its strengths.

    Args:
      name: Name of the arm, as ``jaxreg list`` prints it, or ``"baseline"``. The arm ``"combined"``
        needs the results of the others; see :func:`jaxreg.study.compare`.
      count: Number of log-spaced strengths, at least 1.
      strengths: Strengths to use in place of the default grid.

    Returns:
      The grid.

    Raises:
      ValueError: There is no such arm, or ``count`` is below 1.

    Example:
      >>> from jaxreg.study import grid
      >>> grid("l2", count=3).strengths
      (0.1, 1.0, 10.0)
    """
    if count < 1:
        raise ValueError(f"`count` must be at least 1, got {count}.")
    if name == "baseline":
        return Grid(name, (), (Recipe(),))
    arm = find(name)
    if arm.grid is None:
        return Grid(arm.name, (), (Recipe({**arm.needs, arm.name: True}),))
    if strengths is None:
        strengths = arm.grid.strengths(count)
    chosen = tuple(sorted({float(strength) for strength in strengths}))
    recipes = tuple(Recipe({**arm.needs, arm.name: strength}) for strength in chosen)
    return Grid(arm.name, chosen, recipes)
