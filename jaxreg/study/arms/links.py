"""Arms that chain a transformation before or after Adam."""

from __future__ import annotations

from functools import partial
from typing import Any

import optax

from jaxreg import masks, projections, proximal, transforms
from jaxreg.study.arms.row import Arm, GradientLink, LogGrid, Rule, UpdateLink


def clip_gradients(strength: Any) -> optax.GradientTransformation:
    """Bounds the norm of the whole gradient."""
    return optax.clip_by_global_norm(strength)


def centralize_gradients() -> optax.GradientTransformation:
    """Subtracts the mean of each kernel's gradient."""
    return transforms.centralize()


def decay_cautiously(strength: Any, learning_rate: float) -> optax.GradientTransformation:
    """Decays the weights that Adam does not enlarge."""
    return transforms.cautious_decay(strength, learning_rate=learning_rate)


def decay_weights(strength: Any, learning_rate: float) -> optax.GradientTransformation:
    """Decays the weights separately from the gradient, scaled by the learning rate."""
    return transforms.decoupled_decay(strength, learning_rate=learning_rate)


def decay_independently(strength: Any) -> optax.GradientTransformation:
    """Decays the weights by the same share in every step."""
    return transforms.independent_decay(strength)


def shrink_weights(strength: Any, learning_rate: float) -> optax.GradientTransformation:
    """Soft-thresholds the weights after every step."""
    step = transforms.proximal(proximal.l1, strength, learning_rate)
    return optax.masked(step, masks.kernels)


def shrink_units(strength: Any, learning_rate: float) -> optax.GradientTransformation:
    """Shrinks all weights into a unit as a group after every step."""
    step = transforms.proximal(proximal.group_lasso, strength, learning_rate)
    return optax.masked(step, masks.kernels)


def bound_norms(strength: Any) -> optax.GradientTransformation:
    """Bounds the norm of the weights into a unit after every step."""
    projection = partial(projections.max_norm, radius=strength)
    return optax.masked(transforms.project(projection), masks.kernels)


# In the order of the chain. Cautious decay comes first after Adam, because it needs the signs of
# Adam's steps; the projection comes last, so that its bound holds after every step.
ARMS = (
    Arm(
        name="gradient_clipping",
        summary="bound on the norm of the gradient",
        source="optax.clip_by_global_norm",
        acts=GradientLink(clip_gradients),
        grid=LogGrid(0.03, 3.0),
        rule=Rule("above 0", lambda value: value > 0),
        label="largest norm (smaller is stronger)",
        off=float("inf"),
    ),
    Arm(
        name="centralize",
        summary="gradients of the kernels without their mean",
        source="jaxreg.transforms.centralize",
        acts=GradientLink(centralize_gradients),
        off=False,
    ),
    Arm(
        name="cautious_decay",
        summary="decay of the weights that Adam does not enlarge",
        source="jaxreg.transforms.cautious_decay",
        acts=UpdateLink(decay_cautiously),
        grid=LogGrid(0.1, 10.0),
        label="weight of the decay",
    ),
    Arm(
        name="l2",
        summary="decay of the weights, decoupled from the gradient",
        source="jaxreg.transforms.decoupled_decay",
        acts=UpdateLink(decay_weights),
        grid=LogGrid(0.1, 10.0),
        label="weight of the decay",
        cheap=True,
        default=True,
        aliases=("weight_decay", "decoupled_decay", "adamw"),
    ),
    Arm(
        name="independent_decay",
        summary="decay that the learning rate does not scale",
        source="jaxreg.transforms.independent_decay",
        acts=UpdateLink(decay_independently),
        grid=LogGrid(1e-4, 0.01),
        label="share of the weight taken by a step",
    ),
    Arm(
        name="l1",
        summary="soft-threshold step after the optimizer",
        source="jaxreg.transforms.proximal(jaxreg.proximal.l1, ...)",
        acts=UpdateLink(shrink_weights),
        grid=LogGrid(0.02, 0.6),
        label="weight of the L1 step",
        cheap=True,
        default=True,
        aliases=("lasso",),
    ),
    Arm(
        name="sparse_units",
        summary="proximal step that removes whole units",
        source="jaxreg.transforms.proximal(jaxreg.proximal.group_lasso, ...)",
        acts=UpdateLink(shrink_units),
        grid=LogGrid(0.01, 1.0),
        label="weight of the step",
    ),
    Arm(
        name="max_norm",
        summary="bound on the norm of the weights into a unit",
        source="jaxreg.transforms.project(jaxreg.projections.max_norm)",
        acts=UpdateLink(bound_norms),
        grid=LogGrid(0.5, 2.0),
        rule=Rule("above 0", lambda value: value > 0),
        label="radius (smaller is stronger)",
        off=float("inf"),
        cheap=True,
        default=True,
    ),
)
