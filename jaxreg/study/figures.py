"""Draws the figures of the report as inline SVG with the fonts and colors of the page.

Matplotlib draws a figure; :func:`_inline` turns its file into an ``<svg>`` element that can share
a page with others: no global styles, only referenced identifiers (under a prefix), fonts from the
page, palette colors as CSS variables that a dark page may redefine, and a title and a description
for screen readers.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxreg.study import summary
from jaxreg.study.records import Arm, Study

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
_MARK_COLORS = {summary.HIGHER: VALIDATION, summary.LOWER: TRAIN, summary.UNCLEAR: MUTED}
_STRENGTH_LABELS = {
    "l1": "weight of the L1 step",
    "l2": "weight of the decay",
    "dropout": "rate",
    "label_smoothing": "share of the uniform target",
    "max_norm": "radius (smaller is stronger)",
    "early_stopping": "patience in epochs (smaller is stronger)",
}
_ROW_HEIGHT = 27
_LABEL_LENGTH = 24
# The smallest loss that a logarithmic axis shows.
_FLOOR = 1e-5
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "path.simplify": False,
}


class _Words(NamedTuple):
    """Title and description for screen readers, and the prefix of a figure's SVG identifiers."""

    prefix: str
    title: str
    description: str


def forest(study: Study) -> str:
    """Draws each arm's difference in test accuracy to the baseline, with its interval."""
    arms = study.arms[1:]
    words = _Words(
        "figure-forest",
        "Test accuracy minus the baseline's, in percentage points",
        "; ".join(
            f"{arm.name} {summary.interval_points(arm.difference)}, {summary.mark(arm, study)}"
            for arm in arms
        ),
    )

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=MUTED, linewidth=1, zorder=1)
        for row, arm in enumerate(arms):
            mean, *ends = 100 * np.asarray(arm.difference)
            mark = summary.mark(arm, study)
            color = _MARK_COLORS[mark]
            axes.plot(ends, [row, row], color=color, linewidth=2, solid_capstyle="butt")
            face = CARD if mark == summary.UNCLEAR else color
            axes.plot(
                mean, row, "o", markersize=8, color=color, markerfacecolor=face, markeredgewidth=1.8
            )
        axes.margins(x=0.08)
        axes.set_xlabel("points of test accuracy, with 95% interval")

    return _rows_figure(draw, study, arms, words)


def gap(study: Study) -> str:
    """Draws the training and test accuracy of each arm on one row, joined by a line."""
    table = summary.rows(study)
    words = _Words(
        "figure-gap",
        "Training and test accuracy of every arm, in percent",
        "; ".join(
            f"{row.name} train {summary.percent(row.train)}, test {summary.percent(row.test.mean)}"
            for row in table
        ),
    )

    def draw(axes: Axes) -> None:
        for y, row in enumerate(table):
            test = 100 * row.test.mean
            train = 100 * row.train
            axes.plot(
                [test, train], [y, y], color=LINE, linewidth=5, solid_capstyle="round", zorder=1
            )
            axes.plot(
                train,
                y,
                "s",
                markersize=6.5,
                color=TRAIN,
                markerfacecolor=CARD,
                markeredgewidth=1.8,
            )
            axes.plot(test, y, "o", markersize=8, color=INK)
        axes.margins(x=0.06)
        axes.set_xlabel("accuracy in %, mean over seeds")

    return _rows_figure(draw, study, study.arms, words)


def loss_curves(study: Study) -> list[tuple[Arm, str]]:
    """Draws one figure per arm: training and validation loss, on the same scale for all arms."""
    scale = _loss_scale(study)
    return [(arm, _loss_curve(arm, index, scale)) for index, arm in enumerate(study.arms)]


def strength_curves(study: Study) -> list[tuple[Arm, str]]:
    """Draws one figure per arm with more than one strength: accuracy against strength."""
    return [
        (arm, _strength_curve(arm, study.arms[0], index))
        for index, arm in enumerate(study.arms)
        if len(arm.strengths) > 1
    ]


def _loss_scale(study: Study) -> tuple[float, float]:
    """Returns limits of the loss axis that include the losses of all arms and seeds."""
    bands = [
        band(values)[1:] for arm in study.arms for values in (arm.train_loss, arm.validation_loss)
    ]
    values = np.concatenate([np.ravel(band) for band in bands])
    values = np.maximum(values[np.isfinite(values)], _FLOOR)
    if not values.size:
        return 0.1, 1.0
    return float(values.min()) / 1.25, float(values.max()) * 1.25


def _loss_curve(arm: Arm, index: int, scale: tuple[float, float]) -> str:
    train, _, _ = band(arm.train_loss)
    validation, _, _ = band(arm.validation_loss)
    words = _Words(
        f"figure-loss-{index}",
        f"Loss of {arm.name} over epochs",
        f"training loss from {_loss(train[0])} to {_loss(train[-1])}, validation loss from "
        f"{_loss(validation[0])} to {_loss(validation[-1])}, lowest {lowest(arm)}",
    )

    def draw(axes: Axes) -> None:
        _draw_band(axes, arm.train_loss, TRAIN, (0, (4, 1.6)))
        _draw_band(axes, arm.validation_loss, VALIDATION, "-")
        axes.set_yscale("log")
        axes.set_ylim(*scale)
        axes.set_xlim(1, max(2, len(train)))
        axes.set_xlabel("epoch", labelpad=2)
        _plain_log_ticks(axes.yaxis)

    return _panel(draw, words)


