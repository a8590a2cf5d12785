"""Rows and labels as a source holds them."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.datasets import load_iris

from jaxreg.study.data.raw import from_mapping, from_pair, from_table

Y = np.arange(12) % 2
FRAME = pd.DataFrame({" a ": np.arange(12) * 0.5, "who": list("xxyyzz") * 2, "class": Y})


def test_labels_and_groups_are_taken_out_of_a_table():
    found = from_table(FRAME, "class", "who")
    assert list(found.x.columns) == ["a"]
    assert list(found.y) == list(Y)
    assert list(found.groups) == list(FRAME["who"])
    assert found.kind == "table"
    assert list(from_table(FRAME, "a", None).x.columns) == ["who", "class"]


def test_a_usual_name_of_a_target_is_enough():
    found = from_table(FRAME, None, None)
    assert list(found.x.columns) == ["a", "who"]
    assert found.notes == ("Predicts the column class; `target` names another one.",)
    for frame in (FRAME.assign(Y=1), FRAME[["who"]]):
        with pytest.raises(ValueError, match=r"`target` must name .*, got none; pass one of "):
            from_table(frame, None, None)


@pytest.mark.parametrize(
    ("frame", "target", "groups", "message"),
    [
        (FRAME, "clas", None, "`target` must name a column .*, got clas; did you mean class"),
        (FRAME, "class", "q", r"`groups` must name a column .*, got q\.$"),
        (FRAME, "class", "class", "`groups` must not name the column of `target`, got class"),
        (FRAME[:0], "class", None, "`data` must contain rows, got an empty table"),
        (
            FRAME[["class"]],
            None,
            None,
            "`data` must contain a column besides `target`, got only class",
        ),
        (FRAME.assign(a=1), "class", None, "must have different column names, got two columns a;"),
    ],
)
def test_tables_without_the_columns_raise(frame, target, groups, message):
    with pytest.raises(ValueError, match=message):
        from_table(frame, target, groups)


@pytest.mark.parametrize(
    "names", [("x", "y"), ("X", "labels"), ("data", "target"), ("arr_0", "arr_1")]
)
def test_arrays_have_usual_names(names):
    found = from_mapping({names[0]: np.ones((12, 3)), names[1]: Y, "more": Y}, None, None)
    assert (found.x.shape, found.kind, found.groups) == ((12, 3), "table", None)
    np.testing.assert_array_equal(found.y, Y)


def test_arrays_may_be_named():
    arrays = {"x": np.ones((12, 3)), "y": Y, "groups": Y, "who": 1 - Y, "age": Y + 0.5}
    found = from_mapping(arrays, "age", "who")
    np.testing.assert_array_equal(found.y, Y + 0.5)
    np.testing.assert_array_equal(found.groups, 1 - Y)
    assert found.notes == ()
    found = from_mapping(arrays, None, None)
    np.testing.assert_array_equal(found.groups, Y)
    assert found.notes == ("Takes the groups from the array groups.",)
    bunch = from_mapping(load_iris(), None, None)
    assert (bunch.x.shape, len(bunch.y)) == ((150, 4), 150)
    with pytest.raises(ValueError, match=r"`data` must contain arrays named x and y .*, got x, z;"):
        from_mapping({"x": Y, "z": Y}, None, None)
    with pytest.raises(ValueError, match="`target` must name an array of the data, one of"):
        from_mapping(arrays, "agee", None)


@pytest.mark.parametrize(
    ("x", "kind", "shape"),
    [
        (np.zeros(12), "table", (12, 1)),
        (np.zeros((12, 3), np.uint8), "table", (12, 3)),
        (sparse.eye_array(12), "table", (12, 12)),
        (np.full((12, 5, 4), 200, np.uint8), "image", (12, 5, 4, 1)),
        (np.full((12, 5, 4), 200.0), "image", (12, 5, 4, 1)),
        (np.full((12, 5, 4), True), "image", (12, 5, 4, 1)),
        (np.full((12, 5, 4), 256), "series", (12, 5, 4)),
        (np.full((12, 5, 4), -1), "series", (12, 5, 4)),
        (np.full((12, 5, 4), 0.5), "series", (12, 5, 4)),
        (np.full((12, 5, 4, 3), 0.5), "image", (12, 5, 4, 3)),
        (np.full((12, 3, 8, 8), 0.5), "image", (12, 8, 8, 3)),
    ],
)
def test_the_kind_of_arrays_follows_from_shape_and_values(x, kind, shape):
    found = from_pair(x, Y)
    assert (found.kind, found.x.shape) == (kind, shape)


def test_channels_move_to_the_end():
    x = np.random.default_rng(0).normal(size=(12, 3, 8, 8))
    np.testing.assert_array_equal(from_pair(x, Y).x[..., 1], x[:, 1])


def test_flat_pixels_get_a_hint():
    assert "the shape [rows, 8, 8]" in from_pair(np.zeros((12, 64)), Y).notes[0]
    assert from_pair(np.zeros((12, 64)) + 0.5, Y).notes == ()
    assert from_pair(np.zeros((12, 49)), Y).notes == ()


def test_texts_and_word_ids_are_texts():
    assert from_pair(["a b"] * 12, Y).kind == "text"
    assert from_pair(np.array(["a b"] * 12), Y).x[3] == "a b"
    found = from_mapping({"tokens": np.ones((12, 4), np.int64), "y": Y}, None, None)
    assert (found.kind, found.x.dtype) == ("tokens", np.int32)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.ones((12, 2)), Y[1:], "as many rows in x as in y, got 12 and 11"),
        (np.ones((0, 2)), Y[:0], "rows, got none"),
        (np.full((12, 2, 2), np.nan), Y, "finite numbers in x, got 48 others"),
        (np.ones((12, 2, 2), complex), Y, "x as numbers .*, got complex128 of shape"),
        (np.ones((12, 1, 1, 1, 1)), Y, "x as numbers .*, got float64 of shape"),
        ([[1.0], [1.0, 2.0]], Y[:2], "x with rows of the same shape"),
        (3.0, Y, "x as an array, got float"),
    ],
)
def test_arrays_of_no_kind_raise(x, y, message):
    with pytest.raises(ValueError, match=f"`data` must (contain|have) {message}"):
        from_pair(x, y)


@pytest.mark.parametrize("tokens", [np.ones((12, 4)), np.full((12, 4), -1), np.ones(12, int)])
def test_tokens_of_another_form_raise(tokens):
    with pytest.raises(ValueError, match=r"`data` must contain tokens as integers .rows, length"):
        from_pair(tokens, Y, tokens=True)


def test_groups_have_a_cell_for_each_row():
    with pytest.raises(ValueError, match="as many rows in x as in groups, got 12 and 3"):
        from_pair(np.ones((12, 2)), Y, Y[:3])
