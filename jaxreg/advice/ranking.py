"""Ranks the techniques by the rows of the advice table whose conditions are met."""

import operator
from collections.abc import Collection
from pathlib import Path
from typing import Any

from jaxreg.advice.measuring import combine, read
from jaxreg.advice.records import Advice
from jaxreg.advice.rows import ARCHITECTURES, NEEDS, ROWS, TASKS, Row
from jaxreg.advice.starts import STARTS

__all__ = ["advise"]

# Below it the error of batch norm grows: figure 1 of Wu and He 2018.
SMALL_BATCH = 16
# Published work says "small" and "large" without a number: these limits are ours. Data between them
# counts as neither.
SMALL_ROWS = 10_000
LARGE_ROWS = 1_000_000


def advise(
    *,
    task: str | None = None,
    architecture: str | None = None,
    rows: int | None = None,
    batch_size: int | None = None,
    variable_batch: bool = False,
    needs: Collection[str] = (),
    study: str | Path | None = None,
) -> tuple[Advice, ...]:
    """Ranks the techniques for a task, a model and data.

    Omitted arguments match no condition: a statement about small batches needs a ``batch_size``.

    Args:
      task: One of ``"classification"``, ``"regression"``, ``"sequence"``, ``"detection"``,
        ``"style"``, ``"generation"``.
      architecture: One of ``"mlp"``, ``"cnn"``, ``"residual"``, ``"rnn"``, ``"transformer"``,
        ``"gan"``.
      rows: Number of training examples; below 10,000 the data is small, from a million on large.
      batch_size: Examples per batch and device; below 16 it is small, otherwise large.
      variable_batch: Whether the batches differ in size.
      needs: Further needs, of ``"sparsity"``, ``"correlated_inputs"``,
        ``"calibration"``, ``"robustness"``, ``"noisy_labels"``, ``"fast_training"``,
        ``"unknown_epochs"``, ``"few_labels"``.
      study: Folder of a study of your data, such as ``jaxreg study`` writes it. What it measured
        decides: an arm that is better than the baseline comes first, with its strength, and one
        that is worse is advised against. Published statements that differ stay as objections.
        Techniques that the study could not tell from the baseline come after those that it did not
        measure.

    Returns:
      Techniques to use, the best supported first, then those to avoid. No technique is in both: if
      published statements differ, the one against it holds.

    Raises:
      ValueError: A word is none of these, a number is below 1, or ``study`` is not the folder of a
        study.

    Example:
      >>> from jaxreg.advice import advise
      >>> for advice in advise(task="classification", architecture="cnn", batch_size=8)[:2]:
      ...     print(advice.technique, advice.start.address)
      group_norm jaxreg.linen.GroupNorm
      augment_images jaxreg.augment.random_crop
    """
    asked = {needs} if isinstance(needs, str) else set(needs)
    _check_words("task", {task} - {None}, TASKS)
    _check_words("architecture", {architecture} - {None}, ARCHITECTURES)
    _check_words("needs", asked, NEEDS)
    facts: dict[str, frozenset[Any]] = {
        "tasks": frozenset({task}),
        "architectures": frozenset({architecture}),
        "rows": _sizes("rows", rows, SMALL_ROWS, LARGE_ROWS),
        "batch": _sizes("batch_size", batch_size, SMALL_BATCH, SMALL_BATCH),
        "need": frozenset(asked),
    }
    if variable_batch:
        facts["batch"] |= {"variable"}
    holding = [row for row in ROWS if _holds(row, facts)]
    published = map(_gather, _by_technique(holding))
    return combine(published, () if study is None else read(study))


def _check_words(name: str, given: Collection[Any], known: tuple[str, ...]) -> None:
    unknown = sorted(map(str, set(given) - set(known)))
    if unknown:
        raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {', '.join(unknown)}.")


def _sizes(name: str, value: int | None, small: int, large: int) -> frozenset[str]:
    """Returns ``{"small"}``, ``{"large"}`` or an empty set for a number."""
    if value is None:
        return frozenset()
    if operator.index(value) < 1:
        raise ValueError(f"`{name}` must be at least 1, got {value}; leave it out if unknown.")
    if value < small:
        return frozenset({"small"})
    return frozenset({"large"} if value >= large else ())


def _holds(row: Row, facts: dict[str, frozenset[Any]]) -> bool:
    """Returns whether all conditions of a row are met."""
    conditions = {
        "tasks": row.tasks,
        "architectures": row.architectures,
        "rows": (row.rows,) if row.rows else (),
        "batch": (row.batch,) if row.batch else (),
        "need": (row.need,) if row.need else (),
    }
    return all(not asked or facts[name] & set(asked) for name, asked in conditions.items())


def _by_technique(rows: Collection[Row]) -> list[list[Row]]:
    """Groups rows by technique; drops the rows for a technique if any row is against it."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.technique, []).append(row)
    return [[row for row in g if row.avoid] or g for g in groups.values()]


def _gather(rows: list[Row]) -> Advice:
    """Combines the rows of one technique into its advice."""
    rows = sorted(rows, key=lambda row: -row.weight)
    first = rows[0]
    return Advice(
        technique=first.technique,
        avoid=first.avoid,
        reasons=tuple(row.reason for row in rows),
        start=STARTS[first.technique],
        sources=tuple(dict.fromkeys(row.source for row in rows if row.source)),
        against=tuple(row.against for row in rows if row.against),
        # The strongest statement decides; the others only rank equals.
        weight=100 * first.weight + sum(row.weight for row in rows),
    )