def _draw_band(axes: Axes, values: np.ndarray, color: str, style: object) -> None:
    mean, low, high = np.maximum(band(values), _FLOOR)
    epochs = np.arange(1, len(mean) + 1)
    axes.fill_between(epochs, low, high, color=color, alpha=0.2, linewidth=0)
    axes.plot(epochs, mean, color=color, linewidth=1.8, linestyle=style)


def _strength_curve(arm: Arm, baseline: Arm, index: int) -> str:
    validation = [summary.mean_interval(seeds) for seeds in arm.grid_validation]
    test = [summary.mean_interval(seeds) for seeds in arm.grid_test]
    words = _Words(
        f"figure-strength-{index}",
        f"Accuracy against the strength of {arm.name}, in percent",
        "; ".join(
            f"{summary.number(strength)}: validation {summary.percent(v.mean)}, "
            f"test {summary.percent(t.mean)}"
            for strength, v, t in zip(arm.strengths, validation, test, strict=True)
        ),
    )

    def draw(axes: Axes) -> None:
        axes.axhline(100 * summary.mean(baseline.test), color=MUTED, linewidth=1.2, linestyle=":")
        if arm.strength is not None:
            axes.axvline(arm.strength, color=LINE, linewidth=7, zorder=0)
        for intervals, color, style in ((validation, VALIDATION, "-s"), (test, INK, "--o")):
            mean, low, high = 100 * np.asarray(intervals).T
            axes.fill_between(arm.strengths, low, high, color=color, alpha=0.13, linewidth=0)
            axes.plot(arm.strengths, mean, style, color=color, linewidth=1.8, markersize=4.5)
        _strength_axis(axes, arm)

    return _panel(draw, words)


def _strength_axis(axes: Axes, arm: Arm) -> None:
    from matplotlib.ticker import NullLocator

    finite = [value for value in arm.strengths if math.isfinite(value)]
    if min(finite, default=0) > 0 and max(finite) / min(finite) > 3:
        axes.set_xscale("log")
    # Only measured strengths are labeled, and at most five of them.
    count = min(len(finite), 5)
    shown = [finite[index] for index in np.linspace(0, len(finite) - 1, count).round().astype(int)]
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(shown, [f"{value:.2g}" for value in shown])
    axes.set_xlabel(_STRENGTH_LABELS.get(arm.name, "strength"), labelpad=2)


def lowest(arm: Arm) -> str:
    """Formats an arm's lowest mean validation loss, or "none" if no loss is finite."""
    mean, _, _ = band(arm.validation_loss)
    return _loss(min(mean[np.isfinite(mean)], default=math.nan))


def _loss(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "none"


def band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the mean, the minimum and the maximum over seeds of the losses of each epoch.

    Losses that are not finite are ignored; an epoch without finite losses is NaN.
    """
    values = np.asarray(values, np.float64)
    finite = np.isfinite(values)
    count = finite.sum(axis=1)
    mean = np.where(finite, values, 0).sum(axis=1) / np.maximum(count, 1)
    low = np.where(finite, values, np.inf).min(axis=1)
    high = np.where(finite, values, -np.inf).max(axis=1)
    some = count > 0
    return np.where(some, mean, np.nan), np.where(some, low, np.nan), np.where(some, high, np.nan)


def _rows_figure(
    draw: Callable[[Axes], None], study: Study, arms: tuple[Arm, ...], words: _Words
) -> str:
    """Draws a figure with one labeled row per arm, the chosen arm's label in bold."""
    labels = [_label(arm) for arm in arms]
    left = 18 + 6.1 * max((len(label) for label in labels), default=0)
    height = _ROW_HEIGHT * max(1, len(arms)) + 46

    def draw_rows(axes: Axes) -> None:
        axes.set_yticks(range(len(arms)), labels)
        for text, arm in zip(axes.get_yticklabels(), arms, strict=True):
            text.set(color=INK, fontsize=12)
            if arm.name == study.chosen:
                text.set_fontweight("bold")
        draw(axes)
        axes.set_ylim(len(arms) - 0.4, -0.6)
        axes.grid(axis="x", color=LINE, linewidth=0.8)
        axes.spines["left"].set_visible(False)

    return _render(draw_rows, words, size=(400, height), margins=(left, 12, 40, 4))


def _panel(draw: Callable[[Axes], None], words: _Words) -> str:
    """Draws a small figure with horizontal grid lines, for one arm."""

    def draw_panel(axes: Axes) -> None:
        draw(axes)
        axes.grid(axis="y", color=LINE, linewidth=0.8)

    return _render(draw_panel, words, size=(300, 190), margins=(44, 12, 38, 8))


def _render(
    draw: Callable[[Axes], None],
    words: _Words,
    *,
    size: tuple[float, float],
    margins: tuple[float, float, float, float],
) -> str:
    """Returns a figure as inline SVG; margins are left, right, bottom and top in pixels."""
    # The import takes half a second, and only a report needs it.
    import matplotlib
    from matplotlib.figure import Figure

    (width, height), (left, right, bottom, top) = size, margins
    style: dict[Any, Any] = _STYLE | {"svg.hashsalt": words.prefix}
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


def _plain_log_ticks(axis) -> None:
    """Labels a logarithmic axis with decimal numbers such as 0.01, not powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 30 else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _label(arm: Arm) -> str:
    text = f"{arm.name.replace('_', ' ')} {summary.number(arm.strength)}".strip()
    return text if len(text) <= _LABEL_LENGTH else f"{text[: _LABEL_LENGTH - 1]}…"


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


def _inline(svg: str, words: _Words) -> str:
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
