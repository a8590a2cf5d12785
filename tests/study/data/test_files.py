"""Tables and arrays in files."""

import numpy as np
import pytest

from jaxreg.study.data import extras
from jaxreg.study.data.files import read_file

LINES = "name,größe,class\nx, 1.5,a\ny,?,b\n"


@pytest.mark.parametrize(
    ("name", "text", "encoding", "note"),
    [
        ("t.csv", LINES, "utf-8", None),
        ("t.csv", LINES, "utf-8-sig", None),
        ("t.csv", LINES, "cp1252", None),
        ("t.csv", LINES, "utf-16", None),
        ("t.CSV", LINES.replace(",", ";"), "utf-8", "Columns are separated by ;"),
        ("t.csv", LINES.replace(",", "\t"), "utf-8", "Columns are separated by tabs"),
        ("t.tsv", LINES.replace(",", "\t"), "utf-8", None),
        ("t.csv", LINES.replace(",", ";").replace(".", ","), "utf-8", "a decimal comma"),
    ],
)
def test_tables_of_text_are_read_as_people_save_them(tmp_path, name, text, encoding, note):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    found = read_file(path, "class", None)
    assert list(found.x.columns) == ["name", "größe"]
    np.testing.assert_array_equal(found.x["größe"], [1.5, np.nan])
    assert list(found.y) == ["a", "b"]
    notes = " ".join(found.notes)
    assert note in notes if note else not notes


def test_a_column_without_a_name_gets_one(tmp_path):
    (tmp_path / "t.csv").write_text(",a,y\n0,1,2\n1,3,4\n")
    assert list(read_file(tmp_path / "t.csv", "y", None).x.columns) == ["column 1", "a"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "a line of names and lines of values"),
        ("t.csv", "a,b\n\n", "a line of names and lines of values"),
        ("t.csv", "a,a,b\n1,2,3\n", "got two columns a; rename"),
        (
            "t.csv",
            "a,b\n1,2\n1,2,3,4\n",
            "as many cells as the first, .*Expected 2 .*correct that line",
        ),
        ("t.csv", "a,b\n1,2,3\n1,2,3\n", "as many cells as the first"),
        ("t.csv", "a\0b\n\0\n", "a text file"),
        ("t.npz", "no archive", r"be arrays saved by np.savez, got .*t\.npz\."),
    ],
)
def test_files_that_are_no_tables_raise(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=f"`data` must .*{message}"):
        read_file(tmp_path / name, "b", None)


def test_arrays_are_read_by_name(tmp_path):
    path = tmp_path / "t.npz"
    np.savez(path, x=np.ones((4, 2, 3)) / 2, y=list("abab"), who=[1, 1, 2, 2])
    found = read_file(path, None, "who")
    assert (found.kind, found.x.shape, list(found.y)) == ("series", (4, 2, 3), list("abab"))
    np.savez(path, x=np.array([None, 1]), y=[1, 2])
    with pytest.raises(ValueError, match=r"got .*, which contains Python objects; convert them"):
        read_file(path, None, None)


def test_parquet_asks_for_its_package_only_then(tmp_path, monkeypatch):
    def missing(module):
        raise ImportError(module)

    monkeypatch.setattr(extras, "import_module", missing)
    with pytest.raises(ImportError, match=r"needs pyarrow, .*; run: pip install pyarrow$"):
        read_file(tmp_path / "t.parquet", "y", None)
