"""A journal of finished runs, from which an interrupted study resumes."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.study.recipes import Recipe
from jaxreg.study.runs import Runs

Key = tuple[Recipe, int]


class Journal:
    """Finished runs by recipe and seed, in memory and, if there is a folder, on disk.

    A file contains the runs of one call. It appears whole or not at all, so a process may end at
    any moment; a file that cannot be read counts as absent.

    Args:
      folder: Folder of the files; None keeps the runs only in memory.

    Example:
      >>> from jaxreg.study import Recipe
      >>> from jaxreg.study.journal import Journal
      >>> (Recipe(), 0) in Journal()
      False
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._runs: dict[tuple[str, int], Runs] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.glob("*.npz")):
                self._runs |= _read(path)

    def __contains__(self, key: Key) -> bool:
        return _name(*key) in self._runs

    def __getitem__(self, key: Key) -> Runs:
        return self._runs[_name(*key)]

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, runs: Mapping[Key, Runs]) -> None:
        """Adds finished runs, and writes them to a new file of the folder."""
        named = {_name(*key): run for key, run in runs.items()}
        self._runs |= named
        if self._folder is not None:
            _write(self._folder / f"{len(self._runs):06}-{os.getpid()}.npz", named)


def _name(recipe: Recipe, seed: int) -> tuple[str, int]:
    return json.dumps(dict(recipe), default=_as_json), seed


def _as_json(value: Any) -> Any:
    """Returns a policy or a NumPy number as JSON."""
    return value.item() if isinstance(value, np.generic) else vars(value)


def _write(path: Path, runs: Mapping[tuple[str, int], Runs]) -> None:
    arrays: dict[str, Any] = {}
    for index, ((recipe, seed), run) in enumerate(runs.items()):
        arrays[f"{index}/key"] = np.array([recipe, str(seed)])
        for name, value in run._asdict().items():
            values = value if isinstance(value, dict) else {"": value}
            for own, array in values.items():
                if array is not None:
                    arrays[f"{index}/{name}/{own}"] = array
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _read(path: Path) -> dict[tuple[str, int], Runs]:
    """Returns the runs of a file; none if it is damaged or of another version."""
    try:
        with path.open("rb") as file, np.load(file) as loaded:
            arrays = dict(loaded)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return {}
    runs = {}
    indices = {name.partition("/")[0] for name in arrays}
    for index in sorted(indices, key=int):
        recipe, seed = arrays[f"{index}/key"]
        fields: dict[str, Any] = {"others": {}}
        for name, array in arrays.items():
            own, _, rest = name.partition("/")
            field, _, metric = rest.partition("/")
            if own != index or rest == "key":
                continue
            if field == "others":
                fields["others"][metric] = array
            else:
                fields[field] = array
        runs[str(recipe), int(seed)] = Runs(**fields)
    return runs
