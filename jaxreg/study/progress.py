"""Shows the progress of a study: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from jaxreg.study.recipes import Recipe
from jaxreg.study.runner import Runs
from jaxreg.study.summary import percent, recipe_text


class Bar:
    """Shows the number of trained recipes, and the recipe with the best validation accuracy.

    Attributes:
      console: Console to write to. It gets a bar if it is a terminal, else a line per recipe.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._best: tuple[float, str] = (-1.0, "")
        self._done = 0
        self._total = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
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

    def watch(self, run: Callable[..., Runs]) -> Callable[[Sequence[Recipe]], Runs]:
        """Returns a function that trains recipes with ``run`` and updates the bar."""

        def train(recipes: Sequence[Recipe]) -> Runs:
            self._total += len(recipes)
            self._bar.update(self._task, total=self._total)

            def progress(block: Sequence[int], validation: np.ndarray) -> None:
                for index, accuracies in zip(block, validation, strict=True):
                    self._count(recipes[index], float(np.mean(accuracies)))

            return run(recipes=recipes, progress=progress)

        return train

    def _count(self, recipe: Recipe, accuracy: float) -> None:
        self._done += 1
        text = recipe_text(recipe)
        self._best = max(self._best, (accuracy, text))
        best = f"best on validation so far: {self._best[1]} ({percent(self._best[0])} %)"
        self._bar.update(self._task, completed=self._done, description=best)
        if not self.console.is_terminal:
            line = f"{self._done}/{self._total} {text}: {percent(accuracy)} %; {best}"
            self.console.print(line, highlight=False, soft_wrap=True)
