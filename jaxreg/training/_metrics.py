"""Helpers for early stopping and plateaus: comparing metrics, and keeping the dtypes of states."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def scalar_metric(metric: ArrayLike) -> jax.Array:
    """Returns the metric in float32; raises unless it is a scalar."""
    if jnp.ndim(metric) != 0:
        raise ValueError(
            f"`metric` must be a scalar, got shape {jnp.shape(metric)}; "
            "map over runs with jax.vmap."
        )
    return jnp.asarray(metric, jnp.float32)


def is_improvement(
    metric: jax.Array, best: jax.Array, has_best: jax.Array, min_delta: ArrayLike
) -> jax.Array:
    """Returns whether ``metric`` is below ``best`` by more than ``min_delta``.

    The first number is always an improvement, and NaN never is.
    """
    first = ~has_best & ~jnp.isnan(metric)
    best = best.astype(jnp.float32)
    return first | (metric < best - jnp.asarray(min_delta, jnp.float32))


State = TypeVar("State")


def with_dtypes_of(state: State, new: State) -> State:
    """Casts the leaves of ``new`` to the dtypes of ``state``, as ``jax.lax.scan`` requires."""
    return jax.tree.map(
        lambda old, leaf: leaf if leaf.dtype == old.dtype else leaf.astype(old.dtype), state, new
    )
