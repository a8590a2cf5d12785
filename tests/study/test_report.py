"""Output and files of a study."""

import csv
import dataclasses
import io

import numpy as np
import pytest
from rich.console import Console

from jaxreg.cli import histories
from jaxreg.diagnosis import Verdict, diagnose
from jaxreg.study import page, report, summary
from tests.study.helpers import (
    EPOCHS,
    SEEDS,
    Page,
    circles_as_published,
    make_study,
    printed,
    table_rows,
    with_curves,
)

RISING = [2.3, 1.2, 0.9, 0.8, 0.9, 1.0, 1.1, 1.2]
FALLING = [2.3, 1.0, 0.5, 0.3, 0.2, 0.1, 0.1, 0.1]


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
        ends = [float(row[f"difference{end}"]) for end in ("", "_low", "_high")]
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


def test_the_table_has_a_row_per_arm_and_says_what_is_noise():
    text = printed(make_study())
    rows = table_rows(text)
    assert len(rows) == len(("title", "heads", "line")) + len(make_study().arms)
    assert "+1.00 [+0.40, +1.60]  higher" in rows["l1"]
    assert "+0.10 [-1.00, +1.20]  n.d." in rows["max_norm"]
    assert "-2.00 [-3.00, -1.00]  lower" in rows["batch_norm"]
    words = text.replace("\n", " ")
    assert "not distinguishable (n.d.): the 95% interval" in words
    assert "diagnosis: too little or too much regularization, overfitting or" in words
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


def test_the_table_has_the_numbers_of_the_study():
    study = make_study()
    rows = table_rows(printed(study))
    for arm in study.arms:
        words = rows[arm.name].split()
        train = 100 * arm.train.mean()
        test = 100 * arm.test.mean()
        half = 100 * (summary.mean_interval(arm.test).high - arm.test.mean())
        strength = [] if arm.strength is None else [f"{arm.strength:.3g}"]
        want = [arm.name, *strength, f"{train:.1f}", f"{100 * arm.validation.mean():.1f}"]
        want += [f"{test:.1f}", "±", f"{half:.1f}", f"{train - test:.1f}"]
        assert words[: len(want)] == want
    title, heads, *_ = printed(study).splitlines()
    assert title.strip() == ("digits: accuracy in %, mean of 6 seeds, 5 epochs, rows 300/300/1197")
    names = ["arm", "strength", "train", "valid", "test", "gap", "diagnosis", "difference"]
    assert heads.split() == names
    lines = printed(study).strip().splitlines()
    assert " ".join(lines).endswith(summary.verdict(study))
    assert "combined = l1 0.03" in printed(study)
    one = dataclasses.replace(study, arms=study.arms[:1], chosen="baseline")
    assert "not distinguishable" not in printed(one)
