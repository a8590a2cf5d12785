"""The optimizer of a recipe: Adam with links before and after it, and wrappers around it."""

from __future__ import annotations

from typing import Any

import optax

from jaxreg import transforms
from jaxreg.study.arms import acting
from jaxreg.study.arms.row import Arm, GradientLink, UpdateLink, Wrapper, call
from jaxreg.study.recipes import Recipe


def optimizer(recipe: Recipe, learning_rate: float) -> optax.GradientTransformationExtraArgs:
    """Builds Adam with the gradient transformations that a recipe switches on.

    Args:
      recipe: The recipe; its strengths may be traced.
      learning_rate: Learning rate of Adam, of the decays and of the proximal steps.

    Returns:
      The optimizer, which equals Adam for the recipe ``Recipe()``. With ``sam`` or ``asam``, its
      ``update`` needs a ``grad_fn``; any other optimizer ignores ``grad_fn``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.study import Recipe, optimizer
      >>> params = {"kernel": jnp.ones((2, 2))}
      >>> chain = optimizer(Recipe({"l2": 1.0}), 0.5)
      >>> updates, _ = chain.update({"kernel": jnp.zeros((2, 2))}, chain.init(params), params)
      >>> print(updates["kernel"])
      [[-0.5 -0.5]
       [-0.5 -0.5]]
    """

    def make(arm: Arm[Any], **values: Any) -> optax.GradientTransformation:
        own = {"strength": recipe[arm.name], "learning_rate": learning_rate, **values}
        return call(arm.acts.function, own)

    before = [make(arm) for arm in acting(GradientLink) if arm.name in recipe]
    after = [make(arm) for arm in acting(UpdateLink) if arm.name in recipe]
    inner = optax.chain(*before, optax.adam(learning_rate), *after)
    for arm in acting(Wrapper):
        if arm.name in recipe:
            inner = make(arm, inner=inner)
    return optax.with_extra_args_support(inner)


def params_to_evaluate(recipe: Recipe, state: Any, params: Any) -> Any:
    """Returns the averaged parameters if the recipe averages them, else the newest ones.

    Args:
      recipe: The recipe.
      state: State of its optimizer.
      params: Newest parameters.

    Returns:
      The parameters to evaluate.
    """
    path = average_path(recipe)
    if path is None:
        return params
    for key in path:
        state = getattr(state, key) if isinstance(key, str) else state[key]
    return transforms.read_average(state, params)


def average_path(recipe: Recipe) -> tuple[str | int, ...] | None:
    """Returns the path from the optimizer's state to the outermost average; None without one."""
    path: tuple[str | int, ...] = ()
    wrappers = [arm.acts for arm in acting(Wrapper) if arm.name in recipe]
    for wrapper in reversed(wrappers):
        path += wrapper.path
        if wrapper.averages:
            return path
    return None


def needs_gradients(recipe: Recipe) -> bool:
    """Returns whether the optimizer's ``update`` needs the argument ``grad_fn``."""
    return any(arm.acts.needs_gradients for arm in acting(Wrapper) if arm.name in recipe)
