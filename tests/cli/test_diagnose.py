"""The diagnosis of files of histories, as text and as JSON."""

import dataclasses
import json
import re

import numpy as np
import pytest

from jaxreg.study.reports import csv_files
from jaxreg.study.reports.summary import summarize
from tests.cli.helpers import EPOCHS, TIME, TRAIN, VALIDATION, run_command, write_csv
from tests.study.helpers import SEEDS, make_study, with_arms


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
    assert "unstable" not in run_command(capsys, "diagnose", "run.csv")


def test_the_floor_of_a_loss_counts(folder, capsys):
    write_csv(folder / "run.csv")
    plain = json.loads(run_command(capsys, "diagnose", "run.csv", "--json"))
    found = json.loads(run_command(capsys, "diagnose", "run.csv", "--json", "--floor", "-1"))
    level = found["evidence"]["level"]
    end = plain["evidence"]["train"]
    assert level == pytest.approx((end + 1) / 2)
    assert plain["evidence"]["level"] == pytest.approx(end)


def test_the_command_tells_what_it_read(folder, capsys):
    lines = [f"{i};{a};{b}" for i, (a, b) in enumerate(zip(TRAIN, VALIDATION, strict=True))]
    (folder / "log.csv").write_text("\n".join(["epoch;loss;val_loss", *lines]))
    text = run_command(capsys, "diagnose", "log.csv")
    assert text.endswith(f"\n  read: loss and val_loss, epoch 0 to {EPOCHS - 1}\n")
    named = ("--train", "loss", "--validation", "val_loss", "--epoch", "epoch")
    assert run_command(capsys, "diagnose", "log.csv", *named) == text


def test_rows_that_were_replaced_are_told(folder, capsys):
    """Three runs without a column of their names look like a training that was resumed."""
    lines = [f"{i},{a},{a}" for i, a in enumerate(TRAIN)] * 3
    (folder / "log.csv").write_text("\n".join(["epoch,loss,val_loss", *lines]))
    text = run_command(capsys, "diagnose", "log.csv")
    assert text.endswith(f"; later rows replaced {2 * EPOCHS} earlier ones of the same epochs\n")


def test_standard_input_is_a_file(folder, capsys, monkeypatch):
    write_csv(folder / "run.csv")
    text = run_command(capsys, "diagnose", "run.csv")
    with (folder / "run.csv").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert run_command(capsys, "diagnose", "-") == text


def test_several_files_are_parts_of_a_run_or_runs(folder, capsys):
    for name, curve in (("train", TRAIN), ("val", VALIDATION)):
        rows = "\n".join(f"0,{i},{value}" for i, value in enumerate(curve))
        (folder / f"{name}_loss.csv").write_text(f"Wall time,Step,Value\n{rows}")
    assert run_command(capsys, "diagnose", "train_loss.csv", "val_loss.csv").startswith("overfit")
    write_csv(folder / "a.csv")
    write_csv(folder / "b.csv", validation=TRAIN + 0.01)
    text = run_command(capsys, "diagnose", "a.csv", "b.csv")
    assert re.findall(r"^\S+: .+", text, re.M) == ["a.csv: overfitting", "b.csv: healthy"]
    assert run_command(capsys, "diagnose", "a.csv", "b.csv", "--arm", "a.csv") in text


# Beside a loss that falls this is too much regularization, and by itself it is healthy.
BURDENED = [2.3, 1.4, 0.9, 0.6, 0.5, 0.5]


@pytest.mark.parametrize(
    ("score", "verdict", "change"),
    [
        (0.95, "healthy", "keep it"),
        (0.85, "too much regularization", r"make weaker: l1 \(now 0\.1\) "),
    ],
)
def test_the_scores_of_a_study_count(score, verdict, change, folder, capsys):
    """As in the study's table, whose diagnosis is the same."""
    study = make_study()
    curves = ([2.3, 1.0, 0.5, 0.3, 0.2, 0.1], BURDENED)
    scores = (0.9, score)
    arms = [
        dataclasses.replace(
            arm,
            train_loss=np.float32(curve)[:, None].repeat(SEEDS, 1),
            validation_loss=np.float32(curve)[:, None].repeat(SEEDS, 1),
            validation=np.full(SEEDS, value),
            test=np.full(SEEDS, value),
        )
        for arm, curve, value in zip(study.arms, curves, scores, strict=False)
    ]
    study = with_arms(study, *arms)
    (folder / "history.csv").write_text(csv_files.history(study))
    (folder / "results.csv").write_text(csv_files.results(summarize(study)))
    for path in (".", "history.csv"):
        text = run_command(capsys, "diagnose", path, "--arm", "l1")
        assert text.startswith(f"l1: {verdict}\n")
        assert re.search(f"  try: {change}", text)
    assert [row.diagnosis for row in summarize(study).rows] == ["healthy", verdict]
    # Without the scores, the losses alone are judged.
    (folder / "results.csv").write_text("epoch,loss\n1,2\n")
    text = run_command(capsys, "diagnose", ".", "--arm", "l1")
    assert text.startswith("l1: too much regularization\n")
    assert "half of the dropout rate, if it drops units" in text


def test_of_an_error_the_smaller_score_is_better(folder, capsys):
    lines = [
        f"{arm},{epoch},{loss},{loss}"
        for arm, curve in (("baseline", [2.3, 1.0, 0.5, 0.3, 0.2, 0.1]), ("l1", BURDENED))
        for epoch, loss in enumerate(curve, 1)
    ]
    head = "arm,epoch,train_loss,validation_loss"
    (folder / "history.csv").write_text("\n".join([head, *lines]))
    for error, verdict in ((0.8, "healthy"), (1.1, "too much regularization")):
        rows = [
            "arm,metric,validation,test,recipe",
            "baseline,rmse,1,1,{}",
            f"l1,rmse,{error},1,{{}}",
        ]
        (folder / "results.csv").write_text("\n".join(rows))
        assert run_command(capsys, "diagnose", ".", "--arm", "l1").startswith(f"l1: {verdict}\n")
