"""Writes the table and the losses of a study as CSV, in full precision."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxreg.study.arms import ARMS
from jaxreg.study.recipes import Recipe
from jaxreg.study.records import Study
from jaxreg.study.reports.summary import Summary

_HEADS = (
    "arm", "metric", "strength", "train", "validation", "test", "test_low", "test_high", "gap",
    "difference", "difference_low", "difference_high", "diagnosis", "verdict", "chosen",
    "published", "recipe", "code",
)  # fmt: skip


def results(summary: Summary) -> str:
    """Returns ``results.csv``: a row per arm, with its recipe as JSON and its code.

    A column such as ``test_macro_f1`` follows for every further metric.
    """
    metric, *others = [metric.name for metric in summary.study.objective.metrics]
    lines = (
        [
            row.name,
            metric,
            row.strength,
            row.train,
            row.validation,
            *row.test,
            row.gap,
            *row.difference,
            row.diagnosis,
            row.mark,
            row.chosen,
            row.published,
            recipe_json(arm.recipe),
            ARMS[row.name].source if row.name in ARMS else "",
            *(row.others.get(name) for name in others),
        ]
        for row, arm in zip(summary.rows, summary.study.arms, strict=True)
    )
    return _csv((*_HEADS, *(f"test_{name}" for name in others)), lines)


def history(study: Study) -> str:
    """Returns ``history.csv``: a row of losses per arm, epoch (from 1) and seed (from 0)."""
    lines = (
        [arm.name, epoch, seed, train, validation]
        for arm in study.arms
        for epoch, (trains, validations) in enumerate(
            zip(arm.train_loss, arm.validation_loss, strict=True), start=1
        )
        for seed, (train, validation) in enumerate(zip(trains, validations, strict=True))
    )
    return _csv(("arm", "epoch", "seed", "train_loss", "validation_loss"), lines)


def recipe_json(recipe: Recipe) -> str:
    """Returns a recipe as a JSON object from arms to strengths.

    Example:
      >>> from jaxreg.study import Recipe
      >>> recipe_json(Recipe({"l2": 0.5, "batch_norm": True}))
      '{"l2": 0.5, "batch_norm": true}'
    """
    return json.dumps(dict(recipe), default=dataclasses.asdict)


def _csv(heads: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([_exact(value) for value in line] for line in lines)
    return stream.getvalue()


def _exact(value: Any) -> Any:
    """Converts a NumPy scalar to text that parses to the same value."""
    return str(value) if isinstance(value, np.generic) else value
