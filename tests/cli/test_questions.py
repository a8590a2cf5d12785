"""The commands that diagnose, explain and advise: what they print, and how wrong input ends."""

import json
import re
import sys

import jax
import numpy as np
import pytest

from jaxreg.study import advice_cli, cli, histories, models, report
from jaxreg.training import explain
from tests.study.helpers import make_study

EPOCHS = 12
TIME = np.linspace(0, 1, EPOCHS)
TRAIN = np.exp(-5 * TIME)
VALIDATION = 0.4 + 0.6 * np.exp(-12 * TIME) + 0.5 * TIME**2


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(capsys, *arguments):
    status = cli.main(list(map(str, arguments)))
    streams = capsys.readouterr()
    assert (status, streams.err) == (0, "")
    return streams.out


def write_csv(path, train=TRAIN, validation=VALIDATION):
    lines = [f"{i},{a},{b}" for i, (a, b) in enumerate(zip(train, validation, strict=True), 1)]
    path.write_text("\n".join(["epoch,train_loss,validation_loss", *lines]))


def test_diagnose_reads_csv_and_json_alike(folder, capsys):
    write_csv(folder / "run.csv")
    columns = {"train_loss": TRAIN.tolist(), "validation_loss": VALIDATION.tolist()}
    (folder / "run.json").write_text(json.dumps(columns))
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    (folder / "rows.json").write_text(json.dumps(rows))
    texts = {printed(capsys, "diagnose", name) for name in ("run.csv", "run.json", "rows.json")}
    assert len(texts) == 1
    text = texts.pop()
    assert text.startswith("overfitting\n  because the validation loss ends 0.")
    assert "try: stop at the best validation loss (jaxreg.training.early_stopping)" in text


def test_diagnose_prints_json_without_nan(folder, capsys):
    write_csv(folder / "run.csv")
    found = json.loads(printed(capsys, "diagnose", "run.csv", "--json"))
    assert found["verdict"] == "overfitting"
    assert found["evidence"]["epochs"] == EPOCHS
    assert found["evidence"]["train_accuracy"] is None
    assert found["changes"][0]["address"] == "jaxreg.training.early_stopping"


def test_diagnose_tells_of_every_arm_of_a_study(folder, capsys):
    study = make_study()
    (folder / "history.csv").write_text(report._history(study))
    names = [arm.name for arm in study.arms]
    text = printed(capsys, "diagnose", folder)
    assert re.findall(r"^(\w+): ", text, re.M) == names
    one = printed(capsys, "diagnose", folder, "--arm", "l1")
    assert one in text
    assert list(json.loads(printed(capsys, "diagnose", folder, "--json"))) == names


def test_diagnose_compares_with_the_baseline(folder, capsys):
    lines = [
        f"{arm},{epoch},0,{loss},{loss + 0.01}"
        for arm, end in (("baseline", 0.05), ("l2", 0.8))
        for epoch, loss in enumerate(end + (1 - end) * TRAIN, 1)
    ]
    (folder / "history.csv").write_text(
        "\n".join(["arm,epoch,seed,train_loss,validation_loss", *lines])
    )
    assert printed(capsys, "diagnose", "history.csv", "--arm", "l2").startswith(
        "l2: too much regularization\n"
    )


@pytest.mark.parametrize(
    "text", ["train_loss,validation_loss\n", "", "train_loss,validation_loss\n1,1\n"]
)
def test_short_histories_are_answered(folder, capsys, text):
    (folder / "run.csv").write_text(text)
    assert printed(capsys, "diagnose", "run.csv").startswith("not enough to say\n")


def test_empty_cells_were_not_measured(folder, capsys):
    lines = [f"{loss},{loss if i % 3 == 0 else ''}" for i, loss in enumerate(np.exp(-TIME * 4))]
    (folder / "run.csv").write_text("\n".join(["train_loss,validation_loss", *lines]))
    assert np.isnan(histories.read("run.csv")[""]["validation_loss"]).sum() == 8
    assert "unstable" not in printed(capsys, "diagnose", "run.csv")


