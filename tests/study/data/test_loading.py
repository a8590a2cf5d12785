"""The door to the user's data."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from jaxreg.study import Split
from jaxreg.study.data import load

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3))
OWN = """
import numpy as np
import pandas as pd
from jaxreg.study import stratified_split

x = np.random.default_rng(0).normal(size=(200, 3)).astype("float32")
y = x[:, 0] > 0

def pair():
    return x, y

def table():
    return pd.DataFrame(x, columns=list("abc")).assign(y=y)

def mapping():
    return {"X": x, "y": y, "who": np.arange(200) // 2}

def tokens():
    return {"tokens": (x > 0) + 3, "y": y}

def splitter():
    return stratified_split(x, y.astype(int), train_size=60)

def by_seed(seed):
    return splitter()(seed)

def regression(seed):
    return stratified_split(x, x[:, :2], train_size=60)(seed)

def wrong():
    return 3

def raising():
    raise KeyError("hm")

def raising_later(seed):
    raise KeyError("hm")

def no_split(seed):
    return x
"""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def save_table(name="mine.csv", **columns):
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": np.where(X[:, 0] > 0, "yes", "no")})
    frame.assign(**columns).to_csv(name, index=False)


def same(split, other):
    for one, two in zip(split, other, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_table_becomes_splits_of_one_size():
    save_table()
    found = load("mine.csv", target="y")
    assert (found.kind, found.task, found.outputs) == ("table", "classification", 2)
    assert (found.classes, found.vocabulary) == (("no", "yes"), 0)
    split = found.split(0)
    assert split.sizes == found.split(5).sizes == (72, 24, 24)
    np.testing.assert_array_equal(split.test_y, found.split(5).test_y)
    # A label belongs to its row.
    threshold = -X[:, 0].mean() / X[:, 0].std()
    for rows, labels in ((split.train_x, split.train_y), (split.test_x, split.test_y)):
        order = np.argsort(rows[:, 0])
        assert (np.diff(labels[order]) >= 0).all()
        assert abs(rows[order, 0][labels[order].argmax()] - threshold) < 0.5
    assert "Rows: 72 for training, 24 for validation, 24 for test." in found.notes
    assert any("test set is small" in note for note in found.notes)


def test_the_code_of_a_load_gives_the_same_splits():
    save_table('my "own" ä.csv', who=np.arange(120) // 3)
    options = {"target": "y", "groups": "who", "train_size": 40, "folds": 2}
    found = load('my "own" ä.csv', task="classification", **options)
    scope = {}
    exec(found.data_import, scope)
    same(eval(found.data_code, scope)(1), found.split(1))
    assert load('my "own" ä.csv').data_code == r'load("my \"own\" ä.csv").split'


def test_groups_stay_together():
    who = np.arange(120) // 4
    save_table(a=who * 1.0, who=[f"p{i}" for i in who])
    leaking = load("mine.csv", target="y").split(0)
    found = load("mine.csv", target="y", groups="who")
    split = found.split(0)
    assert not set(np.round(split.train_x[:, 0], 3)) & set(np.round(split.test_x[:, 0], 3))
    assert set(np.round(leaking.train_x[:, 0], 3)) & set(np.round(leaking.test_x[:, 0], 3))
    # The column of groups is no feature.
    assert split.train_x.shape[1] == 2
    assert any("Rows of one group stay together: 30 groups" in note for note in found.notes)


def test_repeated_rows_are_named_unless_groups_are_given():
    save_table(a=np.arange(120) // 4, b=0.5, y=np.arange(120) // 4 % 2, who=np.arange(120) // 4)
    told = [note.startswith("Repeated rows: 90 rows") for note in load("mine.csv").notes]
    assert any(told)
    assert not any("Repeated" in note for note in load("mine.csv", groups="who").notes)


def test_folds_are_tested_in_turn():
    save_table()
    found = load("mine.csv", folds=4)
    firsts = [np.sort(found.split(seed).test_x[:, 0]) for seed in range(8)]
    assert len(firsts[0]) == 30
    assert any("Seed s tests on fold s % 4" in note for note in found.notes)
    for i in range(4):
        assert len(np.intersect1d(found.split(i).test_y, found.split(i + 4).test_y)) == 2
    assert abs(firsts[0] - firsts[1]).max() > 0.01


def test_many_rows_train_on_two_thousand():
    np.savez("many.npz", x=RNG.normal(size=(20_000, 1)), y=np.arange(20_000) % 2)
    found = load("many.npz")
    assert found.split(0).sizes == (2000, 1000, 3000)
    assert any(note.startswith("Left out 14,000 rows, to be fast") for note in found.notes)
    assert load("many.npz", train_size=6000).split(0).sizes == (6000, 1000, 3000)
    assert load("many.npz", folds=2).split(0).sizes == (2000, 1000, 3000)


@pytest.mark.parametrize("kind", ["table", "text", "series"])
def test_rows_without_a_label_are_left_out_of_every_kind(kind):
    keep = np.arange(120) % 10 > 0
    y = np.where(keep, X[:, 0], np.nan)
    x = {"table": X, "text": np.array(["one two", "two three"])[np.arange(120) % 2],
         "series": X[:, None]}[kind]  # fmt: skip
    np.savez("holes.npz", x=x, y=y, groups=np.arange(120))
    found = load("holes.npz")
    assert (found.kind, found.task, found.outputs, found.classes) == (kind, "regression", 1, ())
    split = found.split(0)
    assert sum(split.sizes) == 108
    np.testing.assert_allclose(split.train_y.mean(), 0, atol=1e-6)
    if kind != "text":
        first = split.train_x.reshape(len(split.train_x), 3)[:, 0]
        np.testing.assert_allclose(np.corrcoef(first, split.train_y)[0, 1], 1, atol=1e-5)


def test_groups_keep_in_step_with_rows_that_have_a_label():
    who = np.arange(120) // 4
    y = np.where(np.arange(120) % 9 > 0, X[:, 0], np.nan)
    np.savez("holes.npz", x=np.stack([who, X[:, 0]], axis=1), y=y, groups=who)
    split = load("holes.npz").split(0)
    assert not set(split.train_x[:, 0]) & set(split.test_x[:, 0])
    assert not set(split.train_x[:, 0]) & set(split.validation_x[:, 0])


def test_a_folder_of_images_is_a_data_set():
    for i in range(40):
        pixels = np.full((4, 5), i + 100 * (i % 2), np.uint8)
        path = Path("odd" if i % 2 else "even", f"{i}.png")
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    found = load(".")
    split = found.split(0)
    assert (found.kind, found.classes, split.train_x.shape) == (
        "image",
        ("even", "odd"),
        (24, 4, 5, 1),
    )
    np.testing.assert_array_equal(split.test_x[:, 0, 0, 0] > 0, split.test_y)


def test_functions_return_arrays_tables_or_splits():
    Path("own.py").write_text(OWN)
    pair = load("own.py:pair")
    assert (pair.kind, pair.classes) == ("table", ("False", "True"))
    same(load("own.py:table", target="y").split(0), pair.split(0))
    assert load("own.py:mapping", groups="who").split(0).sizes == (118, 40, 40)
    tokens = load("own.py:tokens", folds=2)
    assert (tokens.kind, tokens.vocabulary, tokens.split(0).train_x.max()) == ("text", 5, 4)
    own = load("own.py:splitter")
    assert (own.kind, own.task, own.outputs, own.classes) == (
        "table", "classification", 2, ("0", "1")
    )  # fmt: skip
    same(load("own.py:by_seed").split(3), own.split(3))
    assert load("own.py:regression").outputs == 2
    assert load("own.py:regression").task == "regression"
    for source, options, message in (
        ("own.py:wrong", {}, "`data` must be a function that returns .* got int from own.py:wrong"),
        ("own.py:raising", {}, "`data` must be a function that .* own.py:raising raised KeyError:"),
        (
            "own.py:raising_later",
            {},
            "`data` must be .* own.py:raising_later raised KeyError: 'hm'",
        ),
        ("own.py:no_split", {}, "`data` must be a function from a seed to .*Split, got ndarray"),
        ("own.py:by_seed", {"folds": 3}, "`folds` does not apply to own.py:by_seed, .*, got 3"),
        ("own.py:splitter", {"train_size": 9}, "`train_size` does not apply to own.py:splitter"),
        ("own.py:pair", {"target": "y"}, "`target` does not apply to own.py:pair, .*, got y"),
    ):
        with pytest.raises(ValueError, match=message):
            load(source, **options)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("", {}, "`data` must be digits, .*, got nothing"),
        ("your.csv", {}, r"`data` must be digits, .* got your.csv, which does not exist\.$"),
        ("mien.csv", {}, r"got mien.csv, which does not exist; did you mean mine.csv\?$"),
        ("your", {}, r"`data` must be digits, .*FUNCTION, got your\.$"),
        ("notes.txt", {}, "`data` must be digits, .* got notes.txt, whose format is unknown"),
        ("mine.csv", {"task": "sorting"}, "`task` must be classification or regression, got sort"),
        ("mine.csv", {"folds": 0}, "`folds` must be at least 1, got 0"),
        ("mine.csv", {"train_size": 101}, "`train_size` must be from 2 to 100, .*, got 101"),
        ("mine.csv", {"groups": "holes"}, "`groups` must give a group for every row, got 3 empty"),
        (".", {"target": "y"}, "`target` is for tables and arrays, got y with a folder"),
        (".", {"groups": "y"}, "`groups` is for tables and arrays, got y with a folder"),
    ],
)
def test_a_wrong_argument_is_named(source, options, message):
    save_table(holes=[None, None, None, *range(117)])
    Path("notes.txt").touch()
    with pytest.raises(ValueError, match=message) as caught:
        load(source, **options)
    assert "\n" not in str(caught.value)


def test_a_split_is_a_record_of_ten_parts():
    save_table(y=3 + 2 * X[:, 0])
    split = load("mine.csv").split(0)
    assert isinstance(split, Split)
    back = split.train_y * split.target_stddev + split.target_mean
    np.testing.assert_allclose(np.corrcoef(back, split.train_x[:, 0])[0, 1], 1, atol=1e-6)
    assert 2 < back.mean() < 4
