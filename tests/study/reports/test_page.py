"""The page of a report: its marks for readers of every kind, and its numbers."""

import dataclasses
import itertools
import re

import numpy as np
import pytest

from jaxreg.study.reports import page
from jaxreg.study.reports.summary import summarize
from tests.study.helpers import (
    SEEDS,
    Page,
    circles_as_published,
    make_study,
    with_arms,
    with_metric,
)

PROGRAM = "import jax\n\nprint(1 < 2)\n"
MINUS = "\N{MINUS SIGN}"


def make_page(study, program=""):
    return page.html(summarize(study), program=program)


def text_of(study, program=""):
    return "".join(Page(make_page(study, program)).text)


@pytest.fixture(scope="module")
def html():
    return make_page(make_study(), PROGRAM)


@pytest.fixture(scope="module")
def parsed(html):
    return Page(html)


def test_every_reference_finds_its_only_target(parsed):
    ids = [attributes["id"] for _, attributes, _ in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes, _ in parsed.tags:
        named = attributes.get("aria-labelledby", "").split()
        links = [attributes["href"]] if "href" in attributes else []
        clips = re.findall(r"url\(#([^)]*)\)", " ".join(map(str, attributes.values())))
        assert {*named, *clips, *(link.removeprefix("#") for link in links)} <= set(ids), tag


def test_every_picture_has_words(parsed):
    pictures = [(a, inside) for a, inside in parsed.all("svg") if a.get("aria-hidden") != "true"]
    assert len(pictures) == len(parsed.all("figure")) == len(parsed.all("figcaption"))
    assert all(a["role"] == "img" and a["aria-labelledby"] for a, _ in pictures)
    assert all("figure" in inside for _, inside in pictures)
    assert len(parsed.all("desc")) == len(pictures)
    assert not parsed.all("img")


def test_headings_descend_one_level_at_a_time(parsed):
    levels = [int(tag[1]) for tag, _, _ in parsed.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_the_page_is_one_file_without_scripts(html, parsed):
    assert not parsed.all("script", "link", "iframe")
    assert not any(name.startswith("on") for _, attributes, _ in parsed.tags for name in attributes)
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", html)
    # A style sheet inside a figure would restyle the whole page.
    assert len(parsed.all("style")) == 1


def test_tables_and_landmarks_are_marked_up_for_readers(html, parsed):
    assert len(parsed.all("caption")) == len(parsed.all("table")) == 3
    scopes = [attributes["scope"] for attributes, _ in parsed.all("th")]
    assert scopes.count("col") == 9 + 3 + 4
    assert scopes.count("row") == 5 + 3 + 5
    regions = [a for a, _ in parsed.all("div", "pre") if a.get("role") == "region"]
    assert all(a["tabindex"] == "0" for a in regions)
    # A landmark whose name another one has cannot be told from it.
    titles = re.findall(r'<h2 id="[^"]*">(.*?)</h2>', html)
    assert len(titles) == len(parsed.all("section"))
    names = [*titles, *(a["aria-label"] for a in regions)]
    assert len(names) == len(set(names)) == len(titles) + 3
    assert {"header", "main", "footer"} <= {tag for tag, _, _ in parsed.tags}
    assert parsed.all("html")[0][0]["lang"] == "en"


def test_the_baseline_alone_makes_a_page():
    study = make_study()
    text = text_of(with_arms(study, study.arms[0], ablation=()))
    assert "Validation chose" not in text
    assert text.count("The baseline is the only arm") == 2
    assert "without each part" not in text


def test_losses_that_are_not_finite_leave_holes():
    study = make_study()
    loss = study.arms[1].train_loss.copy()
    loss[2:] = np.nan
    lost = dataclasses.replace(
        study.arms[1], train_loss=loss, validation_loss=np.full_like(loss, np.nan)
    )
    text = make_page(with_arms(study, study.arms[0], lost))
    assert "nan" not in " ".join(re.findall(r' d="[^"]*"', text))
    assert "nan" not in "".join(Page(text).text)
    assert "lowest validation loss none" in text


def test_a_panel_says_how_many_seeds_diverged(html):
    study = make_study()
    loss = study.arms[1].validation_loss.copy()
    loss[:, 0] = 0.25
    loss[-1, 1:3] = np.inf
    lost = dataclasses.replace(study.arms[1], validation_loss=loss)
    text = make_page(with_arms(study, study.arms[0], lost))
    assert text.count("seeds diverged") == 1
    assert f"</strong>, 2 of {SEEDS} seeds diverged<br>lowest validation loss 0.3" in text
    assert "diverged" not in html


def test_what_came_from_outside_is_escaped():
    evil = '<script>alert("1")</script> & $x^2$ \N{CJK UNIFIED IDEOGRAPH-6B63} 0.123456'
    study = make_study(data=evil, command=evil, name=evil, chosen=evil, notes=(evil,))
    metric = study.objective.metric._replace(name=evil)
    study = dataclasses.replace(
        study,
        environment={"python": evil, "jaxreg": evil},
        objective=study.objective._replace(metrics=(metric, metric)),
    )
    parsed = Page(make_page(study, evil))
    assert not parsed.all("script")
    assert evil in "".join(parsed.text)


def cells(text, table="arms"):
    """The words of every row of a table."""
    body = text.partition(f'<table class="{table}"')[2].partition("<tbody")[2]
    rows = re.findall(r"<tr.*?</tr>", body.partition("</tbody>")[0], re.DOTALL)
    return [
        [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)]
        for row in rows
    ]


def minus(text):
    return text.replace("-", MINUS)


def test_the_table_has_the_texts_of_the_summary(html):
    for found, row in zip(cells(html), summarize(make_study()).rows, strict=True):
        texts = row.texts
        assert found[0] == row.name.replace("_", " ") + (" chosen" if row.chosen else "")
        assert found[1] == row.mark
        assert found[2] == minus(f"{texts.difference} {texts.interval}").strip()
        assert found[3:6] == [texts.strength, texts.train, texts.validation]
        assert found[6] == f"{texts.test} ± {texts.spread}"
        assert found[7:] == [minus(texts.gap), str(row.diagnosis)]
    marks = re.findall(r'<td[^>]*><span class="mark (\w+)"', html)
    assert marks[:5] == ["unclear", "better", "unclear", "worse", "better"]
    heads = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', html)
    assert heads[:3] == ["Arm", "Verdict", "Difference to baseline"]
    labels = re.findall(r'<td[^>]* data-label="(.*?)"', html)
    assert labels[:8] == heads[1:9]
    assert html.count('<tr role="row" class="chosen">') == 2


def test_the_combination_is_shown_without_each_part(html):
    assert cells(html, "few parts") == [
        ["l1 0.03", "helps", minus("-1.00 [-2.00, -0.10]")],
        ["dropout 0.25", "not distinguishable", minus("+0.10 [-1.00, +1.20]")],
        ["batch norm", "hurts", "+1.00 [+0.20, +2.00]"],
    ]
    assert 'aria-labelledby="figure-ablation-title figure-ablation-desc"' in html


def test_further_metrics_stand_beside_the_first(html):
    for found, row in zip(cells(html, "few metrics"), summarize(make_study()).rows, strict=True):
        assert found == [row.name.replace("_", " "), row.texts.test, *row.texts.others]
    errors = make_page(with_metric(make_study(), "rmse"))
    heads = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', errors)
    assert heads[-3:] == ["RMSE, lower is better", "R2 in %", "MAE, lower is better"]
    assert errors.count("Lower is better.") == 3


def test_the_head_names_what_was_chosen_and_how_it_ran(html):
    summary = summarize(make_study())
    facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", html))
    texts = summary.best.texts
    assert facts["Chosen on validation"] == "combined"
    assert facts["Test accuracy in %"] == f"{texts.test} ± {texts.spread}"
    assert facts["Gap between train and test"] == f"{texts.gap} points"
    assert facts["Rows: train, validation, test"] == "300, 300, 1,197"
    assert facts["Runs per arm"] == "6 seeds, 5 epochs"
    assert facts["python"] == "3.11"
    words = " ".join("".join(Page(html).text).split())
    for text in ("Regularization study: digits", summary.headline, "A remark on the way.",
                 f"Recipe: {summary.recipe}. Show it as code.", "jaxreg study --seeds 4",
                 "Made by jaxreg 1.0.", "l1 0.1lowest validation loss", "max norm 22 strengths",
                 "print(1 < 2)", "Each panel has a scale of its own."):  # fmt: skip
        assert text in words, text
    for note in summary.explanations:
        assert note[1:] in words


def test_a_study_from_python_has_neither_sizes_nor_a_command():
    text = make_page(make_study(sizes=None, command="", environment={}))
    assert "Rows: train" not in text
    assert "<pre" not in text
    assert "as code" not in text
    assert '<dl class="environment">' not in text
    assert "Made by jaxreg.<" in text


def test_published_figures_stand_beside_the_arms():
    text = make_page(circles_as_published())
    heads = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', text)
    place = heads.index("Published")
    assert [row[place] for row in cells(text)] == ["97.5", "97.0", "", "", ""]
    assert "published figures differ" in text
    assert "published" not in text_of(make_study()).lower()


def test_one_strength_has_no_curve():
    study = make_study()
    text = text_of(with_arms(study, study.arms[0], study.arms[3]))
    assert "Every arm was trained at one strength." in text
