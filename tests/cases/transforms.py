"""Rows of Optax transformations."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxreg import (
    penalties,
    projections,
    proximal,
    transforms,
)
from tests.cases.base import (
    Case,
    Transformation,
    X,
)


def _proximal(*, weight: Any, learning_rate: Any) -> optax.GradientTransformationExtraArgs:
    return transforms.proximal(proximal.l1, weight, learning_rate)


def _project(*, radius: Any) -> optax.GradientTransformationExtraArgs:
    return transforms.project(partial(projections.max_norm, radius=radius))


def _decay(*, weight: Any, learning_rate: Any) -> optax.GradientTransformationExtraArgs:
    return transforms.decoupled_decay(weight, learning_rate=learning_rate)


def _independent(*, weight: Any) -> optax.GradientTransformationExtraArgs:
    return transforms.independent_decay(weight)


def _cautious(*, weight: Any, learning_rate: Any) -> optax.GradientTransformationExtraArgs:
    return transforms.cautious_decay(weight, learning_rate=learning_rate)


def _layerwise(*, factor: Any) -> optax.GradientTransformationExtraArgs:
    # The tree has to be known in advance, and the tests have several: all have the kernel deepest.
    def update(updates: Any, state: Any, params: Any = None) -> Any:
        depth = jax.tree.map(jnp.ndim, params)
        return transforms.layerwise_scale(factor, depth).update(updates, state, params)

    start = transforms.layerwise_scale(factor, {}).init
    return optax.GradientTransformationExtraArgs(start, update)


def _gradient(*, weight: Any) -> optax.GradientTransformationExtraArgs:
    return transforms.add_penalty_gradient(penalties.l2, weight)


FUNCTIONS = (
    Case(
        transforms.sam_perturbation,
        (X,),
        {"radius": 0.5},
        errors=((ValueError, r"`radius` must be zero or positive, got -1", {"radius": -1.0}),),
    ),
    Case(
        transforms.asam_perturbation,
        (X, jnp.cos(X)),
        {"radius": 0.5, "eta": 0.01},
        errors=(
            (ValueError, r"`radius` must be zero or positive, got -1", {"radius": -1.0}),
            (ValueError, r"`eta` must be zero or positive, got -1", {"eta": -1.0}),
        ),
    ),
)

TRANSFORMATIONS = (
    Transformation(
        transforms.proximal, _proximal, {"weight": 0.5, "learning_rate": 0.2}, {"weight": 0.0}
    ),
    Transformation(transforms.project, _project, {"radius": 0.8}, {"radius": float("inf")}),
    Transformation(
        transforms.decoupled_decay, _decay, {"weight": 0.5, "learning_rate": 0.2}, {"weight": 0.0}
    ),
    Transformation(transforms.independent_decay, _independent, {"weight": 0.1}, {"weight": 0.0}),
    Transformation(
        transforms.cautious_decay,
        _cautious,
        {"weight": 0.5, "learning_rate": 0.2},
        {"weight": 0.0},
    ),
    Transformation(transforms.layerwise_scale, _layerwise, {"factor": 0.75}, {"factor": 1.0}),
    Transformation(transforms.add_penalty_gradient, _gradient, {"weight": 0.1}, {"weight": 0.0}),
)
