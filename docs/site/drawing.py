"""Draws the panels of a picture for light and for dark pages."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from docs.site.panels import Heat, Lines, Panel, Photo, Picture, Points, Words
from docs.site.record import Record

WIDTH = 7.0
WIDTH_OF_ONE = 5.0
COLUMNS = 4
DOTS = 120


@dataclass(frozen=True)
class Theme:
    """Colors of a page."""

    name: str
    ink: str
    faint: str
    colors: tuple[str, ...]


LIGHT = Theme(
    "light", "#1a1c1e", "#9aa0a6", ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00")
)
DARK = Theme("dark", "#e3e3e3", "#7b8087", ("#56b4e9", "#f08a3c", "#3fcf9e", "#e59ac6", "#f0e442"))
THEMES = (LIGHT, DARK)


def save(picture: Picture, path: Path) -> None:
    """Writes ``path-light.png``, ``path-dark.png`` and the texts of the picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    titles = dict.fromkeys(panel.title for panel in picture.panels if panel.title)
    Record(tuple(titles), picture.calls, picture.about).write(path)
    for theme in THEMES:
        figure = draw(picture, theme)
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=DOTS, transparent=True)
        image = Image.open(buffer)
        image.quantize(256, method=Image.Quantize.FASTOCTREE).save(
            path.with_name(f"{path.name}-{theme.name}.png"), optimize=True
        )


def draw(picture: Picture, theme: Theme) -> Figure:
    """Draws a picture in the colors of a theme."""
    with mpl.rc_context(_style(theme)):
        number = len(picture.panels)
        columns = min(number, COLUMNS)
        rows = -(-number // columns)
        width = WIDTH_OF_ONE if _is_narrow(picture) else WIDTH
        height = rows * width / columns * max(_shape(panel) for panel in picture.panels)
        figure = Figure(figsize=(width, height + 0.35 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).flat
        for axes in grid:
            axes.set_axis_off()
        for axes, panel in zip(figure.axes, picture.panels, strict=False):
            _draw(axes, panel, theme)
    return figure


def _is_narrow(picture: Picture) -> bool:
    """Returns whether a picture is a single panel that would be tall at full width."""
    (first, *others) = picture.panels
    return not others and not isinstance(first, Heat | Words)


def _style(theme: Theme) -> dict[str, Any]:
    inks = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    return {
        **dict.fromkeys(inks, theme.ink),
        "axes.prop_cycle": mpl.cycler(color=theme.colors),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 10,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "legend.fontsize": 8,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
    }


def _shape(panel: Panel) -> float:
    """Height of a panel relative to its width."""
    if isinstance(panel, Heat | Photo):
        height, width = np.shape(panel.values)[:2]
        return min(max(height / width, 0.3), 1.2)
    if isinstance(panel, Words):
        return 0.11 + 0.07 * len(panel.lines)
    return 0.85 if isinstance(panel, Points) else 0.7


def _draw(axes: Axes, panel: Panel, theme: Theme) -> None:
    axes.set_title(panel.title)
    if isinstance(panel, Heat):
        _draw_heat(axes, panel)
    elif isinstance(panel, Photo):
        _draw_photo(axes, panel, theme)
    elif isinstance(panel, Lines):
        _draw_lines(axes, panel, theme)
    elif isinstance(panel, Points):
        _draw_points(axes, panel, theme)
    else:
        _draw_words(axes, panel, theme)


def _draw_heat(axes: Axes, panel: Heat) -> None:
    axes.set_axis_on()
    axes.imshow(
        panel.values, vmin=panel.low, vmax=panel.high, cmap="viridis", interpolation="nearest"
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(panel.across)
    axes.set_ylabel(panel.down)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_photo(axes: Axes, panel: Photo, theme: Theme) -> None:
    axes.imshow(np.clip(panel.values, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    if panel.mask is not None:
        axes.imshow(
            np.ma.masked_equal(np.asarray(panel.mask), 0), cmap="autumn", vmin=0, vmax=2, alpha=0.55
        )
    if panel.points is not None:
        points = np.asarray(panel.points)
        # Coordinates count from the corner, and Matplotlib counts from the middle of a pixel.
        axes.plot(points[:, 0] - 0.5, points[:, 1] - 0.5, "o", color=theme.colors[1], markersize=5)
    for left, top, right, bottom in np.asarray(() if panel.boxes is None else panel.boxes):
        corner = (left - 0.5, top - 0.5)
        box = Rectangle(corner, right - left, bottom - top, fill=False, lw=2, ec=theme.colors[1])
        axes.add_patch(box)


def _draw_lines(axes: Axes, panel: Lines, theme: Theme) -> None:
    axes.set_axis_on()
    for name, values in panel.curves.items():
        style = "steps-mid" if panel.steps else "default"
        shown = name if not name.startswith("_") else None
        axes.plot(panel.x, np.asarray(values), label=shown, drawstyle=style)
    for name, position in panel.marks.items():
        axes.axvline(position, color=theme.faint, linestyle="--", linewidth=1)
        axes.annotate(
            name, (position, 0.97), xycoords=("data", "axes fraction"), xytext=(3, 0),
            textcoords="offset points", va="top", fontsize=8, color=theme.ink,
        )  # fmt: skip
    axes.set_xlabel(panel.across)
    axes.set_ylabel(panel.up)
    if axes.get_legend_handles_labels()[1]:
        axes.legend()


def _draw_points(axes: Axes, panel: Points, theme: Theme) -> None:
    axes.set_axis_on()
    if panel.surface is not None:
        axes.contour(*panel.surface, levels=10, colors=theme.faint, linewidths=0.7)
    for name, path in panel.paths.items():
        values = np.asarray(path)
        axes.plot(values[:, 0], values[:, 1], ".-", markersize=3, linewidth=1, label=name)
    for name, points in panel.groups.items():
        values = np.asarray(points)
        axes.plot(values[:, 0], values[:, 1], "o", markersize=4, label=name)
    if panel.arrows:
        starts, ends = list(panel.groups.values())[:2]
        for start, end in zip(starts, ends, strict=True):
            axes.annotate(
                "", end, start, arrowprops={"arrowstyle": "->", "color": theme.faint, "lw": 0.8}
            )
        axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel(panel.across)
    axes.set_ylabel(panel.up)
    if panel.paths or panel.groups:
        axes.legend()


def _draw_words(axes: Axes, panel: Words, theme: Theme) -> None:
    longest = max(sum(len(word) + 1 for word, _ in line) for line in panel.lines)
    size = min(9.0, 110 * WIDTH / longest)
    for row, line in enumerate(panel.lines):
        at = 0
        for word, marked in line:
            color = theme.colors[1] if marked else theme.ink
            weight = "bold" if marked else "normal"
            axes.text(
                at / max(longest, 60), 1 - (row + 0.7) / len(panel.lines), word, color=color,
                family="DejaVu Sans Mono", fontsize=size, fontweight=weight,
            )  # fmt: skip
            at += len(word) + 1
