"""Wrong input of ``jaxreg study``: one line, status 2, and nothing written."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxreg.cli import orders
from jaxreg.cli.main import main
from jaxreg.study.reports import files
from tests.helpers import few

MODELS = """
import numpy as np
from flax import linen as nn

def data():
    return np.ones((3, 2))

def fails():
    raise RuntimeError("no rows\\ntoday")

def three(a, b, c):
    pass

def number(recipe):
    return 3

class Net(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(1)(x.reshape(len(x), -1))

def narrow(recipe):
    return Net()

def broken(recipe):
    return nn.Dense(3)

value = 3
"""


def write_files():
    """Files of the kinds that people have, right and wrong, in the current folder."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 3)).round(3)
    y = (x[:, 0] > 0).astype(int)
    write("good.csv", "a,b,c,y", [[*row, label] for row, label in zip(x, y, strict=True)])
    write("one.csv", "a,b,c,y", [[*row, 1] for row in x])
    write("few.csv", "a,y", [[1, 0], [2, 1], [3, 0]])
    write("twice.csv", "a,a,y", [[*row[:2], label] for row, label in zip(x, y, strict=True)])
    write("ids.csv", "id,y", [[f"u{i}", label] for i, label in enumerate(y)])
    Path("empty.csv").touch()
    Path("head.csv").write_text("a,b,y\n")
    Path("notes.txt").write_text("x")
    Path("broken.npz").write_bytes(b"nope")
    Path("taken").touch()
    Path("folder").mkdir()
    Path("own.py").write_text(MODELS)
    Path("syntax.py").write_text("def (:\n")
    np.savez("arrays.npz", x=x, y=y)
    np.savez("no_y.npz", x=x)
    np.savez("uneven.npz", x=x, y=y[:50])
    np.savez("nan_y.npz", x=x, y=y + np.nan)


def write(name, head, rows):
    lines = [head, *(",".join(map(str, row)) for row in rows)]
    Path(name).write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("inputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        write_files()
    return made


@pytest.fixture(autouse=True)
def in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    yield
    for name in ("own", "syntax"):
        sys.modules.pop(name, None)


def assert_refused(arguments, message, folder, capsys):
    before = sorted(path.name for path in folder.iterdir())
    out = [] if "--out" in arguments else ["--out", "report"]
    assert main(["study", *arguments.split(), *out]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(r"jaxreg: [^\n]*\n", printed.err), printed.err
    assert re.search(message, printed.err), printed.err
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == [
        name for name in before if name != "__pycache__"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--dat digits", "unrecognized arguments: --dat"),
        ("--arms baseline,ridge", "`--arms` must be all, default, or arms .*, got 'ridge'"),
        ("--arms default,nonsense", "`--arms` must be .*, got 'nonsense'; `jaxreg list` prints"),
        ("--arms drop_out", "got 'drop_out'; did you mean dropout"),
        ("--arms=", "`--arms` must be all, default, or arms of `jaxreg list`, got ''"),
        ("--arms l2,combined", "`--arms` must name at least two techniques .*, got l2,combined"),
        ("--seeds 1", "`--seeds` must be at least 2, got 1"),
        ("--seeds many", "--seeds: invalid int value: 'many'; see jaxreg study --help"),
        ("--seeds 1001", "`--seeds` must be at most 1000, got 1001"),
        ("--epochs 0", "`--epochs` must be at least 1, got 0"),
        ("--epochs 100001", "`--epochs` must be at most 100000, got 100001"),
        ("--strengths 0", "`--strengths` must be at least 1, got 0"),
        ("--strengths 101", "`--strengths` must be at most 100, got 101"),
        ("--train-size 1", "`--train-size` must be at least 2, got 1"),
        ("--folds 0", "`--folds` must be at least 1, got 0"),
        ("--folds 3 --seeds 2", "`--seeds` must be at least `--folds`, .* 2 seeds and 3 folds"),
        ("--folds 101 --seeds 200", "`--folds` must be at most 100, got 101"),
        ("--search best", "argument --search: invalid choice: 'best'"),
        ("--task poetry", "argument --task: invalid choice: 'poetry'"),
        ("--coordinator localhost:1", "`--num-processes` and `--process-id` must be given toget"),
        ("--process-id 0 --num-processes 2", "`--coordinator`, .* must be given together"),
        (
            "--resume --coordinator localhost:1 --process-id 0 --num-processes 2",
            "`--resume` must be used in one process, got `--coordinator` as well",
        ),
        ("--out=", "`--out` must be a folder, got nothing"),
        ("--out taken/report", "`--out` must be a folder, got taken/report, but taken is a"),
        ("--out taken", "`--out` must be a folder, got taken, but taken is a file"),
        ("--data mnist", "`--data` must be digits, .*, got mnist"),
        ("--data absent.csv", "`--data` must be .*, got absent.csv, which does not exist"),
        ("--data notes.txt", "`--data` must be .*, got notes.txt, whose format is unknown"),
        ("--data empty.csv", "`--data` must contain a line of names and lines .*, got empty.csv"),
        ("--data head.csv", "`--data` must contain a line of names and lines .*, got head.csv"),
        ("--data broken.npz", "`--data` must be arrays saved by np.savez, got broken.npz"),
        ("--data no_y.npz", "`--data` must contain arrays named x and y .*, got x"),
        ("--data uneven.npz", "`--data` must have as many rows in x as in y, got 120 and 50"),
        ("--data nan_y.npz", "`--target` must contain labels, but all of its cells are empty"),
        ("--data folder", "`--data` must be a folder with a folder of images per class"),
        ("--data good.csv --target z", "`--target` must name a column .* a, b, c, y, got z"),
        ("--data good.csv --groups z", "`--groups` must name a column .* a, b, c, y, got z"),
        ("--data arrays.npz --target z", "`--target` must name .* x, y, got z"),
        ("--data one.csv", "`--target` must contain at least two classes, got only 1"),
        ("--data few.csv", "`--target` must contain at least 2 rows of every class, got 1 of"),
        ("--data twice.csv", "`--data` must have different column names, got two columns a"),
        ("--data ids.csv", "`--data` must contain texts that share words"),
        ("--data good.csv --train-size 119", "`--train-size` must be from 2 to 100, .* got 119"),
        ("--data own.py:data", "`--data` must be a function that returns .x, y.*, got ndarray"),
        ("--data own.py:fails", "own.py:fails raised RuntimeError: no rows today"),
        ("--data own.py:absent", "`--data` must name a function of own.py, .*, got absent"),
        ("--data own.py:value", "`--data` must name a function of own.py, .*, got value"),
        ("--data own.py", "`--data` must be .*, got own.py, whose format is unknown"),
        ("--data gone.py:data", "`--data` must name an existing file, got gone.py"),
        ("--data syntax.py:data", "`--data` must be importable, .* raised SyntaxError: invalid"),
        ("--data digits --target y", "`--target` is for data from files, got y with digits"),
        ("--data digits --groups y", "`--groups` is for data from files, got y with digits"),
        ("--data digits --folds 2", "`--folds` is for data from files, got 2 with digits"),
        ("--data digits --train-size 5", "`--train-size` must be at least 50, got 5"),
        ("--data circles --train-size 1001", "`--train-size` must be from 2 to 1000"),
        ("--data good.csv --metric r2", "`--metric` for classification must be .*, got r2"),
        (
            "--data good.csv --task regression --metric accuracy",
            "`--metric` for regression must be one of r2, rmse, mae, got accuracy",
        ),
        ("--model resnet", "`--model` must be mlp, convnet for images, .*, got resnet"),
        ("--model convnet --data circles", "`--model` must be mlp for a table, .*, got convnet"),
        ("--model own.py:absent", "`--model` must name a function of own.py, .*, got absent"),
        ("--model gone.py:make", "`--model` must name an existing file, got gone.py"),
        ("--model own.py:three", "`--model` own.py:three must be a function .* got 3 required arg"),
    ],
)  # fmt: skip
def test_wrong_input_ends_in_one_line(arguments, message, folder, capsys):
    assert_refused(arguments, message, folder, capsys)


@few(("arguments", "message"), [
    ("--model own.py:narrow", r"`--model` own.py:narrow must return a model .* \[batch, 10\]"),
    ("--model own.py:number", "must return a Linen module or a jaxreg.study.Model, got int"),
    ("--model own.py:broken", "`--model` .*own.py:broken raised TypeError"),
    ("--arms drop_path", "`--arms` must name arms .*, but mlp ignores some; leave out drop_p"),
    ("--data circles --arms cutout", "`--arms` must suit the data: the rows are a table for"),
    ("--data good.csv --target a --arms label_smoothing",
     "`--arms` must suit the data: .* for regression; leave out label_smoothing"),
])  # fmt: skip
def test_arms_and_models_that_do_not_fit_end_in_one_line(arguments, message, folder, capsys):
    assert_refused(arguments, message, folder, capsys)


def test_a_read_only_folder_ends_in_one_line(monkeypatch, folder, capsys):
    def refuse(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
    assert_refused("--out report", "is not writable: Read-only file system", folder, capsys)


@pytest.mark.parametrize("name", ["sklearn", "matplotlib", "rich", "pandas"])
def test_a_missing_extra_names_the_line_that_installs_it(name, monkeypatch, folder, capsys):
    monkeypatch.setitem(sys.modules, name, None)
    message = f'a study needs {name}, .*; run: pip install "jaxreg.study."'
    assert_refused("--seeds 2", message, folder, capsys)


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
    monkeypatch.setattr(orders.os, "cpu_count", lambda: 4)
    monkeypatch.setenv("XLA_FLAGS", flags)
    orders.use_all_cores(seeds)
    assert config.given == chosen


def test_a_missing_device_ends_in_one_line(monkeypatch, folder, capsys):
    import jax

    def fail():
        raise RuntimeError("no such platform")

    monkeypatch.setattr(jax, "devices", fail)
    message = "JAX finds no device to train on: no such platform; see the environment variable"
    assert_refused("--seeds 2", message, folder, capsys)
