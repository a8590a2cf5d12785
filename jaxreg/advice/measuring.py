"""Combines the published advice with what a study measured."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxreg.advice.arms import TECHNIQUES, start_of
from jaxreg.advice.records import BETTER, Advice, Measured

RESULTS = "results.csv"
_REFERENCE = "reference"
_NUMBERS = ("difference", "difference_low", "difference_high")
_COLUMNS = ("arm", "metric", "strength", *_NUMBERS, "verdict", "chosen", "recipe", "code")


def read(study: str | Path) -> tuple[Measured, ...]:
    """Reads what a study measured from the ``results.csv`` in its folder, without the baseline.

    Raises:
      ValueError: There is no such file, or no study wrote it.
    """
    path = Path(study, RESULTS)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(
            f"`study` must be the folder of a study with {RESULTS}, got {study}: "
            f"{error.strerror or error}; `jaxreg study --out {study}` makes one."
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"`study` must hold a {RESULTS} in UTF-8, got {path}: {error}.") from error
    rows = csv.DictReader(text.splitlines())
    missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise ValueError(
            f"`study` must hold a {RESULTS} as `jaxreg study` writes it, got {path} without "
            f"{', '.join(missing)}."
        )
    return tuple(_parse(row, path) for row in rows if row["verdict"] != _REFERENCE)


def _parse(row: Mapping[str, Any], path: Path) -> Measured:
    """Converts a row of the file."""
    try:
        return Measured(
            arm=row["arm"],
            metric=row["metric"].replace("_", " "),
            strength=float(row["strength"]) if row["strength"] else None,
            difference=float(row["difference"]),
            low=float(row["difference_low"]),
            high=float(row["difference_high"]),
            verdict=row["verdict"],
            chosen=row["chosen"] == "True",
            recipe=_recipe(row["arm"], json.loads(row["recipe"])),
            code=row["code"],
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"`study` must hold a {RESULTS} as `jaxreg study` writes it, got {path}, where "
            f"the row of the arm {row['arm']!r} cannot be read ({error}); correct this row, or run "
            "the study again."
        ) from error


def _recipe(arm: str, recipe: Mapping[str, Any]) -> str:
    """Formats a recipe as text; a policy of augmentations has its name alone."""
    parts = (
        name if isinstance(value, bool | Mapping) else f"{name} {value:.3g}"
        for name, value in recipe.items()
    )
    return " + ".join(parts) or arm


def combine(published: Iterable[Advice], measured: Iterable[Measured]) -> tuple[Advice, ...]:
    """Returns the advice with what a study measured, in the order of :func:`_order`.

    A measurement that tells an arm from the baseline decides. The published statements on the other
    side then stay as objections.
    """
    found = {TECHNIQUES.get(each.arm, each.arm): each for each in measured}
    merged = [_merge(advice, found.pop(advice.technique, None)) for advice in published]
    merged += [_advise_alone(technique, each) for technique, each in found.items()]
    return tuple(sorted(merged, key=_order))


def _merge(advice: Advice, measured: Measured | None) -> Advice:
    """Returns a published advice, or its opposite if the study says so."""
    if measured is None:
        return advice
    if measured.is_worse and not advice.avoid:
        objections = (*advice.reasons, *advice.against)
        return advice._replace(avoid=True, reasons=(), against=objections, measured=measured)
    if measured.verdict != BETTER:
        return advice._replace(measured=measured)
    start = start_of(measured.arm, measured.code, measured.strength)
    if not advice.avoid:
        return advice._replace(start=start, measured=measured)
    objections = (*advice.reasons, *advice.against)
    return advice._replace(
        avoid=False, reasons=(), against=objections, start=start, measured=measured
    )


def _advise_alone(technique: str, measured: Measured) -> Advice:
    """Returns the advice on an arm that no published statement is about."""
    start = start_of(measured.arm, measured.code, measured.strength)
    return Advice(technique, measured.is_worse, (), start, (), (), 0, measured)


def _order(advice: Advice) -> tuple[bool, int, float]:
    """Returns the key to sort by.

    First come the arms that are better than the baseline, the one that validation chose before the
    others, which are sorted by their gain. Then come the techniques that the study did not measure,
    then those that it could not tell from the baseline, each by what is published, and at the end
    what to avoid.
    """
    measured = advice.measured
    if advice.avoid or measured is None:
        return advice.avoid, 2, -advice.weight
    if measured.verdict == BETTER:
        return False, 0 if measured.chosen else 1, -abs(measured.difference)
    return False, 3, -advice.weight
