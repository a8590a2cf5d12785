"""Advice that combines what is published with what a study measured."""

import csv
import inspect
import json
import math

import pytest

from jaxreg.advice import advise
from jaxreg.advice.arms import CODE, TECHNIQUES, start_of
from jaxreg.advice.measuring import RESULTS, read
from jaxreg.advice.rows import ROWS
from jaxreg.advice.starts import STARTS
from jaxreg.study.arms import ARMS
from jaxreg.study.reports import csv_files
from tests.advice.calls import exists, resolve

UNCLEAR = "not distinguishable"


def write(folder, *arms, chosen=""):
    """Writes the results of a study: rows (arm, strength, difference, verdict) of half-width 1."""
    rows = [("baseline", None, 0.0, "reference"), *arms]
    with (folder / RESULTS).open("w", newline="") as file:
        writer = csv.DictWriter(file, csv_files._HEADS)
        writer.writeheader()
        for arm, strength, difference, verdict in rows:
            recipe = {} if arm == "baseline" else {arm: True if strength is None else strength}
            row = {
                "arm": arm, "metric": "macro_f1",
                "strength": "" if strength is None else strength, "difference": difference,
                "difference_low": difference - 1, "difference_high": difference + 1,
                "verdict": verdict, "chosen": arm == chosen,
                "recipe": json.dumps(recipe), "code": ARMS[arm].source if arm in ARMS else "",
            }  # fmt: skip
            writer.writerow(row)
    return folder


def ask(folder, **question):
    return {advice.technique: advice for advice in advise(study=folder, **question)}


def test_every_arm_of_a_study_is_known_by_its_code():
    """Its code is the one that the study itself names, or the one of its technique."""
    assert set(TECHNIQUES) <= set(ARMS)
    assert set(TECHNIQUES.values()) <= {row.technique for row in ROWS}
    assert all(map(exists, CODE.values()))
    for name, arm in ARMS.items():
        start = start_of(name, arm.source, 0.25)
        assert exists(start.address), name
        assert start.address.removesuffix(".update") in arm.source, name
        if start.high:
            assert (start.low, start.high) == (0.25, 0.25)
            takes = inspect.signature(resolve(start.address)).parameters
            assert not start.argument or start.argument in takes


def test_the_order_is_chosen_better_unmeasured_unclear_worse(tmp_path):
    write(
        tmp_path,
        ("l2", 1.0, 2.0, "better"),
        ("sam", 0.1, 3.0, "better"),
        ("combined", None, 1.5, "better"),
        ("early_stopping", 11.0, 0.1, UNCLEAR),
        ("flood", 0.1, 0.2, UNCLEAR),
        ("label_smoothing", 0.1, -2.0, "worse"),
        ("dropout", 0.5, math.nan, "diverged"),
        chosen="combined",
    )
    question = {"task": "classification", "architecture": "mlp", "batch_size": 64}
    found = ask(tmp_path, **question)
    names = list(found)
    alone = [advice.technique for advice in advise(**question)]
    assert names[:3] == ["combined", "sam", "decay"]
    unmeasured = [name for name in names if found[name].measured is None]
    assert unmeasured == [name for name in alone if name in unmeasured]
    uses = [name for name in names if not found[name].avoid]
    assert uses[-2:] == ["early_stopping", "flood"]
    assert uses.index(unmeasured[0]) == 3
    assert {name for name in names if found[name].avoid} >= {"label_smoothing", "dropout"}
    assert set(names) == {*alone, "combined", "sam", "flood"}


def test_a_better_arm_starts_at_the_strength_that_was_measured(tmp_path):
    write(tmp_path, ("l2", 3.2, 2.0, "better"), ("drop_path", 0.1, 2.0, "better"), chosen="l2")
    found = ask(tmp_path, architecture="residual")
    text = str(found["decay"])
    assert text.startswith("decay: jaxreg.transforms.decoupled_decay, weight 3.2\n")
    line = "your study: l2 3.2, macro f1 +2 [+1, +3], better than the baseline; validation chose it"
    assert f"\n  {line}\n  the standard choice for most models\n" in text
    assert "use: jaxreg.transforms.decoupled_decay(weight=3.2, " in text
    assert "strength: " not in text
    # The study drops the branch of each example, not the layer of the batch.
    assert found["stochastic_depth"].start.address == "jaxreg.linen.DropPath"
    assert "for very deep residual networks" in found["stochastic_depth"].reasons


