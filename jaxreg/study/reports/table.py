"""Prints the table of a study on a terminal."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from jaxreg.study.reports.judgments import (
    BETTER,
    DIVERGED,
    HELPS,
    HURTS,
    REFERENCE,
    UNCLEAR,
    WORSE,
)
from jaxreg.study.reports.summary import Part, Row, Summary

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_TEXT_WIDTH = 100
_STYLES = {BETTER: "green", WORSE: "red", HELPS: "green", HURTS: "red", DIVERGED: "red"}
# Short marks for a table that is too wide; the notes below it spell them out.
_SHORT = {REFERENCE: "", UNCLEAR: "n.d."}
_COLUMNS = (
    "arm", "strength", "train", "valid", "test", "gap", "diagnosis", "difference", "published",
    "verdict",
)  # fmt: skip
_WORDS = ("arm", "diagnosis", "verdict")


class _Layout(NamedTuple):
    """Layout of the printed table: padding, length of the marks, and columns left out."""

    spaces: int
    short: bool
    left_out: tuple[str, ...] = ()
    ascii_only: bool = False

    @property
    def plus_minus(self) -> str:
        return "+-" if self.ascii_only else "±"


_NARROW = ("diagnosis", "gap", "train", "valid")
# From the most readable one to the narrowest, which is used if none fits.
_LAYOUTS = (
    _Layout(spaces=1, short=False),
    _Layout(spaces=1, short=True),
    _Layout(spaces=0, short=True),
    _Layout(spaces=0, short=True, left_out=_NARROW[:1]),
    _Layout(spaces=0, short=True, left_out=_NARROW[:2]),
    _Layout(spaces=0, short=True, left_out=_NARROW),
    _Layout(spaces=0, short=True, left_out=(*_NARROW, "difference", "strength")),
)


def print_table(summary: Summary, console: Console) -> None:
    """Prints the table of a study, one row per arm, and notes that explain the numbers.

    Rows are never wrapped or cut. Without a terminal, the text is always the same, laid out for 100
    columns. A narrow terminal gets fewer columns: the diagnoses are then listed below the table,
    and the names of the other columns that are left out.

    Args:
      summary: The summary of the study.
      console: Console to print to.

    Example:
      >>> from functools import partial
      >>> import numpy as np
      >>> from rich.console import Console
      >>> from jaxreg.study import compare, grid, mlp, reports, run, stratified_split
      >>> from jaxreg.study.reports.summary import summarize
      >>> x = np.random.default_rng(0).normal(size=(200, 2))
      >>> split = stratified_split(x, (x[:, 0] > 0).astype(int), train_size=60)
      >>> train = partial(run, mlp((4,), 2), split, seeds=2, epochs=1)
      >>> found = compare(train, [grid("baseline")])
      >>> reports.print_table(summarize(found), Console())  # doctest: +ELLIPSIS
      your data: accuracy in %, mean of 2 seeds, 1 epoch...
    """
    ascii_only = console.options.ascii_only
    room = console.width if console.is_terminal else _TEXT_WIDTH
    layouts = [layout._replace(ascii_only=ascii_only) for layout in _LAYOUTS]
    tables = [_table(summary, layout) for layout in layouts]
    fitting = [i for i, table in enumerate(tables) if (table.width or 0) <= room]
    chosen = fitting[0] if fitting else -1
    width = min(room, _TEXT_WIDTH)
    _print_text(console, summary.title, width, style="bold")
    console.print(tables[chosen], crop=False, no_wrap=True, overflow="ignore")
    for line in _lines(summary, layouts[chosen]):
        _print_text(console, line, width)


def _print_text(console: Console, text: str, width: int, style: str = "") -> None:
    filled = textwrap.fill(text, width, break_on_hyphens=False)
    console.print(filled, style=style, markup=False, highlight=False, soft_wrap=True)


def _table(summary: Summary, layout: _Layout) -> Table:
    """Returns the table as a Rich object, wide enough for its longest cells."""
    # Rich comes with the study extra.
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        box=box.ASCII if layout.ascii_only else box.SIMPLE_HEAD,
        padding=(0, layout.spaces, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    columns = _columns(summary, layout)
    for column in columns:
        table.add_column(column, justify="left" if column in _WORDS else "right", no_wrap=True)
    for row in summary.rows:
        cells = _cells(row, layout)
        style = "bold" if row.chosen else ""
        table.add_row(*(cells[column] for column in columns), style=style)
    # A console of text has any width; on a dumb terminal, Rich would measure for 80 columns.
    measure = Console(file=io.StringIO(), width=10_000, height=100).measure
    table.width = measure(table).maximum
    return table


def _columns(summary: Summary, layout: _Layout) -> list[str]:
    left_out = layout.left_out
    if not summary.has_published:
        left_out = (*left_out, "published")
    return [column for column in _COLUMNS if column not in left_out]


def _cells(row: Row, layout: _Layout) -> dict[str, Text]:
    """Returns the cell of every column."""
    from rich.text import Text

    texts = row.texts
    mark = _SHORT.get(row.mark, row.mark) if layout.short else row.mark
    cells = {
        "arm": row.name,
        "strength": texts.strength,
        "train": texts.train,
        "valid": texts.validation,
        "test": f"{texts.test} {layout.plus_minus} {texts.spread}",
        "gap": texts.gap,
        "diagnosis": texts.diagnosis,
        "difference": f"{texts.difference} {texts.interval}".strip(),
        "published": texts.published,
    }
    verdict = Text(mark, style=_STYLES.get(row.mark, "dim"))
    return {column: Text(text) for column, text in cells.items()} | {"verdict": verdict}


def _lines(summary: Summary, layout: _Layout) -> Iterator[str]:
    """Yields the lines below the table."""
    yield ""
    if "diagnosis" in layout.left_out:
        listed = "; ".join(f"{row.name} {row.texts.diagnosis}" for row in summary.rows)
        yield f"diagnosis: {listed}."
    others = [column for column in layout.left_out if column != "diagnosis"]
    if others:
        yield f"Not enough room for {', '.join(others)}; a wider terminal shows them."
    if summary.telling:
        yield _others(summary)
    if summary.parts:
        yield from _ablation(summary)
    yield from summary.remarks
    yield f"{layout.plus_minus}: 95% interval of the mean over seeds."
    for note in summary.explanations:
        yield note.replace(f"{UNCLEAR}:", f"{UNCLEAR} (n.d.):") if layout.short else note
    yield ""
    yield summary.headline
    yield f"Recipe: {summary.recipe}."


def _others(summary: Summary) -> str:
    """Returns a line with the further metrics of every arm."""
    names = ", ".join(units.name_and_unit for units in summary.others)
    listed = "; ".join(f"{row.name} {', '.join(row.texts.others)}" for row in summary.rows)
    return f"{names} on test: {listed}."


def _ablation(summary: Summary) -> Iterator[str]:
    """Yields a line for each part of the combination."""
    unit = "points of " if summary.units.percent else ""
    yield f"ablation, in {unit}{summary.units.name} on test, with 95% interval:"
    width = max(len(part.name) for part in summary.parts)
    numbers = max(len(part.change) for part in summary.parts)
    yield from (_part_line(part, width, numbers) for part in summary.parts)


def _part_line(part: Part, width: int, numbers: int) -> str:
    return f"  without {part.name:{width}}  {part.change:>{numbers}} {part.interval}  {part.mark}"
