"""Shows the progress of a study: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from jaxreg.study.objectives import Metric
from jaxreg.study.recipes import Recipe
from jaxreg.study.reports.units import recipe_text, units_of
from jaxreg.study.runs import Runs


class Bar:
    """Shows the number of trained recipes, the time left, and the best recipe on validation.

    Args:
      console: Console to write to: a bar if it is a terminal, else a line per recipe.
      metric: The metric that chooses the best recipe.
    """

    def __init__(self, console: Console, metric: Metric) -> None:
        self.console = console
        self._metric = metric
        self._units = units_of(metric, [])
        self._best: tuple[float, str] | None = None
        self._done = 0
        self._total = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("compiling", total=None)

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def watch(self, run: Callable[..., Runs]) -> Callable[..., Runs]:
        """Returns a function that trains recipes with ``run`` and updates the bar."""

        def train(recipes: Sequence[Recipe], *, seeds: int | None = None) -> Runs:
            self._total += len(recipes)
            self._bar.update(self._task, total=self._total)

            def progress(block: Sequence[int], validation: np.ndarray) -> None:
                for index, scores in zip(block, validation, strict=True):
                    self._count(recipes[index], float(np.mean(scores)))

            return run(recipes, seeds=seeds, progress=progress)

        return train

    def _count(self, recipe: Recipe, score: float) -> None:
        self._done += 1
        text = recipe_text(recipe)
        sign = -1 if self._metric.lower_is_better else 1
        if self._best is None or sign * score > sign * self._best[0]:
            self._best = (score, text)
        best = f"best on validation so far: {self._best[1]} ({self._format(self._best[0])})"
        self._bar.update(self._task, completed=self._done, description=best)
        if not self.console.is_terminal:
            line = f"{self._done}/{self._total} {text}: {self._format(score)}; {best}"
            self.console.print(line, highlight=False, soft_wrap=True)

    def _format(self, score: float) -> str:
        return self._units.score_and_unit(score)
