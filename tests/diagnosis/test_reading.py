"""Files of histories: the verdict is the one on the same numbers in our own format."""

import io
import json
import math
from types import SimpleNamespace

import numpy as np
import pandas
import pytest

from jaxreg.diagnosis import Verdict, diagnose, read, read_runs
from jaxreg.study.reports import csv_files
from tests.diagnosis.formats import EPOCHS, FORMATS, scalars, table
from tests.diagnosis.histories import breaking, healthy, plateau, stuck, turning
from tests.study.helpers import make_study

close = np.testing.assert_allclose
KINDS = (healthy, turning, plateau, stuck, breaking)
TRAIN, VALIDATION = turning(EPOCHS)
HEAD = "epoch,train_loss,validation_loss"


def write(folder, files):
    """Writes files, and returns the path of the only one or the paths of all."""
    for name, text in files.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    paths = [str(folder / name) for name in files]
    return paths if len(paths) > 1 else paths[0]


def read_text(text, **names):
    return read(io.StringIO(text), **names)


def numbers(values):
    """The measured values of a curve, and None."""
    return np.ma.asarray(values).tolist()


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_gets_the_verdict_of_its_numbers(name, tmp_path):
    form = FORMATS[name]
    for kind in KINDS if form.keeps_nan else KINDS[:-1]:
        train, validation = 2.3 * np.asarray(kind(EPOCHS))
        want = diagnose({"train_loss": train, "validation_loss": form.seen(validation)})
        history = read(write(tmp_path, form.write(train, validation)), **form.options)
        found = diagnose(history)
        assert found.verdict == want.verdict, found
        assert history.counter == form.counter
        for field in ("epochs", "initial", "train", "validation", "level", "gap", "rise", "noise"):
            got = getattr(found.evidence, field)
            expected = getattr(want.evidence, field)
            assert got == pytest.approx(expected, rel=1e-9, nan_ok=True), field
        for field in ("best_epoch", "broke_at", "last_epoch"):
            place = getattr(want.evidence, field) - 1
            expected = form.first + form.step * place
            assert getattr(found.evidence, field) == pytest.approx(expected, nan_ok=True), field


def test_the_kinds_of_curves_get_different_verdicts():
    assert len({diagnose(read({"loss": a, "val_loss": b})).verdict
                for a, b in (kind(EPOCHS) for kind in KINDS)}) == len(KINDS)  # fmt: skip


def test_what_a_study_writes_is_read_back(tmp_path):
    study = make_study()
    (tmp_path / "history.csv").write_text(csv_files.history(study))
    for path in (tmp_path, tmp_path / "history.csv", str(tmp_path)):
        arms = read_runs(path)
        assert list(arms) == [arm.name for arm in study.arms]
        for arm in study.arms:
            found = arms[arm.name]
            np.testing.assert_array_equal(np.float32(found.train_loss), arm.train_loss)
            np.testing.assert_array_equal(np.float32(found.validation_loss), arm.validation_loss)
    assert read(tmp_path, run="l1").train_loss.shape == study.arms[1].train_loss.shape
    with pytest.raises(ValueError, match=r"`run` must be one of baseline, l1, .*, got None"):
        read(tmp_path)


def test_a_folder_has_the_file_that_a_program_writes_there(tmp_path):
    for name in ("Lightning", "transformers, by epoch"):
        folder = tmp_path / name
        folder.mkdir()
        write(folder, FORMATS[name].write(TRAIN, VALIDATION))
        close(read(folder).validation_loss, VALIDATION)
    with pytest.raises(ValueError, match=r"a folder with history\.csv, metrics\.csv, trainer_"):
        read(tmp_path)


