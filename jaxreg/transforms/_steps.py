"""What the transformations share: schedules, leaves to skip, and rounding that is not lost."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxreg._checks import check_nonnegative
from jaxreg._numerics import wide_dtype

Schedule = optax.ScalarOrSchedule


def check_strength(value: Schedule, name: str) -> None:
    """Raises for a negative number; schedules and arrays pass."""
    if not callable(value):
        check_nonnegative(value, name)


def strength_at(value: Schedule, count: jax.Array) -> jax.Array:
    """Value of a strength at a step, whether it is a schedule or not."""
    return jnp.asarray(value(count) if callable(value) else value, jnp.float32)


def next_count(count: jax.Array) -> jax.Array:
    """Counts one update, without overflow."""
    return jnp.asarray(optax.safe_increment(count))


def check_params(params: Any, name: str) -> None:
    """Raises where ``update`` was called without parameters."""
    if params is None:
        raise ValueError(
            f"`params` must be given to the update of `{name}`, got None; "
            "call update(updates, state, params)."
        )


def is_floating(leaf: Any) -> bool:
    """Tells whether a leaf holds numbers to regularize, not a counter, a key or nothing."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def init_carry(params: Any) -> Any:
    """Tree of what rounding lost so far: float32 zeros for narrow leaves, else nothing."""

    def leaf(w: Any) -> jax.Array | None:
        narrow = is_floating(w) and jnp.result_type(w) != wide_dtype(jnp.result_type(w))
        return jnp.zeros_like(w, jnp.float32) if narrow else None

    return jax.tree.map(leaf, params)


def map_steps(
    step: Callable[[jax.Array, jax.Array], jax.Array], updates: Any, params: Any, carry: Any
) -> tuple[Any, Any]:
    """Replaces every update, computing in float32 and carrying what rounding loses.

    Args:
      step: Function of the parameter and its update, both in float32 or wider, to the new update.
      updates: Tree of updates.
      params: Tree of parameters.
      carry: Tree from :func:`init_carry`, or from the previous call.

    Returns:
      The new updates and the new carry.
    """

    def leaf(u: Any, w: Any, lost: jax.Array | None) -> tuple[Any, jax.Array | None]:
        if u is None or not is_floating(w):
            return u, lost
        dtype = wide_dtype(jnp.result_type(w))
        here, update = jnp.asarray(w, dtype), jnp.asarray(u, dtype)
        if lost is None:
            return step(here, update).astype(jnp.result_type(u)), None
        moved = step(here, update + lost)
        rounded = moved.astype(u.dtype)
        return rounded, here + moved - _round_to(w, here + rounded.astype(dtype))

    leaves, tree = jax.tree.flatten(updates, is_leaf=_is_none)
    columns = (leaves, tree.flatten_up_to(params), tree.flatten_up_to(carry))
    moved = [leaf(*row) for row in zip(*columns, strict=True)]
    return tree.unflatten([u for u, _ in moved]), tree.unflatten([lost for _, lost in moved])


def map_leaves(function: Callable[[Any, Any], Any], updates: Any, params: Any) -> Any:
    """Maps over the updates of floating-point parameters; all other updates stay, None too."""

    def leaf(u: Any, w: Any) -> Any:
        return u if u is None or not is_floating(w) else function(u, jnp.asarray(w))

    return jax.tree.map(leaf, updates, params, is_leaf=_is_none)


def _is_none(leaf: Any) -> bool:
    return leaf is None


def _round_to(w: jax.Array, value: jax.Array) -> jax.Array:
    """Rounds as a cast to the dtype of ``w`` does, in a form that compilers do not remove."""
    info = jnp.finfo(w.dtype)
    rounded = jax.lax.reduce_precision(value, info.nexp, info.nmant)
    if info.tiny == jnp.finfo(value.dtype).tiny:
        return rounded
    # The reduction flushes numbers below the normal range of float16 to zero; a cast keeps them.
    spacing = float(info.smallest_subnormal)
    return jnp.where(jnp.abs(value) < info.tiny, jnp.round(value / spacing) * spacing, rounded)
