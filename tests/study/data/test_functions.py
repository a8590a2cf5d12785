"""Functions of the user by file or module."""

import sys

import pytest

from jaxreg.study.data.functions import load_function


def test_functions_of_files_and_modules_are_found(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "beside_it.py").write_text("NUMBER = 7\n")
    (tmp_path / "deep" / "own_data.py").write_text(
        "from beside_it import NUMBER\ndef make():\n    return NUMBER\n"
    )
    (tmp_path / "own_module.py").write_text("def make():\n    return 8\n")
    monkeypatch.chdir(tmp_path)
    assert load_function("deep/own_data.py:make")() == 7
    assert load_function(f"{tmp_path}/deep/own_data.py:make")() == 7
    assert load_function("own_module:make")() == 8
    (tmp_path / "dated.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Point:\n    x: int\ndef make():\n    return Point(3)\n"
    )
    assert load_function("dated.py:make")().x == 3
    # A file is read again, and one called like a module does not take its place.
    (tmp_path / "json.py").write_text("def make():\n    return 9\n")
    assert load_function("json.py:make")() == 9
    assert load_function("json:dumps")(1) == "1"


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("own.py", ValueError, "must be FILE.py:FUNCTION or MODULE:FUNCTION, got own.py"),
        ("own.py:", ValueError, "must be FILE.py:FUNCTION or MODULE:FUNCTION, got own.py:"),
        ("nowhere.py:f", ValueError, "must name an existing file, got nowhere.py"),
        ("own.py:mak", ValueError, "must name a function of own.py, one of make, got mak; did you"),
        ("broken.py:f", ValueError, "must be importable, but broken.py raised SyntaxError: "),
        ("raising.py:f", ValueError, "must be importable, but raising.py raised ValueError: inv"),
        ("empty.py:f", ValueError, "must name a function of empty.py, but there is none, got f"),
        ("lacking.py:f", ImportError, "cannot import lacking.py for `data`: No module named 'no"),
        ("no_such_module:f", ImportError, "cannot import no_such_module for `data`: No module"),
    ],
)
def test_functions_that_cannot_be_imported_raise_one_line(
    tmp_path, monkeypatch, address, error, message
):
    for name, text in {
        "own": "def make(): pass", "broken": "def f(:", "raising": "int('x')", "empty": "",
        "lacking": "import no_such_package",
    }.items():  # fmt: skip
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message) as caught:
        load_function(address)
    assert "`data`" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert address.partition(".")[0] not in {"broken", "raising", "lacking"} & set(sys.modules)
