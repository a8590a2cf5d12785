"""Figures as elements of a page."""

import re

from jaxreg.study.reports import figures
from jaxreg.study.reports.summary import summarize
from tests.study.helpers import Page, make_study

BLUE = "#0072b2"


def test_a_figure_is_an_element_with_words_and_colors_of_the_page():
    svg = figures.forest(summarize(make_study()))
    assert svg.startswith('<svg viewBox="0 0 360 154" role="img" aria-labelledby="figure-forest-')
    assert svg.endswith("</svg>")
    assert "<style" not in svg
    assert "<metadata" not in svg
    assert "font-family" not in svg
    assert f"var(--validation, {BLUE})" in svg
    assert re.search(r"(?<!, )#0072b2", svg) is None
    ids = re.findall(r' id="([^"]*)"', svg)
    assert all(name.startswith("figure-forest-") for name in ids)
    assert len(ids) == len(set(ids))
    for name in re.findall(r'(?:href="#|url\(#)([^")]*)', svg):
        assert name in ids


def test_figures_show_the_digits_of_the_data():
    # The coordinates are shortened, the words are not.
    study = make_study(name='id="x" url(#y) <g> 0.12345678')
    svg, _ = figures.strength_curves(summarize(study))
    assert "0.12345678" in "".join(Page(svg).text)
    assert re.search(r"\d\.\d{3,}", re.sub(r">[^<]*<", "><", svg)) is None
