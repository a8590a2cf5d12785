"""Writes the title and the headline of a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxreg.study.records import Study
from jaxreg.study.reports.judgments import BETTER, UNCLEAR, WORSE
from jaxreg.study.reports.units import Units
from jaxreg.study.selection import LEAST_SEEDS

if TYPE_CHECKING:
    from jaxreg.study.reports.summary import Row

ONLY_BASELINE = "The baseline is the only arm"


def title(study: Study, units: Units) -> str:
    """Returns the data, the metric and the sizes of a study in one line."""
    rows = "" if study.sizes is None else f", rows {'/'.join(map(str, study.sizes))}"
    return (
        f"{study.data}: {units.name_and_unit}, mean of {count(study.seeds, 'seed')}, "
        f"{count(study.epochs, 'epoch')}{rows}"
    )


def count(number: int, noun: str) -> str:
    """Returns a number with its noun, such as "1 epoch" or "2 epochs"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def headline(study: Study, units: Units, rows: Sequence[Row]) -> str:
    """Returns a sentence on the chosen arm; it begins with a warning if nothing beat the baseline.

    Args:
      study: The study.
      units: Units of its scores.
      rows: Rows of its table.
    """
    row = next(row for row in rows if row.chosen)
    score = f"{units.score_and_unit(row.test.mean)} on test"
    if len(rows) == 1:
        return f"{ONLY_BASELINE}: {score}."
    if row is rows[0]:
        return f"Nothing beat the baseline on validation: {score}."
    chosen = f"Validation chose {row.label}: {score}, {_change(row, units)}"
    if study.seeds < LEAST_SEEDS:
        few = f"{study.seeds} seeds are too few to tell an arm from the baseline"
        return f"{few}. {chosen}."
    if row.mark == UNCLEAR:
        chosen += f", which is {UNCLEAR} from zero"
    if any(other.mark == BETTER for other in rows):
        return f"{chosen}."
    return f"Nothing beat the baseline clearly. {chosen}."


def _change(row: Row, units: Units) -> str:
    """Describes the difference from the baseline in words, with its confidence interval."""
    low = units.change(row.difference.low)
    high = units.change(row.difference.high)
    remark = f"; {units.direction}" if units.direction else ""
    interval = f"(95% interval {low} to {high}{remark})"
    change = row.difference.mean
    if row.mark in (BETTER, WORSE):
        side = "above" if change > 0 else "below"
        return f"{units.size(change)} {side} the baseline {interval}"
    return f"{units.change_and_unit(change)} against the baseline {interval}"
