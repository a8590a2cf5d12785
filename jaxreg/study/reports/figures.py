"""Draws the figures of the report from its summary."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxreg.study.arms import ARMS
from jaxreg.study.records import ArmResult, Interval
from jaxreg.study.reports import svg
from jaxreg.study.reports.judgments import BETTER, DIVERGED, HELPS, HURTS, UNCLEAR, WORSE
from jaxreg.study.reports.markup import MINUS
from jaxreg.study.reports.summary import Response, Row, Summary
from jaxreg.study.reports.svg import CARD, INK, LINE, MUTED, TRAIN, VALIDATION, Words
from jaxreg.study.reports.units import Units, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_MARK_COLORS = {
    BETTER: VALIDATION,
    HELPS: VALIDATION,
    WORSE: TRAIN,
    HURTS: TRAIN,
    UNCLEAR: MUTED,
    DIVERGED: MUTED,
}
_ROW_HEIGHT = 27
_LABEL_LENGTH = 24
# The smallest loss that a logarithmic axis shows.
_FLOOR = 1e-5


class _Bar(NamedTuple):
    """A row of a forest plot: an interval with its mark."""

    label: str
    difference: Interval
    mark: str
    text: str
    bold: bool = False


def forest(summary: Summary) -> str:
    """Draws how each arm's test score differs from the baseline's, with its interval."""
    bars = [
        _Bar(row.label, row.difference, row.mark, _spoken(row), row.chosen)
        for row in summary.rows[1:]
    ]
    title = f"{_first_up(summary.units.name)} on test minus the baseline's"
    return _forest("figure-forest", title, bars, summary.units)


def ablation(summary: Summary) -> str:
    """Draws how the combination's test score changes without each of its parts."""
    bars = [
        _Bar(
            part.label,
            part.difference,
            part.mark,
            f"without {part.name} {part.change} {part.interval}, {part.mark}",
        )
        for part in summary.parts
    ]
    name = _first_up(summary.units.name)
    title = f"{name} on test without a part, minus that with all parts"
    return _forest("figure-ablation", title, bars, summary.units)


def _spoken(row: Row) -> str:
    return f"{row.name} {row.texts.difference} {row.texts.interval}, {row.mark}"


def _forest(prefix: str, title: str, bars: Sequence[_Bar], units: Units) -> str:
    unit = ", in percentage points" if units.percent else ""
    words = Words(prefix, f"{title}{unit}", "; ".join(bar.text for bar in bars))

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=MUTED, linewidth=1, zorder=1)
        for y, bar in enumerate(bars):
            mean, *ends = _scale_up(bar.difference, units)
            color = _MARK_COLORS[bar.mark]
            axes.plot(ends, [y, y], color=color, linewidth=2, solid_capstyle="butt")
            face = CARD if bar.mark == UNCLEAR else color
            axes.plot(
                mean, y, "o", markersize=8, color=color, markerfacecolor=face, markeredgewidth=1.8
            )
        axes.margins(x=0.08)
        axes.set_xlabel(_axis_of_changes(units))

    return _rows_figure(draw, bars, words, units)


def _axis_of_changes(units: Units) -> str:
    return f"{'points' if units.percent else f'change of {units.name}'}, with 95% interval"


def gap(summary: Summary) -> str:
    """Draws the training and test score of each arm on one row, joined by a line."""
    rows = summary.rows
    units = summary.units
    words = Words(
        "figure-gap",
        f"{_first_up(units.name_and_unit)} on training and test rows, for every arm",
        "; ".join(f"{row.name} train {row.texts.train}, test {row.texts.test}" for row in rows),
    )
    bars = [_Bar(row.label, row.difference, row.mark, "", row.chosen) for row in rows]

    def draw(axes: Axes) -> None:
        for y, row in enumerate(rows):
            train, test = _scale_up((row.train, row.test.mean), units)
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
        axes.set_xlabel(units.name_and_unit)

    return _rows_figure(draw, bars, words, units)


def loss_curves(summary: Summary) -> list[str]:
    """Draws a figure per arm: training and validation loss, on the same scale for all arms."""
    arms = summary.study.arms
    scale = _loss_scale(arms)
    return [
        _loss_curve(row, arm, f"figure-loss-{index}", scale)
        for index, (row, arm) in enumerate(zip(summary.rows, arms, strict=True))
    ]


def strength_curves(summary: Summary) -> list[str]:
    """Draws a figure per response: the score against strength."""
    level = summary.rows[0].test.mean
    return [
        _strength_curve(response, summary.units, level, f"figure-strength-{index}")
        for index, response in enumerate(summary.responses)
    ]


def _loss_scale(arms: Sequence[ArmResult]) -> tuple[float, float]:
    """Returns limits for the loss axis that include the losses of all arms and seeds."""
    curves = [values for arm in arms for values in (arm.train_loss, arm.validation_loss)]
    values = np.concatenate([np.ravel(values) for values in curves]).astype(np.float64)
    values = np.maximum(values[np.isfinite(values)], _FLOOR)
    if not values.size:
        return 0.1, 1.0
    return float(values.min()) / 1.25, float(values.max()) * 1.25


