"""Numbers in the cells of tables, in the notations that people and programs use."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

# Texts for values that were not measured. `nan` is no such text: it was measured.
_MISSING = frozenset(("", "na", "n/a", "#n/a", "<na>", "null", "none", "nil", "missing"))
_DASHES = re.compile(r":?[-\u2013\u2014]+:?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?%?")
_BLANKS = re.compile(r"[\s\u00a0\u2009\u202f']")


def is_missing(cell: Any) -> bool:
    """Returns whether a cell is empty, or says that nothing was measured."""
    if cell is None:
        return True
    if isinstance(cell, int | float):
        return False
    text = str(cell).strip().lower()
    return text in _MISSING or _DASHES.fullmatch(text) is not None


def number(cell: Any, mark: str = "") -> float:
    """Converts a cell to a number: decimal commas and points, percent, NaN and infinity.

    Args:
      cell: A number, or a text.
      mark: The decimal mark; by default the one of this cell.

    Raises:
      ValueError: The cell holds something else.
    """
    if isinstance(cell, bool):
        raise ValueError(f"could not convert {cell} to a number")
    if isinstance(cell, int | float):
        return float(cell)
    text = _BLANKS.sub("", str(cell))
    scale = 100.0 if text.endswith("%") else 1.0
    text = text.removesuffix("%")
    if "," in text and (mark or _decimal_mark([text])) == ",":
        text = text.replace(".", "").replace(",", ".")
    return float(text.replace(",", "")) / scale


def _decimal_mark(texts: Sequence[str]) -> str:
    """Returns the decimal mark of a column: a comma, unless all its commas part thousands."""
    with_commas = [text for text in texts if "," in text]
    part_thousands = all(_THOUSANDS.fullmatch(text) for text in with_commas)
    has_points = any("." in text or text.count(",") > 1 for text in texts)
    return "." if part_thousands and has_points else ","


def numbers(cells: Iterable[Any]) -> np.ma.MaskedArray:
    """Converts cells to float64; those that were not measured are masked.

    Raises:
      ValueError: A cell holds something else than a number.
    """
    cells = list(cells)
    missing = [is_missing(cell) for cell in cells]
    mark = _decimal_mark([_BLANKS.sub("", cell) for cell in cells if isinstance(cell, str)])
    pairs = zip(cells, missing, strict=True)
    values = [math.nan if skip else number(cell, mark) for cell, skip in pairs]
    return np.ma.MaskedArray(values, mask=missing, dtype=np.float64)


def are_numbers(cells: Iterable[Any]) -> bool:
    """Returns whether every cell is a number or missing."""
    try:
        numbers(cells)
    except (TypeError, ValueError):
        return False
    return True
