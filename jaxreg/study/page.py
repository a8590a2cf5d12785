"""The report as one HTML page that opens offline, needs no script and is readable as text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from importlib import resources

import numpy as np

from jaxreg.study import figures, recipe_code, summary
from jaxreg.study.records import Arm, Study
from jaxreg.study.summary import Row

_NEGATIVE = re.compile(r"(?<!\S)-(?=\d)|(?<=\[)-(?=\d)")
# Line styles and markers of the figures, for their keys.
_DASHED = '<path d="M2 6H28" stroke-dasharray="6 3" {}/>'
_SOLID = '<path d="M2 6H28" {}/>'
_DOTTED = '<path d="M2 6H28" stroke-dasharray="1.5 3" {}/>'
_CIRCLE = '<circle cx="15" cy="6" r="4.5" {}/>'
_SQUARE = '<rect x="11" y="2" width="8" height="8" {}/>'


def html(study: Study) -> str:
    """Returns the HTML of the report; the same study gives the same text."""
    table = summary.rows(study)
    sections = (
        _table(study, table),
        _differences(study),
        _gaps(study),
        _losses(study),
        _strengths(study),
        _protocol(study),
        _reproduction(study),
    )
    title = f"Regularization study: {escape(study.data)}"
    css = resources.files("jaxreg.study").joinpath("page.css").read_text(encoding="utf-8")
    return "\n".join(
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
            _header(study, table, title),
            "<main>",
            *sections,
            "</main>",
            f"<footer>Made by jaxreg {escape(study.environment.get('jaxreg', ''))}.</footer>",
            "</body>",
            "</html>",
            "",
        )
    )


def _header(study: Study, table: list[Row], title: str) -> str:
    row = next(row for row in table if row.chosen)
    train, validation, test = study.sizes
    facts = [
        ("Chosen on validation", _words(row.name)),
        ("Test accuracy, %", f"{summary.percent(row.test.mean)} {_half_width(row)}"),
        ("Gap between train and test", f"{summary.percent(row.gap)} points"),
        ("Rows: train, validation, test", f"{train:,}, {validation:,}, {test:,}"),
        ("Runs per arm", f"{study.seeds} seeds, {study.epochs} epochs"),
    ]
    return (
        f"<header>\n<h1>{title}</h1>\n"
        f'<p class="verdict">{_minus(escape(summary.verdict(study)))}</p>\n'
        f"{_definitions('facts', facts)}\n</header>"
    )


def _table(study: Study, table: list[Row]) -> str:
    published = any(row.published is not None for row in table)
    heads = ["Arm", "Strength", "Train", "Validation", "Test", "Gap", "Diagnosis"]
    heads.append("Difference to baseline")
    if published:
        heads.append("Published")
    heads.append("Verdict")
    caption = (
        f"Accuracy in %, mean over {study.seeds} seeds. ± and [brackets] are 95% intervals. The "
        "difference is in points, paired by seed."
    )
    notes = [summary.PUBLISHED_NOTE] if published else []
    notes += [*summary.combinations(study), *study.notes]
    return _section(
        "results",
        "Results",
        '<div class="scroll" role="region" aria-labelledby="results-title" tabindex="0">\n'
        f"<table>\n<caption>{caption}</caption>\n<thead>\n<tr>"
        + "".join(f'<th scope="col">{head}</th>' for head in heads)
        + "</tr>\n</thead>\n<tbody>\n"
        + "\n".join(_table_row(row, published=published) for row in table)
        + "\n</tbody>\n</table>\n</div>",
        *(f"<p>{escape(_words(note))}</p>" for note in notes),
    )


def _table_row(row: Row, *, published: bool) -> str:
    difference = "" if row.mark == summary.REFERENCE else summary.interval_points(row.difference)
    cells = [
        summary.number(row.strength),
        summary.percent(row.train),
        summary.percent(row.validation),
        f"{summary.percent(row.test.mean)} {_half_width(row)}",
        summary.percent(row.gap),
        str(row.diagnosis),
        difference,
    ]
    if published:
        cells.append("" if row.published is None else summary.percent(row.published))
    style = row.mark if row.mark in (summary.HIGHER, summary.LOWER) else "unclear"
    mark = f'<span class="mark {style}">{row.mark}</span>'
    chosen = ' class="chosen"' if row.chosen else ""
    note = ' <span class="mark">chosen</span>' if row.chosen else ""
    return (
        f'<tr{chosen}><th scope="row">{escape(_words(row.name))}{note}</th>'
        + "".join(f"<td>{_minus(cell)}</td>" for cell in cells)
        + f"<td>{mark}</td></tr>"
    )


def _differences(study: Study) -> str:
    caption = (
        "Test accuracy against the baseline, paired by seed. A filled mark: higher or lower than "
        "the baseline. A hollow mark: not distinguishable from it."
    )
    if len(study.arms) > 1:
        body = _figure(figures.forest(study), caption)
    else:
        body = f"<p>{summary.ONLY_BASELINE}.</p>"
    return _section("differences", "Difference to the baseline", body, style="half")


def _gaps(study: Study) -> str:
    caption = "The longer the bar between train (square) and test (dot), the more an arm overfits."
    return _section(
        "gap", "Gap between train and test", _figure(figures.gap(study), caption), style="half"
    )


def _losses(study: Study) -> str:
    key = (
        ("training loss", _DASHED, "train"),
        ("validation loss", _SOLID, "validation"),
    )
    panels = [
        _panel(svg, arm, f"lowest validation loss {figures.lowest(arm)}", _divergence(arm))
        for arm, svg in figures.loss_curves(study)
    ]
    return _section(
        "losses",
        "Loss over epochs",
        "<p>Mean over seeds, with a band from the lowest to the highest seed, on the same "
        "logarithmic scale for all arms. An arm's training loss is the loss that it minimizes; the "
        "validation loss is the plain cross-entropy for all arms.</p>",
        _key(key),
        f'<div class="panels">\n{_lines(panels)}\n</div>',
    )


def _strengths(study: Study) -> str:
    panels = [
        _panel(svg, arm, f"{len(arm.strengths)} strengths")
        for arm, svg in figures.strength_curves(study)
    ]
    if not panels:
        body: tuple[str, ...] = ("<p>Every arm was trained at one strength.</p>",)
    else:
        key = (
            ("validation", _SOLID + _SQUARE, "validation"),
            ("test", _DASHED + _CIRCLE, "ink"),
            ("baseline on test", _DOTTED, "muted"),
        )
        body = (
            "<p>Accuracy in %, mean over seeds with its 95% interval. The gray bar is the "
            "strength that validation chose.</p>",
            _key(key),
            f'<div class="panels">\n{_lines(panels)}\n</div>',
        )
    return _section("strengths", "Response to strength", *body)


def _protocol(study: Study) -> str:
    unclear = summary.unclear_note(study)
    notes = (
        "A seed decides the training and validation rows of a run, its initial weights, its "
        "batches and its random masks. All arms share the rows of a seed, so differences are "
        "paired.",
        summary.SELECTION_NOTE,
        *(f"{note[0].upper()}{note[1:]}" for note in (unclear, summary.DIAGNOSIS_NOTE)),
        f"Intervals describe {study.seeds} seeds on this data set. They say nothing about other "
        "data sets or models.",
    )
    items = _lines(f"<li>{note}</li>" for note in notes)
    return _section("protocol", "How to read this", f'<ul class="notes">\n{items}\n</ul>')


def _reproduction(study: Study) -> str:
    code = escape(recipe_code.source(study))
    return _section(
        "reproduce",
        "Reproduce it",
        f'<pre tabindex="0" role="region" aria-label="Command"><code>{escape(study.command)}'
        "</code></pre>",
        _definitions("environment", study.environment.items()),
        "<details>\n<summary>The chosen recipe as code</summary>\n"
        f'<pre tabindex="0" role="region" aria-label="Recipe"><code>{code}</code></pre>\n'
        "</details>",
    )


def _section(name: str, title: str, *body: str, style: str = "") -> str:
    kind = f' class="{style}"' if style else ""
    return (
        f'<section id="{name}" aria-labelledby="{name}-title"{kind}>\n'
        f'<h2 id="{name}-title">{title}</h2>\n{_lines(body)}\n</section>'
    )


def _figure(svg: str, caption: str) -> str:
    return f"<figure>\n<figcaption>{caption}</figcaption>\n{svg}\n</figure>"


def _panel(svg: str, arm: Arm, detail: str, remark: str = "") -> str:
    label = f"{_words(arm.name)} {summary.number(arm.strength)}".strip()
    return _figure(svg, f"<strong>{escape(label)}</strong>{remark}<br>{escape(detail)}")


def _key(entries: Iterable[tuple[str, str, str]]) -> str:
    """Returns the HTML legend of a figure from (label, shape, color) entries."""
    items = []
    for label, shape, color in entries:
        paint = f'fill="var(--{color})" stroke="var(--{color})" stroke-width="2"'
        swatch = f'<svg viewBox="0 0 30 12" aria-hidden="true">{shape.replace("{}", paint)}</svg>'
        items.append(f"<li>{swatch}{label}</li>")
    return f'<ul class="key">\n{_lines(items)}\n</ul>'


def _definitions(style: str, entries: Iterable[tuple[str, str]]) -> str:
    pairs = (
        f"<div><dt>{escape(term)}</dt><dd>{escape(value)}</dd></div>" for term, value in entries
    )
    return f'<dl class="{style}">\n{_lines(pairs)}\n</dl>'


def _divergence(arm: Arm) -> str:
    """Returns a remark that counts the diverged seeds of an arm; empty if there are none."""
    finite = np.isfinite(arm.train_loss) & np.isfinite(arm.validation_loss)
    count = int((~finite).any(axis=0).sum())
    return f", {count} of {finite.shape[1]} seeds diverged" if count else ""


def _half_width(row: Row) -> str:
    return f"± {summary.percent(row.test.high - row.test.mean)}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _minus(text: str) -> str:
    """Replaces hyphens before numbers by minus signs."""
    return _NEGATIVE.sub("\N{MINUS SIGN}", text)


def _lines(parts: Iterable[str]) -> str:
    return "\n".join(parts)
