"""The optimizer of a recipe: Adam with links before and after it, and wrappers around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import optax

from jaxreg import masks, projections, proximal, transforms
from jaxreg.study.recipes import Recipe

Optimizer = optax.GradientTransformation


class Link(NamedTuple):
    """A transformation in a chain with Adam, as a function and as source code.

    Attributes:
      make: Function from the strength and the learning rate to the transformation.
      code: Expression, with ``{strength}`` for the strength.
    """

    make: Callable[[Any, Any], Optimizer]
    code: str


class Wrapper(NamedTuple):
    """A wrapper of the whole optimizer, as a function and as source code.

    Attributes:
      make: Function from the optimizer, the strength and the learning rate to a new optimizer.
      code: Expression over ``inner``, with ``{strength}`` for the strength.
    """

    make: Callable[[Optimizer, Any, Any], Optimizer]
    code: str


BEFORE: Mapping[str, Link] = {
    "centralize": Link(lambda _, rate: transforms.centralize(), "transforms.centralize()"),
}
# Cautious decay comes first, because it needs the signs of Adam's steps. The projection comes last,
# so that its constraint holds after every step.
AFTER: Mapping[str, Link] = {
    "cautious_decay": Link(
        lambda weight, rate: transforms.cautious_decay(weight, learning_rate=rate),
        "transforms.cautious_decay({strength}, learning_rate=LEARNING_RATE)",
    ),
    "l2": Link(
        lambda weight, rate: transforms.decoupled_decay(weight, learning_rate=rate),
        "transforms.decoupled_decay({strength}, learning_rate=LEARNING_RATE)",
    ),
    "independent_decay": Link(
        lambda weight, rate: transforms.independent_decay(weight),
        "transforms.independent_decay({strength})",
    ),
    "l1": Link(
        lambda weight, rate: optax.masked(
            transforms.proximal(proximal.l1, weight, rate), masks.kernels
        ),
        """optax.masked(
    transforms.proximal(proximal.l1, {strength}, LEARNING_RATE), masks.kernels
)""",
    ),
    "sparse_units": Link(
        lambda weight, rate: optax.masked(
            transforms.proximal(proximal.group_lasso, weight, rate), masks.kernels
        ),
        """optax.masked(
    transforms.proximal(proximal.group_lasso, {strength}, LEARNING_RATE), masks.kernels
)""",
    ),
    "max_norm": Link(
        lambda radius, rate: optax.masked(
            transforms.project(partial(projections.max_norm, radius=radius)), masks.kernels
        ),
        """optax.masked(
    transforms.project(partial(projections.max_norm, radius={strength})), masks.kernels
)""",
    ),
}


# From the inside out, so that an average is over the results of all steps inside it.
AROUND: Mapping[str, Wrapper] = {
    "adaptive_l1": Wrapper(
        lambda inner, weight, rate: transforms.preconditioned_proximal(
            inner,
            proximal.l1,
            weight,
            rate,
            metric=transforms.adam_metric(),
            mask=masks.kernels,
        ),
        """transforms.preconditioned_proximal(
    inner,
    proximal.l1,
    {strength},
    LEARNING_RATE,
    metric=transforms.adam_metric(),
    mask=masks.kernels,
)""",
    ),
    "lookahead": Wrapper(
        lambda inner, size, rate: transforms.lookahead(inner, period=5, step_size=size),
        "transforms.lookahead(inner, period=5, step_size={strength})",
    ),
    "average_steps": Wrapper(
        lambda inner, steps, rate: optax.chain(
            inner, transforms.exponential_average(1 - 1 / steps)
        ),
        "optax.chain(inner, transforms.exponential_average(1 - 1 / {strength}))",
    ),
    "asam": Wrapper(
        lambda inner, radius, rate: transforms.asam(inner, radius),
        "transforms.asam(inner, {strength})",
    ),
    "sam": Wrapper(
        lambda inner, radius, rate: transforms.sam(inner, radius),
        "transforms.sam(inner, {strength})",
    ),
}
SHARPNESS = ("asam", "sam")
AVERAGING = ("lookahead", "average_steps")


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
      >>> chain = optimizer(Recipe(l2=1.0), 0.5)
      >>> updates, _ = chain.update({"kernel": jnp.zeros((2, 2))}, chain.init(params), params)
      >>> print(updates["kernel"])
      [[-0.5 -0.5]
       [-0.5 -0.5]]
    """

    def links(table: Mapping[str, Link]) -> list[Optimizer]:
        return [
            link.make(getattr(recipe, name), learning_rate)
            for name, link in table.items()
            if recipe.has(name)
        ]

    inner = optax.chain(*links(BEFORE), optax.adam(learning_rate), *links(AFTER))
    for name, wrapper in AROUND.items():
        if recipe.has(name):
            inner = wrapper.make(inner, getattr(recipe, name), learning_rate)
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
    if not any(recipe.has(name) for name in AVERAGING):
        return params
    for _ in filter(recipe.has, SHARPNESS):
        state = state.inner_state
    # The average is outermost; a lookahead inside it keeps slow weights of its own.
    average = state[-1] if recipe.has("average_steps") else state
    return transforms.read_average(average, params)
