"""Rows of training."""

import jax.numpy as jnp

from jaxreg.training import ensembles
from tests.cases.base import SERIES, Case, X

FUNCTIONS = (
    Case(ensembles.class_uncertainty, (SERIES,)),
    Case(
        ensembles.ensemble_mse,
        (X, X[::-1]),
        {"members": 4.0},
        off={"members": 1.0},
        errors=((ValueError, r"`members` must be at least 1, got 0", {"members": 0}),),
    ),
    # Three members on each of eight devices.
    Case(
        ensembles.predicted_mse,
        (jnp.sin(jnp.arange(1.0, 24 * 8 + 1)).reshape(24, 8), X[0]),
        {"members": 4.0},
        errors=((ValueError, r"`members` must be at least 1, got nan", {"members": float("nan")}),),
    ),
)
