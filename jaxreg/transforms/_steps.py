"""What the transformations share: strengths, leaves to skip, and steps computed in float32."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxreg._checks import check_nonnegative, is_floating
from jaxreg._numerics import wide_dtype

Schedule = optax.ScalarOrSchedule
Mask = Any | Callable[[Any], Any] | None


class StepState(NamedTuple):
    """Number of updates so far, which schedules of strengths are called with."""

    count: jax.Array  # shape=(), int32


def init_state(params: Any) -> StepState:
    """State before the first update."""
    del params
    return StepState(jnp.zeros((), jnp.int32))


def next_state(state: StepState) -> StepState:
    """State after one more update, without overflow."""
    return StepState(jnp.asarray(optax.safe_increment(state.count)))


def check_strength(value: Schedule, name: str) -> None:
    """Raises for a negative number; schedules and arrays pass."""
    if not callable(value):
        check_nonnegative(value, name)


def strength_at(value: Schedule, state: StepState) -> jax.Array:
    """Value of a strength at a step, whether it is a schedule or not."""
    return jnp.asarray(value(state.count) if callable(value) else value, jnp.result_type(float))


def check_params(params: Any, name: str) -> None:
    """Raises where ``update`` was called without parameters."""
    if params is None:
        raise ValueError(
            f"`params` must be given to the update of `{name}`, got None; "
            "call update(updates, state, params)."
        )


def check_mask(mask: Mask) -> None:
    """Raises for a single boolean, in place of a tree of them."""
    # Optax calls a mask that it takes for a schedule with the step, and gets one boolean.
    if isinstance(mask, bool | jax.Array):
        raise TypeError(
            f"`mask` must be a tree of booleans or a function of the parameters, got {mask}; pass "
            'None for all, and under optax.inject_hyperparams static_args=("mask",).'
        )


def selected(mask: Mask, params: Any) -> Any:
    """Tree of booleans shaped like the parameters."""
    # Not optax.masked, which makes the mask of the updates, and those may be absent.
    chosen = mask(params) if callable(mask) else True if mask is None else mask
    try:
        return jax.tree.broadcast(chosen, params)
    except ValueError as error:
        raise ValueError(f"`mask` must have the tree of the parameters: {error}") from error


def map_steps(step: Callable[..., jax.Array], updates: Any, params: Any, *rest: Any) -> Any:
    """Replaces the updates of floating-point parameters, computing in float32 or wider.

    Args:
      step: Function of a parameter and its update, both wide, and of the leaves of ``rest``, to the
        new update.
      updates: Tree of updates; None, and those of counters and keys, stay.
      params: Tree of parameters.
      *rest: Trees of further arguments; the updates of what they leave out stay.

    Returns:
      The new updates, with the dtypes of the given ones.
    """
    absent = (type(None), optax.MaskedNode)

    def leaf(u: Any, w: Any, *others: Any) -> Any:
        if any(isinstance(a, absent) for a in (u, *others)) or not is_floating(w):
            return u
        dtype = wide_dtype(jnp.result_type(w))
        moved = step(jnp.asarray(w, dtype), jnp.asarray(u, dtype), *others)
        return moved.astype(jnp.result_type(u))

    return jax.tree.map(leaf, updates, params, *rest, is_leaf=lambda u: isinstance(u, absent))
