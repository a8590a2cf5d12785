"""Reads tables and arrays from files."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.study.data.extras import extra
from jaxreg.study.data.raw import Raw, from_mapping, from_table

SUFFIXES = (".csv", ".tsv", ".parquet", ".npz")


def read_file(path: Path, target: str | None, groups: str | None) -> Raw:
    """Reads a file by its suffix, one of ``SUFFIXES``.

    Args:
      path: The file.
      target: Name of the column or array of labels.
      groups: Name of the column or array of groups.

    Raises:
      ValueError: The file is not readable, or lacks a column or an array.
      ImportError: A package to read it is missing.
    """
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return from_mapping(_read_arrays(path), target, groups)
    if suffix == ".parquet":
        return from_table(_read_parquet(path), target, groups)
    frame, notes = _read_text(path)
    raw = from_table(frame, target, groups)
    return raw._replace(notes=(*notes, *raw.notes))


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        hint = ""
        if str(error).startswith("Object arrays"):
            hint = (
                ", which contains Python objects; convert them by `astype(float)` or `astype(str)`"
            )
        raise ValueError(f"`data` must be arrays saved by np.savez, got {path}{hint}.") from error


def _read_parquet(path: Path) -> Any:
    pyarrow = extra("pyarrow", install="pyarrow")
    try:
        return extra("pandas").read_parquet(path, engine="pyarrow")
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise ValueError(f"`data` must be a table in Parquet format, got {path}.") from error


def _read_text(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Reads a file of comma-separated, or otherwise separated, values."""
    head, encoding = _read_head(path)
    notes = ()
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    decimal = "."
    if separator not in head[0]:
        others = [each for each in (",", ";", "\t", "|") if each in head[0]]
        if others:
            separator = others[0]
            name = {"\t": "tabs"}.get(separator, separator)
            notes = (f"Columns are separated by {name}, as the first line says.",)
    if separator == ";" and _has_decimal_commas(head[1:]):
        decimal = ","
        notes += ("Numbers have a decimal comma.",)
    options = {"sep": separator, "encoding": encoding, "skipinitialspace": True}
    return _parse(path, {**options, "decimal": decimal}), notes


def _parse(path: Path, options: dict[str, Any]) -> Any:
    """Reads a table, and keeps the names in its first line as they are."""
    pandas = extra("pandas")
    try:
        with warnings.catch_warnings():
            # A line with too many cells would be cut with no more than a warning.
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            head = pandas.read_csv(path, header=None, nrows=1, dtype=str, **options)
            frame = pandas.read_csv(
                path, na_values=["?"], index_col=False, low_memory=False, **options
            )
    except (pandas.errors.ParserWarning, ValueError) as error:
        text = " ".join(str(error).split()).removeprefix("Error tokenizing data. C error: ")
        raise ValueError(
            f"`data` must be a table whose lines have as many cells as the first, got {path}: "
            f"{text}; correct that line."
        ) from error
    names = head.iloc[0].to_list()
    if len(names) == len(frame.columns):
        # Pandas would rename the second of two columns with the same name.
        frame.columns = [
            name if isinstance(name, str) else f"column {i}" for i, name in enumerate(names, 1)
        ]
    return frame


def _read_head(path: Path) -> tuple[list[str], str]:
    """Returns the first lines of a file, and its encoding."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"`data` must be readable, got {path}: {error.strerror}.") from error
    encoding = "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "cp1252"
        text = content.decode(encoding, errors="replace")
    if "\0" in text:
        raise ValueError(f"`data` must be a text file, got bytes that are not text in {path}.")
    lines = [line for line in text.splitlines()[:50] if line.strip()]
    if len(lines) < 2:
        raise ValueError(f"`data` must contain a line of names and lines of values, got {path}.")
    return lines, encoding


def _has_decimal_commas(lines: list[str]) -> bool:
    cells = [cell.strip() for line in lines for cell in line.split(";")]
    parts = [cell.partition(",") for cell in cells]
    return any(
        left.lstrip("-").isdigit() and right.isdigit() for left, comma, right in parts if comma
    )
