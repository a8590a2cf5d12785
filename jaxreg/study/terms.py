"""Penalties that a recipe adds to the loss, each as a function and as source code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax

from jaxreg import information, masks, penalties, smoothness
from jaxreg.study.recipes import Recipe


class View(NamedTuple):
    """Values of a training step that a penalty can use.

    Attributes:
      params: Parameters of the model.
      start: Initial parameters.
      x: Rows of the batch.
      logits: Output of the model in training mode.
      predict: ``x -> logits``, the model in evaluation mode.
      again: Output of a second forward pass with other noise, for ``r_drop``; else None.
      key: PRNG key.
    """

    params: Any
    start: Any
    x: jax.Array
    logits: jax.Array
    predict: Callable[[jax.Array], jax.Array]
    again: jax.Array | None
    key: jax.Array


class Term(NamedTuple):
    """A penalty on the values of :class:`View`, as a function and as source code.

    Attributes:
      penalty: The penalty, to be multiplied by the strength of the recipe.
      code: Expression over the fields of :class:`View`, indented for a function body.
    """

    penalty: Callable[[View], jax.Array]
    code: str


def _of_kernels(name: str) -> Term:
    penalty = getattr(penalties, name)
    return Term(
        lambda view: penalties.total(view.params, penalty, masks.kernels),
        f"penalties.total(params, penalties.{name}, masks.kernels)",
    )


_HALVES = partial(penalties.elastic_net, l1=0.5, l2=0.5)

TERMS = {
    "elastic_net": Term(
        lambda view: penalties.total(view.params, _HALVES, masks.kernels),
        """penalties.total(
        params, partial(penalties.elastic_net, l1=0.5, l2=0.5), masks.kernels
    )""",
    ),
    "group_lasso": _of_kernels("group_lasso"),
    "orthogonality": _of_kernels("orthogonality"),
    "spectral": _of_kernels("spectral"),
    "nuclear": _of_kernels("nuclear"),
    "distance": Term(
        lambda view: penalties.total(view.params, penalties.distance, rest=(view.start,)),
        "penalties.total(params, penalties.distance, rest=(start,))",
    ),
    "jacobian": Term(
        lambda view: smoothness.jacobian(view.predict, view.x, key=view.key),
        "smoothness.jacobian(predict, x, key=key)",
    ),
    "virtual_adversarial": Term(
        lambda view: smoothness.virtual_adversarial(view.predict, view.x, key=view.key, radius=1.0),
        "smoothness.virtual_adversarial(predict, x, key=key, radius=1.0)",
    ),
    # The length scale is a third of the distance of rows of independent standardized features.
    "graph_laplacian": Term(
        lambda view: (
            smoothness.graph_laplacian(
                jax.nn.softmax(view.logits),
                smoothness.rbf_affinity(view.x, length_scale=(2 * view.x[0].size) ** 0.5 / 3),
            )
            / len(view.x) ** 2
        ),
        """smoothness.graph_laplacian(
        jax.nn.softmax(logits),
        smoothness.rbf_affinity(x, length_scale=(2 * x[0].size) ** 0.5 / 3),
    ) / len(x) ** 2""",
    ),
    "confidence_penalty": Term(
        lambda view: information.confidence_penalty(view.logits).mean(),
        "information.confidence_penalty(logits).mean()",
    ),
    "r_drop": Term(
        lambda view: information.symmetric_kl(view.logits, view.again).mean(),
        "information.symmetric_kl(logits, again).mean()",
    ),
}


def add_terms(loss: jax.Array, recipe: Recipe, names: Sequence[str], view: View) -> jax.Array:
    """Adds the penalties of a recipe to a loss, each times its strength.

    Args:
      loss: The loss.
      recipe: The recipe, whose strengths may be traced.
      names: Techniques that are on; techniques without a penalty here are ignored.
      view: Values of the training step.

    Returns:
      The loss with the penalties.
    """
    for name in names:
        if name in TERMS:
            loss = loss + getattr(recipe, name) * TERMS[name].penalty(view)
    return loss
