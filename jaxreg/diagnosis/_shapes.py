"""Tables in the values of JSON files, and in the objects of Python that hold histories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxreg.diagnosis import _names
from jaxreg.diagnosis._tables import Table, of_records, of_rows

# The Trainer of Hugging Face ends with a summary, which has the mean loss of the whole training.
_OF_SUMMARY = "train_runtime"


def read(value: Any, place: str) -> Table:
    """Returns the table that a value holds.

    Args:
      value: An object of lists, a list of objects or of lists, or one of the nested forms that
        Keras, Hugging Face and pandas write; or an object of Python that has such a value.
      place: Name of the file or of the argument, for messages.

    Raises:
      ValueError: The value has another form.
    """
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        # Of pandas, where the epochs may be the index.
        named = getattr(value.index, "name", None) is not None
        value = (value.reset_index() if named else value).to_dict("list")
    for field in ("log_history", "history"):
        inner = getattr(value, field, None)
        if inner is not None and not isinstance(value, Mapping):
            return read({field: inner, "epoch": getattr(value, "epoch", None)}, place)
    if isinstance(value, Mapping):
        return _from_mapping(value, place)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _from_sequence(value, place)
    raise _refusal(value, place)


def _from_mapping(value: Mapping[str, Any], place: str) -> Table:
    if isinstance(value.get("history"), Mapping):
        epoch = value.get("epoch")
        counted = {"epoch": epoch} if _is_list(epoch) else {}
        return read({**counted, **value["history"]}, place)
    if "data" in value and "columns" in value:
        return of_records(value["data"], [str(name) for name in value["columns"]])
    rows = [item for item in value.values() if _is_list(item) and _are_mappings(item)]
    if len(rows) == 1:
        return _from_sequence(rows[0], place)
    if value and all(isinstance(item, Mapping) for item in value.values()):
        inner = next(iter(value.values()))
        if not any(isinstance(item, Mapping) or _is_list(item) for item in inner.values()):
            return _from_cells(value)
    columns = {name: list(cells) for name, cells in _flatten(value) if _is_list(cells)}
    if value and not columns:
        return _from_scalars(value, place)
    return Table(tuple(columns), tuple(_fill(columns, place)))


def _from_scalars(value: Mapping[str, Any], place: str) -> Table:
    """Returns the only row of a table, if an object of numbers holds several curves."""
    row = dict(_flatten(value))
    curves = [name for name in row if _names.read(name).kind]
    if len(curves) > 1:
        return of_rows([row])
    name = (curves or list(row))[0]
    raise ValueError(f"`source` must hold a list under {name}, got {row[name]!r:.40} in {place}.")


def _from_cells(value: Mapping[str, Mapping[str, Any]]) -> Table:
    """Returns the table in an object of objects, by column or by row."""
    is_by_column = any(_names.read(name).kind for name in value)
    if not is_by_column:
        return of_rows([*value.values()])
    rows = list(dict.fromkeys(row for cells in value.values() for row in cells))
    return Table(tuple(value), tuple([cells.get(row) for row in rows] for cells in value.values()))


def _from_sequence(value: Sequence[Any], place: str) -> Table:
    if _are_mappings(value) or not value:
        rows = [dict(_flatten(row)) for row in value if _OF_SUMMARY not in row]
        return of_rows([{k: v for k, v in row.items() if not _is_list(v)} for row in rows])
    if all(_is_list(row) for row in value):
        return of_records(value)
    raise _refusal(value, place)


def _flatten(value: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Returns the items of nested objects, under names such as ``train/loss``."""
    found: list[tuple[str, Any]] = []
    for name, item in value.items():
        path = f"{before}{name}"
        nested = _flatten(item, f"{path}/") if isinstance(item, Mapping) else [(path, item)]
        found.extend(nested)
    return found


def _is_list(value: Any) -> bool:
    """Returns whether a value is a list, an array or the like."""
    if isinstance(value, str | bytes | Mapping):
        return False
    return isinstance(value, Sequence) or getattr(value, "ndim", 0) == 1


def _are_mappings(items: Sequence[Any]) -> bool:
    return len(items) > 0 and all(isinstance(item, Mapping) for item in items)


def _fill(columns: Mapping[str, list[Any]], place: str) -> list[list[Any]]:
    """Returns columns of one length, with empty cells where a loss was not measured.

    A list that is shorter by one misses the last epoch, after which the run was stopped. One that
    is a whole number of times shorter was measured at the end of every so many epochs.
    """
    curves = {name: len(cells) for name, cells in columns.items() if _names.read(name).kind}
    longest = max((curves or {name: len(cells) for name, cells in columns.items()}).values(),
                  default=0)  # fmt: skip
    filled = []
    for name, cells in columns.items():
        pause = longest // len(cells) if cells else 1
        if len(cells) == longest:
            filled.append(cells)
        elif len(cells) == longest - 1 or not cells:
            filled.append([*cells, *[None] * (longest - len(cells))])
        elif pause * len(cells) == longest:
            filled.append([cell for value in cells for cell in (*[None] * (pause - 1), value)])
        elif name in curves:
            raise ValueError(
                f"`source` must have one number per epoch in {name}, got {len(cells)} for "
                f"{longest} epochs in {place}; put null where nothing was measured."
            )
        else:
            filled.append((cells + [None] * longest)[:longest])
    return filled


def _refusal(value: Any, place: str) -> ValueError:
    return ValueError(
        "`source` must be a file, an object of lists, or a list of objects, got "
        f"{type(value).__name__} in {place}."
    )
