"""Recipes (a strength per technique) and the arms of a study (a grid of recipes per technique)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax


class Structure(NamedTuple):
    """The part of a recipe that changes the program; runs that share it are trained together."""

    batch_norm: bool
    dropout: bool


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A strength for every technique; the defaults switch everything off.

    A pytree whose leaves are the strengths, so a whole grid of recipes is one recipe with array
    leaves. ``batch_norm`` alone is static: it decides which layers the model has.

    Attributes:
      l1: Weight of the proximal L1 step, ``>= 0``.
      l2: Weight of the decoupled decay, ``>= 0``.
      dropout: Probability of dropping a hidden unit, in ``[0, 1)``.
      label_smoothing: Share of the target spread over all classes, in ``[0, 1]``.
      max_norm: Largest norm of the weights into a unit, ``> 0``; infinity is off.
      patience: Epochs without a better validation loss before a run stops and goes back to
        its best parameters, ``>= 0``; infinity is off.
      batch_norm: Whether every hidden layer is batch-normalized.

    Example:
      >>> from jaxreg.study import Recipe
      >>> Recipe(l2=0.1).structure
      Structure(batch_norm=False, dropout=False)
    """

    l1: Any = 0.0
    l2: Any = 0.0
    dropout: Any = 0.0
    label_smoothing: Any = 0.0
    max_norm: Any = math.inf
    patience: Any = math.inf
    batch_norm: bool = dataclasses.field(default=False, metadata={"static": True})

    def __post_init__(self) -> None:
        """Checks the strengths that are Python numbers; arrays and tracers pass."""
        for name, (rule, holds) in _RULES.items():
            value = getattr(self, name)
            if isinstance(value, int | float) and not holds(value):
                raise ValueError(f"`{name}` must be {rule}, got {value}; `Recipe()` is all off.")

    @property
    def structure(self) -> Structure:
        """The part of the recipe that changes the program (needs Python numbers)."""
        return Structure(batch_norm=self.batch_norm, dropout=bool(self.dropout > 0))


_RULES = {
    "l1": ("finite and at least 0", lambda v: 0 <= v < math.inf),
    "l2": ("finite and at least 0", lambda v: 0 <= v < math.inf),
    "dropout": ("in [0, 1)", lambda v: 0 <= v < 1),
    "label_smoothing": ("in [0, 1]", lambda v: 0 <= v <= 1),
    "max_norm": ("above 0", lambda v: v > 0),
    "patience": ("at least 0", lambda v: v >= 0),
}


@dataclass(frozen=True)
class Technique:
    """One technique of a study: what it sets in a recipe, and where its code stands.

    Attributes:
      name: Name of the arm.
      field: Field of :class:`Recipe` that it sets.
      function: Address of the code behind it.
      summary: What it does, in a few words.
      low: Smallest strength of the default grid; None where there is nothing to choose.
      high: Largest strength of the default grid; None likewise.
    """

    name: str
    field: str
    function: str
    summary: str
    low: float | None = None
    high: float | None = None

    def recipe(self, strength: float | None = None) -> Recipe:
        """The recipe with this technique alone; without a strength where there is none."""
        changed: dict[str, Any] = {self.field: True if strength is None else strength}
        return Recipe(**changed)


