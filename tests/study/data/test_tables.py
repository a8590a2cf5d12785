"""Tables as rows of numbers."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from jaxreg.study.data.tables import prepare_table

RNG = np.random.default_rng(0)
I = np.arange(200)  # noqa: E741
TRAIN = RNG.permutation(200)[:80]


def prepare(rows=TRAIN, **columns):
    """The preparation, and all rows as it encodes them."""
    found = prepare_table(pd.DataFrame(columns))
    return found, found.fit(rows).encode(I)


def test_numbers_are_standardized_by_the_training_rows():
    values = RNG.normal(5, 3, 200)
    found, rows = prepare(a=values, b=values * 1e-6)
    assert found.kind == "table"
    assert rows.dtype == np.float32
    want = (values - values[TRAIN].mean()) / values[TRAIN].std()
    np.testing.assert_allclose(rows, np.stack([want, want], axis=1), atol=1e-5)


def test_missing_numbers_get_the_median_and_a_mark():
    values = RNG.normal(size=200)
    holes = np.where(I % 10 == 0, np.nan, values)
    _, rows = prepare(a=holes)
    known = holes[TRAIN]
    filled = np.where(np.isnan(known), np.nanmedian(known), known)
    want = (np.nanmedian(known) - filled.mean()) / filled.std()
    np.testing.assert_allclose(rows[::10, 0], want, atol=1e-6)
    np.testing.assert_array_equal(rows[:, 1], I % 10 == 0)


def test_a_column_that_is_missing_in_training_is_zero():
    holes = np.where(np.isin(I, TRAIN), np.nan, 0.5 + I % 7)
    _, rows = prepare(a=holes, b=RNG.normal(size=200))
    np.testing.assert_array_equal(rows[TRAIN, 0], 0)
    assert np.isfinite(rows).all()


def test_a_column_that_is_constant_in_training_is_scaled_by_one():
    _, rows = prepare(a=np.where(np.isin(I, TRAIN), 1 / 3, 1 / 3 + 0.01 * (I % 7)))
    np.testing.assert_allclose(rows[TRAIN], 0, atol=1e-6)
    assert abs(rows).max() < 0.1


def test_categories_become_one_column_each():
    colors = np.array(["blue", "red", "green"])[I % 3]
    found, rows = prepare(a=colors, b=RNG.normal(size=200))
    assert found.notes == ()
    np.testing.assert_array_equal(rows[:, 1:], np.eye(3)[[[0, 2, 1][i % 3] for i in I]])


def test_a_category_that_is_not_in_training_is_zero():
    colors = np.array(["blue", "red"], object)[I % 2]
    colors[~np.isin(I, TRAIN) & (I > 100)] = "white"
    _, rows = prepare(a=colors)
    assert rows.shape == (200, 3)
    np.testing.assert_array_equal(rows[colors == "white"], 0)
    assert (rows[colors != "white"].sum(axis=1) == 1).all()


def test_the_rarest_of_many_categories_share_a_column():
    words = np.array([f"w{int(i)}" for i in RNG.exponential(12, 200)])
    found, rows = prepare(a=words)
    assert rows.shape == (200, 20)
    assert found.notes[0].startswith("Joined the rarest categories, so that 20 are left: a (")
    frequent = pd.Series(words[TRAIN]).value_counts().index[0]
    column = rows[words == frequent][0].argmax()
    np.testing.assert_array_equal(rows[:, column], words == frequent)
    # Unknown categories belong to the rare ones.
    np.testing.assert_array_equal(rows.sum(axis=1), 1)


def test_heavy_tails_become_normal():
    income = RNG.lognormal(0, 2, 200)
    income[3] = 1e9
    found, rows = prepare(a=income, b=RNG.normal(size=200))
    assert found.notes == ("Heavy tails, mapped to normal quantiles: a.",)
    # Columns with heavy tails come after the other numbers.
    column = rows[:, 1]
    np.testing.assert_allclose(column[TRAIN].mean(), 0, atol=1e-5)
    np.testing.assert_allclose(column[TRAIN].std(), 1, atol=1e-5)
    assert stats.spearmanr(column, income).statistic > 0.999
    scores = stats.norm.ppf((stats.rankdata(income[TRAIN]) - 0.5) / 80)
    assert np.corrcoef(column[TRAIN], scores)[0, 1] > 0.99
    # Quantiles 0 and 1 would be 5.2 deviations away.
    assert 2.5 < abs(column).max() < 3.5


def test_few_values_have_no_heavy_tails():
    found, _ = prepare(a=(I == 3).astype(float), b=RNG.exponential(size=200))
    assert found.notes == ()


def test_every_seed_has_as_many_features():
    words = np.array([f"w{int(i)}" for i in RNG.exponential(4, 200)])
    found = prepare_table(pd.DataFrame({"a": words, "b": np.where(I < 3, np.nan, I**2)}))
    shapes = {found.fit(RNG.permutation(200)[:30]).encode(I).shape for _ in range(10)}
    assert len(shapes) == 1


def test_a_table_of_texts_alone_is_a_text():
    found, rows = prepare(a=[f"it is a {'good' if i % 2 else 'bad'} day {i}" for i in I], name=I)
    assert (found.kind, rows.dtype) == ("text", np.int32)
    assert found.notes[0] == "Left out as numbers of the rows: name."
    both, _ = prepare(a=["one two three"] * 50 + [f"{i} two three" for i in range(150)])
    assert both.kind == "text"


def test_texts_beside_other_columns_are_left_out():
    found, rows = prepare(a=[f"it is a good day {i}" for i in I], b=RNG.normal(size=200))
    assert rows.shape == (200, 1)
    assert found.notes[0].startswith("Left out texts: a; give a table of such a column")


def test_a_table_that_says_nothing_raises():
    with pytest.raises(ValueError, match=r"`data` must contain a column .* in every row: a, b"):
        prepare(a=np.full(200, 0.1), b=["x"] * 200)
