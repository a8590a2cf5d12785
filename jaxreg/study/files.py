"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def check_folder(folder: Path) -> None:
    """Raises unless files can be written to a folder, which need not exist yet.

    Args:
      folder: The folder; nothing is created.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise ValueError(f"`--out` must be a folder, got {folder}, but {existing} is a file.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(
            f"`--out` must be a folder to write to, got {folder}, but {existing} is read-only."
        )


def write_whole(path: Path, text: str) -> None:
    """Writes a text file so that nobody ever sees a part of it, even after a crash.

    Args:
      path: The file; its folder must exist. A file of that name is replaced.
      text: Its content, written as UTF-8.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
