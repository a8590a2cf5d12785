"""Tables in text: CSV with any delimiter, and JSON with one value or a value a line."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from typing import Any

from jaxreg.diagnosis import _shapes
from jaxreg.diagnosis._tables import Table, is_numeric, of_records

_DELIMITERS = "\t;,|"
_RULER = re.compile(r"[\s|:+=-]+")
_EXCEL = re.compile(r'"?sep=(.)"?')
_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")


def decode(data: bytes, place: str) -> str:
    """Decodes UTF-8, or UTF-16 with a byte-order mark.

    Raises:
      ValueError: The bytes are no text.
    """
    encoding = "utf-16" if data.startswith(_BYTE_ORDER_MARKS) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"`source` must be text in UTF-8, got {place}: {error}; export the "
                         "history as CSV or JSON.") from error  # fmt: skip
    return text


def parse(text: str, place: str) -> Table:
    """Returns the table in a text: JSON if it begins as JSON, else CSV.

    Raises:
      ValueError: The text is neither.
    """
    begin = text.lstrip()[:1]
    return _from_json(text, place) if begin in ("{", "[") else _from_csv(text, place)


def _from_json(text: str, place: str) -> Table:
    try:
        value = _load(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"`source` must be JSON, got {place}: {error}.") from error
    except _DoubleName as error:
        raise ValueError(f"`source` must have one {error} in an object, got two in {place}; rename "
                         "one.") from error  # fmt: skip
    return _shapes.read(value, place)


class _DoubleName(Exception):
    """A name that an object of a JSON file has twice."""


def _load(text: str) -> Any:
    """Returns the value of a text, or the list of its values if every line has one."""
    try:
        return json.loads(text, object_pairs_hook=_without_doubles)
    except json.JSONDecodeError:
        rows = _from_lines(text)
        if rows is None:
            raise
        return rows


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _DoubleName(name)
        found[name] = value
    return found


def _from_lines(text: str) -> list[Any] | None:
    """Returns the values of a text with a JSON value a line; the last one may be cut off."""
    lines = [line for line in text.splitlines() if line.strip()]
    rows = []
    for number, line in enumerate(lines):
        try:
            rows.append(json.loads(line, object_pairs_hook=_without_doubles))
        except json.JSONDecodeError:
            if number == 0 or number < len(lines) - 1:
                return None
    return rows if len(lines) > 1 else None


def _from_csv(text: str, place: str) -> Table:
    lines = [line for line in text.splitlines() if line and not _RULER.fullmatch(line)]
    excel = _EXCEL.fullmatch(lines[0].strip()) if lines else None
    remarks = [line.strip() for line in lines if line.lstrip().startswith("#")]
    lines = [line for line in lines[1 if excel else 0 :] if not line.lstrip().startswith("#")]
    if not lines:
        return Table((), ())
    delimiter = excel.group(1) if excel else _delimiter(lines)
    try:
        rows = _rows(lines, delimiter)
        comments = _rows([remark.lstrip("# ") for remark in remarks], delimiter)
    except csv.Error as error:
        raise ValueError(f"`source` must be CSV or JSON, got {place}: {error}.") from error
    head = rows[0]
    if is_numeric(head):
        # NumPy writes the names as a remark.
        named = [row for row in comments if len(row) == len(head)]
        if not named:
            return of_records(rows)
        head = named[-1]
    rows = [row for row in rows if row != head]
    _check_widths(rows, head, place)
    return of_records([row[: len(head)] for row in rows], head)


def _delimiter(lines: Sequence[str]) -> str:
    """Returns the first delimiter in the head outside of quotes; blanks if there is none."""
    head = re.sub(r'"[^"]*"', "", lines[0])
    found = next((mark for mark in _DELIMITERS if mark in head), "")
    if found:
        return found
    width = len(lines[0].split())
    agrees = width > 1 and all(len(line.split()) == width for line in lines[1:2])
    return " " if agrees else ","


def _rows(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    if delimiter == " ":
        return [line.split() for line in lines]
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    return [[cell.strip() for cell in row] for row in reader]


def _check_widths(rows: Sequence[Sequence[str]], head: Sequence[str], place: str) -> None:
    for number, row in enumerate(rows, 1):
        if any(row[len(head) :]):
            raise ValueError(
                f"`source` must have as many cells in a row as names in its head, got {len(row)} "
                f"and {len(head)} in row {number} of {place}; separate cells by semicolons if "
                "numbers have decimal commas."
            )
