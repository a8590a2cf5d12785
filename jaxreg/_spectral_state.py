"""Converts statistics of spectral norm to Flax's layout, also for biases with two axes."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxreg._trees import Kernel, is_kernel, per_layer


def is_matrix(path: tuple[Any, ...], w: Any, *, strict: bool) -> bool:
    """Returns whether Flax's spectral norm normalizes ``w``, which needs at least two axes.

    Raises:
      ValueError: ``w`` has more than two axes, and ``strict`` is true.
    """
    if strict and w.ndim > 2:
        raise ValueError(
            f"Input is {w.ndim}D but error_on_non_matrix is True: `error_on_non_matrix` must be "
            f"False for {'/'.join(map(str, path))} of shape {w.shape}, which is then flattened."
        )
    return w.ndim >= 2


def as_rows(u: jax.Array, kernel: Kernel) -> jax.Array:
    """Converts vectors ``[n]`` of spectral norm to Flax's layout, ``[1, n]``."""
    return per_layer(lambda u: u[None], kernel.stacked)(u)


def as_vectors(rows: jax.Array, kernel: Kernel) -> jax.Array:
    """Converts the matrices ``[1, n]`` of :func:`as_rows` back to vectors ``[n]``."""
    return per_layer(lambda row: row[0], kernel.stacked)(rows)


def zero_for_bias(kernel: Kernel, w: jax.Array, stat: jax.Array) -> jax.Array:
    """Returns the initial value of a statistic: ``stat``, or zeros for a bias with two axes.

    Args:
      kernel: Describes the parameter.
      w: Parameter.
      stat: Vector or singular value of spectral norm.
    """
    return stat if is_kernel(kernel.path, w) else jnp.zeros_like(stat)


def stop_at_zeros(
    kernel: Kernel, w: jax.Array, u: jax.Array, step: tuple[jax.Array, jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns ``step``, or ``w`` and zero statistics for a bias whose power iteration has ended.

    In Flax the iteration ends for good once a bias is all zeros, as it usually is at
    initialization: Flax stores zeros, and never divides the bias. The iteration of a kernel always
    continues.

    Args:
      kernel: Describes the parameter.
      w: Parameter.
      u: Stored vector.
      step: Divided parameter, new vector and singular value.
    """
    if is_kernel(kernel.path, w):
        return step

    def choose(w: jax.Array, u: jax.Array, result: jax.Array, *stats: jax.Array) -> Any:
        goes_on = jnp.any(w != 0) & jnp.any(u != 0)
        zeroed = [jnp.where(goes_on, stat, jnp.zeros_like(stat)) for stat in stats]
        return jnp.where(goes_on, result, w), *zeroed

    return per_layer(choose, kernel.stacked)(w, u, *step)