def _loss_curve(row: Row, arm: ArmResult, prefix: str, scale: tuple[float, float]) -> str:
    train, _, _ = band(arm.train_loss)
    validation, _, _ = band(arm.validation_loss)
    words = Words(
        prefix,
        f"Loss of {row.name} over epochs",
        f"training loss from {loss_text(train[0])} to {loss_text(train[-1])}, validation loss from "
        f"{loss_text(validation[0])} to {loss_text(validation[-1])}, lowest "
        f"{loss_text(row.lowest_loss)}",
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


def _strength_curve(response: Response, units: Units, level: float, prefix: str) -> str:
    tried = zip(response.strengths, response.validation, response.test, strict=True)
    words = Words(
        prefix,
        f"{_first_up(units.name_and_unit)} against the strength of {response.name}",
        "; ".join(
            f"{number(strength)}: validation {units.score(v.mean)}, test {units.score(t.mean)}"
            for strength, v, t in tried
        ),
    )

    def draw(axes: Axes) -> None:
        axes.axhline(*_scale_up([level], units), color=MUTED, linewidth=1.2, linestyle=":")
        if response.chosen is not None:
            axes.axvline(response.chosen, color=LINE, linewidth=7, zorder=0)
        curves = ((response.validation, VALIDATION, "-s"), (response.test, INK, "--o"))
        for intervals, color, style in curves:
            mean, low, high = _scale_up(intervals, units).T
            axes.fill_between(response.strengths, low, high, color=color, alpha=0.13, linewidth=0)
            axes.plot(response.strengths, mean, style, color=color, linewidth=1.8, markersize=4.5)
        _strength_axis(axes, response.name, response.strengths)

    return _panel(draw, words)


def _strength_axis(axes: Axes, name: str, strengths: Sequence[float]) -> None:
    from matplotlib.ticker import NullLocator

    finite = [value for value in strengths if math.isfinite(value)]
    if min(finite, default=0) > 0 and max(finite) / min(finite) > 3:
        axes.set_xscale("log")
    # Only measured strengths are labeled, and at most five of them.
    count = min(len(finite), 5)
    shown = [finite[index] for index in np.linspace(0, len(finite) - 1, count).round().astype(int)]
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(shown, [f"{value:.2g}" for value in shown])
    axes.set_xlabel(ARMS[name].label if name in ARMS else "strength", labelpad=2)


def _scale_up(values: object, units: Units) -> np.ndarray:
    """Returns scores or changes in the units of an axis, NaN in place of infinity."""
    scaled = units.scale * np.asarray(values, np.float64)
    return np.where(np.isfinite(scaled), scaled, np.nan)


def loss_text(value: float) -> str:
    """Formats a loss with three significant digits, or as "none" if it is not finite."""
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
    draw: Callable[[Axes], None], bars: Sequence[_Bar], words: Words, units: Units
) -> str:
    """Draws a figure with one labeled row per bar; the chosen arm's label is bold."""
    labels = [_abbreviate(bar.label) for bar in bars]
    left = 18 + 7 * max((len(label) for label in labels), default=0)
    height = _ROW_HEIGHT * max(1, len(bars)) + 46

    def draw_rows(axes: Axes) -> None:
        axes.set_yticks(range(len(bars)), labels)
        for text, bar in zip(axes.get_yticklabels(), bars, strict=True):
            text.set(color=INK, fontsize=12)
            if bar.bold:
                text.set_fontweight("bold")
        draw(axes)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        _round_ticks(axes.xaxis, 6 if units.percent else 4)
        axes.grid(axis="x", color=LINE, linewidth=0.8)
        axes.spines["left"].set_visible(False)

    return svg.render(draw_rows, words, size=(360, height), margins=(left, 12, 40, 4))


def _panel(draw: Callable[[Axes], None], words: Words) -> str:
    """Draws a small figure with horizontal grid lines, for one arm."""

    def draw_panel(axes: Axes) -> None:
        draw(axes)
        axes.grid(axis="y", color=LINE, linewidth=0.8)

    return svg.render(draw_panel, words, size=(300, 190), margins=(44, 12, 38, 8))


def _round_ticks(axis: Axis, most: int) -> None:
    """Labels an axis with few round numbers, so that they fit in any font."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=most, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", MINUS)))


def _plain_log_ticks(axis: Axis) -> None:
    """Labels a logarithmic axis with decimal numbers such as 0.01, not powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 30 else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _abbreviate(label: str) -> str:
    return label if len(label) <= _LABEL_LENGTH else f"{label[: _LABEL_LENGTH - 1]}…"


def _first_up(text: str) -> str:
    return text[:1].upper() + text[1:]
