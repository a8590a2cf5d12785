"""The diagnosis of files of histories, as text and as JSON."""

import json
import re

import numpy as np
import pytest

from jaxreg.cli import histories
from jaxreg.study.reports import csv_files
from tests.cli.helpers import EPOCHS, TIME, TRAIN, VALIDATION, run_command, write_csv
from tests.study.helpers import make_study


def test_diagnose_reads_csv_and_json_alike(folder, capsys):
    write_csv(folder / "run.csv")
    columns = {"train_loss": TRAIN.tolist(), "validation_loss": VALIDATION.tolist()}
    (folder / "run.json").write_text(json.dumps(columns))
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    (folder / "rows.json").write_text(json.dumps(rows))
    texts = {run_command(capsys, "diagnose", name) for name in ("run.csv", "run.json", "rows.json")}
    assert len(texts) == 1
    text = texts.pop()
    assert text.startswith("overfitting\n  because the validation loss ends 0.")
    assert "try: stop at the best validation loss (jaxreg.training.early_stopping)" in text


def test_diagnose_prints_json_without_nan(folder, capsys):
    write_csv(folder / "run.csv")
    found = json.loads(run_command(capsys, "diagnose", "run.csv", "--json"))
    assert found["verdict"] == "overfitting"
    assert found["evidence"]["epochs"] == EPOCHS
    assert found["evidence"]["train_accuracy"] is None
    assert found["changes"][0]["address"] == "jaxreg.training.early_stopping"


def test_diagnose_tells_of_every_arm_of_a_study(folder, capsys):
    study = make_study()
    (folder / "history.csv").write_text(csv_files.history(study))
    names = [arm.name for arm in study.arms]
    text = run_command(capsys, "diagnose", folder)
    assert re.findall(r"^(\w+): ", text, re.M) == names
    one = run_command(capsys, "diagnose", folder, "--arm", "l1")
    assert one in text
    assert list(json.loads(run_command(capsys, "diagnose", folder, "--json"))) == names


def test_diagnose_compares_with_the_baseline(folder, capsys):
    lines = [
        f"{arm},{epoch},0,{loss},{loss + 0.01}"
        for arm, end in (("baseline", 0.05), ("l2", 0.8))
        for epoch, loss in enumerate(end + (1 - end) * TRAIN, 1)
    ]
    (folder / "history.csv").write_text(
        "\n".join(["arm,epoch,seed,train_loss,validation_loss", *lines])
    )
    assert run_command(capsys, "diagnose", "history.csv", "--arm", "l2").startswith(
        "l2: too much regularization\n"
    )


@pytest.mark.parametrize(
    "text", ["train_loss,validation_loss\n", "", "train_loss,validation_loss\n1,1\n"]
)
def test_short_histories_are_answered(folder, capsys, text):
    (folder / "run.csv").write_text(text)
    assert run_command(capsys, "diagnose", "run.csv").startswith("not enough to say\n")


def test_empty_cells_were_not_measured(folder, capsys):
    lines = [f"{loss},{loss if i % 3 == 0 else ''}" for i, loss in enumerate(np.exp(-TIME * 4))]
    (folder / "run.csv").write_text("\n".join(["train_loss,validation_loss", *lines]))
    assert np.isnan(histories.read("run.csv")[""]["validation_loss"]).sum() == 8
    assert "unstable" not in run_command(capsys, "diagnose", "run.csv")


def test_the_floor_of_a_loss_counts(folder, capsys):
    write_csv(folder / "run.csv")
    plain = json.loads(run_command(capsys, "diagnose", "run.csv", "--json"))
    found = json.loads(run_command(capsys, "diagnose", "run.csv", "--json", "--floor", "-1"))
    level = found["evidence"]["level"]
    end = plain["evidence"]["train"]
    assert level == pytest.approx((end + 1) / 2)
    assert plain["evidence"]["level"] == pytest.approx(end)
