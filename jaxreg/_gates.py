"""Arguments of hard concrete gates, for :mod:`jaxreg.dropout` and :mod:`jaxreg.penalties`."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_real, check_scalar, is_static
from jaxreg._numerics import as_strength

# The distribution of Louizos et al., section 4.
TEMPERATURE = 2 / 3
LOW = -0.1
HIGH = 1.1
_COLDEST = 1e-6


def gate_strengths(
    log_alpha: jax.Array, temperature: ArrayLike, low: ArrayLike, high: ArrayLike
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Checks the arguments of gates; returns temperature and ``(low, high)``, clipped to range."""
    check_real(log_alpha, "log_alpha")
    for value, name in ((temperature, "temperature"), (low, "low"), (high, "high")):
        check_scalar(value, name)
    if is_static(temperature) and not float(temperature) > 0:  # pyright: ignore[reportArgumentType]
        raise ValueError(
            f"`temperature` must be positive, got {temperature}; Louizos et al. use 2/3."
        )
    if is_static(low) and not float(low) < 0:  # pyright: ignore[reportArgumentType]
        raise ValueError(f"`low` must be negative, got {low}; Louizos et al. use -0.1.")
    if is_static(high) and not float(high) > 1:  # pyright: ignore[reportArgumentType]
        raise ValueError(f"`high` must be greater than 1, got {high}; Louizos et al. use 1.1.")
    heat = jnp.maximum(as_strength(temperature, log_alpha), _COLDEST)
    bottom = as_strength(low, log_alpha)
    bottom = jnp.minimum(bottom, -jnp.finfo(bottom.dtype).tiny)
    top = jnp.maximum(as_strength(high, log_alpha), 1)
    return heat, (bottom, top)
