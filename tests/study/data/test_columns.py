"""Columns of a table by what they hold."""

import numpy as np
import pandas as pd
import pytest

from jaxreg.study.data.columns import note_repeats, read_columns

RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=40)
I = np.arange(40)  # noqa: E741


def read(*columns, **named):
    return read_columns(pd.DataFrame({**dict(columns), **named}))


def test_numbers_and_truth_values_become_numbers():
    found = read(
        a=NOISE,
        b=I % 2 == 0,
        c=pd.Series(I % 5, dtype="Int64"),
        d=np.array(["True", "false"])[I % 2],
        e=pd.to_timedelta(I**2, unit="s"),
        f=[f" {i % 7}.5" for i in I],
    )
    assert list(found.numbers) == list("abcdef")
    np.testing.assert_array_equal(found.numbers["a"], NOISE)
    np.testing.assert_array_equal(found.numbers["b"], (I + 1) % 2)
    np.testing.assert_array_equal(found.numbers["d"], (I + 1) % 2)
    np.testing.assert_array_equal(found.numbers["e"], I**2)
    np.testing.assert_array_equal(found.numbers["f"], I % 7 + 0.5)
    assert all(values.dtype == np.float64 for values in found.numbers.values())
    assert found.notes() == ()


def test_missing_cells_are_marked_and_counted():
    holes = np.where(I % 10 == 0, np.nan, NOISE)
    truth = np.where(I % 20 == 0, None, I % 2 == 0)
    words = np.where(I % 10 == 0, None, np.array(["a", "b"], object)[I % 2])
    found = read(a=holes, b=truth, c=words, d=["", *"xy" * 19, "x"])
    assert np.isnan(found.numbers["a"]).sum() == 4
    np.testing.assert_array_equal(found.flags["a"], I % 10 == 0)
    np.testing.assert_array_equal(found.flags["b"], I % 20 == 0)
    assert set(found.categories["c"]) == {"a", "b", "(missing)"}
    assert set(found.categories["d"]) == {"x", "y", "(missing)"}
    assert found.notes() == (
        "Filled missing cells with the median, and marked them: a (4), b (2).",
        "Missing cells are a category of their own: c, d.",
    )


def test_infinite_cells_count_as_missing():
    found = read(a=np.append(NOISE[1:], np.inf))
    assert np.flatnonzero(found.flags["a"]).tolist() == [39]
    assert "Took infinite cells of a for missing: 1." in found.notes()


def test_words_among_numbers_count_as_missing():
    cells = [str(i * 3) for i in I]
    cells[7:10] = ["unknown", "n/k", "unknown"]
    found = read(a=cells, b=[*cells[:8], *["much"] * 5, *cells[13:]])
    assert np.isnan(found.numbers["a"]).sum() == 3
    assert "Took cells of a that are no numbers for missing: unknown, n/k." in found.notes()
    assert "b" in found.categories


def test_columns_that_say_nothing_are_left_out():
    found = read(
        ("Unnamed: 0", I + 5),
        ("Patient ID", RNG.permutation(40) * 3),
        a=0.1,
        b="x",
        c=[None] * 40,
        d=[f"n{i}" for i in I],
        e=["", " "] * 20,
        f=pd.to_datetime(["2020-01-01"] * 40),
        kept=RNG.permutation(40),
        grid=RNG.permutation(40) * 3,
    )
    assert found.left == {
        "numbers of the rows": ["Unnamed: 0"],
        "different in every row": ["Patient ID", "d"],
        "the same in every row": ["a", "b", "f"],
        "empty": ["c", "e"],
    }
    assert list(found.numbers) == ["kept", "grid"]
    assert found.notes()[1] == "Left out as different in every row: Patient ID, d."


def test_few_rows_have_no_ids():
    found = read(a=[1, 2, 3], b=["x", "y", "z"])
    assert (list(found.numbers), list(found.categories)) == (["a"], ["b"])


def test_categories_of_numbers_stay_categories():
    found = read(a=pd.Series(I % 3, dtype="category"), b=[f" {'xy'[i % 2]} " for i in I])
    assert set(found.categories["a"]) == {"0", "1", "2"}
    assert set(found.categories["b"]) == {"x", "y"}


def test_texts_are_told_from_ids_and_categories():
    texts = [f"the number {i} is here" for i in I]
    found = read(a=texts, b=np.array(["one of two", "two of two"])[I % 2])
    assert list(found.texts) == ["a"]
    assert list(found.categories) == ["b"]
    texts[3] = None
    assert read(a=texts).texts["a"][3] == ""
    assert list(read(a=[f"name{i}" for i in I]).texts) == ["a"]


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%d",
        "%Y-%m-%dT%H:%M:%S+02:00",
        "%Y/%m/%d",
        "%d.%m.%Y %H:%M",
        "%d/%m/%Y",
        "%m/%d/%Y",
        "%d-%b-%Y",
    ],
)
def test_dates_become_days_months_weekdays_and_hours(form):
    dates = pd.Series(pd.date_range("2021-01-01", periods=40, freq="1000min"))
    found = read(when=dates.dt.strftime(form))
    days = found.numbers["when (days)"]
    whole = "H" not in form
    hours = 2 if "+" in form else 0
    want = (dates.dt.floor("D") if whole else dates) - pd.Timestamp(0) - pd.Timedelta(hours=hours)
    np.testing.assert_allclose(days, want / pd.Timedelta(days=1), atol=1e-3)
    assert set(found.numbers["when (weekday)"]) == set(range(7))
    assert ("when (hour)" in found.numbers) != whole
    # A day above 12 tells the order of day and month.
    assert not any(note.startswith("Read the dates") for note in found.notes())


def test_dates_of_which_the_order_is_not_known_are_named():
    found = read(when=[f"0{1 + i % 9}/0{1 + i % 7}/2020" for i in I])
    assert "Read the dates of when as %m/%d/%Y, not as %d/%m/%Y." in found.notes()
    assert found.numbers["when (month)"].max() == 9


def test_dates_may_be_missing():
    dates = pd.Series(pd.date_range("2021-01-01", periods=40))
    dates[3] = pd.NaT
    found = read(when=dates)
    assert np.flatnonzero(found.flags["when (days)"]).tolist() == [3]
    assert found.numbers["when (weekday)"][0] == 4


@pytest.mark.parametrize("word", ["may", "mon", "2021", "12:30", "1.2.3", "99/99/2020"])
def test_words_that_are_no_dates_are_categories(word):
    assert list(read(a=[word, "other"] * 20).categories) == ["a"]
    assert list(read(a=[word, "2020-01-01"] * 20).categories) == ["a"]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (np.append(NOISE[1:], 1e200), r"numbers up to 1e\+100, got 1e\+200 in the column a"),
        (NOISE * 1j, "real numbers, got complex ones in column a"),
    ],
)
def test_numbers_out_of_range_raise(cells, message):
    with pytest.raises(ValueError, match=f"`data` must contain {message}"):
        read(a=cells)


def test_repeated_rows_are_counted_with_their_labels():
    frame = pd.DataFrame({"a": [1, 1, 1, 2], "b": list("xxxx")})
    assert note_repeats(frame, [0, 0, 1, 0])[0].startswith("Repeated rows: 1 row.")
    assert note_repeats(frame, [0, 2, 1, 0]) == ()
