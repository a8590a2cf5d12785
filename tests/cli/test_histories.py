"""Histories of losses in files."""

import json

import numpy as np
import pytest

from jaxreg.cli import histories
from jaxreg.study.reports import csv_files
from tests.study.helpers import make_study

HEAD = "epoch,train_loss,validation_loss\n"


def write(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


def test_what_a_study_writes_is_read_back(tmp_path):
    study = make_study()
    (tmp_path / "history.csv").write_text(csv_files.history(study))
    for path in (tmp_path, tmp_path / "history.csv", str(tmp_path)):
        arms = histories.read(path)
        assert list(arms) == [arm.name for arm in study.arms]
        for arm in study.arms:
            assert list(arms[arm.name]) == ["train_loss", "validation_loss"]
            for field in ("train_loss", "validation_loss"):
                found = arms[arm.name][field].astype(np.float32)
                np.testing.assert_array_equal(found, getattr(arm, field))


def test_csv_and_json_hold_the_same(tmp_path):
    train = [3.0, 2.0, 1.5]
    validation = [3.5, 2.5, 2.25]
    rows = [{"train_loss": a, "validation_loss": b} for a, b in zip(train, validation, strict=True)]
    lines = [f"{i},{a},{b}" for i, (a, b) in enumerate(zip(train, validation, strict=True))]
    columns = {"train_loss": train, "validation_loss": validation, "other": [1, 2, 3]}
    for name, text in (
        ("a.csv", HEAD + "\n".join(lines)),
        ("b.json", json.dumps(columns)),
        ("c.json", json.dumps(rows)),
    ):
        found = histories.read(write(tmp_path, name, text))
        assert list(found) == [""]
        assert list(found[""]) == ["train_loss", "validation_loss"]
        np.testing.assert_array_equal(np.ravel(found[""]["train_loss"]), train)
        np.testing.assert_array_equal(np.ravel(found[""]["validation_loss"]), validation)


def test_seeds_become_columns(tmp_path):
    text = "arm,seed,train_loss\na,0,1\na,1,2\na,0,3\na,1,4\nb,0,5\n"
    found = histories.read(write(tmp_path, "a.csv", text))
    np.testing.assert_array_equal(found["a"]["train_loss"], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(found["b"]["train_loss"], [[5]])
    uneven = write(tmp_path, "b.csv", "seed,train_loss\n0,1\n0,2\n1,3\n")
    with pytest.raises(ValueError, match=r"the same epochs for every seed, got .*b\.csv"):
        histories.read(uneven)


def test_empty_cells_were_not_measured(tmp_path):
    path = write(tmp_path, "a.csv", HEAD + "1,1.0,\n2,,0.5\n")
    found = histories.read(path)[""]
    np.testing.assert_array_equal(np.ravel(found["train_loss"]), [1, np.nan])
    np.testing.assert_array_equal(np.ravel(found["validation_loss"]), [np.nan, 0.5])
    path = write(tmp_path, "b.json", '{"train_loss": [1, null, ""]}')
    np.testing.assert_array_equal(histories.read(path)[""]["train_loss"], [1, np.nan, np.nan])


@pytest.mark.parametrize("text", ["", HEAD, "train_loss\n"])
def test_a_file_without_epochs_is_an_empty_history(text, tmp_path):
    assert histories.read(write(tmp_path, "a.csv", text)) == {"": {}}
    assert histories.read(write(tmp_path, "b.json", "[]")) == {"": {}}
    assert histories.read(write(tmp_path, "c.json", "{}")) == {"": {}}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.csv", None, "must be a file, got .*none.csv, which does not exist"),
        ("notes.txt", "loss", "must be a .csv or .json file or a study's folder, got .*notes.txt"),
        ("words.csv", "train_loss\nlow\n", "only numbers in train_loss, got in .*words.csv: "),
        ("other.csv", "b,a\n1,2\n", "must have train_loss and validation_loss, .* with a, b"),
        ("head.csv", "b,a\n", "must have train_loss and validation_loss, .* with a, b"),
        ("other.json", '{"a": [1]}', "must have train_loss and validation_loss, .* with a"),
        ("broken.json", "[1, 2", "`HISTORY` must be JSON, got .*broken.json"),
        ("number.json", "3", "an object of lists or a list of objects, got .* with int"),
        ("numbers.json", "[3]", "an object of lists or a list of objects, got .* with list"),
        ("one.json", '{"train_loss": 3}', "must hold a list under train_loss, got 3 in"),
        ("text.json", '{"train_loss": "low"}', "must hold a list under train_loss, got 'low'"),
    ],
)
def test_what_is_no_history_raises(name, text, message, tmp_path):
    if text is not None:
        write(tmp_path, name, text)
    with pytest.raises(ValueError, match=message):
        histories.read(tmp_path / name)


def test_text_in_another_encoding_raises(tmp_path):
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"must be text in UTF-8, got .*binary\.csv"):
        histories.read(tmp_path / "binary.csv")
