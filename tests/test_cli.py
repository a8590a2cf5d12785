"""The command line: what it prints, and how wrong input ends."""

import csv
import io
import os
import pathlib
import re
import subprocess
import sys

import pytest

from jaxreg import __version__
from jaxreg.study import cli, files
from jaxreg.study.techniques import ARM_NAMES, DEFAULT_ARMS

ROOT = pathlib.Path(__file__).parent.parent
FILES = {"results.csv", "history.csv", "report.html", "recipe.py"}


def call(*arguments, cwd, **environment):
    """Runs the command in a process of its own, where every warning is an error."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "jaxreg", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "required: COMMAND"),
        ("stdy", "invalid choice: 'stdy'"),
        ("study --dat digits", "unrecognized arguments: --dat"),
        ("study --data mnist", "`--data` must be one of digits, .*, got mnist"),
        ("study --arms baseline,ridge", "`--arms` must be all, default or some of .*, got 'ridge'"),
        ("study --arms=", "`--arms` must be all, default or some of .*, got ''"),
        ("study --arms l2,combined", "`--arms` must name at least two techniques"),
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
    assert cli.main(arguments.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("jaxreg: ")
    assert printed.err.endswith("\n")
    assert printed.err.count("\n") == 1
    assert re.search(message, printed.err)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_wrong_input_is_the_same_in_a_process(tmp_path):
    done = call("study", "--arms", "ridge", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert not list(tmp_path.iterdir())


def test_a_read_only_folder_ends_in_one_line(tmp_path, monkeypatch, capsys):
    def refuse(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
    assert cli.main(["study", "--out", str(tmp_path / "report")]) == 2
    assert "is not: Read-only file system" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_folders_that_cannot_take_a_report_raise(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "report.html").mkdir()
    with pytest.raises(ValueError, match="is a link to nothing"):
        files.check_folder(tmp_path / "link")
    with pytest.raises(ValueError, match=r"for report\.html, got"):
        files.check_folder(tmp_path)
    with pytest.raises(ValueError, match="with a name in UTF-8"):
        files.check_folder(tmp_path / os.fsdecode(b"\xff"))


@pytest.mark.slow
def test_a_backend_that_does_not_start_ends_in_one_line(tmp_path):
    done = call("study", "--out", tmp_path / "a", cwd=tmp_path, JAX_PLATFORMS="nowhere")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("jaxreg: JAX finds no device to train on: ")


def test_a_closed_pipe_is_no_error(tmp_path):
    code = f"{sys.executable} -W error -m jaxreg list | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.parametrize("name", ["sklearn", "matplotlib", "rich"])
def test_a_missing_extra_names_the_line_that_installs_it(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(["study", "--out", str(tmp_path / "report")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert (
        f'a study needs {name}, which is not installed; write: pip install "jaxreg[study]"' in error
    )
    assert not list(tmp_path.iterdir())


def test_an_interrupted_study_leaves_nothing(tmp_path, monkeypatch, capsys):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_train", interrupt)
    assert cli.main(["study", "--out", str(tmp_path / "report")]) == 130
    assert capsys.readouterr().err == "jaxreg: interrupted; nothing was written.\n"
    assert not list(tmp_path.iterdir())


def test_list_names_every_arm_and_the_code_behind_it(capsys):
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert tuple(line.split()[0] for line in lines) == ARM_NAMES
    assert all("jaxreg." in line for line in lines[1:])


@pytest.mark.parametrize("arguments", [["--help"], ["study", "--help"], ["--version"]])
def test_help_and_version_succeed(arguments, capsys):
    assert cli.main(arguments) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert ("usage: jaxreg" in printed.out) or printed.out == f"jaxreg {__version__}\n"


def test_help_and_list_load_no_framework():
    code = (
        "import sys; from jaxreg.study import cli; cli.main(['--help']); cli.main(['list']);"
        "heavy = {'flax', 'optax', 'sklearn', 'matplotlib', 'rich', 'scipy'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_files_appear_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "results.csv"
    files.write_whole(path, "first\n")
    files.write_whole(path, "zweite Zeile: ä\n")
    assert path.read_text(encoding="utf-8") == "zweite Zeile: ä\n"

    def fail(_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        files.write_whole(path, "third\n")
    assert path.read_text(encoding="utf-8") == "zweite Zeile: ä\n"
    with pytest.raises(UnicodeEncodeError):
        files.write_all(tmp_path, {"a": "whole", "results.csv": "\ud800"})
    assert [file.name for file in tmp_path.iterdir()] == ["results.csv"]


def table(done):
    """What a study printed, without the line that tells the folder and the time."""
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert re.fullmatch(r"Wrote .*: open report.html, paste recipe.py \(\d+ s\)\.", last)
    return lines


def test_a_small_study_prints_the_same_table_twice_and_writes_its_files(tmp_path):
    arguments = ["study", "--data", "circles", "--arms", "l2,l1", "--seeds", 2, "--epochs", 1]
    first, second = (call(*arguments, "--out", tmp_path / name, cwd=tmp_path) for name in "ab")
    assert table(first) == table(second)
    text = first.stdout
    assert "published" not in text
    assert [text.count(f"\n{name} ") for name in ("baseline", "l1", "l2")] == [1, 1, 1]
    # No terminal, so the progress is plain lines.
    assert first.stderr.splitlines()[0].startswith("1/3 no regularization: ")
    for folder in ("a", "b"):
        assert {path.name for path in (tmp_path / folder).iterdir()} == FILES
    for name in ("results.csv", "history.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.slow
def test_the_default_study(tmp_path):
    assert "Traceback" not in call("study", "--out", tmp_path / "a", cwd=tmp_path).stderr
    results = io.StringIO((tmp_path / "a" / "results.csv").read_text(encoding="utf-8"))
    rows = {row["arm"]: row for row in csv.DictReader(results)}
    assert tuple(rows) == DEFAULT_ARMS
    baseline = rows.pop("baseline")
    assert float(baseline["train"]) == 1.0
    assert float(baseline["test"]) < 0.97
    assert any(float(row["difference_low"]) > 0 for row in rows.values())
    recipe = subprocess.run(
        [sys.executable, tmp_path / "a" / "recipe.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert recipe.returncode == 0
