"""``jaxreg study`` and ``jaxreg list``: what they train, print and write."""

import csv
import json
import re
from pathlib import Path

import pytest

from jaxreg.cli import study
from jaxreg.cli.main import main
from jaxreg.study.arms import ARM_NAMES, ARMS, DEFAULT_ARMS
from tests.study.helpers import make_study

FILES = {"results.csv", "history.csv", "report.html", "recipe.py", "best"}


def test_an_interrupted_study_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "make_order", interrupt)
    arguments = ["study", "--out", str(tmp_path / "report")]
    assert main(arguments) == 130
    assert capsys.readouterr().err == "jaxreg: interrupted; nothing was written.\n"
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    monkeypatch.setattr(study, "_train", interrupt)
    assert main(arguments) == 130
    assert capsys.readouterr().err == "jaxreg: interrupted; add `--resume` to go on.\n"


def test_list_names_every_arm_and_the_code_behind_it(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert tuple(line.split()[0] for line in lines) == ARM_NAMES
    assert all(re.search(r" (jaxreg|optax)\.", line) for line in lines)
    text = "\n".join(lines)
    for part in ("(image)", "(classification)", "also called weight_decay"):
        assert part in text


@pytest.fixture
def order_study(tmp_path, monkeypatch):
    """Runs a command whose training is made up, and returns what it was asked to train."""
    orders = []
    written = []

    def train(order, journal):
        orders.append(order)
        return make_study(), None

    def command(*arguments):
        assert main(["study", "--out", str(tmp_path / "out" / "report"), *arguments]) == 0
        return orders[-1]

    monkeypatch.setattr(study, "_train", train)
    monkeypatch.setattr(study, "_write", lambda order, summary, weights: written.append(order.out))
    return command, written


def grids(order):
    return [study._grid(name, order) for name in order.names]


def test_the_defaults_are_those_of_the_data_set(order_study, tmp_path, capsys):
    command, written = order_study
    order = command()
    assert (order.data, order.model, order.loaded.kind) == ("digits", "mlp", "image")
    assert order.names == DEFAULT_ARMS[:-1]
    assert (order.combined, order.notes) == (True, ())
    assert (order.seeds, order.epochs, order.batch_size) == (16, 60, 50)
    assert order.loaded.split(0).sizes == (300, 300, 1197)
    assert {len(grid.strengths) for grid in grids(order)} == {0, 5}
    folder = tmp_path / "out" / "report"
    assert order.command == f"jaxreg study --out {folder}"
    assert written == [folder]
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"Wrote {folder}: open report.html, paste recipe.py (")


def test_options_reach_the_training(order_study):
    command, _ = order_study
    order = command(
        "--data", "circles", "--arms", "weight_decay, l1,batch_norm", "--seeds", "3", "--epochs",
        "7", "--train-size", "100", "--strengths", "2", "--metric", "macro_f1",
    )  # fmt: skip
    assert sorted(order.names) == ["baseline", "batch_norm", "l1", "l2"]
    assert sorted(len(grid.strengths) for grid in grids(order)) == [0, 0, 2, 2]
    assert (order.data, order.combined, order.seeds, order.epochs) == ("circles", False, 3, 7)
    assert order.objective.metric.name == "macro_f1"
    assert order.loaded.split(0).sizes == (100, 1000, 1000)
    published = command("--data", "circles", "--arms", "l1,dropout,combined")
    assert [grid.strengths for grid in grids(published)] == [(), (0.01,), (0.5,)]
    assert published.combined
    drawn = command("--arms", "l1", "--search", "random", "--strengths", "3")
    assert len(grids(drawn)[1].strengths) == 3
    assert grids(drawn)[1] != study._grid("l1", published)


def test_default_arms_and_one_more(order_study):
    order = order_study[0]("--data", "circles", "--arms", "default,jitter")
    assert order.names == (*DEFAULT_ARMS[:-1], "jitter")


