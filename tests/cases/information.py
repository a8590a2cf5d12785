"""Rows of information."""

from typing import Any

import jax
import numpy as np

from jaxreg import (
    information,
)
from tests.cases.base import (
    KEY,
    LABELS,
    MASK,
    SERIES,
    WRONG_BITS,
    Case,
    X,
    array,
)

LOG_VARIANCES = array(2 * np.cos(np.arange(16.0 * 8)).reshape(16, 8))


def _rate_of_vae(mean: jax.Array, log_var: jax.Array, distortion: jax.Array, *, beta: Any) -> Any:
    return information.beta_vae_loss(distortion, mean, log_var, beta=beta)


def _masked_vae(
    mean: jax.Array, log_var: jax.Array, distortion: jax.Array, where: jax.Array, *, beta: Any
) -> Any:
    return information.beta_vae_loss(distortion, mean, log_var, beta=beta, where=where)


def _rate_of_bottleneck(
    mean: jax.Array,
    log_var: jax.Array,
    logits: jax.Array,
    labels: jax.Array,
    where: jax.Array,
    *,
    beta: Any,
) -> Any:
    return information.bottleneck_loss(logits, labels, mean, log_var, beta=beta, where=where)


def _masked_free_bits(kl: jax.Array, where: jax.Array, *, level: Any) -> jax.Array:
    return information.free_bits(kl, level=level, where=where)


FUNCTIONS = (
    Case(
        information.beta_vae_loss,
        (X[:, 0], X, LOG_VARIANCES),
        {"beta": 0.3},
        errors=(
            (ValueError, r"`beta` must be zero or positive, got -1", {"beta": -1.0}),
            (ValueError, r"`beta` must be a single number.*\(8,\)", {"beta": X[0]}),
            (
                ValueError,
                r"`where` .* as `distortion`, \(16,\), got \(3,\)",
                {"where": MASK[:3, 0]},
            ),
        ),
    ),
    Case(
        information.beta_vae_loss,
        (X, LOG_VARIANCES, X[:, 0]),
        {"beta": 0.3},
        call=_rate_of_vae,
    ),
    Case(
        information.beta_vae_loss,
        (X, LOG_VARIANCES, X[:, 0], MASK[:, 0]),
        {"beta": 0.3},
        call=_masked_vae,
    ),
    Case(
        information.bottleneck_loss,
        (X, LABELS, X[::-1], LOG_VARIANCES),
        {"beta": 0.3},
        errors=(
            (ValueError, r"`beta` must be zero or positive, got -1", {"beta": -1.0}),
            (ValueError, r"`beta` must be a single number.*\(8,\)", {"beta": X[0]}),
            (ValueError, r"`where` .* as `labels`, \(16,\), got \(3,\)", {"where": MASK[:3, 0]}),
        ),
    ),
    Case(
        information.bottleneck_loss,
        (X, LOG_VARIANCES, X[::-1], LABELS, MASK[:, 0]),
        {"beta": 0.3},
        call=_rate_of_bottleneck,
    ),
    Case(information.categorical_kl, (X, X[::-1])),
    Case(information.confidence_penalty, (X,)),
    Case(
        information.free_bits,
        (1 + X,),
        {"level": 0.95},
        errors=(
            (ValueError, r"`level` must be .* in \[0, inf\], got -1", {"level": -1.0}),
            (ValueError, r"`level` must be a single number.*\(8,\)", {"level": X[0]}),
            (
                ValueError,
                r"`where` .* as `kl` without its last axis, \(16,\), got \(16, 1\)",
                {"where": MASK},
            ),
        ),
    ),
    Case(information.free_bits, (1 + X, MASK[:, 0]), {"level": 0.95}, call=_masked_free_bits),
    Case(information.gaussian_kl, (X, LOG_VARIANCES)),
    Case(information.sample_gaussian, (KEY, X, LOG_VARIANCES), errors=(WRONG_BITS,)),
    Case(information.symmetric_kl, (X, X[::-1])),
    Case(information.jensen_shannon, (SERIES,)),
)
