"""Rows of targets."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import (
    targets,
)
from tests.cases.base import (
    LABELS,
    MASK,
    Case,
    X,
    array,
)


def _mixed_per_example(
    logits: jax.Array, a: jax.Array, b: jax.Array, share: jax.Array, where: jax.Array, *, alpha: Any
) -> jax.Array:
    return targets.mixed_cross_entropy(logits, a, b, share=share, alpha=alpha, where=where)


def _weighted_rows(
    logits: jax.Array, rows: jax.Array, where: jax.Array, *, alpha: Any
) -> jax.Array:
    return targets.smoothed_cross_entropy(logits, rows, alpha=alpha, where=where)


ROWS = array(np.exp(np.sin(np.arange(16.0 * 8) ** 2)).reshape(16, 8))
WEIGHTS = array(1.5 + np.cos(np.arange(16.0)))

FUNCTIONS = (
    Case(
        targets.smoothed_cross_entropy,
        (X, LABELS),
        {"alpha": 0.1},
        errors=(
            (ValueError, r"`alpha`.*\[0, 1\].*2", {"alpha": 2.0}),
            (
                ValueError,
                r"`where` must contain weights that are zero or positive, got -1",
                {"where": -np.ones(16)},
            ),
        ),
    ),
    Case(
        targets.smoothed_cross_entropy,
        (X, ROWS, WEIGHTS),
        {"alpha": 0.1},
        call=_weighted_rows,
    ),
    Case(
        targets.mixed_cross_entropy,
        (X, LABELS, LABELS[::-1]),
        {"share": 0.3, "alpha": 0.1},
        errors=(
            (ValueError, r"`share` must be a share .* in \[0, 1\], got 1\.5", {"share": 1.5}),
            (ValueError, r"`share` must broadcast to shape \(16,\).*\(5,\)", {"share": X[0, :5]}),
            (ValueError, r"`alpha`.*\[0, 1\].*2", {"alpha": 2.0}),
            (ValueError, r"`where` .* as `labels_a`, \(16,\), got \(16, 1\)", {"where": MASK}),
        ),
    ),
    Case(
        targets.mixed_cross_entropy,
        (X, LABELS, LABELS[::-1], jnp.linspace(0.1, 0.9, 16), MASK[:, 0]),
        {"alpha": 0.1},
        call=_mixed_per_example,
    ),
    Case(
        targets.flood,
        (X,),
        {"level": 0.3},
        {"level": -float("inf")},
        errors=(
            (ValueError, r"`level` must be a number in .*got nan", {"level": float("nan")}),
            (ValueError, r"`level` must be a single number.*\(8,\)", {"level": X[0]}),
        ),
    ),
)
