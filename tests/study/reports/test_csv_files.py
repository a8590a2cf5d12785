"""The table and the losses as CSV."""

import csv
import io
import json

import numpy as np

from jaxreg.study import Policy, Recipe
from jaxreg.study.reports import csv_files
from jaxreg.study.reports.summary import summarize
from tests.study.helpers import EPOCHS, SEEDS, make_study, with_metric


def read(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_results_give_the_numbers_back():
    study = make_study(name='with "quotes", comma\nand a new line')
    summary = summarize(study)
    for line, row, arm in zip(
        read(csv_files.results(summary)), summary.rows, study.arms, strict=True
    ):
        assert (line["arm"], line["metric"]) == (arm.name, "accuracy")
        assert float(line["test"]) == arm.test.mean()
        assert float(line["gap"]) == arm.train.mean() - arm.test.mean()
        ends = [float(line[f"difference{end}"]) for end in ("", "_low", "_high")]
        assert tuple(ends) == arm.difference
        assert [float(line[f"test_{end}"]) for end in ("low", "high")] == list(row.test[1:])
        assert float(line["test_macro_f1"]) == arm.others["macro_f1"]
        assert Recipe(json.loads(line["recipe"])) == arm.recipe
        assert (line["verdict"], line["diagnosis"]) == (row.mark, row.diagnosis)
        assert line["chosen"] == str(arm.name == "combined")


def test_further_metrics_have_columns_of_their_own():
    lines = read(csv_files.results(summarize(with_metric(make_study(), "mae"))))
    assert {line["metric"] for line in lines} == {"mae"}
    assert {(line["test_r2"], line["test_rmse"]) for line in lines} == {("0.5", "0.5")}


def test_a_policy_is_an_object_of_lists():
    policy = Policy(("rotate", "cutout"), (0.1, 0.25), (0.5, 1.0))
    found = json.loads(csv_files.recipe_json(Recipe({"policy": policy})))
    assert found == {
        "policy": {
            "names": ["rotate", "cutout"],
            "magnitudes": [0.1, 0.25],
            "probabilities": [0.5, 1.0],
        }
    }


def test_the_history_has_a_line_per_arm_epoch_and_seed():
    study = make_study()
    lines = read(csv_files.history(study))
    assert len(lines) == len(study.arms) * EPOCHS * SEEDS
    for column in ("train_loss", "validation_loss"):
        found = np.array([line[column] for line in lines], np.float32)
        stored = np.stack([getattr(arm, column) for arm in study.arms])
        np.testing.assert_array_equal(found.reshape(stored.shape), stored)
    assert [lines[SEEDS + 1][key] for key in ("epoch", "seed")] == ["2", "1"]
