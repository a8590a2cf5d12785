"""The page of a report: its marks for readers of every kind, and its numbers."""

import ast
import dataclasses
import itertools
import re

import numpy as np
import pytest

from jaxreg.study import figures, page, recipe_code, summary
from tests.study.helpers import SEEDS, Page, circles_as_published, make_study, printed


@pytest.fixture(scope="module")
def parsed(html):
    return Page(html)


@pytest.fixture(scope="module")
def html():
    return page.html(make_study())


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


def test_the_table_is_marked_up_for_readers(parsed):
    assert len(parsed.all("caption")) == 1
    scopes = [attributes["scope"] for attributes, _ in parsed.all("th")]
    assert scopes == ["col"] * 9 + ["row"] * 5
    regions = [a for a, _ in parsed.all("div", "pre") if a.get("role") == "region"]
    assert len(regions) == 3
    assert all(a["tabindex"] == "0" for a in regions)
    assert {"header", "main", "footer"} <= {tag for tag, _, _ in parsed.tags}
    assert parsed.all("html")[0][0]["lang"] == "en"


def test_the_baseline_alone_makes_a_page():
    study = make_study()
    study = dataclasses.replace(study, arms=study.arms[:1], chosen="baseline")
    text = "".join(Page(page.html(study)).text)
    assert "Validation chose" not in text
    assert text.count("The baseline is the only arm") == 2
    assert "The baseline is the only arm" in printed(study)


def test_losses_that_are_not_finite_leave_holes():
    study = make_study()
    loss = study.arms[1].train_loss.copy()
    loss[2:] = np.nan
    loss[1, 0] = np.inf
    mean, low, high = figures.band(loss)
    np.testing.assert_allclose(mean[:2], [loss[0].mean(), loss[1, 1:].mean()], rtol=1e-6)
    np.testing.assert_array_equal(high[:2], [loss[0].max(), loss[1, 1:].max()])
    assert np.isnan(low[2:]).all()
    lost = dataclasses.replace(
        study.arms[1], train_loss=loss, validation_loss=np.full_like(loss, np.nan)
    )
    text = page.html(dataclasses.replace(study, arms=(study.arms[0], lost), chosen="baseline"))
    assert "nan" not in " ".join(re.findall(r' d="[^"]*"', text))
    assert "nan" not in "".join(Page(text).text)
    assert "lowest validation loss none" in text


def test_a_panel_says_how_many_seeds_diverged():
    study = make_study()
    loss = study.arms[1].validation_loss.copy()
    loss[:, 0] = 0.25
    loss[-1, 1:3] = np.inf
    lost = dataclasses.replace(study.arms[1], validation_loss=loss)
    text = page.html(dataclasses.replace(study, arms=(study.arms[0], lost), chosen="baseline"))
    assert text.count("seeds diverged") == 1
    assert f"</strong>, 2 of {SEEDS} seeds diverged<br>lowest validation loss 0.3" in text
    assert "diverged" not in page.html(study)


def test_what_came_from_outside_is_escaped():
    evil = '<script>alert("1")</script> & $x^2$ \N{CJK UNIFIED IDEOGRAPH-6B63} 0.123456'
    study = make_study(data=evil, command=evil, name=evil, chosen=evil, notes=(evil,))
    study = dataclasses.replace(study, environment={"python": evil, "jaxreg": evil})
    parsed = Page(page.html(study))
    assert not parsed.all("script")
    assert evil in "".join(parsed.text)
    assert ast.parse(recipe_code.source(study))
    assert evil in printed(study)


def cells(text):
    """The words of every row of the table."""
    table = text.partition("<tbody>")[2].partition("</tbody>")[0]
    rows = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
    return [
        [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)]
        for row in rows
    ]


def test_the_table_has_the_numbers_of_the_study(html):
    study = make_study()
    for found, arm in zip(cells(html), study.arms, strict=True):
        train = 100 * arm.train.mean()
        validation = 100 * arm.validation.mean()
        test = 100 * arm.test.mean()
        assert found[0].startswith(arm.name.replace("_", " "))
        assert ("chosen" in found[0]) == (arm.name == "combined")
        assert found[2:4] == [f"{train:.1f}", f"{validation:.1f}"]
        half = 100 * (summary.mean_interval(arm.test).high - arm.test.mean())
        assert found[4] == f"{test:.1f} ± {half:.1f}"
        assert found[5] == f"{train - test:.1f}".replace("-", "\N{MINUS SIGN}")
    assert [row[1] for row in cells(html)] == ["", "0.1", "2", "", ""]
    minus = "\N{MINUS SIGN}"
    assert [row[7] for row in cells(html)] == [
        "", "+1.00 [+0.40, +1.60]", f"+0.10 [{minus}1.00, +1.20]",
        f"{minus}2.00 [{minus}3.00, {minus}1.00]", "+2.00 [+1.00, +3.00]",
    ]  # fmt: skip
    assert [row[8] for row in cells(html)] == [
        "reference", "higher", "not distinguishable", "lower", "higher",
    ]  # fmt: skip
    marks = re.findall(r'class="mark (\w+)"', html)
    assert marks == ["unclear", "higher", "unclear", "lower", "higher"]
    assert html.count('<tr class="chosen">') == 1


def test_the_head_names_what_was_chosen_and_how_it_ran(html):
    study = make_study()
    facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", html))
    arm = study.arms[-1]
    test = summary.mean_interval(arm.test)
    assert facts["Chosen on validation"] == "combined"
    spread = f"± {100 * (test.high - test.mean):.1f}"
    assert facts["Test accuracy, %"] == f"{100 * test.mean:.1f} {spread}"
    gap = 100 * (arm.train.mean() - arm.test.mean())
    assert facts["Gap between train and test"] == f"{gap:.1f} points"
    assert facts["Rows: train, validation, test"] == "300, 300, 1,197"
    assert facts["Runs per arm"] == "6 seeds, 5 epochs"
    assert facts["python"] == "3.11"
    words = "".join(Page(html).text)
    for text in ("Regularization study: digits", summary.verdict(study), "A remark on the way.",
                 study.command, "Made by jaxreg 1.0.", "l1 0.1lowest validation loss",
                 "max norm 22 strengths", "a filled mark: higher"):  # fmt: skip
        assert text.lower() in words.lower().replace("\n", ""), text


def test_published_figures_stand_beside_the_arms():
    text = page.html(circles_as_published())
    heads = re.findall(r'<th scope="col">(.*?)</th>', text)
    place = heads.index("Published")
    assert [row[place] for row in cells(text)] == ["97.5", "97.0", "", "", ""]
    assert summary.PUBLISHED_NOTE in "".join(Page(text).text)


def test_one_strength_has_no_curve():
    study = make_study()
    study = dataclasses.replace(study, arms=(study.arms[0], study.arms[3]), chosen="batch_norm")
    assert "Every arm was trained at one strength." in page.html(study)
