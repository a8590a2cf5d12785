"""The figures of a report: what is drawn where, and the text that they carry."""

import dataclasses

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from jaxreg.study import Interval
from jaxreg.study.arms import ARMS
from jaxreg.study.reports import figures, svg
from jaxreg.study.reports.summary import summarize
from tests.study.helpers import make_study, with_arms, with_metric

BLUE, VERMILION = "#0072b2", "#d55e00"


@pytest.fixture
def drawn(monkeypatch):
    """Axes and words of the figures that are drawn, without writing them."""
    found = []

    def render(draw, words, *, size, margins):
        axes = Figure().add_subplot()
        draw(axes)
        found.append((axes, words, size, margins))
        return "svg"

    monkeypatch.setattr(svg, "render", render)
    return found


def lines(axes):
    """Ends, color and style of every line."""
    return [
        (np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float),
         to_hex(line.get_color()), line.get_linestyle(), line.get_marker())
        for line in axes.lines
    ]  # fmt: skip


def check_forest(axes, intervals, colors, hollow):
    """Compares the intervals and means of a forest plot, and their colors."""
    zero, *rest = lines(axes)
    np.testing.assert_array_equal(zero[0], [0, 0])
    for row, (mean, low, high) in enumerate(intervals):
        interval = rest[2 * row]
        point = rest[2 * row + 1]
        np.testing.assert_allclose(interval[0], [low, high])
        np.testing.assert_array_equal(interval[1], [row, row])
        np.testing.assert_allclose(point[0], mean)
        np.testing.assert_array_equal(point[1], row)
        assert interval[2] == point[2] == colors[row]
        face = to_hex(axes.lines[2 + 2 * row].get_markerfacecolor())
        assert face == (svg.CARD if row == hollow else colors[row])


def test_the_forest_has_an_interval_and_a_mean_for_every_arm(drawn):
    study = make_study()
    assert figures.forest(summarize(study)) == "svg"
    axes, words, size, margins = drawn[0]
    intervals = [100 * np.array(arm.difference) for arm in study.arms[1:]]
    check_forest(axes, intervals, [BLUE, svg.MUTED, VERMILION, BLUE], hollow=1)
    assert words.title == "Accuracy on test minus the baseline's, in percentage points"
    assert words.description.startswith("l1 +1.00 [+0.40, +1.60], better; max_norm +0.10 ")
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == ["l1 0.1", "max norm 2", "batch norm", "combined"]
    weights = [text.get_fontweight() for text in axes.get_yticklabels()]
    assert weights == ["normal"] * 3 + ["bold"]
    assert axes.get_ylim() == (3.6, -0.6)
    assert size == (360, 27 * 4 + 46)
    assert margins == (18 + 7 * 10, 12, 40, 4)
    assert axes.margins()[0] == 0.08
    assert axes.get_xlabel() == "points, with 95% interval"
    ticks = [tick for tick in axes.get_xticks() if -3 <= tick <= 3]
    assert ticks == [-2, 0, 2]
    assert axes.xaxis.get_major_formatter()(-2.0, 0) == "\N{MINUS SIGN}2"


def test_the_ablation_has_an_interval_for_every_part(drawn):
    study = make_study()
    figures.ablation(summarize(study))
    axes, words, *_ = drawn[0]
    intervals = [100 * np.array(part.difference) for part in study.ablation]
    check_forest(axes, intervals, [BLUE, svg.MUTED, VERMILION], hollow=1)
    assert words.description.startswith("without l1 -1.00 [-2.00, -0.10], helps; ")
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == ["l1 0.03", "dropout 0.25", "batch norm"]


def test_errors_are_drawn_in_their_own_unit(drawn):
    study = with_metric(make_study(), "rmse")
    figures.forest(summarize(study))
    axes, words, *_ = drawn[0]
    intervals = [np.array(arm.difference) for arm in study.arms[1:]]
    check_forest(axes, intervals, [VERMILION, svg.MUTED, BLUE, VERMILION], hollow=1)
    assert axes.get_xlabel() == "change of RMSE, with 95% interval"
    assert words.title == "RMSE on test minus the baseline's"