TECHNIQUES = (
    Technique(
        name="l1",
        field="l1",
        function="jaxreg.transforms.proximal(jaxreg.proximal.l1, ...)",
        summary="soft-threshold step after the optimizer",
        low=0.02,
        high=0.6,
    ),
    Technique(
        name="l2",
        field="l2",
        function="jaxreg.transforms.decoupled_decay",
        summary="decay of the weights, decoupled from the gradient",
        low=0.1,
        high=10.0,
    ),
    Technique(
        name="dropout",
        field="dropout",
        function="jaxreg.linen.Dropout",
        summary="inverted dropout after every hidden layer",
        low=0.1,
        high=0.6,
    ),
    Technique(
        name="batch_norm",
        field="batch_norm",
        function="jaxreg.linen.BatchNorm",
        summary="batch normalization before every nonlinearity",
    ),
    Technique(
        name="max_norm",
        field="max_norm",
        function="jaxreg.transforms.project(jaxreg.projections.max_norm)",
        summary="bound on the norm of the weights into a unit",
        low=0.5,
        high=2.0,
    ),
    Technique(
        name="label_smoothing",
        field="label_smoothing",
        function="jaxreg.targets.smoothed_cross_entropy",
        summary="targets mixed with the uniform distribution",
        low=0.02,
        high=0.5,
    ),
    Technique(
        name="early_stopping",
        field="patience",
        function="jaxreg.training.early_stopping",
        summary="stop, and go back to the best validation loss",
        low=2.0,
        high=20.0,
    ),
)
ARM_NAMES = ("baseline", *(technique.name for technique in TECHNIQUES), "combined")


class Grid(NamedTuple):
    """An arm before training: its recipes, one per strength.

    Attributes:
      name: Name of the arm.
      strengths: Strengths, ascending; empty where there is none to choose.
      recipes: One recipe per strength, or the only recipe.
    """

    name: str
    strengths: tuple[float, ...]
    recipes: tuple[Recipe, ...]


def grid(name: str, *, count: int = 5, strengths: Sequence[float] | None = None) -> Grid:
    """Returns the recipes of an arm over its strengths.

    Args:
      name: Name of the arm: one of :data:`ARM_NAMES` but ``"combined"``, which only a study has.
      count: Number of strengths, spaced evenly on a logarithmic scale, at least 1.
      strengths: The strengths themselves, to replace the spaced ones.

    Returns:
      The grid.

    Example:
      >>> from jaxreg.study import grid
      >>> grid("l2", count=3).strengths
      (0.1, 1.0, 10.0)
    """
    if count < 1:
        raise ValueError(f"`count` must be at least 1, got {count}; one strength is the least.")
    if name == "baseline":
        return Grid(name, (), (Recipe(),))
    found = [technique for technique in TECHNIQUES if technique.name == name]
    if not found:
        raise ValueError(f"`name` must be one of {', '.join(ARM_NAMES[:-1])}, got {name}.")
    technique = found[0]
    if technique.low is None or technique.high is None:
        return Grid(name, (), (technique.recipe(),))
    if strengths is None:
        strengths = _spaced(technique.low, technique.high, count)
        if technique.field == "patience":
            strengths = [round(strength) for strength in strengths]
    chosen = tuple(sorted({float(strength) for strength in strengths}))
    return Grid(name, chosen, tuple(technique.recipe(strength) for strength in chosen))


def _spaced(low: float, high: float, count: int) -> list[float]:
    """Spaces ``count`` numbers evenly on a logarithmic scale; one alone is the middle."""
    shares = [(i + 0.5) / count if count == 1 else i / (count - 1) for i in range(count)]
    return [float(f"{low * (high / low) ** share:.2g}") for share in shares]


def combine(recipes: Sequence[Recipe]) -> Recipe:
    """Returns the recipe that switches on whatever one of the recipes switches on.

    Args:
      recipes: Recipes that set different techniques; of one set twice the last value counts.

    Returns:
      The combination.

    Example:
      >>> from jaxreg.study.recipes import Recipe, combine
      >>> combine([Recipe(l2=0.5), Recipe(dropout=0.2)]).dropout
      0.2
    """
    off = dataclasses.asdict(Recipe())
    changed: dict[str, Any] = {}
    for recipe in recipes:
        for name, value in dataclasses.asdict(recipe).items():
            if value != off[name]:
                changed[name] = value
    return Recipe(**changed)


# Accuracies of the circle example as published, where training and evaluation share the points.
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "circles": {"baseline": 0.975, "l1": 0.970, "l2": 0.972, "dropout": 0.968},
}
