"""Renders figures as inline SVG with the fonts and colors of the page.

Matplotlib draws a figure; :func:`_inline` turns its file into an ``<svg>`` element that can share
a page with others: no global styles, only referenced identifiers (under a prefix), fonts from the
page, palette colors as CSS variables that a dark page may redefine, and a title and a description
for screen readers.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe-Ito blue and vermilion, which stay apart for every kind of color vision; each series also
# has its own line style or marker.
PALETTE = {
    "ink": "#1c2430",
    "muted": "#5b6675",
    "line": "#dfe3e8",
    "card": "#fffffe",
    "train": "#d55e00",
    "validation": "#0072b2",
}
INK, MUTED, LINE, CARD, TRAIN, VALIDATION = PALETTE.values()
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "path.simplify": False,
}


class Words(NamedTuple):
    """Title and description for screen readers, and the prefix of a figure's SVG identifiers."""

    prefix: str
    title: str
    description: str


def render(
    draw: Callable[[Axes], None],
    words: Words,
    *,
    size: tuple[float, float],
    margins: tuple[float, float, float, float],
) -> str:
    """Returns a figure as inline SVG.

    Args:
      draw: Function that draws on the axes.
      words: Words for screen readers.
      size: Width and height in pixels.
      margins: Left, right, bottom and top margins of the axes in pixels.
    """
    # The import takes half a second, and only a report needs it.
    import matplotlib
    from matplotlib.figure import Figure

    width, height = size
    left, right, bottom, top = margins
    style: Any = _STYLE | {"svg.hashsalt": words.prefix}
    with matplotlib.rc_context(), warnings.catch_warnings():
        # Glyphs that are missing here are drawn with the reader's font.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style)
        figure = Figure(figsize=(width / 72, height / 72), facecolor="none")
        box = (
            left / width,
            bottom / height,
            (width - left - right) / width,
            (height - bottom - top) / height,
        )
        axes = figure.add_axes(box, facecolor="none", axisbelow=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(MUTED)
        axes.tick_params(which="both", length=0, labelsize=11, labelcolor=MUTED, pad=5)
        axes.xaxis.label.set(size=11.5, color=MUTED)
        draw(axes)
        stream = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Type", "Format"))
        figure.savefig(stream, format="svg", metadata=nothing)
    return _inline(stream.getvalue(), words)


_REMOVED = re.compile(
    r"^.*?(?=<svg)|<style.*?</style>|<metadata>.*?</metadata>|(?<=>)\s+(?=<)", re.DOTALL
)
_TAG = re.compile(r"<[^>]*>")
_IN_TAGS = (
    (re.compile(r"^<g id=\"[^\"]*\""), "<g"),
    (re.compile(r" font-family: [^;\"]*;"), ""),
    (re.compile(r" transform=\"rotate\(-0 [^\"]*\)\""), ""),
    (re.compile(r"(\d+\.\d\d)\d+"), r"\1"),
    (re.compile(r"\s+"), " "),
)


def _inline(svg: str, words: Words) -> str:
    """Converts Matplotlib's SVG file to an ``<svg>`` element for a page with several figures."""
    svg = _TAG.sub(lambda tag: _clean_tag(tag.group(), words.prefix), _REMOVED.sub("", svg))
    box = re.search(r'viewBox="([^"]*)"', svg)
    assert box is not None, "Matplotlib writes a viewBox"
    title = f"{words.prefix}-title"
    description = f"{words.prefix}-desc"
    head = (
        f'<svg viewBox="{box.group(1)}" role="img" aria-labelledby="{title} {description}">\n'
        f'<title id="{title}">{escape(words.title)}</title>\n'
        f'<desc id="{description}">{escape(words.description)}</desc>'
    )
    return re.sub(r"^<svg[^>]*>", lambda _: head, svg).strip()


def _clean_tag(tag: str, prefix: str) -> str:
    """Removes fonts and excess digits from an SVG tag, prefixes its ids, inserts CSS colors."""
    for pattern, replacement in _IN_TAGS:
        tag = pattern.sub(replacement, tag)
    tag = tag.replace(' id="', f' id="{prefix}-').replace('xlink:href="#', f'href="#{prefix}-')
    tag = tag.replace("url(#", f"url(#{prefix}-")
    for name, color in PALETTE.items():
        tag = tag.replace(color, f"var(--{name}, {color})")
    return tag
