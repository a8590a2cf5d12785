"""Functions of the user's own, by their names."""

import json
import sys

import pytest

from jaxreg.cli.loading import load_function


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_functions_are_loaded_by_name():
    assert load_function("json.decoder:scanstring") is json.decoder.scanstring


def test_modules_of_the_current_folder_are_in_reach(folder, monkeypatch):
    (folder / "own_setup.py").write_text("def make():\n    return 7\n\nconstant = 3\n")
    before = list(sys.path)
    assert load_function("own_setup:make")() == 7
    assert sys.path == before
    monkeypatch.delitem(sys.modules, "own_setup")
    monkeypatch.syspath_prepend(folder)
    before = list(sys.path)
    assert load_function("own_setup:make")() == 7
    assert sys.path == before
    for name in ("absent", "constant"):
        with pytest.raises(ValueError, match=f"'own_setup' must have a function '{name}'"):
            load_function(f"own_setup:{name}")
    monkeypatch.delitem(sys.modules, "own_setup")


@pytest.mark.parametrize("spec", ["json", "json:", ":loads", "json:not a name", ""])
def test_what_is_no_name_raises(spec):
    with pytest.raises(ValueError, match="must be given as MODULE:FUNCTION, got"):
        load_function(spec)


def test_a_module_that_is_not_there_raises():
    before = list(sys.path)
    with pytest.raises(ImportError, match=r"cannot import 'nowhere.at.all' of nowhere.at.all:make"):
        load_function("nowhere.at.all:make")
    assert sys.path == before