def test_scores_that_are_not_finite_leave_holes(drawn):
    study = make_study()
    lost = dataclasses.replace(study.arms[1], difference=Interval(np.inf, np.nan, np.inf))
    figures.forest(summarize(with_arms(study, study.arms[0], lost)))
    _, interval, point = lines(drawn[0][0])
    assert np.isnan(interval[0]).all()
    assert np.isnan(point[0]).all()


def test_the_gap_goes_from_test_to_train(drawn):
    study = make_study()
    figures.gap(summarize(study))
    axes, words, *_ = drawn[0]
    found = lines(axes)
    for row, arm in enumerate(study.arms):
        test = 100 * arm.test.mean()
        train = 100 * arm.train.mean()
        bar, square, dot = found[3 * row : 3 * row + 3]
        np.testing.assert_allclose(bar[0], [test, train])
        for part, value, marker in ((square, train, "s"), (dot, test, "o")):
            np.testing.assert_allclose(part[0], value)
            np.testing.assert_array_equal(part[1], row)
            assert part[4] == marker
        assert (square[2], dot[2]) == (VERMILION, svg.INK)
        assert f"{arm.name} train {train:.1f}, test {test:.1f}" in words.description
    assert axes.get_ylim() == (4.6, -0.6)
    assert axes.get_yticklabels()[4].get_fontweight() == "bold"


def test_loss_curves_have_one_scale_and_a_band_over_seeds(drawn):
    study = make_study()
    assert len(figures.loss_curves(summarize(study))) == len(study.arms)
    every = np.concatenate([np.stack([a.train_loss, a.validation_loss]) for a in study.arms])
    for arm, (axes, words, *_) in zip(study.arms, drawn, strict=True):
        assert axes.get_yscale() == "log"
        np.testing.assert_allclose(axes.get_ylim(), [every.min() / 1.25, every.max() * 1.25])
        assert axes.get_xlim() == (1, 5)
        train, validation = lines(axes)
        for line, loss, color in (
            (train, arm.train_loss, VERMILION), (validation, arm.validation_loss, BLUE),
        ):  # fmt: skip
            np.testing.assert_array_equal(line[0], [1, 2, 3, 4, 5])
            np.testing.assert_allclose(line[1], loss.mean(axis=1), rtol=1e-6)
            assert line[2] == color
        assert (train[3] != "-", validation[3]) == (True, "-")
        for band, loss in zip(axes.collections, (arm.train_loss, arm.validation_loss), strict=True):
            heights = band.get_paths()[0].vertices[:, 1]
            np.testing.assert_allclose([heights.min(), heights.max()], [loss.min(), loss.max()])
        means = arm.train_loss.mean(axis=1)
        assert f"training loss from {means[0]:.3g} to {means[-1]:.3g}" in words.description
        low = arm.validation_loss.mean(axis=1).min()
        assert words.description.endswith(f"lowest {low:.3g}")
        assert [band.get_alpha() for band in axes.collections] == [0.2, 0.2]
    assert {(size, margins) for *_, size, margins in drawn} == {((300, 190), (44, 12, 38, 8))}
    assert len({words.prefix for _, words, *_ in drawn}) == 5


