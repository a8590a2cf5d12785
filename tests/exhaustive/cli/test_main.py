"""Commands in processes of their own."""

import csv
import io
import os
import re
import subprocess
import sys
from pathlib import Path

from jaxreg.study.arms import DEFAULT_ARMS

ROOT = Path(__file__).parents[3]
FILES = {"results.csv", "history.csv", "report.html", "recipe.py", "best"}


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


def test_wrong_input_is_the_same_in_a_process(tmp_path):
    done = call("study", "--arms", "ridge", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert not list(tmp_path.iterdir())


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


def table(done):
    """The lines that a study printed, without the one that names the folder and the time."""
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert re.fullmatch(r"Wrote .*: open report.html, paste recipe.py \(\d+ s\)\.", last)
    return lines


def test_a_small_study_prints_the_same_table_twice_and_writes_its_files(tmp_path):
    arguments = ["study", "--data", "circles", "--arms", "l2,l1", "--seeds", 2, "--epochs", 1]
    first = call(*arguments, "--out", tmp_path / "a", cwd=tmp_path)
    second = call(*arguments, "--out", tmp_path / "b", cwd=tmp_path)
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
