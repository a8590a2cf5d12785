"""Rows of noise."""

import jax.numpy as jnp

from jaxreg import (
    noise,
)
from tests.cases.base import KEY, WRONG_BITS, WRONG_RATES, Case, X

FUNCTIONS = (
    Case(
        noise.gaussian_noise,
        (KEY, X),
        {"stddev": 0.3},
        {"stddev": 0.0},
        errors=(
            (ValueError, r"`stddev` must be zero or positive, got -1", {"stddev": -1.0}),
            (
                ValueError,
                r"`stddev` must broadcast.*\(16, 1, 1\)",
                {"stddev": jnp.ones((16, 1, 1))},
            ),
            WRONG_BITS,
        ),
    ),
    Case(noise.gaussian_noise, (KEY, X), options={"stddev": jnp.linspace(0.0, 1.0, 8)}),
    Case(
        noise.uniform_noise,
        (KEY, X),
        {"limit": 0.3},
        {"limit": 0.0},
        errors=(
            (ValueError, r"`limit` must be zero or positive, got nan", {"limit": float("nan")}),
            (ValueError, r"`limit` must broadcast.*\(5,\)", {"limit": jnp.ones(5)}),
            WRONG_BITS,
        ),
    ),
    Case(
        noise.salt_and_pepper,
        (KEY, X),
        {"rate": 0.3, "low": -1.5, "high": 2.0},
        {"rate": 0.0},
        errors=(
            *WRONG_RATES,
            (ValueError, r"`low` must broadcast.*\(5,\)", {"low": jnp.ones(5)}),
            (ValueError, r"`high` must broadcast.*\(16,\)", {"high": jnp.ones(16)}),
            WRONG_BITS,
        ),
    ),
    Case(
        noise.salt_and_pepper,
        (KEY, X),
        options={"rate": 0.3, "low": jnp.full((1, 8), -1.0), "high": jnp.linspace(1.0, 2.0, 8)},
    ),
    Case(
        noise.perturb,
        (KEY, X),
        {"stddev": 0.3},
        {"stddev": 0.0},
        errors=(
            (ValueError, r"`stddev` must be zero or positive, got -1", {"stddev": -1.0}),
            (ValueError, r"`stddev` must be a single number.*\(8,\)", {"stddev": X[0]}),
            WRONG_BITS,
        ),
    ),
)
