"""Reads loss histories as training programs write them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxreg.diagnosis import _columns, _names, _points, _shapes, _tables, _text
from jaxreg.diagnosis._cells import is_missing, numbers
from jaxreg.diagnosis._columns import Chosen, Wanted
from jaxreg.diagnosis._points import Points
from jaxreg.diagnosis._tables import Table

__all__ = ["History", "read", "read_runs"]

# Name of a run in a file without names.
SINGLE_RUN = ""
_FILES = ("history.csv", "metrics.csv", "trainer_state.json")
_NOTHING: np.ma.MaskedArray = np.ma.masked_all(0, dtype=np.float64)
_PERCENT = 100.0


class History(NamedTuple):
    """The curves of a run, as :func:`~jaxreg.diagnosis.diagnose` takes them.

    Attributes:
      epoch: Number of each epoch in the file, or of each step.
      train_loss: Losses, ``[epochs]``, or ``[epochs, seeds]`` in a file with seeds; masked where
        nothing was measured.
      validation_loss: The same on validation rows; empty if the file has none.
      train_accuracy: Accuracies between 0 and 1, in the same form; empty unless the file has
        exactly one column of training accuracies and one of validation accuracies.
      validation_accuracy: The same on validation rows; empty if ``train_accuracy`` is.
      counter: "epoch", or "step" if the file counts steps.
      columns: Dictionary from each curve that was read, such as ``train_loss``, to the name of its
        column in the file.
      replaced: Number of training losses that were dropped because later rows count the same epochs
        again, as after training resumed from a checkpoint.
    """

    epoch: np.ndarray
    train_loss: np.ma.MaskedArray
    validation_loss: np.ma.MaskedArray
    train_accuracy: np.ma.MaskedArray
    validation_accuracy: np.ma.MaskedArray
    counter: str
    columns: dict[str, str]
    replaced: int = 0


def read(
    source: Any,
    *,
    run: str | None = None,
    train: str | None = None,
    validation: str | None = None,
    epoch: str | None = None,
) -> History:
    """Reads the history of one run.

    Args:
      source: As for :func:`read_runs`.
      run: Name of the run in a file with several.
      train: As for :func:`read_runs`, and so are the others.
      validation: Name of the column with validation losses; None finds it by its name.
      epoch: Name of the column that counts epochs or steps; None finds it by its name.

    Returns:
      The history, for :func:`~jaxreg.diagnosis.diagnose`.

    Raises:
      ValueError: As for :func:`read_runs`, or there are several runs and ``run`` is none of them.

    Example:
      >>> from jaxreg.diagnosis import diagnose, read
      >>> of_keras = {"loss": [2.3, 1.0, 0.5, 0.3, 0.2], "val_loss": [2.3, 1.1, 0.6, 0.4, 0.3]}
      >>> print(diagnose(read(of_keras)).verdict)
      healthy
    """
    found = read_runs(source, train=train, validation=validation, epoch=epoch)
    if run is None and len(found) == 1:
        return next(iter(found.values()))
    if run is None or run not in found:
        known = ", ".join(name or "a single run without names" for name in found)
        raise ValueError(f"`run` must be one of {known}, got {run}.")
    return found[run]


def read_runs(
    source: Any,
    *,
    train: str | None = None,
    validation: str | None = None,
    epoch: str | None = None,
) -> dict[str, History]:
    r"""Reads the history of every run from files, or from the objects of training programs.

    Columns are found by their names: ``loss`` and ``val_loss`` as Keras writes them,
    ``train_loss_epoch`` as Lightning does, ``eval_loss``, ``Train Loss`` and the like. Rows are
    ordered by a column that counts epochs or steps. Several rows of one epoch are averaged. If the
    count goes back, because training resumed from a checkpoint, the later rows replace the earlier
    ones. If training and validation losses are measured at different steps, the training losses
    between two evaluations are averaged. Numbers may have decimal commas or decimal points. Columns
    ``arm`` or ``run``, and ``seed``, separate several runs and the seeds of each.

    Args:
      source: A path to CSV with any delimiter, JSON or JSON lines; a folder with ``history.csv``,
        ``metrics.csv`` or ``trainer_state.json``; an open file; a dictionary (a JSON object) of
        lists, or a list of dictionaries; a Keras ``History``, a ``TrainerState`` of Hugging Face,
        or a data frame. In a list of paths, each file is a run of its own if one of them has both
        losses; otherwise the files are parts of one run, such as TensorBoard's CSV of each scalar.
      train: Name of the column with training losses; None finds it by its name. A file without
        names has columns "1", "2" and so on.
      validation: Name of the column with validation losses; None finds it by its name.
      epoch: Name of the column that counts epochs or steps; None finds it by its name.

    Returns:
      Dictionary from the name of each run to its history; the name is ``""`` in a file without
      names. Empty cells, ``NA`` and ``null`` are masked: they were not measured. ``nan`` was.

    Raises:
      ValueError: There is no such file, it holds no training loss, or several columns could be the
        one with training or validation losses; choose one with ``train`` or ``validation``.

    Example:
      >>> import io
      >>> from jaxreg.diagnosis import read_runs
      >>> file = io.StringIO("epoch;loss;val_loss\n0;2,5;2,6\n1;1,5;1,75\n2;1,0;")
      >>> history = read_runs(file)[""]
      >>> history.epoch.tolist(), history.validation_loss.tolist()
      ([0.0, 1.0, 2.0], [2.6, 1.75, None])
    """
    wanted = Wanted(train, validation, epoch)
    sources = list(source) if _is_list_of_paths(source) else [source]
    tables = {place: table for place, table in map(_load, sources)}
    is_whole = [_columns.holds_both(table) for table in tables.values()]
    if len(tables) > 1 and any(is_whole):
        found: dict[str, History] = {}
        for place, table in tables.items():
            own = _read_table(table, wanted, place)
            found |= {f"{place} {name}".rstrip(): history for name, history in own.items()}
        return found
    parts = [*tables.values()]
    whole = _tables.join(parts) if len(parts) > 1 else parts[0]
    return _read_table(whole, wanted, " and ".join(tables))


def _is_list_of_paths(source: Any) -> bool:
    if isinstance(source, str) or not isinstance(source, Sequence):
        return False
    return len(source) > 0 and all(_is_file(item) for item in source)


def _is_file(source: Any) -> bool:
    return isinstance(source, str | os.PathLike) or hasattr(source, "read")


def _load(source: Any) -> tuple[str, Table]:
    """Returns the name of a source for messages, and its table."""
    if not _is_file(source):
        return "source", _tables.normalize(_shapes.read(source, "source"), "source")
    if hasattr(source, "read"):
        place = os.path.basename(str(getattr(source, "name", "standard input")))
        data = source.read()
        text = data if isinstance(data, str) else _text.decode(data, place)
        return place, _tables.normalize(_text.parse(text, place), place)
    path = _find_file(Path(source))
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ValueError(f"`source` must be a file, got {path}, which does not exist.") from error
    text = _text.decode(data, str(path))
    return str(path), _tables.normalize(_text.parse(text, str(path)), path.stem)


def _find_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [path / name for name in _FILES if (path / name).exists()]
    if not found:
        raise ValueError(f"`source` must be a file, or a folder with {', '.join(_FILES)}, got "
                         f"{path}.")  # fmt: skip
    return found[0]


def _read_table(table: Table, wanted: Wanted, place: str) -> dict[str, History]:
    chosen = _columns.choose(table, wanted, place)
    if not table.size or "train_loss" not in chosen.curves:
        return {SINGLE_RUN: _history(None, chosen, table, "epoch")}
    cells = {name: _numbers(table, index, place) for name, index in chosen.curves.items()}
    counters = [_numbers(table, index, place) for index in chosen.counters]
    blank = _is_blank(table, chosen.counters)
    found: dict[str, History] = {}
    for name, seeds in _group(table).items():
        every = sorted(row for rows in seeds for row in rows)
        own = {field: curve[every] for field, curve in cells.items()}
        best = _points.count([counter[every] for counter in counters], own)
        counter = None if best is None else counters[best]
        in_steps = best is not None and _names.is_step(table.names[chosen.counters[best]])
        parts = [_of_seed(rows, counter, cells, blank, in_steps=in_steps) for rows in seeds]
        points = parts[0] if table.find(_tables.SEEDS) is None else _points.align(parts)
        found[name] = _history(points, chosen, table, "step" if in_steps else "epoch")
    return found


def _group(table: Table) -> dict[str, list[list[int]]]:
    """Returns the rows of each seed of each run, by the name of the run."""
    runs = table.column(table.find(_tables.RUNS))
    seeds = table.column(table.find(_tables.SEEDS))
    groups: dict[str, dict[str, list[int]]] = {}
    for row, (run, seed) in enumerate(zip(runs, seeds, strict=True)):
        name = SINGLE_RUN if run is None else str(run)
        groups.setdefault(name, {}).setdefault(str(seed), []).append(row)
    return {name: [*own.values()] for name, own in groups.items()}


def _of_seed(
    rows: list[int],
    counter: np.ma.MaskedArray | None,
    cells: dict[str, np.ma.MaskedArray],
    blank: np.ndarray,
    *,
    in_steps: bool,
) -> Points:
    """Returns the points of one seed, one per evaluation if these are not epochs."""
    own = {field: curve[rows] for field, curve in cells.items()}
    points = _points.collect(None if counter is None else counter[rows], own, blank[rows])
    is_fine = in_steps or bool(np.any(points.labels % 1))
    if is_fine or _points.is_apart(points):
        return _points.average_between_evaluations(points)
    return points


def _numbers(table: Table, index: int, place: str) -> np.ma.MaskedArray:
    try:
        return numbers(table.columns[index])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`source` must hold only numbers in {table.names[index]}, got in {place}: {error}."
        ) from error


def _is_blank(table: Table, counters: Sequence[int]) -> np.ndarray:
    """Returns which rows hold nothing but the names of their run and their epoch."""
    besides = {*counters, table.find(_tables.RUNS), table.find(_tables.SEEDS)}
    rest = [column for index, column in enumerate(table.columns) if index not in besides]
    return np.array([all(map(is_missing, row)) for row in zip(*rest, strict=True)], dtype=bool)


def _history(points: Points | None, chosen: Chosen, table: Table, counter: str) -> History:
    curves: dict[str, np.ma.MaskedArray] = {} if points is None else points.curves
    train = curves.get("train_accuracy", _NOTHING)
    validation = curves.get("validation_accuracy", _NOTHING)
    known = np.concatenate([train.compressed(), validation.compressed()])
    scale = _PERCENT if 1 < np.max(known, initial=0.0) <= _PERCENT else 1.0
    return History(
        epoch=np.zeros(0) if points is None else points.labels,
        train_loss=curves.get("train_loss", _NOTHING),
        validation_loss=curves.get("validation_loss", _NOTHING),
        train_accuracy=train / scale,
        validation_accuracy=validation / scale,
        counter=counter,
        columns={field: table.names[index] for field, index in chosen.curves.items()},
        replaced=0 if points is None else points.replaced,
    )
