import ast
import csv
import dataclasses
import io
import itertools
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from jaxreg.study import figures, histories, page, recipe_code, report, summary
from jaxreg.study.data import TASKS
from jaxreg.training.diagnosis import Verdict, diagnose
from tests.studies import EPOCHS, SEEDS, make_study

VOID = {"meta", "br"}


def printed(study, **options):
    console = Console(file=io.StringIO(), **options)
    report.print_table(study, console)
    return console.file.getvalue()


def table_rows(text):
    table, *_ = text.split("\n\n")
    return {line.split()[0]: line for line in table.splitlines()}


class Page(HTMLParser):
    """Checks the nesting of tags while it notes what the tests ask for."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes), tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, *names):
        return [(attributes, inside) for tag, attributes, inside in self.tags if tag in names]


@pytest.fixture(scope="module")
def html():
    return page.html(make_study())


@pytest.fixture(scope="module")
def parsed(html):
    return Page(html)


@pytest.mark.slow
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


def test_every_arm_has_a_loss_curve_and_every_grid_a_strength_curve():
    study = make_study()
    assert [arm.name for arm, _ in figures.loss_curves(study)] == [arm.name for arm in study.arms]
    assert [arm.name for arm, _ in figures.strength_curves(study)] == ["l1", "max_norm"]


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


def test_figures_show_the_digits_of_the_data():
    # The coordinates are shortened, the words are not.
    (_, svg), *_ = figures.strength_curves(make_study(name='id="x" url(#y) <g> 0.12345678'))
    assert "0.12345678" in "".join(Page(svg).text)
    assert re.search(r"\d\.\d{3,}", re.sub(r">[^<]*<", "><", svg)) is None


def test_the_same_study_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        report.write(make_study(), tmp_path / name)
    one = {file.name: file.read_bytes() for file in (tmp_path / "one").iterdir()}
    two = {file.name: file.read_bytes() for file in (tmp_path / "two").iterdir()}
    assert one == two
    assert set(one) == {"results.csv", "history.csv", "report.html", "recipe.py"}


def test_csv_files_give_the_numbers_back(tmp_path):
    study = make_study(name='with "quotes", comma\nand a new line')
    report.write(study, tmp_path)
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as file:
        results = list(csv.DictReader(file))
    for row, arm in zip(results, study.arms, strict=True):
        assert row["arm"] == arm.name
        assert float(row["test"]) == arm.test.mean()
        assert float(row["gap"]) == arm.train.mean() - arm.test.mean()
        ends = (float(row[f"difference{end}"]) for end in ("", "_low", "_high"))
        assert tuple(ends) == arm.difference
        assert float(row["recipe_max_norm"]) == arm.recipe.max_norm
    assert [row["chosen"] for row in results] == ["False"] * 4 + ["True"]
    with (tmp_path / "history.csv").open(newline="", encoding="utf-8") as file:
        history = list(csv.DictReader(file))
    assert len(history) == len(study.arms) * EPOCHS * SEEDS
    for column in ("train_loss", "validation_loss"):
        read = np.array([row[column] for row in history], np.float32)
        stored = np.stack([getattr(arm, column) for arm in study.arms])
        np.testing.assert_array_equal(read.reshape(stored.shape), stored)
    assert [history[SEEDS + 1][key] for key in ("epoch", "seed")] == ["2", "1"]


def test_the_interval_over_seeds_is_students():
    values = np.array([0.8, 0.9, 0.85, 0.95])
    center, low, high = summary.mean_interval(values)
    # 3.182 is the 97.5 % quantile of Student's distribution with three degrees of freedom.
    half = 3.1824463 * values.std(ddof=1) / 2
    np.testing.assert_allclose([center, low, high], [0.875, 0.875 - half, 0.875 + half], rtol=1e-7)
    assert summary.mean_interval(values[:1]) == (0.8, 0.8, 0.8)


def test_the_table_has_a_row_per_arm_and_says_what_is_noise():
    text = printed(make_study())
    rows = table_rows(text)
    assert len(rows) == len(("title", "heads", "line")) + len(make_study().arms)
    assert "+1.00 [+0.40, +1.60]  higher" in rows["l1"]
    assert "+0.10 [-1.00, +1.20]  n.d." in rows["max_norm"]
    assert "-2.00 [-3.00, -1.00]  lower" in rows["batch_norm"]
    words = text.replace("\n", " ")
    assert "not distinguishable (n.d.): the 95% interval" in words
    assert "diagnosis: what the losses by themselves tell" in words
    assert "±: 95% interval of the mean over seeds" in words
    assert "not over new test data, and are not adjusted for the number of arms" in words
    assert "A remark on the way." in text
    assert "winner" not in text
    assert "published" not in text


@pytest.mark.parametrize("width", [40, 100, 300])
def test_without_a_terminal_the_text_does_not_depend_on_the_width(width):
    text = printed(make_study(), width=width)
    assert text == printed(make_study())
    assert "\x1b" not in text
    assert "…" not in text


def with_curves(**curves):
    """A study whose baseline and L1 arm have curves of their own, the same for every seed."""
    study = make_study()
    arms = list(study.arms)
    for index, (train, validation) in enumerate(curves.values()):
        losses = {"train_loss": train, "validation_loss": validation}
        columns = {
            key: np.repeat(np.array(loss, np.float32)[:, None], SEEDS, axis=1)
            for key, loss in losses.items()
        }
        arms[index] = dataclasses.replace(arms[index], **columns)
    return dataclasses.replace(study, arms=tuple(arms))


RISING = [2.3, 1.2, 0.9, 0.8, 0.9, 1.0, 1.1, 1.2]
FALLING = [2.3, 1.0, 0.5, 0.3, 0.2, 0.1, 0.1, 0.1]


def test_every_arm_has_the_diagnosis_of_its_losses_beside_those_of_the_baseline(tmp_path):
    study = with_curves(baseline=(FALLING, RISING), l1=([2.3] * 8, [2.3] * 8))
    found = [row.diagnosis for row in summary.rows(study)[:2]]
    assert found == [Verdict.OVERFITTING, Verdict.TOO_MUCH]
    # Without a baseline a loss that never falls is underfitting; the baseline has none.
    other = with_curves(baseline=([2.3] * 8, [2.3] * 8), l1=(FALLING, RISING))
    found = [row.diagnosis for row in summary.rows(other)[:2]]
    assert found == [Verdict.UNDERFITTING, Verdict.TOO_LITTLE]
    rows = table_rows(printed(study))
    assert "  overfitting " in rows["baseline"]
    assert "  too much " in rows["l1"]
    assert "too much regularization" in "".join(Page(page.html(study)).text)
    # The same as `jaxreg diagnose` says of the files.
    report.write(study, tmp_path)
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as file:
        written = {row["arm"]: row["diagnosis"] for row in csv.DictReader(file)}
    histories_ = histories.read(tmp_path)
    baseline = histories_["baseline"]
    assert written == {
        name: diagnose(history, baseline=None if name == "baseline" else baseline).verdict
        for name, history in histories_.items()
    }


@pytest.mark.parametrize(("width", "column"), [(80, False), (100, True), (140, True)])
def test_a_terminal_of_80_columns_is_enough(width, column):
    text = printed(make_study(), width=width, force_terminal=True, color_system=None)
    assert max(map(len, text.splitlines())) <= width
    assert ("n.d." in table_rows(text)["max_norm"]) == (width < 140)
    assert ("underfitting" in table_rows(text)["baseline"]) == column
    assert ("diagnosis: baseline underfitting; l1 underfitting" in text) != column


def test_the_names_of_the_default_arms_leave_room_in_100_columns():
    names = ("baseline", "label_smoothing", "early_stopping", "max_norm", "combined")
    study = make_study(chosen="combined")
    arms = [
        dataclasses.replace(arm, name=name) for arm, name in zip(study.arms, names, strict=True)
    ]
    text = printed(dataclasses.replace(study, arms=tuple(arms)))
    assert max(map(len, text.splitlines())) <= 100
    assert "underfitting" in table_rows(text)["label_smoothing"]


def test_output_that_is_not_unicode_gets_ascii():
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    report.print_table(make_study(), Console(file=file))
    file.flush()
    assert b"+-: 95% interval" in file.buffer.getvalue()
    assert b"+- " in file.buffer.getvalue()


def circles_as_published(*, strength=0.01, **changes):
    task = TASKS["circles"]
    fields = {"epochs": task.epochs, "sizes": (task.train_size, 1000, 1000)} | changes
    study = make_study("circles", **fields)
    arms = list(study.arms)
    arms[1] = dataclasses.replace(arms[1], strength=strength)
    return dataclasses.replace(study, arms=tuple(arms))


def test_circles_run_as_published_stand_beside_the_published_figures():
    study = circles_as_published()
    text = printed(study)
    rows = table_rows(text)
    assert "published" in rows["arm"]
    assert "97.5" in rows["baseline"]
    assert "97.0" in rows["l1"]
    assert [row.published for row in summary.rows(study)] == [0.975, 0.970, None, None, None]
    assert "97.5" in "".join(Page(page.html(study)).text)
    assert "published figures differ" in text


@pytest.mark.parametrize("changes", [{"epochs": 1}, {"sizes": (200, 1000, 1000)}], ids=str)
def test_circles_run_otherwise_stand_alone(changes):
    study = circles_as_published(**changes)
    assert {row.published for row in summary.rows(study)} == {None}
    assert "published" not in printed(study).lower()
    assert "published" not in "".join(Page(page.html(study)).text).lower()


def test_an_arm_at_another_strength_has_no_published_figure():
    rows = summary.rows(circles_as_published(strength=0.1))
    assert [row.published for row in rows] == [0.975, None, None, None, None]


def test_fewer_than_six_seeds_tell_nothing():
    study = make_study(seeds=5)
    assert [row.mark for row in summary.rows(study)] == [summary.REFERENCE] + [summary.UNCLEAR] * 4
    note = "fewer than 6 seeds cannot tell an arm from the baseline"
    assert note in printed(study)
    assert note in "".join(Page(page.html(study)).text)
    assert "not distinguishable" in summary.verdict(study)
    assert note not in printed(make_study())


def test_the_verdict_admits_what_it_does_not_know():
    assert "not distinguishable" in summary.verdict(make_study(chosen="max_norm"))
    assert "2.00 points below the baseline" in summary.verdict(make_study(chosen="batch_norm"))
    assert "2.00 points above the baseline" in summary.verdict(make_study())
