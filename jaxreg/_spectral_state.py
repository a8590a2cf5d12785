"""Statistics of spectral norm as Flax stores them, for biases with two axes too."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxreg._trees import Kernel, is_kernel, per_layer


def is_matrix(path: tuple[Any, ...], w: Any, *, strict: bool) -> bool:
    """Tells whether Flax's spectral norm divides a parameter: it has two axes or more.

    Raises:
      ValueError: It has more than two, and ``strict`` is set.
    """
    if strict and w.ndim > 2:
        raise ValueError(
            f"Input is {w.ndim}D but error_on_non_matrix is True: `error_on_non_matrix` must be "
            f"False for {'/'.join(map(str, path))} of shape {w.shape}, which then is flattened."
        )
    return w.ndim >= 2


def as_rows(u: jax.Array, kernel: Kernel) -> jax.Array:
    """Vectors of spectral norm as Flax stores them, in matrices of one row."""
    return per_layer(lambda u: u[None], kernel.stacked)(u)


def as_vectors(rows: jax.Array, kernel: Kernel) -> jax.Array:
    """Undoes :func:`as_rows`."""
    return per_layer(lambda row: row[0], kernel.stacked)(rows)


def zero_for_bias(kernel: Kernel, w: jax.Array, stat: jax.Array) -> jax.Array:
    """Returns the first value of a statistic: ``stat``, or zeros for a bias with two axes.

    Args:
      kernel: Describes the parameter.
      w: Parameter.
      stat: Vector or singular value of spectral norm.
    """
    return stat if is_kernel(kernel.path, w) else jnp.zeros_like(stat)


def stop_at_zeros(
    kernel: Kernel, w: jax.Array, u: jax.Array, step: tuple[jax.Array, jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns a step of spectral norm, or ``w`` and zeros for a bias whose iteration has ended.

    In Flax the iteration ends for good at a bias of zeros, as it is when training starts: zeros are
    stored, and the bias is never divided. The iteration of a kernel always goes on.

    Args:
      kernel: Describes the parameter.
      w: Parameter.
      u: Vector that is stored.
      step: Divided parameter, new vector and singular value.
    """
    if is_kernel(kernel.path, w):
        return step

    def choose(w: jax.Array, u: jax.Array, result: jax.Array, *stats: jax.Array) -> Any:
        goes_on = jnp.any(w != 0) & jnp.any(u != 0)
        zeroed = [jnp.where(goes_on, stat, jnp.zeros_like(stat)) for stat in stats]
        return jnp.where(goes_on, result, w), *zeroed

    return per_layer(choose, kernel.stacked)(w, u, *step)