def test_advise_prints_ranked_techniques_and_json(capsys):
    arguments = ("advise", "--task", "classification", "--architecture", "cnn", "--rows", 5000,
                 "--batch-size", 8, "--needs", "calibration,robustness")  # fmt: skip
    text = printed(capsys, *arguments)
    heads = [block.splitlines()[0] for block in text.split("\n\n")]
    assert heads[0].startswith("augment_images: jaxreg.augment.")
    assert "label_smoothing: jaxreg.targets.smoothed_cross_entropy, alpha 0.05 to 0.2" in heads
    assert heads[-2:] == ["avoid batch_norm", "avoid instance_norm"]
    found = json.loads(printed(capsys, *arguments, "--json"))
    assert [row["technique"] for row in found if row["avoid"]] == ["batch_norm", "instance_norm"]
    assert all(row["sources"] and row["seeds"] for row in found)


SETUP = """
import jax.numpy as jnp, optax

PARAMS = {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}

def make():
    return None, optax.adamw(0.1, weight_decay=0.5), PARAMS

def named():
    return {"optimizer": optax.sgd(0.1), "params": PARAMS, "penalty": lambda p: (p["kernel"] ** 2).sum()}

def number():
    return 3

def wrong():
    return None, 3, PARAMS

def misspelled():
    return {"optimiser": optax.sgd(0.1)}

constant = 3
"""  # noqa: E501


@pytest.mark.programs(24)  # An optimizer is tried one operation at a time.
def test_explain_takes_a_function(folder, capsys, monkeypatch):
    (folder / "advice_setup.py").write_text(SETUP)
    monkeypatch.delitem(sys.modules, "advice_setup", raising=False)
    text = printed(capsys, "explain", "advice_setup:make")
    assert re.search(r"^kernel +decay +0\.05  of the weight per step$", text, re.M)
    assert "conflict: decay on biases or scales of norms" in text
    found = json.loads(printed(capsys, "explain", "advice_setup:named", "--json"))
    effects = {row["place"]: (row["regularizer"], row["strength"]) for row in found["effects"]}
    assert effects["kernel"] == ("L2 penalty", pytest.approx(2.0))
    assert effects["bias"] == ("none", None)
    assert found["conflicts"] == []
    assert str(folder) not in sys.path


