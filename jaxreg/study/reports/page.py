"""Lays the report out as one HTML page that opens offline and needs no script."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from importlib import resources

from jaxreg.study.records import Study
from jaxreg.study.reports import figures
from jaxreg.study.reports.judgments import BETTER, DIVERGED, HELPS, HURTS, REFERENCE, WORSE
from jaxreg.study.reports.markup import (
    Line,
    code,
    definitions,
    figure,
    key,
    lines,
    plain,
    section,
    table,
)
from jaxreg.study.reports.sentences import ONLY_BASELINE, count
from jaxreg.study.reports.summary import Row, Summary

# Line styles and markers of the figures, for their keys.
_DASHED = '<path d="M2 6H28" stroke-dasharray="6 3" {}/>'
_SOLID = '<path d="M2 6H28" {}/>'
_DOTTED = '<path d="M2 6H28" stroke-dasharray="1.5 3" {}/>'
_CIRCLE = '<circle cx="15" cy="6" r="4.5" {}/>'
_SQUARE = '<rect x="11" y="2" width="8" height="8" {}/>'
_MARK_STYLES = {
    BETTER: "better",
    HELPS: "better",
    WORSE: "worse",
    HURTS: "worse",
    DIVERGED: "worse",
}


def html(summary: Summary, *, program: str = "") -> str:
    """Returns the page; the same summary gives the same text.

    Args:
      summary: The summary of a study.
      program: The chosen recipe as a program; left out if it is empty.
    """
    study = summary.study
    title = f"Regularization study: {escape(study.data)}"
    css = resources.files("jaxreg.study.reports").joinpath("page.css").read_text(encoding="utf-8")
    return lines(
        (
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>",
            f"<style>\n{css}</style>",
            "</head>",
            "<body>",
            '<a class="skip" href="#results">Skip to the results</a>',
            _header(summary, title, program),
            "<main>",
            *_sections(summary, program),
            "</main>",
            f"<footer>Made by {escape(_maker(study))}.</footer>",
            "</body>",
            "</html>",
            "",
        )
    )


def _maker(study: Study) -> str:
    return f"jaxreg {study.environment.get('jaxreg', '')}".strip()


def _sections(summary: Summary, program: str) -> Iterator[str]:
    yield _results(summary)
    yield _differences(summary)
    yield _gaps(summary)
    if summary.parts:
        yield _ablation(summary)
    if summary.others:
        yield _metrics(summary)
    yield _losses(summary)
    yield _strengths(summary)
    yield _protocol(summary)
    yield _reproduction(summary, program)


def _header(summary: Summary, title: str, program: str) -> str:
    link = ' <a href="#recipe">Show it as code</a>.' if program else ""
    return (
        f"<header>\n<h1>{title}</h1>\n"
        f'<p class="verdict">{plain(summary.headline)}</p>\n'
        f"<p>Recipe: {plain(summary.recipe)}.{link}</p>\n"
        f"{definitions('facts', _facts(summary))}\n</header>"
    )


def _facts(summary: Summary) -> Iterator[tuple[str, str]]:
    study = summary.study
    row = summary.best
    points = " points" if summary.units.percent else ""
    yield "Chosen on validation", row.label
    yield f"Test {summary.units.name_and_unit}", f"{row.texts.test} ± {row.texts.spread}"
    yield "Gap between train and test", f"{row.texts.gap}{points}"
    if study.sizes is not None:
        train, validation, test = study.sizes
        yield "Rows: train, validation, test", f"{train:,}, {validation:,}, {test:,}"
    runs = f"{count(study.seeds, 'seed')}, {count(study.epochs, 'epoch')}"
    yield "Runs per arm", runs


def _results(summary: Summary) -> str:
    heads = ["Arm", "Verdict", "Difference to baseline", "Strength", "Train", "Validation"]
    heads += ["Test", "Gap", "Diagnosis"]
    if summary.has_published:
        heads.append("Published")
    points = "in points, " if summary.units.percent else ""
    caption = (
        f"{plain(summary.units.heading)}, mean over {summary.study.seeds} seeds."
        f"{_direction(summary)} ± and [brackets] are 95% intervals. The difference is {points}"
        "paired by seed."
    )
    rows = (_result(row, published=summary.has_published) for row in summary.rows)
    return section(
        "results",
        "Results",
        table("arms", caption, heads, rows, region="Table of all arms"),
        *(f"<p>{plain(remark)}</p>" for remark in summary.remarks),
    )


def _result(row: Row, *, published: bool) -> Line:
    texts = row.texts
    chosen = ' <span class="mark unclear">chosen</span>' if row.chosen else ""
    cells = [
        _mark(row.mark),
        "" if row.mark == REFERENCE else _change(texts.difference, texts.interval),
        plain(texts.strength),
        plain(texts.train),
        plain(texts.validation),
        _change(texts.test, f"± {texts.spread}"),
        plain(texts.gap),
        escape(str(row.diagnosis)),
    ]
    if published:
        cells.append(plain(texts.published))
    return Line(f"{escape(_words(row.name))}{chosen}", cells, "chosen" if row.chosen else "")


def _change(change: str, interval: str) -> str:
    """Returns a change and its interval, between which a line may break."""
    return f'{plain(change)} <span class="whole">{plain(interval)}</span>'


def _metrics(summary: Summary) -> str:
    """Returns the section with the further metrics beside the first one."""
    every = (summary.units, *summary.others)
    heads = ["Arm"]
    for units in every:
        heads.append(f"{units.name_and_unit}, {units.direction}".removesuffix(", "))
    rows = (
        Line(
            escape(_words(row.name)),
            [plain(row.texts.test), *map(plain, row.texts.others)],
            "chosen" if row.chosen else "",
        )
        for row in summary.rows
    )
    body = table("few metrics", "Mean over seeds on the test rows.", heads, rows)
    return section("metrics", "Further metrics", body)


def _differences(summary: Summary) -> str:
    if len(summary.rows) == 1:
        body = f"<p>{ONLY_BASELINE}.</p>"
        return section("differences", "Difference to the baseline", body, style="half")
    caption = (
        f"{_test_score(summary)} against the baseline, paired by seed. A filled mark: better or "
        "worse than the baseline. A hollow mark: not distinguishable from it."
    )
    body = figure(figures.forest(summary), caption)
    return section("differences", "Difference to the baseline", body, style="half")


def _ablation(summary: Summary) -> str:
    caption = (
        f"{_test_score(summary)} of the combination without a part, against all parts, paired by "
        "seed. A part helps if the combination is worse without it. A hollow mark: not "
        "distinguishable."
    )
    heads = ["Part", "Verdict", "Change without it"]
    points = ", in points" if summary.units.percent else ""
    rows = (
        Line(
            plain(part.label),
            [_mark(part.mark), _change(part.change, part.interval)],
        )
        for part in summary.parts
    )
    numbers = table("few parts", f"Change of the test score{points}.", heads, rows)
    chart = figure(figures.ablation(summary), caption)
    body = f'<div class="pair">\n{chart}\n{numbers}\n</div>'
    return section("ablation", "The combination without each part", body)


def _mark(mark: str) -> str:
    return f'<span class="mark {_MARK_STYLES.get(mark, "unclear")}">{mark}</span>'


def _gaps(summary: Summary) -> str:
    caption = "The longer the bar between train (square) and test (dot), the more an arm overfits."
    body = figure(figures.gap(summary), f"{caption}{_direction(summary)}")
    return section("gap", "Gap between train and test", body, style="half")


def _test_score(summary: Summary) -> str:
    direction = f" ({summary.units.direction})" if summary.units.direction else ""
    return f"Test {plain(summary.units.name)}{direction}"


def _direction(summary: Summary) -> str:
    return f" {summary.units.direction.capitalize()}." if summary.units.direction else ""


def _losses(summary: Summary) -> str:
    entries = (
        ("training rows", _DASHED, "train"),
        ("validation rows", _SOLID, "validation"),
    )
    panels = [
        _panel(svg, row.label, f"lowest validation loss {figures.loss_text(row.lowest_loss)}",
               _divergence(row, summary))
        for row, svg in zip(summary.rows, figures.loss_curves(summary), strict=True)
    ]  # fmt: skip
    return section(
        "losses",
        "Loss over epochs",
        "<p>Mean over seeds, with a band from the lowest to the highest seed. All panels have the "
        "same logarithmic scale and show the plain loss, without penalties, noise, and changed "
        "labels.</p>",
        key(entries),
        f'<div class="panels">\n{lines(panels)}\n</div>',
    )


def _strengths(summary: Summary) -> str:
    if not summary.responses:
        body = "<p>Every arm was trained at one strength.</p>"
        return section("strengths", "Response to strength", body)
    panels = [
        _panel(svg, response.label, f"{len(response.strengths)} strengths")
        for response, svg in zip(summary.responses, figures.strength_curves(summary), strict=True)
    ]
    entries = (
        ("validation", _SOLID + _SQUARE, "validation"),
        ("test", _DASHED + _CIRCLE, "ink"),
        ("baseline on test", _DOTTED, "muted"),
    )
    return section(
        "strengths",
        "Response to strength",
        f"<p>{plain(summary.units.heading)}, mean over seeds with its 95% interval."
        f"{_direction(summary)} The gray bar is the strength that validation chose. Each panel has "
        "a scale of its own.</p>",
        key(entries),
        f'<div class="panels">\n{lines(panels)}\n</div>',
    )


def _protocol(summary: Summary) -> str:
    notes = (
        "A seed decides the training and validation rows of a run, its initial weights, its "
        "batches and its random masks. All arms share the rows of a seed, so differences are "
        "paired.",
        *(f"{note[0].upper()}{note[1:]}" for note in summary.explanations),
        f"Intervals describe {summary.study.seeds} seeds on this data set. They say nothing about "
        "other data sets or models.",
    )
    items = lines(f"<li>{plain(note)}</li>" for note in notes)
    return section("protocol", "How to read this", f'<ul class="notes">\n{items}\n</ul>')


def _reproduction(summary: Summary, program: str) -> str:
    study = summary.study
    body = [code("Command", study.command)] if study.command else []
    if study.environment:
        body.append(definitions("environment", study.environment.items()))
    if program:
        recipe = code("Recipe", program, "recipe")
        body.append(
            f"<details>\n<summary>The chosen recipe as code</summary>\n{recipe}\n</details>"
        )
    return section("reproduce", "Reproduce it", *body)


def _panel(svg: str, label: str, detail: str, remark: str = "") -> str:
    return figure(svg, f"<strong>{escape(label)}</strong>{remark}<br>{escape(detail)}")


def _divergence(row: Row, summary: Summary) -> str:
    """Returns a remark that counts the diverged seeds of an arm; empty if there are none."""
    return f", {row.diverged} of {summary.study.seeds} seeds diverged" if row.diverged else ""


def _words(text: str) -> str:
    return text.replace("_", " ")
