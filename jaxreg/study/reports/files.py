"""Writes files atomically: each appears complete or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

# Name of the file that holds the page.
PAGE = "report.html"


def check_folder(folder: str | Path, name: str = "--out") -> None:
    """Raises ValueError if files cannot be written to a folder, which need not exist yet.

    Args:
      folder: The folder; the check leaves no file in it.
      name: Name of the argument, for the message.

    Raises:
      ValueError: Files cannot be written to the folder.
    """
    if not str(folder):
        raise ValueError(f"`{name}` must be a folder, got nothing; pass . for the current one.")
    shown = os.fsencode(folder).decode("utf-8", "backslashreplace")
    if shown != str(folder):
        raise ValueError(f"`{name}` must be a folder with a name in UTF-8, got {shown}.")
    folder = Path(folder)
    existing = folder
    # `exists` is false for a broken link, but no folder can be made in its place.
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        what = "a broken link" if existing.is_symlink() and not existing.exists() else "a file"
        raise ValueError(f"`{name}` must be a folder, got {folder}, but {existing} is {what}.")
    if (folder / PAGE).is_dir():
        raise ValueError(
            f"`{name}` must be a folder for {PAGE}, got {folder}, but {PAGE} is a folder there."
        )
    try:
        # Permissions are not enough: a file system may be read-only, and root may write anywhere.
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise ValueError(
            f"`{name}` must be a folder to write to, got {folder}, but {existing} is not writable: "
            f"{error.strerror or error}."
        ) from error


def write_whole(path: Path, text: str) -> None:
    """Writes a text file atomically, so that not even a crash leaves it incomplete.

    Args:
      path: The file; its folder must exist. An existing file is replaced.
      text: Its content, written as UTF-8.
    """
    write_all(path.parent, {path.name: text})


def write_all(folder: Path, texts: Mapping[str, str]) -> None:
    """Writes text files under temporary names, then renames each to its final name.

    An error while writing, such as a full disk, therefore leaves the old files unchanged.

    Args:
      folder: An existing folder. Files with the same names are replaced.
      texts: Dictionary from file name to content, which is written as UTF-8.
    """
    contents = {name: text.encode("utf-8") for name, text in texts.items()}
    partial = {name: folder / f".{name}.{os.getpid()}.partial" for name in contents}
    try:
        for name, content in contents.items():
            with partial[name].open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for name in contents:
            partial[name].replace(folder / name)
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)
