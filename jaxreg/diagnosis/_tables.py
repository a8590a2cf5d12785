"""Tables of cells under names, and the forms in which programs write curves into them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxreg.diagnosis import _names
from jaxreg.diagnosis._cells import is_missing, number

# Columns whose values name a run, and a repetition of it.
RUNS = (("arm",), ("run",), ("run", "name"), ("experiment",))
SEEDS = (("seed",), ("fold",), ("repeat",))
_METRICS = (("metric",), ("tag",), ("key",), ("variable",))
_EXTREMES = ("__MIN", "__MAX")
_BETWEEN = " - "  # a run and its metric, in a column of Weights and Biases
_SINCE_1970 = 1e8  # numbers of seconds above this are times


class Table(NamedTuple):
    """Columns of equal length; names may occur twice, or be numbers where a file has none."""

    names: tuple[str, ...]
    columns: tuple[list[Any], ...]

    @property
    def size(self) -> int:
        """The number of rows."""
        return len(self.columns[0]) if self.columns else 0

    def find(self, known: Iterable[tuple[str, ...]]) -> int | None:
        """Returns the index of the first column with one of the names, given in words."""
        words = [_names.to_words(name) for name in self.names]
        return next((words.index(name) for name in known if name in words), None)

    def column(self, index: int | None) -> list[Any]:
        """Returns a column, or empty cells."""
        return [None] * self.size if index is None else self.columns[index]


def of_rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Returns a table with a column for every name in any row."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return Table(tuple(names), tuple([row.get(name) for row in rows] for name in names))


def of_records(rows: Sequence[Sequence[Any]], names: Sequence[str] = ()) -> Table:
    """Returns a table of rows without names, whose columns are then numbered from 1."""
    width = max((len(row) for row in rows), default=len(names))
    names = names or [str(index + 1) for index in range(width)]
    padded = [[*row, *[None] * (width - len(row))] for row in rows]
    return Table(tuple(names), tuple([row[index] for row in padded] for index in range(width)))


def normalize(table: Table, label: str) -> Table:
    """Returns a table with a row per epoch and a column per curve, from other forms.

    Args:
      table: One scalar over time, as TensorBoard exports it; a row for each value of any metric,
        as MLflow does; a column for each run and metric, as Weights and Biases does; or a plain
        table.
      label: Name of the file, which names the metric where its columns do not.
    """
    return _from_runs_in_names(_from_long(_from_scalar(table, label)))


def join(tables: Sequence[Table]) -> Table:
    """Returns one table with the rows of all.

    Raises:
      ValueError: A table has a name twice.
    """
    for table in tables:
        twice = [name for name in table.names if name and table.names.count(name) > 1]
        if twice:
            raise ValueError(
                f"`source` must have a single column named {twice[0]!r}, got "
                f"{table.names.count(twice[0])}; rename the others."
            )
    names = list(dict.fromkeys(name for table in tables for name in table.names))
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for table in tables:
        own = dict(zip(table.names, table.columns, strict=True))
        for name, column in columns.items():
            column.extend(own.get(name, [None] * table.size))
    return Table(tuple(names), tuple(columns.values()))


def _from_scalar(table: Table, label: str) -> Table:
    """Names the values of one scalar after the file."""
    words = [_names.to_words(name) for name in table.names]
    if set(words) == {("wall", "time"), ("step",), ("value",)}:
        step = words.index(("step",))
        value = words.index(("value",))
    elif table.names == ("1", "2", "3") and table.size and _are_times(table.columns[0]):
        step = 1
        value = 2
    else:
        return table
    return Table(("step", label), (table.columns[step], table.columns[value]))


def _are_times(column: Sequence[Any]) -> bool:
    return all(isinstance(cell, int | float) and cell > _SINCE_1970 for cell in column)


def _from_long(table: Table) -> Table:
    """Gives each metric its column, where a row holds one value and the name of its metric."""
    metric = table.find(_METRICS)
    value = table.find([("value",)])
    if metric is None or value is None:
        return table
    run = table.find(RUNS)
    rest = [i for i in range(len(table.names)) if i not in (metric, value, run)]
    rows: list[dict[str, Any]] = []
    for row, (name, own) in enumerate(zip(table.columns[metric], table.column(run), strict=True)):
        # Keras logs one metric in the runs `train` and `validation` of a folder.
        folder, _, last = str(own or "").rpartition("/")
        is_part = _names.is_part(last)
        cells = {table.names[i]: table.columns[i][row] for i in rest}
        if run is not None and (folder or not is_part):
            cells["run"] = folder if is_part else own
        path = f"{last}/{name}" if is_part else str(name)
        # A row for a value means that it was measured, so an empty one was NaN.
        cell = table.columns[value][row]
        rows.append(cells | {path: math.nan if is_missing(cell) else cell})
    return of_rows(rows)


def _from_runs_in_names(table: Table) -> Table:
    """Gives each run its rows, where the names of columns hold runs: ``run - metric``."""
    kept = [i for i, name in enumerate(table.names) if not name.endswith(_EXTREMES)]
    own = [i for i in kept if _BETWEEN in table.names[i]]
    shared = [i for i in kept if i not in own]
    runs = list(dict.fromkeys(table.names[i].rpartition(_BETWEEN)[0] for i in own))
    is_known = any(_names.read(table.names[i].rpartition(_BETWEEN)[2]).kind for i in own)
    if not is_known or any(map(_names.is_part, runs)):
        return table
    parts = []
    for run in runs:
        chosen = [i for i in own if table.names[i].rpartition(_BETWEEN)[0] == run]
        names = [table.names[i].rpartition(_BETWEEN)[2] for i in chosen]
        columns = [table.columns[i] for i in (*shared, *chosen)]
        heads = ("run", *(table.names[i] for i in shared), *names)
        parts.append(Table(heads, ([run] * table.size, *columns)))
    return join(parts)


def is_numeric(row: Iterable[Any]) -> bool:
    """Returns whether a row holds numbers and no name."""
    try:
        for cell in row:
            number(cell)
    except (TypeError, ValueError):
        return False
    return True