def test_all_arms_are_those_for_the_rows_and_the_model(order_study):
    order = order_study[0]("--data", "circles", "--arms", "all")
    assert "jitter" in order.names
    assert not {"cutout", "time_warp", "token_dropout", "drop_path"} & set(order.names)
    rows, model = order.notes
    assert rows.startswith("Left out, because the rows are a table for classification: ")
    for text in ("cutout (image)", "time_warp (series)", "token_dropout (text)"):
        assert text in rows
    assert model == "Left out, because the model mlp does not use them: drop_path."


def test_every_number_may_be_at_its_ends(order_study):
    for seeds, epochs, strengths in (("2", "1", "1"), ("1000", "100000", "100")):
        order = order_study[0](
            "--arms", "l1", "--seeds", seeds, "--epochs", epochs, "--strengths", strengths
        )
        assert (order.seeds, order.epochs, order.strengths) == tuple(
            map(int, (seeds, epochs, strengths))
        )
    assert order_study[0]("--train-size", "50").loaded.split(0).sizes[0] == 50


SMALL = "study --data circles --arms l2,l1 --seeds 2 --epochs 1 --train-size 64"


@pytest.fixture(scope="module")
def small_study(tmp_path_factory):
    """A folder with the files of a small study."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([*SMALL.split(), "--out", "a"]) == 0
    return folder / "a"


def test_a_small_study_writes_its_files(small_study):
    assert {path.name for path in small_study.iterdir()} == FILES
    arms = ["baseline", "l2", "l1"]
    with Path(small_study, "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["arm"] for row in rows] == arms
    assert [json.loads(row["recipe"]) for row in rows] == [{}, {"l2": 0.01}, {"l1": 0.01}]
    assert [row["code"] for row in rows] == ["", ARMS["l2"].source, ARMS["l1"].source]
    with Path(small_study, "history.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 3 * 2
    page = Path(small_study, "report.html").read_text(encoding="utf-8")
    for name in ("jax", "flax", "optax", "device"):
        assert f"<dt>{name}</dt>" in page
    assert f"jaxreg {SMALL}" in page


def test_the_best_weights_are_those_of_the_chosen_recipe(small_study):
    import numpy as np

    with np.load(small_study / "best" / "weights.npz") as arrays:
        shapes = {name: array.shape for name, array in arrays.items()}
    assert shapes["params/Dense_0/kernel"] == (2, 50)
    assert shapes["params/Dense_2/bias"] == (2,)
    assert (small_study / "best" / "checkpoint").is_dir()


def test_the_table_and_the_progress_are_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "_write", lambda *_: None)
    assert main([*SMALL.split(), "--out", "a"]) == 0
    printed = capsys.readouterr()
    *lines, last = printed.out.splitlines()
    assert re.fullmatch(r"Wrote a: open report.html, paste recipe.py \(\d+ s\)\.", last)
    assert "published" not in printed.out
    assert [line.split()[0] for line in lines[3:6]] == ["baseline", "l2", "l1"]
    # No terminal, so the progress is plain lines.
    assert printed.err.splitlines()[0].startswith("1/3 no regularization: ")


def test_a_study_goes_on_with_the_runs_that_it_has(tmp_path, monkeypatch, capsys):
    """The second command trains nothing; other data are refused."""
    monkeypatch.chdir(tmp_path)
    write = study._write
    monkeypatch.setattr(study, "_write", lambda *_: None)
    arguments = [*SMALL.split(), "--out", "a"]
    assert main(arguments) == 0
    first = capsys.readouterr().out.splitlines()[:-1]
    assert list(Path("a", study.RUNS).glob("*.npz"))
    monkeypatch.setattr("jaxreg.study.runner.train_runs", None)
    assert main([*arguments, "--resume"]) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == first
    other = [*arguments, "--resume", "--epochs", "2"]
    assert main(other) == 2
    assert "`--resume` must be used with the same data, model and" in capsys.readouterr().err
    monkeypatch.setattr(study, "_write", write)
    assert main([*arguments, "--resume"]) == 0
    assert {path.name for path in Path("a").iterdir()} == FILES
