"""Random search for an augmentation policy on the user's own data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from jaxreg.study.operations import OPERATIONS, check_names
from jaxreg.study.recipes import Policy, Recipe
from jaxreg.study.selection import Comparison, Train, compare
from jaxreg.study.techniques import Grid, grid


def search_policy(
    train: Train, operations: Sequence[str], *, trials: int, seed: int = 0
) -> Comparison:
    """Draws policies at random, trains them all, and chooses the best one on validation.

    Magnitudes are drawn from the ranges of :data:`jaxreg.study.operations.OPERATIONS`, evenly on a
    logarithmic scale, and probabilities evenly from 0 to 1. They are strengths of a recipe, so all
    trials and seeds are trained by one compiled program. The test set takes no part in the choice.
    The validation accuracy of the best of many trials is too optimistic; its test accuracy is not.

    Args:
      train: Function from recipes to their :class:`jaxreg.study.Runs`, such as
        ``functools.partial(run, make_model, data, seeds=8, epochs=60)``.
      operations: Names of the operations, in the order in which they are applied.
      trials: Number of policies, at least 1.
      seed: Seed of the draws.

    Returns:
      The baseline and the arm ``"policy"``. The arm's recipe holds the policy; its difference to
      the baseline is on test, paired by seed.

    Raises:
      ValueError: ``trials`` is below 1, ``operations`` is empty, or an operation is unknown or is
        for other rows.

    Example:
      >>> from functools import partial
      >>> import numpy as np
      >>> from jaxreg.study import mlp, run, search_policy, stratified_split
      >>> x = np.random.default_rng(0).normal(size=(200, 2))
      >>> data = stratified_split(x, (x[:, 0] > 0).astype(int), train_size=60)
      >>> train = partial(run, mlp((4,), 2), data, seeds=2, epochs=1)
      >>> found = search_policy(train, ["jitter"], trials=3)
      >>> found.arms[1].recipe.policy.names, found.notes
      (('jitter',), ('policy: the best of 3 on validation.',))
    """
    if trials < 1:
        raise ValueError(f"`trials` must be at least 1, got {trials}.")
    names = tuple(operations)
    check_names(names)
    rng = np.random.default_rng(seed)
    policies = [_draw_policy(names, rng) for _ in range(trials)]
    recipes = tuple(Recipe(policy=policy) for policy in policies)
    found = compare(train, [grid("baseline"), Grid("policy", (), recipes)])
    return found._replace(notes=(*found.notes, f"policy: the best of {trials} on validation."))


def _draw_policy(names: tuple[str, ...], rng: np.random.Generator) -> Policy:
    """Draws one policy; its numbers have four digits, so a report shows them exactly."""

    def magnitude(name: str) -> float:
        low = math.log(OPERATIONS[name].low)
        high = math.log(OPERATIONS[name].high)
        return float(f"{math.exp(rng.uniform(low, high)):.4g}")

    return Policy(
        names,
        tuple(magnitude(name) for name in names),
        tuple(float(f"{rng.uniform():.4g}") for _ in names),
    )
