"""The arms of a study: a grid of recipes over strengths for each technique."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxreg.study.recipes import Recipe
from jaxreg.study.technique_rows import KINDS, NUMBERS, TECHNIQUES, Technique

__all__ = [
    "ARM_NAMES",
    "DEFAULT_ARMS",
    "KINDS",
    "NUMBERS",
    "PUBLISHED",
    "TECHNIQUES",
    "Grid",
    "Technique",
    "grid",
]

ARM_NAMES = ("baseline", *(technique.name for technique in TECHNIQUES), "combined")
# Enough for a first look at a data set; the others must be asked for.
DEFAULT_ARMS = ("baseline", *(technique.name for technique in TECHNIQUES[:7]), "combined")


class Grid(NamedTuple):
    """An arm to train: a technique's recipes, one per strength.

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
      name: Name of the arm: one of :data:`ARM_NAMES` except ``"combined"``, which needs the
        results of the other arms.
      count: Number of log-spaced strengths, at least 1.
      strengths: Strengths to use in place of the default grid.

    Returns:
      The grid.

    Example:
      >>> from jaxreg.study import grid
      >>> grid("l2", count=3).strengths
      (0.1, 1.0, 10.0)
    """
    if count < 1:
        raise ValueError(f"`count` must be at least 1, got {count}.")
    if name == "baseline":
        return Grid(name, (), (Recipe(),))
    found = [technique for technique in TECHNIQUES if technique.name == name]
    if not found:
        raise ValueError(f"`name` must be one of {', '.join(ARM_NAMES[:-1])}, got {name}.")
    technique = found[0]
    if technique.low is None or technique.high is None:
        return Grid(name, (), (technique.recipe(),))
    if strengths is None:
        strengths = _log_spaced(technique.low, technique.high, count)
        if technique.field == "patience":
            strengths = [round(strength) for strength in strengths]
    chosen = tuple(sorted({float(strength) for strength in strengths}))
    return Grid(name, chosen, tuple(technique.recipe(strength) for strength in chosen))


def _log_spaced(low: float, high: float, count: int) -> list[float]:
    """Returns ``count`` log-spaced numbers from ``low`` to ``high`` (the middle if 1)."""
    shares = [(i + 0.5) / count if count == 1 else i / (count - 1) for i in range(count)]
    return [float(f"{low * (high / low) ** share:.2g}") for share in shares]


# Published accuracies of the circle example, which were evaluated on the training points.
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "circles": {"baseline": 0.975, "l1": 0.970, "l2": 0.972, "dropout": 0.968},
}