def test_objects_of_training_programs_are_read():
    columns = {"loss": [*TRAIN], "val_loss": [*VALIDATION]}
    keras = SimpleNamespace(history=columns, epoch=[*range(EPOCHS)])
    rows = [{"epoch": float(i), "loss": a} for i, a in enumerate(TRAIN)]
    rows += [{"epoch": float(i), "eval_loss": a} for i, a in enumerate(VALIDATION)]
    transformers = SimpleNamespace(log_history=rows, epoch=20.0)
    for source in (keras, transformers, columns, pandas.DataFrame(columns)):
        history = read(source)
        close(history.train_loss, TRAIN)
        close(history.validation_loss, VALIDATION)
        assert history.columns["train_loss"] == "loss"
    assert read(keras).epoch.tolist() == [*range(EPOCHS)]
    assert read(columns).epoch.tolist() == [*range(1, EPOCHS + 1)]
    index = pandas.RangeIndex(5, EPOCHS + 5, name="epoch")
    assert read(pandas.DataFrame(columns, index)).epoch.tolist() == [*index]


def test_seeds_become_columns():
    found = read_runs(io.StringIO("arm,seed,train_loss\na,0,1\na,1,2\na,0,3\na,1,4\nb,0,5\n"))
    assert numbers(found["a"].train_loss) == [[1, 2], [3, 4]]
    assert numbers(found["b"].train_loss) == [[5]]


@pytest.mark.parametrize("ends", [(EPOCHS, 14), (14, EPOCHS), (EPOCHS, 1)])
def test_a_seed_that_ends_earlier_does_not_bend_the_mean(ends):
    """The mean has the changes of the seeds that go on."""
    rows = [
        (seed, epoch, own + 0.3 * seed, other + 0.3 * seed)
        for seed, end in enumerate(ends)
        for epoch, (own, other) in enumerate(zip(TRAIN[:end], VALIDATION[:end], strict=True))
    ]
    history = read_text(table("seed,epoch,loss,val_loss", *zip(*rows, strict=True)))
    assert history.train_loss.shape == (EPOCHS, 2)
    found = diagnose(history)
    want = diagnose({"train_loss": TRAIN + 0.15, "validation_loss": VALIDATION + 0.15})
    assert found.verdict == want.verdict == Verdict.OVERFITTING
    for field in ("initial", "train", "validation", "gap", "rise"):
        got = getattr(found.evidence, field)
        expected = getattr(want.evidence, field)
        assert got == pytest.approx(expected), field


def test_a_seed_that_diverged_makes_the_mean_diverge_though_it_ended():
    rows = [(0, epoch, value) for epoch, value in enumerate(TRAIN)]
    rows += [(1, epoch, value) for epoch, value in enumerate([*TRAIN[:6], math.nan])]
    found = diagnose(read_text(table("seed,epoch,loss", *zip(*rows, strict=True))))
    assert found.verdict == Verdict.UNSTABLE
    assert "from epoch 6 on" in found.reasons[0]


def test_a_resumed_training_that_ended_earlier_counts():
    epochs = [*range(10), *range(6, 8)]
    text = table("epoch,loss", epochs, [*TRAIN[:10], 7.0, 8.0])
    history = read_text(text)
    assert numbers(history.train_loss) == [*TRAIN[:6], 7.0, 8.0]
    assert history.replaced == 4


def test_what_was_not_measured_is_no_divergence():
    train, validation = healthy(EPOCHS)
    for text in ("", "NA", "null", "-", "None"):
        cells = [*validation[:-2], text, text]
        assert diagnose(read_text(table("loss,val_loss", train, cells))).verdict == "healthy"
    for text in ("nan", "NaN", "inf", "-Infinity"):
        cells = [*validation[:-2], text, text]
        assert diagnose(read_text(table("loss,val_loss", train, cells))).verdict == "unstable"


def test_epochs_without_a_number_at_the_end_are_told():
    """A data frame writes null for NaN: the run may have diverged."""
    columns = healthy(EPOCHS)
    losses = [[*curve[:-6], *[None] * 6] for curve in columns]
    expected = "nothing was measured after epoch 14, though 6 more follow; some programs write NaN "
    expected += "like that"
    text = table(HEAD, range(1, EPOCHS + 1), *losses)
    for history in (
        read_text(text),
        read_text(text.replace("epoch,", "row,")),
        read_text(json.dumps({"loss": losses[0], "val_loss": losses[1]})),
        {"train_loss": losses[0], "validation_loss": losses[1]},
    ):
        found = diagnose(history)
        assert (found.verdict, found.reasons[-1]) == (Verdict.HEALTHY, expected)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("0.5", 0.5), ("0,5", 0.5), ("1.234,5", 1234.5), ("1,234.5", 1234.5), ("50%", 0.5),
        ("12,5 %", 0.125), ("1e-3", 1e-3), ("1 234,5", 1234.5), ("1,234,567", 1234567),
    ],
)  # fmt: skip
def test_numbers_are_read_in_any_notation(cell, value):
    history = read_text(f"loss;val_loss\n{cell};{cell}\n")
    assert (numbers(history.train_loss), numbers(history.validation_loss)) == ([value], [value])


