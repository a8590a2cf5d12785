"""One training step of a study: the loss of a batch with everything that a recipe switches on."""

from __future__ import annotations

from typing import Any

import jax

from jaxreg.study.arms import acting
from jaxreg.study.arms.row import BatchChange, Criterion, LossChange, Term, arguments, call
from jaxreg.study.batch import Batch, change
from jaxreg.study.models import Model
from jaxreg.study.objectives import Objective
from jaxreg.study.operations import apply_policy
from jaxreg.study.recipes import Recipe


def loss(
    model: Model,
    objective: Objective,
    recipe: Recipe,
    variables: Any,
    batch: Batch,
    start: Any,
    key: jax.Array,
) -> tuple[jax.Array, Any]:
    """Returns the loss of a batch including all penalties, and the updated variables.

    Args:
      model: The model.
      objective: Its task, with the plain loss.
      recipe: The recipe, whose strengths may be traced.
      variables: Variables of the model.
      batch: The batch, as the study loaded it.
      start: Initial parameters, for a term that asks for them.
      key: PRNG key.
    """
    batch = change_batch(jax.random.fold_in(key, 2), recipe, batch)
    outputs, updated = model.train(variables, batch.x, key)
    value = sum(
        jax.tree.leaves(updated.get("losses")),
        start=criterion(objective, recipe, outputs, batch.labels),
    )
    terms = [arm for arm in acting(Term) if arm.name in recipe]
    if terms:
        asked = {name for arm in terms for name in arguments(arm.acts.function)}
        view = _view(model, variables, batch, start, outputs, key, asked)
        for arm in terms:
            value += recipe[arm.name] * call(arm.acts.function, view)
    for arm in acting(LossChange):
        if arm.name in recipe:
            value = arm.acts.function(value, recipe[arm.name])
    return value, {name: part for name, part in updated.items() if name != "losses"}


def _view(
    model: Model,
    variables: Any,
    batch: Batch,
    start: Any,
    outputs: jax.Array,
    key: jax.Array,
    asked: set[str],
) -> dict[str, Any]:
    """Returns the values that terms can ask for, by name."""
    own_key, again_key = jax.random.split(jax.random.fold_in(key, 1))
    twice = "again" in asked
    return {
        "params": variables["params"],
        "start": start,
        "x": batch.x,
        "logits": outputs,
        "predict": lambda x: model.predict(variables, x),
        "again": model.train(variables, batch.x, again_key)[0] if twice else None,
        "key": own_key,
    }


def criterion(
    objective: Objective, recipe: Recipe, outputs: jax.Array, labels: jax.Array
) -> jax.Array:
    """Returns the loss of the task: the plain one, or the one that an arm replaces it with."""
    for arm in acting(Criterion):
        if arm.name in recipe and objective.task in arm.tasks:
            return arm.acts.function(outputs, labels, recipe[arm.name])
    return objective.loss(outputs, labels)


def change_batch(key: jax.Array, recipe: Recipe, batch: Batch) -> Batch:
    """Applies the policy and the augmentations that a recipe switches on to a batch.

    Args:
      key: PRNG key.
      recipe: The recipe, whose strengths may be traced.
      batch: The batch.

    Returns:
      The changed batch; class ids that were mixed are distributions.
    """
    if recipe.policy is not None:
        own = jax.random.fold_in(key, len(acting(BatchChange)))
        x = apply_policy(own, recipe.policy, batch.x, mean=batch.mean, stddev=batch.stddev)
        batch = batch._replace(x=x)
    for index, arm in enumerate(acting(BatchChange)):
        if arm.name in recipe:
            own = jax.random.fold_in(key, index)
            batch = change(arm.acts, own, batch, recipe[arm.name])
    return batch
