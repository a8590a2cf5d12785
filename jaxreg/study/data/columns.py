"""Reads the columns of a table: numbers, truth values, dates, categories, texts and ids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from jaxreg.study.data.extras import extra
from jaxreg.study.data.wording import count_of, enumerate_names

MISSING = "(missing)"
_MOST_DIGITS = 1e100
# Share of a column's cells that must be numbers for the others to count as missing.
_MOSTLY = 0.9
# A column with fewer rows is never taken for a column of ids.
_FEW_ROWS = 10
_WORDS_OF_A_TEXT = 3
_ID = re.compile(r"(^|[ _.-])(id|index|uuid|guid)$", re.IGNORECASE)
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}( .*)?"
    r"|\d{1,2}[ -][A-Za-z]{3}[ -]\d{4}( .*)?"
)
_DAYS = ("%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y", "%d %b %Y")
_TIMES = ("", " %H:%M", " %H:%M:%S")
_DATE_FORMATS = ("ISO8601", *map("".join, product((*_DAYS, "%d-%b-%Y"), _TIMES)))


@dataclass
class Columns:
    """Columns of a table by what they contain; each has one cell per row.

    Attributes:
      numbers: Numbers, float64; a missing cell is NaN.
      flags: Whether a cell is missing, 0 or 1, for columns with missing cells.
      categories: Words; a missing cell is ``MISSING``.
      texts: Texts; a missing cell is empty.
      left: Names of columns that are left out, by reason.
      filled: Numbers of missing cells by the name of a column of numbers.
      remarks: Other remarks.
    """

    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    flags: dict[str, np.ndarray] = field(default_factory=dict)
    categories: dict[str, np.ndarray] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    left: dict[str, list[str]] = field(default_factory=dict)
    filled: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def leave_out(self, name: str, reason: str) -> None:
        self.left.setdefault(reason, []).append(name)

    def add_number(self, name: str, values: np.ndarray) -> None:
        """Adds a column of numbers, unless all of them are equal."""
        infinite = np.isinf(values)
        if infinite.any():
            self.remarks.append(f"Took infinite cells of {name} for missing: {infinite.sum()}.")
            values = np.where(infinite, np.nan, values)
        missing = np.isnan(values)
        known = values[~missing]
        if not len(known):
            self.leave_out(name, "empty")
            return
        if abs(known).max() > _MOST_DIGITS:
            raise ValueError(
                f"`data` must contain numbers up to {_MOST_DIGITS:g}, got "
                f"{known[abs(known).argmax()]} in the column {name}; rescale it."
            )
        if not missing.any() and np.ptp(known) == 0:
            self.leave_out(name, "the same in every row")
            return
        self.numbers[name] = values
        if missing.any():
            self.flags[name] = missing.astype(np.float64)
            self.filled[name] = int(missing.sum())

    def notes(self) -> tuple[str, ...]:
        """Returns remarks on what was left out and filled."""
        found = []
        for reason, names in self.left.items():
            found.append(f"Left out as {reason}: {enumerate_names(names)}.")
        if self.filled:
            listed = enumerate_names(f"{name} ({count:,})" for name, count in self.filled.items())
            found.append(f"Filled missing cells with the median, and marked them: {listed}.")
        missing = [name for name, words in self.categories.items() if (words == MISSING).any()]
        if missing:
            found.append(f"Missing cells are a category of their own: {enumerate_names(missing)}.")
        return (*found, *self.remarks)


def read_columns(frame: Any) -> Columns:
    """Reads all columns of a pandas table, whose names are different strings.

    Raises:
      ValueError: A number is too large.
    """
    found = Columns()
    for name in frame.columns:
        _read_column(found, name, frame[name], alone=len(frame.columns) == 1)
    return found


def _read_column(found: Columns, name: str, values: Any, *, alone: bool) -> None:
    """Adds a column by its dtype; a column of words is examined more closely."""
    pandas = extra("pandas")
    types = pandas.api.types
    if values.isna().all():
        found.leave_out(name, "empty")
    elif isinstance(values.dtype, pandas.CategoricalDtype):
        _add_words(found, name, _as_words(values))
    elif types.is_datetime64_any_dtype(values.dtype):
        _add_dates(found, name, pandas.to_datetime(values, utc=True))
    elif types.is_timedelta64_dtype(values.dtype):
        found.add_number(name, values.dt.total_seconds().to_numpy(dtype=np.float64))
    elif types.is_complex_dtype(values.dtype):
        raise ValueError(f"`data` must contain real numbers, got complex ones in column {name}.")
    elif types.is_numeric_dtype(values.dtype) or types.is_bool_dtype(values.dtype):
        _add_numbers(found, name, values)
    else:
        _read_words(found, name, _as_words(values), alone=alone)


def _add_numbers(found: Columns, name: str, values: Any) -> None:
    """Adds a column of numbers that are neither row numbers nor ids."""
    array = values.to_numpy(dtype=np.float64, na_value=np.nan)
    whole = np.isfinite(array).all() and (array == np.round(array)).all()
    if whole and len(array) >= _FEW_ROWS:
        if (np.diff(array) == 1).all():
            found.leave_out(name, "numbers of the rows")
            return
        if _ID.search(name) and len(np.unique(array)) == len(array):
            found.leave_out(name, "different in every row")
            return
    found.add_number(name, array)


def _as_words(values: Any) -> Any:
    """Returns the cells as words without blanks around them; empty cells are missing."""
    words = values[values.notna()].astype(object).map(lambda cell: str(cell).strip())
    return words[words != ""].reindex(values.index)


def _read_words(found: Columns, name: str, words: Any, *, alone: bool) -> None:
    """Adds a column of words: numbers, truth values, dates, texts, ids or categories."""
    pandas = extra("pandas")
    known = words.dropna()
    if not len(known):
        found.leave_out(name, "empty")
        return
    numbers = pandas.to_numeric(known, errors="coerce").dropna()
    if len(numbers) >= _MOSTLY * len(known):
        others = known[~known.index.isin(numbers.index)]
        if len(others):
            found.remarks.append(
                f"Took cells of {name} that are no numbers for missing: "
                f"{enumerate_names(others.unique())}."
            )
        _add_numbers(found, name, numbers.astype(np.float64).reindex(words.index))
        return
    lower = known.str.lower()
    if lower.isin(["true", "false"]).all():
        truth = (lower == "true").astype(np.float64)
        found.add_number(name, truth.reindex(words.index).to_numpy())
        return
    dates = _parse_dates(found, name, known)
    if dates is not None:
        _add_dates(found, name, dates.reindex(words.index))
        return
    distinct = known.nunique()
    length = known.str.split().map(len).mean()
    if distinct > len(known) / 2 and (length >= _WORDS_OF_A_TEXT or alone):
        found.texts[name] = words.fillna("").tolist()
    elif distinct == len(known) >= _FEW_ROWS:
        found.leave_out(name, "different in every row")
    else:
        _add_words(found, name, words)


def _add_words(found: Columns, name: str, words: Any) -> None:
    """Adds a column of categories, unless all of them are equal."""
    filled = words.astype(object).where(words.notna(), MISSING).map(str)
    if filled.nunique() == 1:
        found.leave_out(name, "the same in every row")
        return
    found.categories[name] = filled.to_numpy(dtype=object)


def _parse_dates(found: Columns, name: str, known: Any) -> Any:
    """Returns words as dates; None if some of them are not dates."""
    if not known.str.fullmatch(_DATE).all():
        return None
    to_datetime = extra("pandas").to_datetime
    fitting = {}
    for form in _DATE_FORMATS:
        dates = to_datetime(known, format=form, errors="coerce", utc=True)
        if dates.notna().all():
            fitting[form] = dates
    if not fitting:
        return None
    form, dates = next(iter(fitting.items()))
    others = [other for other, read in fitting.items() if not read.equals(dates)]
    if others:
        found.remarks.append(f"Read the dates of {name} as {form}, not as {others[0]}.")
    return dates


def _add_dates(found: Columns, name: str, dates: Any) -> None:
    """Adds elapsed days, and the month, the weekday and the hour if they vary."""
    pandas = extra("pandas")
    days = (dates - pandas.Timestamp(0, tz="UTC")) / pandas.Timedelta(days=1)
    parts = {
        "days": days,
        "month": dates.dt.month,
        "weekday": dates.dt.day_of_week,
        "hour": dates.dt.hour,
    }
    if days.nunique() == 1 and days.notna().all():
        found.leave_out(name, "the same in every row")
        return
    for part, values in parts.items():
        array = values.to_numpy(dtype=np.float64, na_value=np.nan)
        if part == "days" or len(np.unique(array[~np.isnan(array)])) > 1:
            found.add_number(f"{name} ({part})", array)
    found.remarks.append(f"Dates became elapsed days, month, weekday and hour: {name}.")


def note_repeats(frame: Any, labels: Sequence[Any]) -> tuple[str, ...]:
    """Returns a remark if rows of a table occur more than once with the same label."""
    try:
        repeated = int(frame.assign(**{"\0label": list(labels)}).duplicated().sum())
    except TypeError:
        # Lists in cells cannot be compared.
        return ()
    if not repeated:
        return ()
    return (
        f"Repeated rows: {count_of(repeated, 'row')}. The same row may train and test; `groups` "
        "keeps rows together that belong together.",
    )