def test_a_column_has_one_decimal_mark():
    american = read_text('loss,val_loss\n999.5,2.5\n"1,234",0.25\n"1,000.25",1\n')
    assert numbers(american.train_loss) == [999.5, 1234, 1000.25]
    european = read_text("loss;val_loss\n1,234;0,5\n12,5;1.000,25\n")
    assert numbers(european.train_loss) == [1.234, 12.5]
    assert numbers(european.validation_loss) == [0.5, 1000.25]


@pytest.mark.parametrize("scale", [1, 100])
def test_accuracies_are_shares(scale):
    train, validation = healthy(30)
    own, other = [scale * 1.0] * 30, [scale * 0.9] * 30
    text = table("loss,val_loss,acc,val_acc", train, validation, own, other)
    found = diagnose(read_text(text))
    assert found.verdict == Verdict.OVERFITTING
    assert (found.evidence.train_accuracy, found.evidence.validation_accuracy) == (1.0, 0.9)


@pytest.mark.parametrize(
    ("names", "train", "validation"),
    [
        # The plainest name counts: a mean before a value of a step, a loss before its parts.
        ("loss,box_loss,val_loss,val_box_loss", "loss", "val_loss"),
        ("train_loss_step,train_loss_epoch,val_loss", "train_loss_epoch", "val_loss"),
        ("loss,train_loss,test_loss,val_loss", "train_loss", "val_loss"),
        ("loss,test_loss", "loss", "test_loss"),
        ("loss,val_top5_error,dev_loss", "loss", "dev_loss"),
        ("train/mse,valid/mse,valid/mae_of_all", "train/mse", "valid/mse"),
    ],
)
def test_columns_are_found_by_their_names(names, train, validation):
    cells = [[float(index)] * 2 for index in range(names.count(",") + 1)]
    columns = read_text(table(names, *cells)).columns
    assert (columns["train_loss"], columns["validation_loss"]) == (train, validation)


def test_a_summary_is_no_curve():
    text = table("loss,train_loss,val_loss", [3.0, 2.0], [2.5, None], [3.0, 2.0])
    assert read_text(text).columns["train_loss"] == "loss"


def test_an_evaluation_before_training_has_no_training_loss():
    text = "step,loss,val_loss\n0,,3\n5,2,\n10,1,\n10,,2.5\n15,1,\n20,0,\n20,,2\n25,7,\n"
    history = read_text(text)
    assert history.epoch.tolist() == [0, 10, 20, 25]
    assert numbers(history.train_loss) == [None, 1.5, 0.5, 7]
    assert numbers(history.validation_loss) == [3, 2.5, 2, None]