def test_explain_looks_at_the_model_of_a_recipe(capsys, monkeypatch):
    given = {}

    def record(*arguments, **options):
        given.update(arguments=arguments, options=options)
        return explain.Explanation((), (), 0)

    def from_linen(module):
        given["module"] = module
        return models.Model(
            lambda key, x: {"params": x}, lambda variables, x, key: ("logits", {}), None
        )

    monkeypatch.setattr(explain, "explain", record)
    monkeypatch.setattr(models, "from_linen", from_linen)
    printed(capsys, "explain", "--recipe", " l2=0.5, dropout=0.25,batch_norm")
    module = given["module"]
    assert (module.hidden, module.num_classes) == ((50, 50), 2)
    assert (module.dropout, module.batch_norm) == (0.25, True)
    model, chain, variables, x = given["arguments"]
    assert isinstance(model, models.Model)
    assert x.shape == (32, 2)
    np.testing.assert_array_equal(variables["params"], x)
    assert given["options"]["call"](variables, x) == "logits"
    params = {"kernel": np.ones((2, 2), np.float32)}
    moved, _ = jax.jit(chain.update)(
        {"kernel": np.zeros((2, 2), np.float32)}, jax.jit(chain.init)(params), params
    )
    np.testing.assert_allclose(moved["kernel"], -0.01 * 0.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("diagnose", "required: HISTORY; see jaxreg diagnose --help"),
        ("diagnose none.csv", "`HISTORY` must be a file, got none.csv, which does not exist"),
        ("diagnose notes.txt", "`HISTORY` must be a .csv or .json file or a study's folder"),
        ("diagnose .", "`HISTORY` must be a file, got history.csv, which does not exist"),
        ("diagnose words.csv", "`HISTORY` must hold numbers as train_loss, got words.csv"),
        ("diagnose other.csv", "must have train_loss and validation_loss, got other.csv with a, b"),
        ("diagnose other.json", "must have train_loss and validation_loss, got other.json with a"),
        ("diagnose broken.json", "`HISTORY` must be JSON, got broken.json"),
        ("diagnose number.json", "an object of lists or a list of objects, got number.json"),
        ("diagnose binary.csv", "`HISTORY` must be text in UTF-8, got binary.csv"),
        ("diagnose run.csv --arm l1", "`--arm` must be one of a single run without names, got l1"),
        ("diagnose run.csv --floor nan", "`--floor` must be a finite number, got nan"),
        ("explain", "Give either MODULE:FUNCTION or `--recipe`"),
        ("explain a:b --recipe l2=1", "Give either MODULE:FUNCTION or `--recipe`"),
        ("explain advice_errors", "must be given as MODULE:FUNCTION, got 'advice_errors'"),
        ("explain nowhere.at.all:make", "cannot import 'nowhere.at.all' of nowhere.at.all:make"),
        ("explain advice_errors:absent", "'advice_errors' must have a function 'absent'"),
        ("explain advice_errors:constant", "'advice_errors' must have a function 'constant'"),
        ("explain advice_errors:number", r"must return \(model, optimizer, .* got int"),
        ("explain advice_errors:wrong", "`optimizer` must be an Optax transformation, got int"),
        ("explain advice_errors:misspelled", "must return a mapping of .*, got optimiser"),
        ("explain --recipe ridge=1", "`--recipe` must name strengths of l1, .*, got 'ridge'"),
        ("explain --recipe l2=much", "`--recipe` must have a number for l2, got 'much'"),
        ("explain --recipe l2=-1", "`l2` must be finite and at least 0, got -1.0"),
        ("advise --task poetry", "`--task` must be of classification, .*, got poetry"),
        ("advise --needs speed", "`--needs` must be of sparsity, .*, got speed"),
        ("advise --batch-size 0", "`--batch-size` must be at least 1, got 0"),
        ("advise --rows many", "--rows: invalid int value: 'many'; see jaxreg advise --help"),
    ],
)
def test_wrong_input_ends_in_one_line(arguments, message, folder, capsys):
    write_csv(folder / "run.csv")
    (folder / "notes.txt").write_text("loss")
    (folder / "words.csv").write_text("train_loss,validation_loss\nlow,lower\n")
    (folder / "other.csv").write_text("a,b\n1,2\n")
    (folder / "other.json").write_text('{"a": [1, 2]}')
    (folder / "broken.json").write_text('{"a": [1, 2')
    (folder / "number.json").write_text("3")
    (folder / "binary.csv").write_bytes(b"\xff\xfe")
    (folder / "advice_errors.py").write_text(SETUP)
    sys.modules.pop("advice_errors", None)
    assert cli.main(arguments.split()) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith("jaxreg: ")
    assert streams.err.count("\n") == 1
    assert re.search(message, streams.err)


@pytest.mark.parametrize("command", ["diagnose", "explain", "advise"])
def test_help_of_each_command(command, capsys):
    assert f"usage: jaxreg {command}" in printed(capsys, command, "--help")


def test_a_terminal_gets_the_same_words_in_color(capsys, monkeypatch):
    plain = printed(capsys, "advise", "--batch-size", 2)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    colored = printed(capsys, "advise", "--batch-size", 2)
    assert "\x1b[" in colored
    assert re.sub(r"\x1b\[[\d;]*m", "", colored) == plain
    assert advice_cli._style("avoid batch_norm") == "red"
    assert advice_cli._style("decay: jaxreg") == "bold"


def test_the_floor_of_a_loss_counts(folder, capsys):
    write_csv(folder / "run.csv")
    plain = json.loads(printed(capsys, "diagnose", "run.csv", "--json"))
    found = json.loads(printed(capsys, "diagnose", "run.csv", "--json", "--floor", "-1"))
    level = found["evidence"]["level"]
    end = plain["evidence"]["train"]
    assert level == pytest.approx((end + 1) / 2)
    assert plain["evidence"]["level"] == pytest.approx(end)


def test_styles_of_lines():
    styles = {line: advice_cli._style(line) for line in (
        "avoid batch_norm", "decay: jaxreg", "  because it rises", "  try: less", "", "  what",
        "conflict: decay", "  see: a paper", "  but: it may not", "  fix: a mask",
    )}  # fmt: skip
    assert list(styles.values()) == [
        "red", "bold", "", "green", "", "", "bold red", "dim", "yellow", "green",
    ]  # fmt: skip