def test_strength_curves_show_both_scores_and_the_choice(drawn):
    study = make_study()
    summary = summarize(study)
    assert len(figures.strength_curves(summary)) == 2
    arm = study.arms[1]
    axes, words, *_ = drawn[0]
    level, choice, validation, test = lines(axes)
    np.testing.assert_allclose(level[1], 100 * study.arms[0].test.mean())
    np.testing.assert_array_equal(choice[0], 0.1)
    for line, grid, color in (
        (validation, arm.grid_validation, BLUE), (test, arm.grid_test, svg.INK),
    ):  # fmt: skip
        np.testing.assert_array_equal(line[0], arm.strengths)
        np.testing.assert_allclose(line[1], 100 * grid.mean(axis=1))
        assert line[2] == color
    response = summary.responses[0]
    for band, ends in zip(axes.collections, (response.validation, response.test), strict=True):
        heights = band.get_paths()[0].vertices[:, 1]
        np.testing.assert_allclose(heights.min(), 100 * min(end.low for end in ends))
        np.testing.assert_allclose(heights.max(), 100 * max(end.high for end in ends))
    assert [band.get_alpha() for band in axes.collections] == [0.13, 0.13]
    assert axes.lines[1].get_zorder() == 0
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.1", "1"]
    assert axes.get_xlabel() == ARMS["l1"].label
    first = 100 * arm.grid_validation[0].mean()
    assert words.description.startswith(f"0.1: validation {first:.1f}, test ")
    # Infinity has no place on an axis.
    assert drawn[1][0].get_xscale() == "linear"
    assert [text.get_text() for text in drawn[1][0].get_xticklabels()] == ["2"]


@pytest.mark.parametrize(
    ("strengths", "scale", "shown"),
    [
        ((1.0, 2.0, 3.0), "linear", ["1", "2", "3"]),
        ((1.0, 2.0, 3.1), "log", ["1", "2", "3.1"]),
        ((0.0, 1.0, 9.0), "linear", ["0", "1", "9"]),
        ((1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0), "log", ["1", "3", "4", "5", "7"]),
    ],
)
def test_axes_of_strengths(strengths, scale, shown):
    axes = Figure().add_subplot()
    axes.plot(strengths, strengths)
    figures._strength_axis(axes, "other", strengths)
    assert axes.get_xscale() == scale
    assert [text.get_text() for text in axes.get_xticklabels()] == shown
    assert axes.get_xlabel() == "strength"


def test_logarithmic_ticks_are_plain_numbers():
    for ends, ticks in (
        ((0.01, 1.0), {0.01, 0.1, 1.0}),
        ((0.1, 1.0), {0.1, 0.2, 0.5, 1.0}),
        ((1.0, 30.0), {1, 2, 5, 10, 20}),
        ((1.0, 30.5), {1, 10}),
    ):
        axes = Figure().add_subplot()
        axes.set_yscale("log")
        axes.set_ylim(*ends)
        figures._plain_log_ticks(axes.yaxis)
        places = axes.yaxis.get_major_locator()()
        assert {float(f"{p:.3g}") for p in places if ends[0] <= p <= ends[1] * 1.001} == ticks
        assert axes.yaxis.get_major_formatter()(0.01, 0) == "0.01"
        assert axes.yaxis.get_minor_formatter()(0.03, 0) == ""


def test_losses_below_the_axis_are_drawn_at_its_floor(drawn):
    study = make_study()
    loss = np.full_like(study.arms[0].train_loss, 1e-9)
    arm = dataclasses.replace(study.arms[0], train_loss=loss, validation_loss=loss)
    figures.loss_curves(summarize(with_arms(study, arm)))
    axes = drawn[0][0]
    np.testing.assert_allclose(lines(axes)[0][1], 1e-5)
    np.testing.assert_allclose(axes.get_ylim(), [1e-5 / 1.25, 1e-5 * 1.25])
    nothing = dataclasses.replace(arm, train_loss=loss * np.nan, validation_loss=loss * np.nan)
    assert figures._loss_scale([nothing]) == (0.1, 1.0)
    assert figures.loss_text(np.nan) == "none"


def test_a_band_leaves_out_what_is_not_finite():
    values = np.array([[1.0, 2.0, 6.0], [np.nan, 1.0, 5.0], [np.inf, np.nan, np.nan]])
    mean, low, high = figures.band(values)
    np.testing.assert_array_equal(mean, [3, 3, np.nan])
    np.testing.assert_array_equal(low, [1, 1, np.nan])
    np.testing.assert_array_equal(high, [6, 5, np.nan])


def test_long_labels_are_cut():
    assert figures._abbreviate("a" * 25) == "a" * 23 + "…"
    assert figures._abbreviate("a" * 24) == "a" * 24
