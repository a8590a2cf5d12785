"""The display in the terminal while a study trains."""

import io

import numpy as np
from rich.console import Console

from jaxreg.study import Recipe, progress
from jaxreg.study.objectives import CLASSIFICATION, REGRESSION


def watched(console, metric=CLASSIFICATION.metric):
    """Four recipes in two blocks, and two more with three seeds."""

    def run(recipes, *, seeds, progress):
        if len(recipes) == 2:
            assert seeds == 3
            progress([0, 1], np.array([[0.95, 0.97], [0.2, 0.2]]))
            return "second"
        progress([2, 0], np.array([[0.5, 0.7], [0.8, 0.9]]))
        progress([1, 3], np.array([[0.9, 0.8], [0.1, 0.1]]))
        return "first"

    with progress.Bar(console, metric) as bar:
        train = bar.watch(run)
        grid = [Recipe({"l2": weight}) for weight in (1.0, 2.0, 3.0, 4.0)]
        assert train(grid) == "first"
        assert train([Recipe({"l1": 0.1}), Recipe()], seeds=3) == "second"


def test_a_log_gets_a_line_for_every_recipe():
    console = Console(file=io.StringIO(), width=40)
    watched(console)
    assert console.file.getvalue().splitlines() == [
        "1/4 l2 3: accuracy 60.0%; best on validation so far: l2 3 (accuracy 60.0%)",
        "2/4 l2 1: accuracy 85.0%; best on validation so far: l2 1 (accuracy 85.0%)",
        "3/4 l2 2: accuracy 85.0%; best on validation so far: l2 1 (accuracy 85.0%)",
        "4/4 l2 4: accuracy 10.0%; best on validation so far: l2 1 (accuracy 85.0%)",
        "5/6 l1 0.1: accuracy 96.0%; best on validation so far: l1 0.1 (accuracy 96.0%)",
        "6/6 no regularization: accuracy 20.0%; best on validation so far: l1 0.1 (accuracy 96.0%)",
    ]


def test_a_terminal_gets_a_bar_that_goes_away():
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    watched(console)
    text = console.file.getvalue()
    assert "6/6" in text
    assert "best on validation so far: l1 0.1 (accuracy 96.0%)" in text
    assert "no regularization:" not in text


def test_the_smallest_error_is_the_best():
    console = Console(file=io.StringIO(), width=40)
    watched(console, REGRESSION.with_metric("rmse").metric)
    last = console.file.getvalue().splitlines()[-1]
    assert last == "6/6 no regularization: RMSE 0.200; best on validation so far: l2 4 (RMSE 0.100)"
