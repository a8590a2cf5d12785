"""Files that appear whole or not at all."""

import os

import pytest

from jaxreg.study.reports import files


def test_folders_that_cannot_take_a_report_raise(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "report.html").mkdir()
    with pytest.raises(ValueError, match="is a broken link"):
        files.check_folder(tmp_path / "link")
    with pytest.raises(ValueError, match=r"for report\.html, got"):
        files.check_folder(tmp_path)
    with pytest.raises(ValueError, match="with a name in UTF-8"):
        files.check_folder(tmp_path / os.fsdecode(b"\xff"))


def test_files_appear_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "results.csv"
    files.write_whole(path, "first\n")
    files.write_whole(path, "zweite Zeile: ä\n")
    assert path.read_text(encoding="utf-8") == "zweite Zeile: ä\n"

    def fail(_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        files.write_whole(path, "third\n")
    assert path.read_text(encoding="utf-8") == "zweite Zeile: ä\n"
    with pytest.raises(UnicodeEncodeError):
        files.write_all(tmp_path, {"a": "whole", "results.csv": "\ud800"})
    assert [file.name for file in tmp_path.iterdir()] == ["results.csv"]


def test_several_files_are_written_under_their_names(tmp_path):
    files.write_all(tmp_path, {"a": "one\n", "b": "zwei ä\n"})
    assert (tmp_path / "a").read_bytes() == b"one\n"
    assert (tmp_path / "b").read_bytes() == "zwei ä\n".encode()
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_a_folder_that_is_not_there_yet_is_fine(tmp_path):
    files.check_folder(tmp_path / "new" / "report")
    files.check_folder(str(tmp_path))
    assert not list(tmp_path.iterdir())
    (tmp_path / "taken").touch()
    with pytest.raises(ValueError, match=r"got .*report, but .*taken is a file"):
        files.check_folder(tmp_path / "taken" / "report")
    with pytest.raises(ValueError, match="`--out` must be a folder, got nothing"):
        files.check_folder("")
