"""An optimizer around every transformation, and steps with it."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxreg import transforms
from tests import cases
from tests.transforms.helpers import METRIC_CHAINS, RATE


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """A whole optimizer with a technique in it, as a function of its strengths, traced or not."""

    build: Callable[..., Any]  # of ``inner`` and the strengths
    strengths: dict[str, float]
    scheduled: tuple[str, ...]  # strengths that may be schedules
    needs_all: bool = False  # a mask can only be inside it
    inner: optax.GradientTransformation = dataclasses.field(
        default_factory=lambda: optax.sgd(0.1, momentum=0.5)
    )

    def __call__(self, times=1.0, /, inner=None, **strengths):
        """Builds the optimizer with its strengths times a number, or with other strengths."""
        strengths = {k: times * v for k, v in self.strengths.items()} | strengths
        return self.build(self.inner if inner is None else inner, **strengths)


def _behind(build):
    """Puts a transformation after an optimizer, in a function that names its strengths."""

    def optimizer(inner, **strengths):
        return optax.chain(inner, build(**strengths))

    # Optax reads the signature to find the arguments that it may inject.
    own = inspect.Parameter("inner", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    optimizer.__signature__ = inspect.Signature(
        [own, *inspect.signature(build).parameters.values()]
    )
    return optimizer


def _ignoring(build):
    """Hides other arguments from a transformation, since the row's takes none."""

    def transformation(*, factor):
        return optax.GradientTransformation(*build(factor=factor))

    return transformation


def _with_metric(build):
    return lambda inner, weight, learning_rate: build(weight, learning_rate)


OPTIMIZERS = {
    **{
        case.name: Optimizer(
            _behind(_ignoring(case.build) if "factor" in case.strengths else case.build),
            case.strengths,
            # The strength of a projection is bound to its function and takes no schedule.
            () if case.factory is transforms.project else tuple(case.strengths),
        )
        for case in cases.TRANSFORMATIONS
    },
    "exponential_average": Optimizer(
        _behind(transforms.exponential_average), {"decay": 0.9, "initial_weight": 0.5}, ("decay",)
    ),
    "stochastic_weight_average": Optimizer(
        _behind(transforms.stochastic_weight_average), {"start": 2, "period": 2}, ()
    ),
    "lookahead": Optimizer(transforms.lookahead, {"period": 2, "step_size": 0.4}, ("step_size",)),
    "sam": Optimizer(transforms.sam, {"radius": 0.5}, ("radius",), needs_all=True),
    "asam": Optimizer(transforms.asam, {"radius": 0.8, "eta": 0.1}, ("radius",), needs_all=True),
    "centralize": Optimizer(lambda inner: optax.chain(transforms.centralize(), inner), {}, ()),
    **{
        f"preconditioned {name}": Optimizer(
            _with_metric(build),
            {"weight": 0.5, "learning_rate": RATE},
            ("weight", "learning_rate"),
        )
        for name, build in METRIC_CHAINS.items()
    },
}


def slopes(params):
    """Gradients of a curved loss, which depend on the point."""

    def leaf(w):
        if jnp.issubdtype(w.dtype, jax.dtypes.prng_key) or w.dtype == bool:
            return np.zeros(w.shape, jax.dtypes.float0)
        if not jnp.issubdtype(w.dtype, jnp.inexact):
            return w
        wide = w.astype(jnp.promote_types(w.dtype, jnp.float32))
        return (2 * wide + 0.1 * jnp.cos(3 * wide)).astype(w.dtype)

    return jax.tree.map(leaf, params)


def take(tx, params, state, gradients=None):
    """Parameters and state after one step down the slopes, or with other gradients."""
    gradients = slopes(params) if gradients is None else gradients
    tx = optax.with_extra_args_support(tx)
    updates, state = tx.update(gradients, state, params, grad_fn=slopes)
    return optax.apply_updates(params, updates), state


def run(tx, params, steps=3):
    """Parameters and state after some steps, one by one."""
    state = tx.init(params)
    for _ in range(steps):
        params, state = take(tx, params, state)
    return params, state


def scan(tx, params, steps=3):
    """Parameters and state after some steps, in a loop of the program."""
    start = params, tx.init(params)
    return jax.lax.scan(lambda carry, _: (take(tx, *carry), None), start, length=steps)[0]