def test_what_the_study_cannot_tell_stays_as_published(tmp_path):
    write(tmp_path, ("dropout", 0.1, 0.2, UNCLEAR), ("batch_norm", None, 0.0, UNCLEAR))
    found = ask(tmp_path, architecture="mlp", batch_size=2)
    assert found["dropout"].start == STARTS["dropout"]
    assert not found["dropout"].avoid
    assert found["batch_norm"].avoid
    line = "your study: dropout 0.1, macro f1 +0.2 [-0.8, +1.2], not distinguishable from the"
    assert f"\n  {line} baseline\n" in str(found["dropout"])


def test_a_measurement_overrules_and_objections_stay(tmp_path):
    published = {a.technique: a for a in advise(architecture="mlp", batch_size=2)}
    assert published["batch_norm"].avoid
    assert not published["decay"].avoid
    write(tmp_path, ("batch_norm", None, 2.0, "better"), ("l2", 1.0, -2.0, "worse"))
    found = ask(tmp_path, architecture="mlp", batch_size=2)
    assert not found["batch_norm"].avoid
    assert found["batch_norm"].reasons == ()
    assert found["batch_norm"].against == published["batch_norm"].reasons
    assert found["batch_norm"].start == STARTS["batch_norm"]
    assert found["decay"].avoid
    want = (*published["decay"].reasons, *published["decay"].against)
    assert (found["decay"].reasons, found["decay"].against) == ((), want)
    assert str(found["decay"]).startswith("avoid decay\n  your study: l2 1, macro f1 -2 [-3, -1], ")


def test_a_smaller_error_is_a_gain(tmp_path):
    """The verdict tells the direction; the differences of an error are negative."""
    write(tmp_path, ("sam", 0.1, -2.0, "better"), ("asam", 1.0, -3.0, "better"))
    assert list(ask(tmp_path))[:2] == ["asam", "sam"]


def test_arms_that_nobody_knows_keep_their_name(tmp_path):
    found = ask(write(tmp_path, ("mine", 2.0, 2.0, "better"), ("sam", 0.1, math.nan, "diverged")))
    assert str(found["mine"]).splitlines()[0] == "mine"
    assert str(found["sam"]) == "avoid sam\n  your study: sam 0.1 diverged"


def test_a_recipe_is_read_with_all_its_parts(tmp_path):
    write(tmp_path, ("combined", None, 2.0, "better"))
    recipe = json.dumps({"l2": 0.5, "batch_norm": True, "policy": {"operations": []}})
    text = (tmp_path / RESULTS).read_text()
    quoted = json.dumps({"combined": True}).replace('"', '""')
    (tmp_path / RESULTS).write_text(text.replace(quoted, recipe.replace('"', '""')))
    (measured,) = read(tmp_path)
    assert measured.recipe == "l2 0.5 + batch_norm + policy"
    assert measured.strength is None


@pytest.mark.parametrize(
    ("break_file", "message"),
    [
        (lambda path: path.unlink(), "folder of a study with results.csv, got .*: No such file"),
        (lambda path: path.write_text("a,b\n1,2\n"), "without arm, metric, strength, difference"),
        (lambda path: path.write_text(""), "without arm, metric"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "results.csv in UTF-8, got"),
        (
            lambda path: path.write_text(path.read_text().replace("2.0", "two")),
            "row of the arm 'l2'",
        ),
        (
            lambda path: path.write_text(path.read_text().replace("true", "no word")),
            "row of the arm 'l1'",
        ),
    ],
)
def test_files_that_are_none_are_one_clear_line(tmp_path, break_file, message):
    write(tmp_path, ("l2", 1.0, 2.0, "better"), ("l1", None, 0.0, UNCLEAR))
    break_file(tmp_path / RESULTS)
    with pytest.raises(ValueError, match=f"^`study` must .*{message}") as raised:
        advise(study=tmp_path)
    assert "\n" not in str(raised.value)
