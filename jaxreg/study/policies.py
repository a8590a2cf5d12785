"""Searches at random for an augmentation policy, on the user's data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from jaxreg.study.grids import Grid, grid
from jaxreg.study.objectives import CLASSIFICATION, Objective
from jaxreg.study.operations import OPERATIONS, check_names
from jaxreg.study.recipes import Policy, Recipe
from jaxreg.study.records import Study
from jaxreg.study.selection import Train, compare


def search_policy(
    train: Train,
    operations: Sequence[str],
    *,
    trials: int,
    seed: int = 0,
    objective: Objective = CLASSIFICATION,
) -> Study:
    """Draws random policies, trains with each, and chooses the best by validation score.

    Magnitudes are log-uniform in the ranges of :data:`jaxreg.study.operations.OPERATIONS`, and
    probabilities are uniform from 0 to 1. Both are strengths of a recipe, so one compiled program
    trains all trials and seeds. The test set takes no part in the choice.
    The validation score of the best of many trials is too optimistic; its test score is not.

    Args:
      train: Function from recipes to their :class:`jaxreg.study.Runs`, such as
        ``functools.partial(run, make_model, data, seeds=8, epochs=60)``.
      operations: Names of the operations, in the order in which they are applied.
      trials: Number of policies, at least 1.
      seed: Seed of the random policies.
      objective: The objective that ``train`` uses, for the direction of its metric.

    Returns:
      The baseline and the arm ``"policy"``, whose recipe contains the policy. Its difference from
      the baseline is on test, paired by seed.

    Raises:
      ValueError: ``trials`` is below 1, ``operations`` is empty, or an operation is unknown or is
        for another kind of rows.

    Example:
      >>> from functools import partial
      >>> import numpy as np
      >>> from jaxreg.study import mlp, run, search_policy, stratified_split
      >>> x = np.random.default_rng(0).normal(size=(200, 2))
      >>> data = stratified_split(x, (x[:, 0] > 0).astype(int), train_size=60)
      >>> train = partial(run, mlp((4,), 2), data, seeds=2, epochs=1)
      >>> found = search_policy(train, ["jitter"], trials=3)
      >>> found.arms[1].recipe.policy.names, found.notes[-1]
      (('jitter',), 'policy: the best of 3 on validation.')
    """
    if trials < 1:
        raise ValueError(f"`trials` must be at least 1, got {trials}.")
    names = tuple(operations)
    check_names(names)
    rng = np.random.default_rng(seed)
    policies = [_draw_policy(names, rng) for _ in range(trials)]
    recipes = tuple(Recipe({"policy": policy}) for policy in policies)
    grids = [grid("baseline"), Grid("policy", (), recipes)]
    found = compare(train, grids, objective=objective)
    return dataclasses.replace(
        found, notes=(*found.notes, f"policy: the best of {trials} on validation.")
    )


def _draw_policy(names: tuple[str, ...], rng: np.random.Generator) -> Policy:
    """Draws a random policy, rounded to four digits so that the report shows exact numbers."""

    def magnitude(name: str) -> float:
        low = math.log(OPERATIONS[name].low)
        high = math.log(OPERATIONS[name].high)
        return float(f"{math.exp(rng.uniform(low, high)):.4g}")

    return Policy(
        names,
        tuple(magnitude(name) for name in names),
        tuple(float(f"{rng.uniform():.4g}") for _ in names),
    )
