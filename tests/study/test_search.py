"""Random strengths, and halving."""

import numpy as np
import pytest

from jaxreg.study.grids import Grid, grid
from jaxreg.study.recipes import Recipe
from jaxreg.study.runs import Runs
from jaxreg.study.search import halve, random_grid


def test_random_strengths_are_log_uniform_in_the_range_of_the_grid():
    strengths = np.array(random_grid("l2", count=400).strengths)
    assert 0.1 <= strengths.min() < 0.13
    assert 8 < strengths.max() <= 10
    # Half of a log-uniform sample is below the geometric mean, 1; the standard error is 0.025.
    assert abs((strengths < 1).mean() - 0.5) < 0.1
    patience = random_grid("early_stopping", count=3).strengths
    assert patience == tuple(map(round, patience))


def test_random_strengths_depend_on_the_arm_and_the_seed():
    first = random_grid("l2", count=3)
    assert first == random_grid("l2", count=3)
    assert first != random_grid("l2", count=3, seed=1)
    assert first.strengths != random_grid("cautious_decay", count=3).strengths
    assert random_grid("batch_norm", count=3) == grid("batch_norm")
    assert random_grid("baseline", count=3) == grid("baseline")


class Trainer:
    """Scores that are best at one strength of each arm; keeps what it was asked to train."""

    def __init__(self, best, sign=1):
        self.best = best
        self.sign = sign
        self.asked = []

    def __call__(self, recipes, seeds):
        self.asked.append((len(recipes), seeds))
        score = [self._score(recipe) for recipe in recipes]
        scores = np.repeat(np.array(score)[:, None], seeds, axis=1)
        curves = np.zeros((len(recipes), 1, seeds))
        return Runs(scores, scores, scores, 0 * scores, curves, curves, {})

    def _score(self, recipe):
        distance = sum(abs(np.log(recipe[name] / self.best[name])) for name in recipe)
        return -self.sign * distance


@pytest.mark.parametrize("lower_is_better", [False, True])
def test_halving_finds_the_best_strength_and_doubles_the_seeds(lower_is_better):
    grids = [grid("baseline"), grid("l2"), Grid("dropout", (0.1, 0.2), tuple(
        Recipe({"dropout": rate}) for rate in (0.1, 0.2)
    ))]  # fmt: skip
    train = Trainer({"l2": 3.2, "dropout": 0.2}, sign=-1 if lower_is_better else 1)
    found = halve(train, grids, seeds=16, lower_is_better=lower_is_better)
    assert [each.name for each in found] == ["baseline", "l2", "dropout"]
    assert [each.strengths for each in found] == [(), (3.2,), (0.2,)]
    assert [each.recipes[0] for each in found[1:]] == [
        Recipe({"l2": 3.2}), Recipe({"dropout": 0.2})
    ]  # fmt: skip
    # 1 + 5 + 2 recipes, then 1 + 2 + 1.
    assert train.asked == [(8, 4), (4, 8)]


def test_halving_never_takes_more_seeds_than_the_study_has():
    train = Trainer({"l2": 0.1})
    halve(train, [grid("l2", count=16)], seeds=3)
    assert [seeds for _, seeds in train.asked] == [2, 3, 3, 3]
