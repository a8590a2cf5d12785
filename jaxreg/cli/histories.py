"""Reads loss histories from the files of a study, or from CSV and JSON files of the user."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.diagnosis import CURVE_NAMES

History = dict[str, Any]
# Name of the history in a file without arms.
SINGLE_RUN = ""


def read(path: str | Path) -> dict[str, History]:
    """Reads the loss history of each arm from a CSV or JSON file.

    A CSV file has a header with ``train_loss`` and other curves, and a line per epoch. A column
    ``arm`` separates several runs, and a column ``seed`` the seeds of each run, as in the files of
    a study. A JSON file holds an object of lists, or a list of objects with the same names.

    Args:
      path: A file, or the folder of a study, whose ``history.csv`` is read.

    Returns:
      Dictionary from the name of each arm to its history; the name is ``""`` without arms.

    Raises:
      ValueError: There is no such file, or it holds no history.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "history.csv"
    if path.suffix not in (".csv", ".json"):
        raise ValueError(f"`HISTORY` must be a .csv or .json file or a study's folder, got {path}.")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ValueError(f"`HISTORY` must be a file, got {path}, which does not exist.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"`HISTORY` must be text in UTF-8, got {path}: {error}.") from error
    return _from_json(text, path) if path.suffix == ".json" else _from_csv(text, path)


def _from_json(text: str, path: Path) -> dict[str, History]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"`HISTORY` must be JSON, got {path}: {error}.") from error
    if isinstance(value, Mapping):
        fields = [name for name in CURVE_NAMES if name in value]
        if not fields:
            _check_empty(value, path)
        return {SINGLE_RUN: {name: _numbers(value[name], name, path) for name in fields}}
    if isinstance(value, list) and all(isinstance(row, Mapping) for row in value):
        return _by_arm(value, path)
    raise ValueError(
        f"`HISTORY` must be an object of lists or a list of objects, got {path} with "
        f"{type(value).__name__}."
    )


def _from_csv(text: str, path: Path) -> dict[str, History]:
    return _by_arm(list(csv.DictReader(text.splitlines())), path, csv_head=text.partition("\n")[0])


def _by_arm(
    rows: list[Mapping[str, Any]], path: Path, csv_head: str | None = None
) -> dict[str, History]:
    """Groups rows by arm, in the order of the file, and returns the history of each arm."""
    names = set().union(*rows) if rows else set((csv_head or "").split(","))
    fields = [name for name in CURVE_NAMES if name in names]
    if not fields and (rows or csv_head):
        _check_empty(names, path)
    arms: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        arms.setdefault(str(row.get("arm", SINGLE_RUN)), []).append(row)
    if not arms:
        return {SINGLE_RUN: {}}
    return {arm: {name: _by_seed(own, name, path) for name in fields} for arm, own in arms.items()}


def _by_seed(rows: list[Mapping[str, Any]], name: str, path: Path) -> np.ndarray:
    """Returns the curve ``name`` as an array ``[epochs, seeds]``."""
    seeds: dict[str, list[Any]] = {}
    for row in rows:
        seeds.setdefault(str(row.get("seed", "")), []).append(row.get(name))
    columns = [_numbers(column, name, path) for column in seeds.values()]
    if len({column.size for column in columns}) > 1:
        raise ValueError(f"`HISTORY` must have the same epochs for every seed, got {path}.")
    return np.stack(columns, axis=1)


def _numbers(column: Any, name: str, path: Path) -> np.ndarray:
    """Converts a column to an array of floats; empty cells and None become NaN."""
    if not isinstance(column, Iterable) or isinstance(column, str):
        raise ValueError(f"`HISTORY` must hold a list under {name}, got {column!r:.40} in {path}.")
    values = [math.nan if value in (None, "") else value for value in column]
    try:
        return np.array([float(value) for value in values])
    except (TypeError, ValueError) as error:
        message = f"`HISTORY` must hold only numbers in {name}, got in {path}: {error}."
        raise ValueError(message) from error


def _check_empty(names: Iterable[str], path: Path) -> None:
    """Raises ValueError if a file without losses has columns of other names."""
    found = ", ".join(sorted(map(str, names)))
    if found:
        raise ValueError(
            f"`HISTORY` must have train_loss and validation_loss, got {path} with {found}."
        )
