"""Formats scores, changes, strengths and recipes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from jaxreg.study.objectives import Metric
from jaxreg.study.recipes import Recipe
from jaxreg.study.records import Interval

# Abbreviations in the names of metrics.
_WORDS = {"auc": "AUC", "f1": "F1", "mae": "MAE", "mse": "MSE", "r2": "R2", "rmse": "RMSE"}
_MOST_DECIMALS = 6
# Larger numbers are written with an exponent.
_LARGE = 1e6


class Units(NamedTuple):
    """The units of a metric, in which its scores and their changes are written.

    Attributes:
      name: Name of the metric in words, such as "RMSE".
      percent: Whether scores are in percent, and changes in percentage points.
      lower_is_better: Whether a smaller score is better.
      decimals: Decimal places of a score. A change has one more.
    """

    name: str
    percent: bool
    lower_is_better: bool
    decimals: int

    @property
    def scale(self) -> float:
        """The factor from a score to the number that is shown."""
        return 100.0 if self.percent else 1.0

    @property
    def name_and_unit(self) -> str:
        """The name and the unit of a score, such as "accuracy in %"."""
        return f"{self.name} in %" if self.percent else self.name

    @property
    def heading(self) -> str:
        """The name and the unit at the start of a sentence."""
        return f"{self.name_and_unit[:1].upper()}{self.name_and_unit[1:]}"

    @property
    def direction(self) -> str:
        """A remark for metrics whose smaller scores are better; else empty."""
        return "lower is better" if self.lower_is_better else ""

    def score(self, value: float) -> str:
        """Formats a score, without its unit."""
        return _format(self.scale * value, self.decimals)

    def score_and_unit(self, value: float) -> str:
        """Formats a score with its name and unit, such as "accuracy 97.5%"."""
        return f"{self.name} {self.score(value)}{'%' if self.percent else ''}"

    def change(self, value: float) -> str:
        """Formats the change of a score with its sign, without its unit."""
        return _format(self.scale * value, self.decimals + 1, sign="+")

    def change_and_unit(self, value: float) -> str:
        """Formats the change of a score with its sign and unit, such as "+1.20 points"."""
        return f"{self.change(value)} points" if self.percent else self.change(value)

    def size(self, value: float) -> str:
        """Formats the size of a change with its unit, without a sign."""
        return self.change_and_unit(abs(value)).removeprefix("+")

    def interval(self, interval: Interval) -> str:
        """Formats the interval of a change, in brackets."""
        return f"[{self.change(interval.low)}, {self.change(interval.high)}]"

    def change_and_interval(self, interval: Interval) -> str:
        """Formats a change with its interval, such as "+1.20 [+0.40, +2.00]"."""
        return f"{self.change(interval.mean)} {self.interval(interval)}"

    def gain(self, change: float) -> float:
        """Returns a change as a gain, which is positive if the score became better."""
        return -change if self.lower_is_better else change


def units_of(metric: Metric, scores: Iterable[float]) -> Units:
    """Returns the units of a metric, with three or four significant digits of its largest score.

    Args:
      metric: The metric.
      scores: Scores that will be shown together. Percentages have one decimal for any scores.

    Example:
      >>> from jaxreg.study.objectives import REGRESSION
      >>> units = units_of(REGRESSION.with_metric("rmse").metric, [0.4123, 0.25])
      >>> units.score_and_unit(0.25), units.change(-0.0123)
      ('RMSE 0.250', '-0.0123')
    """
    decimals = 1
    if not metric.percent:
        sizes = [abs(score) for score in scores if math.isfinite(score)]
        exponent = math.floor(math.log10(max(sizes, default=0) or 1.0))
        decimals = 3 - exponent if exponent >= 0 else 2 - exponent
        decimals = min(max(decimals, 0), _MOST_DECIMALS)
    return Units(name_in_words(metric.name), metric.percent, metric.lower_is_better, decimals)


def name_in_words(name: str) -> str:
    """Returns the name of a metric in words, such as "macro F1" for "macro_f1"."""
    return " ".join(_WORDS.get(word, word) for word in name.split("_"))


def number(value: float | None) -> str:
    """Formats ``value``, a strength, to three significant digits; None becomes empty."""
    return "" if value is None else f"{value:.3g}"


def recipe_text(recipe: Recipe) -> str:
    """Formats the arms of a recipe and their strengths on one line.

    Example:
      >>> from jaxreg.study import Recipe
      >>> print(recipe_text(Recipe({"l2": 0.5, "batch_norm": True})))
      l2 0.5 + batch_norm
    """
    return " + ".join(_arm_text(name, value) for name, value in recipe.items()) or (
        "no regularization"
    )


def _arm_text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return name
    if isinstance(value, int | float):
        return f"{name} {number(value)}"
    return f"{name} ({value})"


def _format(value: float, decimals: int, sign: str = "") -> str:
    """Formats a number with fixed decimal places, or with an exponent if it is very large."""
    if math.isnan(value):
        return "nan"
    digits = ".2e" if _LARGE <= abs(value) < math.inf else f".{decimals}f"
    return format(value, f"{sign}{digits}")
