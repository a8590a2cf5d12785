"""Explains the numbers and the marks of a report, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from jaxreg.study.records import Study
from jaxreg.study.reports.judgments import DIVERGED, UNCLEAR
from jaxreg.study.reports.units import Units
from jaxreg.study.selection import LEAST_SEEDS

if TYPE_CHECKING:
    from jaxreg.study.reports.summary import Part, Row

_UNCLEAR_NOTE = (
    f"{UNCLEAR}: the 95% interval of the difference contains zero, so the arm may be no better "
    "than the baseline."
)
_FEW_SEEDS_NOTE = f"{UNCLEAR}: fewer than {LEAST_SEEDS} seeds cannot tell an arm from the baseline."
_DIVERGED_NOTE = f"{DIVERGED}: the score of a seed is not a finite number."
_ABLATION_NOTE = (
    "ablation: the combination was trained without each of its parts, with the same seeds. A part "
    "helps if the combination is worse without it."
)
_DIAGNOSIS_NOTE = (
    "diagnosis: too little or too much regularization, overfitting or underfitting, judged by the "
    "plain losses on training and validation rows, without penalties, noise, and changed labels. "
    "An arm with a better mean score than the baseline, on validation or on test, is never called "
    "too much: it is judged by its own losses alone."
)
_SELECTION_NOTE = (
    "Strengths, stopping epochs and the final recipe were chosen on validation. The test rows are "
    "the same for all seeds and took no part in any choice. The intervals of the differences are "
    "over seeds (initial weights, batches, and re-splits of training and validation rows) and over "
    "test rows. All of them hold together with a probability of 95% (Bonferroni), so many arms do "
    "not find a winner by chance."
)
_PUBLISHED_NOTE = (
    "The published figures differ because their script evaluates on its training points; compare "
    "them with the train column. Here L1 is a proximal step, L2 is decoupled decay, and every "
    "figure is a mean over seeds."
)


def on_published(rows: Sequence[Row]) -> tuple[str, ...]:
    """Returns the note on published scores if a row has one."""
    has_published = any(row.published is not None for row in rows)
    return (_PUBLISHED_NOTE,) if has_published else ()


def explanations(
    study: Study, units: Units, rows: Sequence[Row], parts: Sequence[Part]
) -> tuple[str, ...]:
    """Returns the sentences that explain the numbers and marks of these rows."""
    return tuple(_explain(study, units, rows, parts))


def _explain(
    study: Study, units: Units, rows: Sequence[Row], parts: Sequence[Part]
) -> Iterator[str]:
    gap = "test minus train" if units.lower_is_better else "train minus test"
    points = " in points," if units.percent else ""
    remark = f" ({units.direction})" if units.direction else ""
    yield (
        f"gap: {gap}. difference: test minus the baseline's,{points} paired by seed, with its 95% "
        f"interval{remark}."
    )
    marks = {each.mark for each in (*rows, *parts)}
    if UNCLEAR in marks:
        yield _FEW_SEEDS_NOTE if study.seeds < LEAST_SEEDS else _UNCLEAR_NOTE
    if DIVERGED in marks:
        yield _DIVERGED_NOTE
    if parts:
        yield _ABLATION_NOTE
    yield _DIAGNOSIS_NOTE
    yield _SELECTION_NOTE
