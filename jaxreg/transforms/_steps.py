"""Helpers of transformations: strengths, multipliers, and updates computed in float32."""

import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxreg._checks import check_nonnegative, is_floating
from jaxreg._numerics import round_to, wide_dtype
from jaxreg._paths import path_names
from jaxreg._selection import leaves_for

Schedule = optax.ScalarOrSchedule


class StepState(NamedTuple):
    """State of the transformations that only count their updates.

    Attributes:
      count: Number of updates so far, a scalar of int32, at which schedules are evaluated.
    """

    # A scalar of int32. The name is Optax's; it hides the method of tuples.
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]


def init_state(params: Any) -> StepState:
    """Returns the state before the first update."""
    del params
    return StepState(jnp.zeros((), jnp.int32))


def next_state(state: StepState) -> StepState:
    """Returns the state after one more update, without overflow."""
    return StepState(jnp.asarray(optax.safe_increment(state.count)))


def check_strength(value: Schedule, name: str) -> None:
    """Raises if ``value`` is a negative Python or NumPy number; schedules and arrays pass."""
    if not callable(value):
        check_nonnegative(value, name)


def strength_at(value: Schedule, state: StepState) -> jax.Array:
    """Returns a constant strength, or the value of a schedule at the current step."""
    return jnp.asarray(value(state.count) if callable(value) else value, jnp.result_type(float))


def check_params(params: Any, name: str) -> None:
    """Raises if the update of the transformation ``name`` is called without ``params``."""
    if params is None:
        raise ValueError(
            f"`params` must be given to the update of `{name}`, got None; "
            "call update(updates, state, params)."
        )


def check_multipliers(multipliers: Any) -> None:
    """Raises if ``multipliers`` is a single value instead of a tree or a function."""
    if isinstance(multipliers, str | numbers.Number | np.generic | np.ndarray | jax.Array):
        raise TypeError(
            "`multipliers` must be a tree of numbers or a function of the parameters, got "
            f"{multipliers!r}; to scale all parameters alike, change the weight instead; under "
            'optax.inject_hyperparams, pass static_args=("multipliers",).'
        )


def multipliers_for(multipliers: Any, params: Any) -> Any:
    """Returns a tree of multipliers with the structure of ``params``; 1 by default."""
    if multipliers is None:
        return jax.tree.map(lambda _: 1.0, params)
    values = jax.tree.structure(params).unflatten(leaves_for(multipliers, params, "multipliers"))

    def check(path: tuple[Any, ...], w: Any, value: Any) -> Any:
        if is_floating(w) and not _is_number(value):
            where = "/".join(path_names(path)) or "the root"
            raise TypeError(f"`multipliers` must be a tree of numbers, got {value!r} for {where}.")
        return value

    return jax.tree_util.tree_map_with_path(check, params, values)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, numbers.Real) or getattr(value, "shape", None) == ()


def where(mask: Any, move: Callable[[], jax.Array], u: jax.Array) -> jax.Array:
    """Returns ``move()`` where ``mask`` is True, else ``u``; a bool selects the whole leaf."""
    if isinstance(mask, bool):
        return move() if mask else u
    return jnp.where(mask, move(), u)


def at_rest(u: Any, w: Any) -> Any:
    """Replaces a float0 gradient by zeros of the dtype of ``w``, an integer or boolean leaf."""
    if getattr(u, "dtype", None) != jax.dtypes.float0 or not hasattr(w, "dtype"):
        return u
    counts = jnp.issubdtype(w.dtype, jnp.integer) or w.dtype == bool
    return jnp.zeros_like(w) if counts else u


def at_rest_of(updates: Any, params: Any) -> Any:
    """Applies :func:`at_rest` to every leaf, so that updates can be added to the parameters."""
    return jax.tree.map(at_rest, updates, params, is_leaf=lambda u: u is None)


def map_steps(step: Callable[..., jax.Array], updates: Any, params: Any, *rest: Any) -> Any:
    """Maps ``step`` over floating-point parameters and their updates, in float32 or wider.

    Args:
      step: Function of a parameter and its update, both wide, and of the leaves of ``rest``, to the
        new update.
      updates: Tree of updates. None and the updates of counters and keys are unchanged. Updates of
        integers that have the dtype float0 become integer zeros.
      params: Tree of parameters.
      *rest: Trees of further arguments. Updates of leaves that these trees mask out are unchanged.

    Returns:
      The new updates, with the dtypes of the old ones.
    """
    absent = (type(None), optax.MaskedNode)

    def leaf(u: Any, w: Any, *others: Any) -> Any:
        if any(isinstance(a, absent) for a in (u, *others)) or not is_floating(w):
            return at_rest(u, w)
        dtype = wide_dtype(jnp.result_type(w))
        moved = step(jnp.asarray(w, dtype), jnp.asarray(u, dtype), *others)
        return moved.astype(jnp.result_type(u))

    return jax.tree.map(leaf, updates, params, *rest, is_leaf=lambda u: isinstance(u, absent))


def newest(w: Any, u: Any) -> Any:
    """Returns a parameter plus its update, rounded exactly as by ``optax.apply_updates``."""
    if w is None or u is None or not jnp.issubdtype(jnp.result_type(w), jnp.number):
        return w
    if getattr(u, "dtype", None) == jax.dtypes.float0:
        return w
    dtype = jnp.result_type(w)
    if is_floating(w) and jnp.finfo(dtype).bits < 32:
        # Under jit XLA would remove a cast there and back, and the result would not be rounded.
        return round_to(jnp.asarray(w, jnp.float32) + jnp.asarray(u, jnp.float32), dtype)
    return jnp.asarray(w + u).astype(dtype)
