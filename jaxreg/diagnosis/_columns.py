"""The columns of a table that hold the losses, the accuracies and the count of epochs."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NamedTuple

from jaxreg.diagnosis import _names
from jaxreg.diagnosis._cells import are_numbers, is_missing
from jaxreg.diagnosis._names import Name
from jaxreg.diagnosis._tables import Table

# A loss with so few values is a summary if another one has more.
_SUMMARY = 1


class Wanted(NamedTuple):
    """Names that the caller gave, or None."""

    train: str | None = None
    validation: str | None = None
    epoch: str | None = None


class Chosen(NamedTuple):
    """Indices of columns."""

    curves: dict[str, int]  # by the name of the curve
    counters: tuple[int, ...]  # of epochs, or of steps, the best one first


class _Candidate(NamedTuple):
    column: int
    name: Name
    measured: int  # number of values


def choose(table: Table, wanted: Wanted, place: str) -> Chosen:
    """Chooses columns by the names that the caller gave, else by their own names.

    Args:
      table: The table.
      wanted: Names from the caller.
      place: Name of the file, for messages.

    Raises:
      ValueError: A name is not in the table, or is there twice, no column holds training losses, or
        several do.
    """
    found: dict[str, int | None] = {}
    known = _candidates(table)
    found["train_loss"] = _find(table, wanted.train, "train", place)
    found["validation_loss"] = _find(table, wanted.validation, "validation", place)
    if found["train_loss"] is None:
        found["train_loss"] = _train_loss(table, known, place)
    if found["validation_loss"] is None:
        free = [other for other in known if other.column != found["train_loss"]]
        found["validation_loss"] = _validation_loss(table, free, place)
    _check_train_loss(table, found, place)
    found |= _accuracies(known)
    curves = {field: index for field, index in found.items() if index is not None}
    epoch = _find(table, wanted.epoch, "epoch", place)
    counters = _counters(table, place) if epoch is None else (epoch,)
    return Chosen(curves, counters)


def holds_both(table: Table) -> bool:
    """Returns whether a table has losses of training and of validation."""
    found = {known.name.part for known in _candidates(table) if "loss" in known.name.kind}
    return bool(found & {"validation", "test"}) and bool(found & {"train", ""})


def _candidates(table: Table) -> list[_Candidate]:
    """Returns all columns with a known kind of curve."""
    found = []
    for index, (head, column) in enumerate(zip(table.names, table.columns, strict=True)):
        name = _names.read(head)
        count = sum(not is_missing(cell) for cell in column)
        if name.kind:
            found.append(_Candidate(index, name, count))
    return found


def _find(table: Table, name: str | None, argument: str, place: str) -> int | None:
    """Returns the index of a column by its exact name, or by the words of its name."""
    if name is None:
        return None
    name = name.strip()
    found = [i for i, other in enumerate(table.names) if other == name]
    if not found:
        words = _names.to_words(name)
        found = [i for i, other in enumerate(table.names) if _names.to_words(other) == words]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"`{argument}` must name one column, got {name}, which {place} has "
                         f"{len(found)} times; rename the others.")  # fmt: skip
    near = difflib.get_close_matches(name, table.names, 1)
    hint = f"; did you mean {near[0]}?" if near else "."
    raise ValueError(f"`{argument}` must be a column of {place}, which has {_list(table.names)}, "
                     f"got {name}{hint}")  # fmt: skip


def _train_loss(table: Table, known: Sequence[_Candidate], place: str) -> int | None:
    for kind in ("loss", "other loss"):
        own = [c for c in known if c.name.kind == kind and c.name.part in ("train", "")]
        own = _without_summaries(own)
        named = [c for c in own if c.name.part == "train"]
        if own:
            return _only(table, named or own, "train", place)
    return None


def _validation_loss(table: Table, known: Sequence[_Candidate], place: str) -> int | None:
    for kind in ("loss", "other loss"):
        for part in ("validation", "test"):
            own = [c for c in known if c.name.kind == kind and c.name.part == part]
            if own:
                return _only(table, _without_summaries(own), "validation", place)
    return None


def _without_summaries(known: Sequence[_Candidate]) -> list[_Candidate]:
    most = max((candidate.measured for candidate in known), default=0)
    return [c for c in known if c.measured > _SUMMARY or most <= _SUMMARY]


def _only(table: Table, known: Sequence[_Candidate], argument: str, place: str) -> int:
    """Returns the plainest candidate; a mean over the epoch is better than a value of a step.

    Raises:
      ValueError: Several are equally plain.
    """
    fewest = min(len(candidate.name.extras) for candidate in known)
    best = [candidate for candidate in known if len(candidate.name.extras) == fewest]
    if len({candidate.name.extras for candidate in best}) == 1:
        first = min(_roughness(candidate) for candidate in best)
        best = [candidate for candidate in best if _roughness(candidate) == first]
    if len(best) > 1:
        names = ", ".join(table.names[candidate.column] for candidate in best)
        raise ValueError(f"`source` must have one {argument} loss, got {names} in {place}; choose "
                         f"one by its name in `{argument}`, or rename the others.")  # fmt: skip
    return best[0].column


def _roughness(candidate: _Candidate) -> tuple[bool, bool]:
    """Ranks a mean over the epoch first, and values of single steps last."""
    return not candidate.name.is_epoch_mean, candidate.name.is_step


def _check_train_loss(table: Table, found: dict[str, int | None], place: str) -> None:
    if found["train_loss"] is not None or not table.names:
        return
    raise ValueError(
        f"`source` must have train_loss and validation_loss, got {place} with "
        f"{_list(table.names)}; name the columns in `train` and `validation`."
    )


def _accuracies(known: Sequence[_Candidate]) -> dict[str, int | None]:
    """Returns the accuracies, if there is exactly one of each part."""
    plain = [c for c in known if c.name.kind == "accuracy" and not c.name.extras]
    validation = [c for c in plain if c.name.part == "validation"]
    train = [c for c in plain if c.name.part == "train"]
    if not train and validation:
        train = [c for c in plain if not c.name.part]
    if len(train) != 1 or len(validation) != 1:
        return {}
    return {"train_accuracy": train[0].column, "validation_accuracy": validation[0].column}


def _counters(table: Table, place: str) -> tuple[int, ...]:
    """Returns the columns of numbers that count epochs, then those that count steps."""
    found: list[int] = []
    for is_count in (_names.is_epoch, _names.is_step):
        own = [i for i, name in enumerate(table.names) if is_count(name)]
        twice = [i for i in own if table.names.count(table.names[i]) > 1]
        if twice:
            name = table.names[twice[0]]
            count = table.names.count(name)
            raise ValueError(f"`source` must have a single column named {name!r}, got {count} in "
                             f"{place}; rename the others.")  # fmt: skip
        found.extend(i for i in own if are_numbers(table.columns[i]))
    return tuple(found)


def _list(names: Sequence[str]) -> str:
    return ", ".join(sorted(dict.fromkeys(name or "a column without a name" for name in names)))
