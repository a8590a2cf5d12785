"""The row of an arm, and the places of a training step where an arm acts.

An arm acts through one plain function. The study calls it, and ``recipe.py`` contains its source,
so the program that a study writes trains exactly as the study did.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from jaxreg.study.data import KINDS

NUMBERS = ("table", "series", "image")
TASKS = ("classification", "regression")


class Term(NamedTuple):
    """Adds ``strength * function(...)`` to the loss.

    Attributes:
      function: Penalty, which asks for values by the names of its arguments: ``params``, the
        initial parameters ``start``, the data rows ``x``, the model's outputs ``logits``, a
        function ``predict`` from rows to outputs in evaluation mode, the outputs ``again`` of a
        second pass with other noise, or a PRNG ``key``.
    """

    function: Callable[..., Any]


class Criterion(NamedTuple):
    """Replaces the plain cross entropy.

    Attributes:
      function: ``(logits, labels, strength) -> value``, which is the plain cross entropy at
        strength 0. The labels are class ids, or distributions after mixing.
    """

    function: Callable[..., Any]


class LossChange(NamedTuple):
    """Changes the loss of a batch, after all terms have been added.

    Attributes:
      function: ``(value, strength) -> value``.
    """

    function: Callable[..., Any]


class GradientLink(NamedTuple):
    """Chains a transformation of the gradients before Adam.

    Attributes:
      function: ``(strength) -> transformation``; without arguments if the arm has no strength.
    """

    function: Callable[..., Any]


class UpdateLink(NamedTuple):
    """Chains a transformation of the updates after Adam.

    Attributes:
      function: ``(strength, learning_rate) -> transformation``.
    """

    function: Callable[..., Any]


class Wrapper(NamedTuple):
    """Wraps the whole optimizer.

    Attributes:
      function: ``(inner, strength, learning_rate) -> transformation``.
      path: Names and indices that lead from the wrapper's state to the state of ``inner``, or to
        the average if ``averages`` is True.
      averages: Whether the wrapper keeps an average of the parameters, which is then evaluated.
      needs_gradients: Whether the wrapper's ``update`` needs the argument ``grad_fn``.
    """

    function: Callable[..., Any]
    path: tuple[str | int, ...] = ()
    averages: bool = False
    needs_gradients: bool = False


class BatchChange(NamedTuple):
    """Changes a batch before the model sees it.

    Attributes:
      function: Function of a PRNG ``key``, the data rows ``x`` and the ``strength``, which may also
        ask for ``labels``, ``mean``, ``stddev`` and ``num_classes`` by name. It returns the rows,
        or the rows and the labels if it asks for labels.
    """

    function: Callable[..., Any]


class Layer(NamedTuple):
    """Adds a layer to a model.

    Attributes:
      function: ``(x, strength, *, train) -> x``, called inside a compact Linen module; ``strength``
        and ``train`` are optional.
      place: Name of the place in a built-in model, a key of :data:`PLACES`.
      sows: Whether the layer sows a penalty.
    """

    function: Callable[..., Any]
    place: str
    sows: bool = False


class Stop(NamedTuple):
    """Ends a run early, after ``strength`` epochs without a better validation loss."""


Action = (
    Criterion | Term | LossChange | GradientLink | UpdateLink | Wrapper | BatchChange | Layer | Stop
)

PLACES = {
    "normalization": "before a nonlinearity",
    "units": "after the nonlinearity of a hidden layer",
    "maps": "after the nonlinearity of a convolution",
    "branch": "on a residual branch",
    "last": "before the last layer",
}


class Rule(NamedTuple):
    """Condition that a strength must meet.

    Attributes:
      text: The condition in words, for error messages.
      holds: Function that returns whether a number meets the condition.
    """

    text: str
    holds: Callable[[float], bool]


WEIGHT = Rule("finite and at least 0", lambda value: 0 <= value < math.inf)
RATE = Rule("in [0, 1)", lambda value: 0 <= value < 1)
SHARE = Rule("in [0, 1]", lambda value: 0 <= value <= 1)


class LogGrid(NamedTuple):
    """Logarithmically spaced strengths.

    Attributes:
      low: Smallest strength.
      high: Largest strength.
      digits: Decimal places to round to; None keeps two significant digits.
    """

    low: float
    high: float
    digits: int | None = None

    def strengths(self, count: int) -> list[float]:
        """Returns ``count`` strengths from ``low`` to ``high``; a single one is in the middle."""
        shares = [0.5] if count == 1 else [i / (count - 1) for i in range(count)]
        return [self.at(share) for share in shares]

    def at(self, share: float) -> float:
        """Returns the rounded strength at a share of the logarithmic range."""
        value = float(f"{self.low * (self.high / self.low) ** share:.2g}")
        return value if self.digits is None else round(value, self.digits)


A = TypeVar("A", bound=Action)


@dataclass(frozen=True)
class Arm(Generic[A]):
    """An arm of a study: a technique, its strengths, and what it does.

    Attributes:
      name: Name on the command line and in a :class:`jaxreg.study.Recipe`.
      summary: Effect of the technique in a few words.
      source: Full name of the function that implements it.
      acts: Place of the training step where it acts, such as ``Term`` for the loss or
        ``UpdateLink`` for the updates; the instance holds the function that acts there.
      grid: Strengths of the default grid; None if the arm has no strength.
      rule: Condition that a strength must meet, in words and as a test.
      label: Meaning of the strength, for the axis of a figure.
      kinds: Kinds of data rows that it accepts.
      tasks: Tasks that it suits.
      needs: Other arms that it requires, with their strengths.
      off: Strength that switches it off: 0, 1 or infinity, or False for an arm that is only on or
        off.
      cheap: Whether it costs almost nothing when it is off, so that recipes with and without it
        share a program.
      default: Whether it is one of the default arms.
      slot: Name shared by arms that replace each other, such as norms; empty for the others. Of the
        recipes that :func:`jaxreg.study.combine` joins, the last one decides which of them is kept.
      aliases: Other names of the same technique.
    """

    name: str
    summary: str
    source: str
    acts: A
    grid: LogGrid | None = None
    rule: Rule = WEIGHT
    label: str = "strength"
    kinds: tuple[str, ...] = tuple(KINDS)
    tasks: tuple[str, ...] = TASKS
    needs: Mapping[str, float] = field(default_factory=dict)
    off: float | bool = 0.0
    cheap: bool = False
    default: bool = False
    slot: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def has_strength(self) -> bool:
        """Returns whether the arm has a strength, or is simply on or off."""
        return self.grid is not None

    def weaken(self, strength: float, share: float) -> float:
        """Returns a weaker strength: its distance from ``off`` is multiplied by ``share``.

        If ``off`` is infinity, the result is ``strength / share``. If the result would leave the
        range of the arm, it is ``strength``.

        Args:
          strength: A strength of the arm.
          share: Share of the distance from ``off`` that is left, in (0, 1].
        """
        if self.off == math.inf:
            weaker = strength / share
        else:
            weaker = self.off + share * (strength - self.off)
        return weaker if self.rule.holds(weaker) else strength


def arguments(function: Callable[..., Any]) -> tuple[str, ...]:
    """Returns the names of a function's arguments."""
    return tuple(inspect.signature(function).parameters)


def call(function: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """Calls a function with the values that its argument names ask for."""
    return function(**{name: values[name] for name in arguments(function)})