def test_steps_are_counted_where_the_epochs_are_too_few():
    rows = [(0, step, value) for step, value in enumerate(TRAIN)]
    history = read_text(table("epoch,step,loss", *zip(*rows, strict=True)))
    assert (history.counter, history.epoch.size) == ("step", EPOCHS)
    rows = [(step // 2, step, value) for step, value in enumerate(TRAIN)]
    history = read_text(table("epoch,step,loss", *zip(*rows, strict=True)))
    assert (history.counter, history.epoch.size) == ("epoch", EPOCHS // 2)


def test_lists_of_validations_that_were_rarer_are_spread():
    rare = [5.0, 10.0, 15.0, 20.0]
    history = read({"loss": [*TRAIN], "val_loss": rare})
    assert numbers(history.validation_loss)[4::5] == rare
    assert history.validation_loss.count() == 4
    shorter = read({"loss": [*TRAIN], "val_loss": [*VALIDATION[:-1]]})
    assert numbers(shorter.validation_loss) == [*VALIDATION[:-1], None]
    with pytest.raises(ValueError, match="one number per epoch in val_loss, got 7 for 20 epochs"):
        read({"loss": [*TRAIN], "val_loss": [1.0] * 7})


def test_several_files_with_both_losses_are_several_runs(tmp_path):
    files = {f"{seed}.csv": table("loss,val_loss", TRAIN + seed, VALIDATION) for seed in (0, 1)}
    found = read_runs(write(tmp_path, files))
    assert list(found) == [str(tmp_path / name) for name in files]
    close(found[str(tmp_path / "1.csv")].train_loss, TRAIN + 1)


def test_scalars_of_files_without_a_meaning_are_named_by_the_caller(tmp_path):
    paths = write(tmp_path, {"a.csv": scalars(TRAIN), "b.csv": scalars(VALIDATION)})
    with pytest.raises(
        ValueError, match=r"got .*a\.csv and .*b\.csv with a, b, step; name the col"
    ):
        read(paths)
    history = read(paths, train="a", validation="b")
    close(history.train_loss, TRAIN)
    close(history.validation_loss, VALIDATION)


@pytest.mark.parametrize("text", ["", HEAD, "train_loss\n", "[]", "{}"])
def test_a_file_without_epochs_is_an_empty_history(text):
    assert diagnose(read_text(text)).verdict == Verdict.NOT_ENOUGH


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss\nlow\n", "only numbers in loss, got in standard input: .*'low'"),
        ("b,a\n1,2\n", "must have train_loss and validation_loss, got standard input with a, b"),
        ("b,a\n", "must have train_loss and validation_loss, got standard input with a, b"),
        ('{"a": [1]}', "must have train_loss and validation_loss, got standard input with a"),
        ("[1, 2", "`source` must be JSON, got standard input"),
        ('{"loss": 1}\nnothing\n{"loss": 2}', "`source` must be JSON, got standard input"),
        ("[3]", "an object of lists, or a list of objects, got list in standard input"),
        ('{"train_loss": 3}', "must hold a list under train_loss, got 3 in standard input"),
        ("loss,loss\n1,2\n", "must have one train loss, got loss, loss in standard input"),
        ("epoch,loss,epoch\n1,2,3\n", "single column named 'epoch', got 2 in standard input"),
        ('{"loss": [1], "loss": [2]}', "must have one loss in an object, got two"),
        ("train_a_loss,train_b_loss\n1,2", "one train loss, got train_a_loss, train_b_loss"),
        ("loss,val_a_loss,val_b_loss\n1,2,3", "one validation loss, got val_a_loss, val_b_loss"),
        ("loss,val_loss\n0,5,0,6\n", "got 4 and 2 in row 1 of .* decimal commas"),
    ],
)  # fmt: skip
def test_what_is_no_history_raises(text, message):
    with pytest.raises(ValueError, match=message):
        read_text(text)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"train": "los"}, "`train` must be a column of .*, got los; did you mean loss"),
        (
            {"validation": "x"},
            r"`validation` must be a column .* has epoch, loss, val_loss, .* x\.",
        ),
        ({"epoch": "round"}, "`epoch` must be a column of .*, got round"),
    ],
)
def test_names_that_are_no_columns_raise(names, message):
    with pytest.raises(ValueError, match=message):
        read_text("epoch,loss,val_loss\n1,2,3\n", **names)


def test_sources_of_other_kinds_raise(tmp_path):
    with pytest.raises(ValueError, match=r"`source` must be a file, an object of lists.* got int"):
        read(3)
    with pytest.raises(ValueError, match=r"must be a file, got .*none\.csv, which does not exist"):
        read(tmp_path / "none.csv")
    (tmp_path / "events.out").write_bytes(b"\x18\x00\xff\xc3")
    with pytest.raises(
        ValueError, match=r"must be text in UTF-8, got .*events\.out.* as CSV or JS"
    ):
        read(tmp_path / "events.out")
