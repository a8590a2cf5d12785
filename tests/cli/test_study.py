"""``jaxreg study`` and ``jaxreg list``: what they print and write, and how wrong input ends."""

import csv
import os
import re
import sys
from pathlib import Path

import pytest

from jaxreg.cli import study
from jaxreg.cli.main import main
from jaxreg.study import files, report
from jaxreg.study.techniques import ARM_NAMES, DEFAULT_ARMS
from tests.study.helpers import make_study

FILES = {"results.csv", "history.csv", "report.html", "recipe.py"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "required: COMMAND"),
        ("stdy", "invalid choice: 'stdy'"),
        ("study --dat digits", "unrecognized arguments: --dat"),
        ("study --data mnist", "`--data` must be one of digits, .*, got mnist"),
        ("study --arms baseline,ridge", "`--arms` must be all, default or some of .*, got 'ridge'"),
        ("study --arms=", "`--arms` must be all, default or some of .*, got ''"),
        ("study --arms l2,combined", "`--arms` must name at least two other techniques"),
        (
            "study --data circles --arms l2,cutout,augmentation",
            "must suit the data, whose rows are a table; leave out augmentation .image., cutout",
        ),
        ("study --seeds 1", "`--seeds` must be at least 2, got 1"),
        ("study --seeds many", "--seeds: invalid int value: 'many'"),
        ("study --epochs 0", "`--epochs` must be at least 1, got 0"),
        ("study --seeds 1001", "`--seeds` must be at most 1000, got 1001"),
        ("study --epochs 100001", "`--epochs` must be at most 100000, got 100001"),
        ("study --strengths 101", "`--strengths` must be at most 100, got 101"),
        ("study --out=", "`--out` must be a folder, got nothing"),
        ("study --seeds many", "see jaxreg study --help"),
        ("study --strengths 0", "`--strengths` must be at least 1, got 0"),
        ("study --train-size 5", "`--train-size` must be at least 50, got 5"),
        ("study --train-size 1700", "`--train-size` must be from 2 to 1697, .*, got 1700"),
        ("study --data circles --train-size 1001", "`--train-size` must be from 2 to 1000"),
        ("study --out taken/report", "`--out` must be a folder, got taken/report, but taken is a"),
        ("study --out taken", "`--out` must be a folder, got taken, but taken is a file"),
    ],
)
def test_wrong_input_ends_in_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    assert main(arguments.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("jaxreg: ")
    assert printed.err.endswith("\n")
    assert printed.err.count("\n") == 1
    assert re.search(message, printed.err)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_read_only_folder_ends_in_one_line(tmp_path, monkeypatch, capsys):
    def refuse(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
    assert main(["study", "--out", str(tmp_path / "report")]) == 2
    assert "is not writable: Read-only file system" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["sklearn", "matplotlib", "rich"])
def test_a_missing_extra_names_the_line_that_installs_it(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, name, None)
    assert main(["study", "--out", str(tmp_path / "report")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert (
        f'a study needs {name}, which is not installed; write: pip install "jaxreg[study]"' in error
    )
    assert not list(tmp_path.iterdir())


def test_an_interrupted_study_leaves_nothing(tmp_path, monkeypatch, capsys):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "_train", interrupt)
    assert main(["study", "--out", str(tmp_path / "report")]) == 130
    assert capsys.readouterr().err == "jaxreg: interrupted; nothing was written.\n"
    assert not list(tmp_path.iterdir())


def test_list_names_every_arm_and_the_code_behind_it(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert tuple(line.split()[0] for line in lines) == ARM_NAMES
    assert all("jaxreg." in line for line in lines[1:])


@pytest.fixture
def order_study(tmp_path, monkeypatch, capsys):
    """Runs a command whose training is made up, and returns what it was asked to train."""
    orders = []
    written = []

    def train(order):
        orders.append(order)
        return make_study()

    def command(*arguments):
        assert main(["study", "--out", str(tmp_path / "out" / "report"), *arguments]) == 0
        return orders[-1]

    monkeypatch.setattr(study, "_train", train)
    monkeypatch.setattr(report, "write", lambda study, folder: written.append(folder))
    return command, written


def test_the_defaults_are_those_of_the_task(order_study, tmp_path, capsys):
    command, written = order_study
    order = command()
    assert order.data == "digits"
    assert [grid.name for grid in order.grids] == list(DEFAULT_ARMS[:-1])
    assert (order.combined, order.left_out) == (True, ())
    assert (order.seeds, order.epochs) == (16, 60)
    assert order.split(0).sizes == (300, 300, 1197)
    assert len(order.grids[1].strengths) == 5
    folder = tmp_path / "out" / "report"
    assert order.command == f"jaxreg study --out {folder}"
    assert written == [folder]
    assert folder.is_dir()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"Wrote {folder}: open report.html, paste recipe.py (")


def test_options_reach_the_training(order_study):
    command, _ = order_study
    order = command(
        "--data", "circles", "--arms", "l2, l1,batch_norm", "--seeds", "3", "--epochs", "7",
        "--train-size", "100", "--strengths", "2",
    )  # fmt: skip
    assert [grid.name for grid in order.grids] == ["baseline", "l1", "l2", "batch_norm"]
    assert [len(grid.strengths) for grid in order.grids] == [0, 2, 2, 0]
    assert (order.data, order.combined, order.seeds, order.epochs) == ("circles", False, 3, 7)
    assert order.split(0).sizes == (100, 1000, 1000)
    assert order.command.endswith("--arms 'l2, l1,batch_norm' --seeds 3 --epochs 7 "
                                  "--train-size 100 --strengths 2")  # fmt: skip
    published = command("--data", "circles", "--arms", "l1,dropout,combined")
    assert [grid.strengths for grid in published.grids] == [(), (0.01,), (0.5,)]
    assert published.combined


def test_all_arms_are_those_for_the_rows(order_study):
    order = order_study[0]("--data", "circles", "--arms", "all")
    names = [grid.name for grid in order.grids]
    assert "jitter" in names
    assert not {"cutout", "time_warp", "token_dropout"} & set(names)
    (note,) = order.left_out
    assert note.startswith("Left out, because the rows are a table: ")
    for text in ("cutout (image)", "time_warp (series)", "token_dropout (text)"):
        assert text in note


def test_every_number_may_be_at_its_ends(order_study):
    for seeds, epochs, strengths in (("2", "1", "1"), ("1000", "100000", "100")):
        order = order_study[0](
            "--arms", "l1", "--seeds", seeds, "--epochs", epochs, "--strengths", strengths
        )
        assert (order.seeds, order.epochs) == (int(seeds), int(epochs))
    assert order_study[0]("--train-size", "50").split(0).sizes[0] == 50


def test_a_small_study_prints_its_table_and_writes_its_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = "study --data circles --arms l2,l1 --seeds 2 --epochs 1 --train-size 64 --out a"
    assert main(command.split()) == 0
    printed = capsys.readouterr()
    *lines, last = printed.out.splitlines()
    assert re.fullmatch(r"Wrote a: open report.html, paste recipe.py \(\d+ s\)\.", last)
    assert "published" not in printed.out
    arms = ["baseline", "l1", "l2"]
    assert [line.split()[0] for line in lines[3:6]] == arms
    # No terminal, so the progress is plain lines.
    assert printed.err.splitlines()[0].startswith("1/3 no regularization: ")
    assert {path.name for path in Path("a").iterdir()} == FILES
    with Path("a", "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["arm"] for row in rows] == arms
    assert [float(row["recipe_l2"]) for row in rows] == [0, 0, 0.01]
    with Path("a", "history.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 3 * 2
    page = Path("a", "report.html").read_text(encoding="utf-8")
    for name in ("jax", "flax", "optax", "device"):
        assert f"<dt>{name}</dt>" in page
    assert f"jaxreg {command}" in page


@pytest.mark.parametrize(
    ("flags", "current", "seeds", "chosen"),
    [("", -1, 2, 2), ("", -1, 1000, 4), ("", 3, 2, None),
     ("--xla_force_host_platform_device_count=2", -1, 2, None)],
)  # fmt: skip
def test_every_core_gets_a_device_unless_somebody_chose(flags, current, seeds, chosen, monkeypatch):
    import jax

    class Config:
        jax_num_cpu_devices = current
        given = None

        def update(self, name, value):
            assert name == "jax_num_cpu_devices"
            self.given = value

    config = Config()
    monkeypatch.setattr(jax, "config", config)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setenv("XLA_FLAGS", flags)
    study._use_all_cores(seeds)
    assert config.given == chosen


def test_a_missing_device_ends_in_one_line(monkeypatch, capsys, tmp_path):
    import jax

    def fail():
        raise RuntimeError("no such platform")

    monkeypatch.setattr(jax, "devices", fail)
    assert main(["study", "--out", str(tmp_path / "a")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("jaxreg: JAX finds no device to train on: no such platform; see ")
