"""Prints the table of a study and writes its files.

:func:`print_table` prints the table; :func:`write` writes ``results.csv`` (the table in full
precision), ``history.csv`` (the losses of every seed and epoch), ``report.html`` and ``recipe.py``.
The same study gives the same text and the same bytes.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxreg.study import page, recipe_code, summary
from jaxreg.study.files import write_all
from jaxreg.study.recipes import Recipe
from jaxreg.study.records import Study
from jaxreg.study.summary import Row

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["print_table", "write"]

_TEXT_WIDTH = 100
_STYLES = {summary.HIGHER: "green", summary.LOWER: "red"}
_WHOLE: dict[str, str] = {}
# Short marks for a table that is too wide; the notes below it spell them out.
_SHORT = {summary.REFERENCE: "", summary.UNCLEAR: "n.d."}


class _Layout(NamedTuple):
    """Layout of the printed table: padding, marks and optional columns."""

    spaces: int
    marks: dict[str, str]
    diagnoses: bool
    ascii_only: bool = False

    @property
    def plus_minus(self) -> str:
        return "+-" if self.ascii_only else "±"


# From the most readable one to the narrowest, which is used if none fits.
_LAYOUTS = (
    _Layout(spaces=1, marks=_WHOLE, diagnoses=True),
    _Layout(spaces=1, marks=_SHORT, diagnoses=True),
    _Layout(spaces=0, marks=_SHORT, diagnoses=True),
    _Layout(spaces=0, marks=_SHORT, diagnoses=False),
)


def print_table(study: Study, console: Console) -> None:
    """Prints the table of a study, one row per arm, and notes that explain the numbers.

    Accuracies are percentages and differences percentage points. Rows are never wrapped or cut,
    whatever the width of the console. Without a terminal, the text is always the same, laid out for
    100 columns. A terminal too narrow for the column of diagnoses gets them below the table.

    Args:
      study: The study.
      console: Console to print to.
    """
    rows = summary.rows(study)
    ascii_only = console.options.ascii_only
    width = min(console.width, _TEXT_WIDTH) if console.is_terminal else _TEXT_WIDTH
    room = console.width if console.is_terminal else _TEXT_WIDTH
    layouts = [layout._replace(ascii_only=ascii_only) for layout in _LAYOUTS]
    tables = [_table(rows, study, layout) for layout in layouts]
    narrow_enough = [i for i, table in enumerate(tables) if (table.width or 0) <= room]
    chosen = narrow_enough[0] if narrow_enough else -1
    console.print(tables[chosen], crop=False, no_wrap=True, overflow="ignore")
    for note in _notes(study, rows, layouts[chosen]):
        text = textwrap.fill(note, width, break_on_hyphens=False)
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def write(study: Study, folder: Path) -> None:
    """Writes ``results.csv``, ``history.csv``, ``report.html`` and ``recipe.py``, all or none.

    Args:
      study: The study.
      folder: An existing folder.
    """
    folder = Path(folder)
    # All texts are made first, so that an error in one of them leaves no file.
    texts = {
        "results.csv": _results(study),
        "history.csv": _history(study),
        "recipe.py": recipe_code.source(study),
        "report.html": page.html(study),
    }
    write_all(folder, texts)


def _table(rows: Sequence[Row], study: Study, layout: _Layout) -> Table:
    """Returns the table as a Rich object, wide enough for its longest cells."""
    # Rich comes with the study extra.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    published = any(row.published is not None for row in rows)
    heads = ["arm", "strength", "train", "valid", "test", "gap"]
    if layout.diagnoses:
        heads.append("diagnosis")
    heads.append("difference")
    if published:
        heads.append("published")
    table = Table(
        box=box.ASCII if layout.ascii_only else box.SIMPLE_HEAD,
        padding=(0, layout.spaces, 0, 0),
        pad_edge=False,
        show_edge=False,
        title=Text(_title(study)),
        title_justify="left",
        title_style="bold",
    )
    for head in heads:
        words = head in ("arm", "diagnosis")
        table.add_column(head, justify="left" if words else "right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in rows:
        cells = _cells(row, layout)
        if published:
            cells.append(_percent_or_nothing(row.published))
        mark = Text(layout.marks.get(row.mark, row.mark), style=_STYLES.get(row.mark, "dim"))
        table.add_row(*map(Text, cells), mark, style="bold" if row.chosen else "")
    table.width = Console(width=10_000).measure(table).maximum
    return table


def _title(study: Study) -> str:
    train, validation, test = study.sizes
    return (
        f"{study.data}: accuracy in %, mean of {study.seeds} seeds, {study.epochs} epochs, "
        f"rows {train}/{validation}/{test}"
    )


def _cells(row: Row, layout: _Layout) -> list[str]:
    half = summary.percent(row.test.high - row.test.mean)
    cells = [
        row.name,
        summary.number(row.strength),
        summary.percent(row.train),
        summary.percent(row.validation),
        f"{summary.percent(row.test.mean)} {layout.plus_minus} {half}",
        summary.percent(row.gap),
    ]
    if layout.diagnoses:
        cells.append(summary.short(row.diagnosis))
    reference = row.mark == summary.REFERENCE
    cells.append("" if reference else summary.interval_points(row.difference))
    return cells


def _percent_or_nothing(value: float | None) -> str:
    return "" if value is None else summary.percent(value)


def _notes(study: Study, rows: Sequence[Row], layout: _Layout) -> Iterable[str]:
    yield ""
    if not layout.diagnoses:
        listed = "; ".join(f"{row.name} {summary.short(row.diagnosis)}" for row in rows)
        yield f"diagnosis: {listed}."
    yield from summary.combinations(study)
    yield from study.notes
    yield (
        f"{layout.plus_minus}: 95% interval of the mean over seeds. gap: train minus test. "
        "difference: test minus the baseline's, in points, paired by seed, with its 95% interval."
    )
    if any(row.mark == summary.UNCLEAR for row in rows):
        yield summary.unclear_note(study).replace(
            "not distinguishable:", "not distinguishable (n.d.):"
        )
    yield summary.DIAGNOSIS_NOTE
    yield summary.SELECTION_NOTE
    if any(row.published is not None for row in rows):
        yield summary.PUBLISHED_NOTE
    yield ""
    yield summary.verdict(study)


def _results(study: Study) -> str:
    """Returns ``results.csv``: a row per arm in full precision, with its whole recipe."""
    fields = [field.name for field in dataclasses.fields(Recipe)]
    heads = [
        "arm",
        "strength",
        "train",
        "validation",
        "test",
        "test_low",
        "test_high",
        "gap",
        "difference",
        "difference_low",
        "difference_high",
        "diagnosis",
        "verdict",
        "chosen",
        "published",
    ]
    lines = [
        [
            row.name,
            row.strength,
            row.train,
            row.validation,
            *row.test,
            row.gap,
            *row.difference,
            row.diagnosis,
            row.mark,
            row.chosen,
            row.published,
            *(getattr(arm.recipe, field) for field in fields),
        ]
        for row, arm in zip(summary.rows(study), study.arms, strict=True)
    ]
    return _csv([*heads, *(f"recipe_{field}" for field in fields)], lines)


def _history(study: Study) -> str:
    """Returns ``history.csv``: a row of losses per arm, epoch (from 1) and seed (from 0)."""
    lines = (
        [arm.name, epoch, seed, train, validation]
        for arm in study.arms
        for epoch, (trains, validations) in enumerate(
            zip(arm.train_loss, arm.validation_loss, strict=True), start=1
        )
        for seed, (train, validation) in enumerate(zip(trains, validations, strict=True))
    )
    return _csv(["arm", "epoch", "seed", "train_loss", "validation_loss"], lines)


def _csv(heads: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([_exact(value) for value in line] for line in lines)
    return stream.getvalue()


def _exact(value: Any) -> Any:
    """Converts a NumPy scalar to text that parses to the same value."""
    return str(value) if isinstance(value, np.generic) else value
