"""The results of :func:`jaxreg.advice.advise`: advice, and what a study measured."""

from typing import NamedTuple

from jaxreg.advice.starts import Start

BETTER = "better"
WORSE = "worse"
DIVERGED = "diverged"


class Measured(NamedTuple):
    """Result of an arm, from a study's ``results.csv``; ``str()`` formats it as text.

    Attributes:
      arm: Name of the arm.
      metric: Name of the score.
      strength: Strength chosen on validation; None if the arm has none.
      difference: Test score minus the baseline's.
      low: Lower end of the 95% interval of the difference.
      high: Upper end of this interval.
      verdict: "better", "worse", "not distinguishable" or "diverged".
      chosen: Whether validation chose the arm.
      recipe: Arms and strengths as text, such as "l2 0.5 + dropout 0.08".
      code: Code of the arm, such as "jaxreg.linen.Dropout"; empty if it is unknown.
    """

    arm: str
    metric: str
    strength: float | None
    difference: float
    low: float
    high: float
    verdict: str
    chosen: bool
    recipe: str
    code: str = ""

    @property
    def is_worse(self) -> bool:
        """True if the arm is worse than the baseline, or diverged."""
        return self.verdict in (WORSE, DIVERGED)

    def __str__(self) -> str:
        """Returns the score's difference, its interval and the verdict in one line."""
        interval = f"[{self.low:+.3g}, {self.high:+.3g}]"
        change = f"{self.metric} {self.difference:+.3g} {interval}"
        if self.verdict == DIVERGED:
            return f"your study: {self.recipe} diverged"
        end = " than the baseline" if self.verdict in (BETTER, WORSE) else " from the baseline"
        chosen = "; validation chose it" if self.chosen else ""
        return f"your study: {self.recipe}, {change}, {self.verdict}{end}{chosen}"


class Advice(NamedTuple):
    """Advice for or against one technique; ``str()`` formats it as text.

    Attributes:
      technique: Name of the technique.
      avoid: Whether the advice is against it.
      reasons: Reasons for the advice, the weightiest first.
      start: Code of the technique, and the strength to start with.
      sources: Published work behind the reasons.
      against: Objections from published work.
      weight: Weight of all reasons together, by which the techniques are ranked.
      measured: Result of a study; None without a study.
    """

    technique: str
    avoid: bool
    reasons: tuple[str, ...]
    start: Start
    sources: tuple[str, ...]
    against: tuple[str, ...]
    weight: int
    measured: Measured | None = None

    @property
    def strength(self) -> str:
        """The initial strength as text, such as ``rate 0.1 to 0.5``; empty if there is none."""
        return "" if self.avoid else self.start.strength

    @property
    def call(self) -> str:
        """The expression that calls it at the smallest strength to start with; may be empty."""
        return "" if self.avoid else self.start.call.format(f"{self.start.low:g}")

    def __str__(self) -> str:
        """Returns the technique, its address, the reasons and the sources as text."""
        return "\n".join([self._head(), *(f"  {line}" for line in self._lines())])

    def _head(self) -> str:
        if self.avoid:
            return f"avoid {self.technique}"
        where = f": {self.start.address}" if self.start.address else ""
        strength = f", {self.strength}" if self.strength else ""
        return f"{self.technique}{where}{strength}"

    def _lines(self) -> list[str]:
        lines = [] if self.measured is None else [str(self.measured)]
        lines += self.reasons
        start = Start(address="") if self.avoid else self.start
        if self.call:
            lines.append(f"use: {self.call}")
        if start.note:
            lines.append(f"mind: {start.note}")
        lines += [f"but: {text}" for text in self.against]
        lines += [f"see: {text}" for text in self.sources]
        if start.source and start.source not in self.sources:
            lines.append(f"{'strength' if start.high else 'see'}: {start.source}")
        return lines
