"""Arms that wrap the whole optimizer."""

from __future__ import annotations

import math
from typing import Any

import optax

from jaxreg import masks, proximal, transforms
from jaxreg.study.arms.row import SHARE, Arm, LogGrid, Rule, Wrapper


def shrink_in_the_metric_of_adam(
    inner: optax.GradientTransformation, strength: Any, learning_rate: float
) -> optax.GradientTransformation:
    """Soft-thresholds the weights after every step, in the metric of Adam."""
    return transforms.preconditioned_proximal(
        inner,
        proximal.l1,
        strength,
        learning_rate,
        metric=transforms.adam_metric(),
        mask=masks.kernels,
    )


def follow_slowly(
    inner: optax.GradientTransformation, strength: Any
) -> optax.GradientTransformation:
    """Keeps slow weights, which follow every fifth step and are evaluated."""
    return transforms.lookahead(inner, period=5, step_size=strength)


def average_parameters(
    inner: optax.GradientTransformation, strength: Any
) -> optax.GradientTransformation:
    """Keeps a running average over about ``strength`` steps, which is evaluated."""
    return optax.chain(inner, transforms.exponential_average(1 - 1 / strength))


def ascend_relatively(
    inner: optax.GradientTransformation, strength: Any
) -> optax.GradientTransformation:
    """Takes the gradient at the worst point, at a distance relative to the weights."""
    return transforms.asam(inner, strength)


def ascend(inner: optax.GradientTransformation, strength: Any) -> optax.GradientTransformation:
    """Takes the gradient at the worst point of a ball around the weights."""
    return transforms.sam(inner, strength)


# From the inside out, so an average is over the results of all wrappers inside it.
ARMS = (
    Arm(
        name="adaptive_l1",
        summary="soft-threshold step in the metric of Adam",
        source="jaxreg.transforms.preconditioned_proximal(jaxreg.proximal.l1, ...)",
        acts=Wrapper(shrink_in_the_metric_of_adam, path=("inner_state",)),
        grid=LogGrid(1e-4, 0.01),
        label="weight of the L1 step",
    ),
    Arm(
        name="lookahead",
        summary="slow weights that follow every fifth step",
        source="jaxreg.transforms.lookahead",
        acts=Wrapper(follow_slowly, averages=True),
        grid=LogGrid(0.2, 0.8),
        rule=SHARE,
        label="step size of the slow weights (smaller is stronger)",
        off=1.0,
    ),
    Arm(
        name="average_steps",
        summary="evaluation of a running average of the parameters",
        source="jaxreg.transforms.exponential_average",
        acts=Wrapper(average_parameters, path=(-1,), averages=True),
        grid=LogGrid(10.0, 300.0),
        rule=Rule("finite and at least 1, or 0", lambda v: v == 0 or 1 <= v < math.inf),
        label="steps that the average looks back on",
        aliases=("ema", "exponential_average"),
    ),
    Arm(
        name="asam",
        summary="gradient at the worst point, relative to the weights",
        source="jaxreg.transforms.asam",
        acts=Wrapper(ascend_relatively, path=("inner_state",), needs_gradients=True),
        grid=LogGrid(0.3, 5.0),
        label="radius relative to the weights",
    ),
    Arm(
        name="sam",
        summary="gradient at the worst point of a ball",
        source="jaxreg.transforms.sam",
        acts=Wrapper(ascend, path=("inner_state",), needs_gradients=True),
        grid=LogGrid(0.05, 2.0),
        label="radius of the ball",
    ),
)
