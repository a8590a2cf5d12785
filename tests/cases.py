"""One row per public name: what the contract runs it on.

A new technique gets a row here; ``test_contract.py`` fails where a public name has none.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxreg import (
    dropout,
    linen,
    masks,
    nnx,
    normalization,
    penalties,
    projections,
    proximal,
    targets,
    testing,
    transforms,
)
from jaxreg.training import early_stopping


@dataclasses.dataclass(frozen=True)
class Case:
    """A pure function and inputs at a point where it is differentiable."""

    function: Callable[..., Any]
    inputs: tuple[Any, ...]
    strengths: dict[str, float] = dataclasses.field(default_factory=dict)
    off: dict[str, float] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    call: Callable[..., Any] | None = None  # where keyword arrays have to be sharded with the data
    errors: tuple[tuple[type[Exception], str, dict[str, Any]], ...] = ()

    @property
    def bound(self) -> Callable[..., Any]:
        """The function of its inputs and strengths."""
        if self.call is not None:
            return self.call
        return partial(self.function, **self.options) if self.options else self.function

    @property
    def name(self) -> str:
        """Name for the ids of tests, made from the function and its options."""
        module = self.function.__module__.removeprefix("jaxreg.")
        variant = [self.call.__name__.strip("_")] if self.call else [*self.options]
        return "-".join([f"{module}.{self.function.__name__}", *variant])


@dataclasses.dataclass(frozen=True)
class Transformation:
    """A factory of Optax transformations, as a function of its strengths."""

    factory: Callable[..., Any]
    build: Callable[..., optax.GradientTransformationExtraArgs]
    strengths: dict[str, float]
    off: dict[str, float]

    @property
    def name(self) -> str:
        """Name for the ids of tests."""
        return self.factory.__name__


KEY = jax.random.key(0)
X = jnp.sin(jnp.arange(1.0, 16 * 8 + 1)).reshape(16, 8)
MASK = (jnp.arange(16) % 3 != 0)[:, None]
STATS = normalization.BatchStats(jnp.full(8, 0.1), jnp.full(8, 0.9))
LABELS = jnp.arange(16, dtype=jnp.int32) % 7 - 1


def _masked_moments(x: jax.Array, where: jax.Array) -> normalization.Moments:
    return normalization.moments(x, axis=(0, 1), where=where)


def _masked_batch_norm(
    x: jax.Array,
    stats: normalization.BatchStats,
    where: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    momentum: Any,
    eps: Any,
) -> Any:
    return normalization.batch_norm(
        x, stats, where=where, scale=scale, bias=bias, momentum=momentum, eps=eps
    )


FUNCTIONS = (
    Case(
        dropout.dropout,
        (KEY, X),
        {"rate": 0.3},
        {"rate": 0.0},
        errors=(
            (ValueError, r"`rate`.*\[0, 1\].*1\.5", {"rate": 1.5}),
            (ValueError, r"`rate` must be a single number, got shape \(8,\)", {"rate": X[0]}),
        ),
    ),
    Case(dropout.dropout, (KEY, X), {"rate": 0.3}, {"rate": 0.0}, {"broadcast_axes": (1,)}),
    Case(
        normalization.moments,
        (X,),
        options={"axis": 0},
        errors=((ValueError, r"`axis`.*got 2", {"axis": 2}),),
    ),
    Case(normalization.moments, (X, MASK), call=_masked_moments),
    Case(
        normalization.batch_norm,
        (X, STATS),
        {"momentum": 0.9, "eps": 1e-3},
        errors=(
            (ValueError, r"`momentum`.*\[0, 1\].*1\.1", {"momentum": 1.1}),
            (ValueError, r"`eps`.*got -1", {"eps": -1.0}),
            (ValueError, r"`scale`.*\(8,\).*\(5,\)", {"scale": jnp.ones(5)}),
            (ValueError, r"`where`.*\(3,\)", {"where": jnp.ones(3)}),
        ),
    ),
    Case(
        normalization.batch_norm,
        (X, STATS, MASK, jnp.linspace(0.5, 1.5, 8), jnp.linspace(-1, 1, 8)),
        {"momentum": 0.9, "eps": 1e-3},
        call=_masked_batch_norm,
    ),
    Case(normalization.batch_norm_inference, (X, STATS), {"eps": 1e-3}),
    Case(penalties.l1, (X,)),
    Case(penalties.l2, (X,)),
    Case(penalties.total, (X,), options={"penalty": penalties.l1}),
    Case(
        targets.smoothed_cross_entropy,
        (X, LABELS),
        {"alpha": 0.1},
        errors=((ValueError, r"`alpha`.*\[0, 1\].*2", {"alpha": 2.0}),),
    ),
    Case(
        proximal.l1,
        (X,),
        {"threshold": 0.3},
        {"threshold": 0.0},
        errors=(
            (ValueError, r"`threshold`.*got -1", {"threshold": -1.0}),
            (ValueError, r"`threshold` must broadcast.*\(5, 1\)", {"threshold": jnp.ones((5, 1))}),
        ),
    ),
    Case(
        projections.max_norm,
        (X,),
        {"radius": 1.5},
        {"radius": float("inf")},
        errors=(
            (ValueError, r"`radius`.*got -1", {"radius": -1.0}),
            (ValueError, r"`radius` must broadcast.*\(16, 1\)", {"radius": jnp.ones((16, 1))}),
        ),
    ),
    Case(projections.max_norm, (X,), {"radius": 1.5}, {"radius": float("inf")}, {"axis": 1}),
)


def _proximal(*, weight: Any, learning_rate: Any) -> optax.GradientTransformationExtraArgs:
    return transforms.proximal(proximal.l1, weight, learning_rate)


def _project(*, radius: Any) -> optax.GradientTransformationExtraArgs:
    return transforms.project(partial(projections.max_norm, radius=radius))


def _decay(*, weight: Any, learning_rate: Any) -> optax.GradientTransformationExtraArgs:
    return transforms.decoupled_decay(weight, learning_rate=learning_rate)


def _independent(*, weight: Any) -> optax.GradientTransformationExtraArgs:
    return transforms.independent_decay(weight)


def _gradient(*, weight: Any) -> optax.GradientTransformationExtraArgs:
    return transforms.add_penalty_gradient(penalties.l2, weight)


TRANSFORMATIONS = (
    Transformation(
        transforms.proximal, _proximal, {"weight": 0.5, "learning_rate": 0.2}, {"weight": 0.0}
    ),
    Transformation(transforms.project, _project, {"radius": 0.8}, {"radius": float("inf")}),
    Transformation(
        transforms.decoupled_decay, _decay, {"weight": 0.5, "learning_rate": 0.2}, {"weight": 0.0}
    ),
    Transformation(transforms.independent_decay, _independent, {"weight": 0.1}, {"weight": 0.0}),
    Transformation(transforms.add_penalty_gradient, _gradient, {"weight": 0.1}, {"weight": 0.0}),
)

# Public names that are not functions of data with strengths, and the tests that hold them.
ELSEWHERE = {
    dropout.fold_in_axis: "test_dropout.py",
    early_stopping.EarlyStopping: "test_early_stopping.py",
    early_stopping.init: "test_early_stopping.py",
    early_stopping.update: "test_early_stopping.py",
    early_stopping.update_maximizing: "test_early_stopping.py",
    linen.BatchNorm: "test_contract.py, test_linen.py",
    linen.Dropout: "test_contract.py, test_linen.py",
    linen.Stochastic: "test_linen.py",
    masks.kernels: "test_masks.py",
    nnx.BatchNorm: "test_contract.py, test_nnx.py",
    nnx.Dropout: "test_contract.py, test_nnx.py",
    nnx.Stochastic: "test_nnx.py",
    normalization.BatchStats: "test_normalization.py",
    normalization.Moments: "test_normalization.py",
    normalization.init_stats: "test_normalization.py",
    targets.smooth_labels: "test_targets.py",
    testing.check_regularizer: "test_contract.py",
    testing.contract: "test_contract.py",
    transforms.CompensationState: "test_rounding.py",
    transforms.StepState: "test_lifts.py",
    transforms.compensate_rounding: "test_rounding.py",
}
