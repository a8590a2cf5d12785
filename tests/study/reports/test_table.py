"""The table on a terminal."""

import dataclasses
import io

import pytest
from rich.console import Console

from jaxreg.study.reports import print_table
from jaxreg.study.reports.summary import summarize
from tests.study.helpers import (
    circles_as_published,
    make_study,
    printed,
    table_rows,
    with_arms,
    with_metric,
)


def with_names(*names):
    study = make_study()
    arms = zip(study.arms, names, strict=True)
    return with_arms(study, *(dataclasses.replace(arm, name=name) for arm, name in arms))


LONG = ("baseline", "label_smoothing", "early_stopping", "gradient_clipping", "combined")


def test_the_table_has_the_numbers_of_the_summary():
    text = printed(make_study())
    rows = table_rows(text)
    summary = summarize(make_study())
    assert len(rows) == len(("title", "heads", "line")) + len(summary.rows)
    for row in summary.rows:
        texts = row.texts
        difference = f"{texts.difference} {texts.interval}".split()
        want = [row.name, texts.strength, texts.train, texts.validation, texts.test, "±",
                texts.spread, texts.gap, *texts.diagnosis.split(), *difference]  # fmt: skip
        mark = {"reference": [], "not distinguishable": ["n.d."]}.get(row.mark, [row.mark])
        assert rows[row.name].split() == [word for word in want if word] + mark
    title, heads, *_ = text.splitlines()
    assert title == summary.title
    assert heads.split() == [
        "arm", "strength", "train", "valid", "test", "gap", "diagnosis", "difference", "verdict",
    ]  # fmt: skip


def test_the_lines_below_are_those_of_the_summary():
    summary = summarize(make_study())
    words = " ".join(printed(make_study()).split())
    for text in (*summary.remarks, "±: 95% interval of the mean over seeds."):
        assert text in words
    for text in summary.explanations:
        assert text.replace("distinguishable:", "distinguishable (n.d.):") in words
    assert words.endswith(f"{summary.headline} Recipe: {summary.recipe}.")
    assert "on test:" not in words
    lines = printed(make_study()).splitlines()
    start = lines.index("ablation, in points of accuracy on test, with 95% interval:")
    assert lines[start + 1 : start + 4] == [
        "  without l1          -1.00 [-2.00, -0.10]  helps",
        "  without dropout     +0.10 [-1.00, +1.20]  not distinguishable",
        "  without batch_norm  +1.00 [+0.20, +2.00]  hurts",
    ]
    assert "ablation" not in printed(make_study(ablation=()))


def test_errors_are_printed_with_their_further_metrics():
    text = printed(with_metric(make_study(), "rmse"))
    words = " ".join(text.split())
    assert "R2 in %, MAE on test: baseline 50.0, 0.500; l1 50.0, 0.500;" in words
    assert "ablation, in RMSE on test, with 95% interval:" in words
    assert table_rows(text)["batch_norm"].split()[-1] == "better"


@pytest.mark.parametrize("width", [40, 100, 300])
def test_without_a_terminal_the_text_does_not_depend_on_the_width(width):
    text = printed(make_study(), width=width)
    assert text == printed(make_study())
    assert "\x1b" not in text
    assert "…" not in text


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (40, "gap, train, valid, difference, strength"),
        (70, "gap, train, valid"),
        (80, "gap"),
        (100, ""),
        (140, ""),
    ],
)
def test_a_narrow_terminal_gets_fewer_columns(width, left_out):
    text = printed(with_names(*LONG), width=width, force_terminal=True, color_system=None)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    rows = table_rows(text)
    assert ("n.d." in rows["early_stopping"]) == (width < 140)
    assert ("underfitting" in rows["baseline"]) == (width >= 100)
    words = " ".join(text.split())
    assert ("diagnosis: baseline underfitting; label_smoothing underf" in words) == (width < 100)
    note = f"Not enough room for {left_out}; a wider terminal shows them."
    assert (note in words) == bool(left_out)


def test_a_dumb_terminal_shows_every_number(monkeypatch):
    # Rich takes every console for 80 columns wide, even one that only measures.
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = printed(with_names(*LONG), force_terminal=True)
    assert "…" not in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "+1.00 [+0.40, +1.60] better" in table_rows(text)["label_smoothing"]


def test_the_names_of_the_default_arms_leave_room_in_100_columns():
    names = ("baseline", "label_smoothing", "early_stopping", "max_norm", "combined")
    text = printed(with_names(*names))
    assert max(map(len, text.splitlines())) <= 100
    assert "underfitting" in table_rows(text)["label_smoothing"]


def test_output_that_is_not_unicode_gets_ascii():
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print_table(summarize(make_study()), Console(file=file))
    file.flush()
    assert b"+-: 95% interval" in file.buffer.getvalue()
    assert b"+- " in file.buffer.getvalue()


def test_words_in_brackets_are_no_styles():
    text = printed(make_study(name="[red]l1", data="[red]mine", notes=("[red]note",)))
    for name in ("[red]l1", "[red]mine", "[red]note"):
        assert name in text


def test_published_scores_have_a_column():
    rows = table_rows(printed(circles_as_published()))
    assert "published" in rows["arm"]
    assert "97.5" in rows["baseline"]
    assert "published" not in printed(make_study())
