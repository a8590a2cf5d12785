"""The command line: help, the end of each command, and wrong input."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jaxreg import __version__
from jaxreg.cli import main as command_line
from jaxreg.cli.main import main
from tests.cli.helpers import run_command, write_csv
from tests.cli.test_explain import SETUP

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("arguments", [["--help"], ["study", "--help"], ["--version"]])
def test_help_and_version_succeed(arguments, capsys):
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert ("usage: jaxreg" in printed.out) or printed.out == f"jaxreg {__version__}\n"


def test_commands_without_training_load_no_framework(tmp_path):
    (tmp_path / "run.csv").write_text("train_loss,validation_loss\n1,1\n")
    code = (
        "import sys; from jaxreg.cli.main import main; "
        "statuses = [main(line.split()) for line in ("
        "'--help', 'advise --rows 10', 'diagnose run.csv', 'study --seeds 1')];"
        "heavy = {'flax', 'optax', 'sklearn', 'matplotlib', 'rich', 'scipy'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}, ended with {statuses}')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    wrong, told = done.stderr.splitlines()
    assert wrong.startswith("jaxreg: `--seeds` must be at least 2")
    assert told == "loaded set(), ended with [0, 0, 0, 2]"


@pytest.mark.parametrize("writing", [False, True])
def test_what_happens_on_the_way_decides_how_it_ends(writing, monkeypatch, capsys):
    def ends(error):
        def run(argv, ending):
            ending.writing = writing
            if writing:
                ending.remark = ""
            raise error

        monkeypatch.setattr(command_line, "_run", run)
        monkeypatch.setattr(command_line, "_leave_pipe", lambda: None)
        return main([]), capsys.readouterr().err

    assert ends(BrokenPipeError()) == (0, "")
    assert ends(SystemExit(1)) == (0 if writing else 2, "")
    remark = "" if writing else "; nothing was written"
    assert ends(KeyboardInterrupt()) == (130, f"jaxreg: interrupted{remark}.\n")
    for error in (ValueError("two\n  lines"), ImportError("two lines"), OSError("two lines")):
        assert ends(error) == (2, "jaxreg: two lines\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("diagnose", "required: HISTORY; see jaxreg diagnose --help"),
        ("diagnose none.csv", "`HISTORY` must be a file, got none.csv, which does not exist"),
        (
            "diagnose notes.txt",
            "must have train_loss and validation_loss, got notes.txt with here, nothing",
        ),
        ("diagnose .", "`HISTORY` must be a file, or a folder with history.csv, metrics.csv, "),
        ("diagnose words.csv", "`HISTORY` must hold only numbers in train_loss, got in words.csv"),
        ("diagnose other.csv", "must have train_loss and validation_loss, got other.csv with a, b"),
        ("diagnose other.json", "must have train_loss and validation_loss, got other.json with a"),
        ("diagnose broken.json", "`HISTORY` must be JSON, got broken.json"),
        ("diagnose number.json", "`HISTORY` must be a file, an object of lists, .* in number.json"),
        ("diagnose other.csv --train c", "`--train` must be a column of other.csv, .*, got c"),
        ("diagnose binary.csv", "`HISTORY` must be text in UTF-8, got binary.csv"),
        ("diagnose run.csv --arm l1", "`--arm` must be one of a single run without names, got l1"),
        ("diagnose run.csv --floor nan", "`--floor` must be a finite number, got nan"),
        ("explain", "Give either MODULE:NAME or `--recipe`"),
        ("explain a:b --recipe l2=1", "Give either MODULE:NAME or `--recipe`"),
        ("explain advice_errors", "must be FILE.py:FUNCTION or MODULE:FUNCTION, got advice_errors"),
        ("explain nowhere.at.all:make", "cannot import nowhere.at.all for `MODULE:NAME`"),
        ("explain advice_errors:absent", "must name an object of advice_errors, .*, got absent"),
        ("explain advice_errors:constant", "`model` must be a module of Flax, .* got int"),
        ("explain advice_errors:number", "`model` must be a module of Flax, .* got int"),
        ("explain advice_errors:pair", "`params` must hold the variables of Dense, got None"),
        ("explain advice_errors:breaks", "run without arguments, but raised ZeroDivisionError"),
        ("explain advice_errors:of_one", "must run without arguments, but raised TypeError"),
        ("explain advice_errors:wrong", "`optimizer` must be an Optax transformation, got int"),
        ("explain advice_errors:misspelled", "must return a mapping with keys among .*, got optim"),
        (
            "explain --recipe ridge=1",
            "`--recipe` must have names that `jaxreg list` shows, got 'ridge'",
        ),
        ("explain --recipe l2=much", "`--recipe` must have a number for l2, got 'much'"),
        ("explain --recipe l2=-1", "`l2` must be finite and at least 0, got -1.0"),
        ("advise --task poetry", "`--task` must be one of classification, .*, got poetry"),
        ("advise --needs speed", "`--needs` must be one of sparsity, .*, got speed"),
        ("advise --batch-size 0", "`--batch-size` must be at least 1, got 0"),
        ("advise --rows many", "--rows: invalid int value: 'many'; see jaxreg advise --help"),
    ],
)
def test_wrong_input_ends_in_one_line(arguments, message, folder, capsys):
    write_csv(folder / "run.csv")
    (folder / "notes.txt").write_text("nothing here")
    (folder / "words.csv").write_text("train_loss,validation_loss\nlow,lower\n")
    (folder / "other.csv").write_text("a,b\n1,2\n")
    (folder / "other.json").write_text('{"a": [1, 2]}')
    (folder / "broken.json").write_text('{"a": [1, 2')
    (folder / "number.json").write_text("[3]")
    (folder / "binary.csv").write_bytes(b"\xc3\x28")
    (folder / "advice_errors.py").write_text(SETUP)
    sys.modules.pop("advice_errors", None)
    assert main(arguments.split()) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith("jaxreg: ")
    assert streams.err.count("\n") == 1
    assert re.search(message, streams.err)


@pytest.mark.parametrize("command", ["diagnose", "explain", "advise"])
def test_help_of_each_command(command, capsys):
    assert f"usage: jaxreg {command}" in run_command(capsys, command, "--help")
