"""Builds the elements of the HTML page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

MINUS = "\N{MINUS SIGN}"
_NEGATIVE = re.compile(r"(?<!\S)-(?=\d)|(?<=\[)-(?=\d)")


class Line(NamedTuple):
    """A row of a table: the HTML of its head and its cells, and its CSS class."""

    head: str
    cells: Sequence[str]
    style: str = ""


def plain(text: str) -> str:
    """Returns a text as HTML, with minus signs in place of hyphens before numbers."""
    return _NEGATIVE.sub(MINUS, escape(text))


def lines(parts: Iterable[str]) -> str:
    """Joins elements, one per line."""
    return "\n".join(parts)


def section(name: str, title: str, *body: str, style: str = "") -> str:
    """Returns a section with a heading, which is also its name for screen readers."""
    kind = f' class="{style}"' if style else ""
    return (
        f'<section id="{name}" aria-labelledby="{name}-title"{kind}>\n'
        f'<h2 id="{name}-title">{title}</h2>\n{lines(body)}\n</section>'
    )


def figure(svg: str, caption: str) -> str:
    """Returns a figure below its caption."""
    return f"<figure>\n<figcaption>{caption}</figcaption>\n{svg}\n</figure>"


def table(
    name: str, caption: str, heads: Sequence[str], rows: Iterable[Line], *, region: str = ""
) -> str:
    """Returns a table, whose rows a narrow page shows as cards with a label for every cell.

    The roles keep it a table for screen readers when the style sheet lays it out as cards.

    Args:
      name: Classes of the table.
      caption: HTML of the caption.
      heads: Names of the columns; the first column holds the head of each row.
      rows: The rows.
      region: Name for screen readers of a table that the keyboard can scroll.
    """
    columns = "".join(f'<th scope="col" role="columnheader">{escape(head)}</th>' for head in heads)
    scroll = f' role="region" aria-label="{region}" tabindex="0"' if region else ""
    return (
        f'<div class="fit"{scroll}>\n<table class="{name}" role="table">\n'
        f"<caption>{caption}</caption>\n"
        f'<thead role="rowgroup">\n<tr role="row">{columns}</tr>\n</thead>\n'
        f'<tbody role="rowgroup">\n{lines(_row(row, heads) for row in rows)}\n</tbody>\n</table>\n'
        "</div>"
    )


def _row(row: Line, heads: Sequence[str]) -> str:
    style = f' class="{row.style}"' if row.style else ""
    cells = "".join(
        f'<td role="cell" data-label="{escape(head)}">{cell}</td>'
        for head, cell in zip(heads[1:], row.cells, strict=True)
    )
    return f'<tr role="row"{style}><th scope="row" role="rowheader">{row.head}</th>{cells}</tr>'


def definitions(style: str, entries: Iterable[tuple[str, str]]) -> str:
    """Returns a list of terms with their values."""
    pairs = (
        f"<div><dt>{escape(term)}</dt><dd>{plain(value)}</dd></div>" for term, value in entries
    )
    return f'<dl class="{style}">\n{lines(pairs)}\n</dl>'


def key(entries: Iterable[tuple[str, str, str]]) -> str:
    """Returns the legend of a figure from entries of label, shape and color."""
    items = []
    for label, shape, color in entries:
        paint = f'fill="var(--{color})" stroke="var(--{color})" stroke-width="2"'
        swatch = f'<svg viewBox="0 0 30 12" aria-hidden="true">{shape.replace("{}", paint)}</svg>'
        items.append(f"<li>{swatch}{label}</li>")
    return f'<ul class="key">\n{lines(items)}\n</ul>'


def code(label: str, text: str, name: str = "") -> str:
    """Returns a block of code that the keyboard can scroll, with a name for screen readers."""
    own = f' id="{name}"' if name else ""
    return (
        f'<pre{own} tabindex="0" role="region" aria-label="{label}"><code>{escape(text)}'
        "</code></pre>"
    )
