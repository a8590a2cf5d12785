"""When a metric is better than the best one so far."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def scalar_metric(metric: ArrayLike) -> jax.Array:
    """Returns the metric in float32; raises unless it is a single number."""
    if jnp.ndim(metric) != 0:
        raise ValueError(
            f"`metric` must be a scalar, got shape {jnp.shape(metric)}; "
            "map over runs with jax.vmap."
        )
    return jnp.asarray(metric, jnp.float32)


def is_improvement(
    metric: jax.Array, best: jax.Array, has_best: jax.Array, min_delta: ArrayLike
) -> jax.Array:
    """Tells whether a metric to be minimized lies below the best one by more than ``min_delta``.

    The first number always does, and NaN never does.
    """
    first = ~has_best & ~jnp.isnan(metric)
    return first | (metric < best - jnp.asarray(min_delta, jnp.float32))
