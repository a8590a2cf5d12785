"""Rows of dropout."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import (
    dropout,
)
from jaxreg._numerics import widen
from tests.cases.base import (
    KERNEL,
    KEY,
    MAPS,
    SERIES,
    WRONG_BITS,
    WRONG_ENDS,
    WRONG_GATES,
    WRONG_RATES,
    Case,
    X,
    array,
)

# One decision: the key draws 0.91, and 0.04 after it is folded with 1.
KEEPING_KEY = jax.random.key(9)

LOG_VARIANCE = array(np.linspace(-3.0, 1.0, 64).reshape(8, 8))

# No draw for X is within 0.02 of 0.3, so decisions at this rate are constant nearby.
STEADY_KEY = jax.random.key(81)


def _dropout(
    function: Callable[..., jax.Array], x: jax.Array, *errors: Any, rate: float = 0.3
) -> Case:
    """Returns a row of a function ``(key, x, *, rate, bits)``."""
    errors = (*WRONG_RATES, WRONG_BITS, *errors)
    return Case(function, (KEY, x), {"rate": rate}, {"rate": 0.0}, errors=errors)


def _zoneout(key: jax.Array, new: jax.Array, old: jax.Array, *, rate: Any) -> jax.Array:
    return dropout.zoneout(key, new, old.astype(new.dtype), rate=rate)


def _zoneout_mean(new: jax.Array, old: jax.Array, *, rate: Any) -> jax.Array:
    return dropout.zoneout_mean(new, old.astype(new.dtype), rate=rate)


def _stochastic_depth(key: jax.Array, x: jax.Array, *, rate: Any) -> jax.Array:
    return dropout.stochastic_depth(key, jnp.tanh, x, rate=rate)


def _full_depth(x: jax.Array) -> jax.Array:
    return dropout.full_depth(jnp.tanh, x)


def _patch_dropout(key: jax.Array, x: jax.Array) -> jax.Array:
    """Puts both results into one array, in float32, as the contract requires for other shapes."""
    kept, indices = dropout.patch_dropout(key, x, rate=0.4)
    kept = widen(kept)
    return kept * indices[..., None].astype(kept.dtype)


def _every_patch(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    kept, indices = dropout.every_patch(x)
    return kept, indices.astype(jnp.float32)


FUNCTIONS = (
    Case(
        dropout.dropout,
        (KEY, X),
        {"rate": 0.3},
        {"rate": 0.0},
        errors=(
            *WRONG_RATES,
            WRONG_BITS,
            (ValueError, r"`broadcast_axes` must lie in \[-2, 2\), got 2", {"broadcast_axes": 2}),
        ),
    ),
    Case(dropout.dropout, (KEY, X), {"rate": 0.3}, {"rate": 0.0}, {"broadcast_axes": (1,)}),
    _dropout(dropout.alpha_dropout, X),
    # No decision changes within 0.02 of this rate, so finite differences see a constant.
    _dropout(dropout.classical_dropout, X, rate=0.25),
    _dropout(dropout.drop_connect, X),
    _dropout(dropout.drop_path, SERIES),
    _dropout(dropout.embedding_dropout, X),
    _dropout(dropout.feature_alpha_dropout, SERIES),
    _dropout(
        dropout.gaussian_dropout, X, (ValueError, r"`rate` .* below 1, got 1\.0", {"rate": 1.0})
    ),
    _dropout(
        dropout.locked_dropout,
        SERIES,
        (ValueError, r"`time_axis` must lie in \[-3, 3\), got 3", {"time_axis": 3}),
    ),
    Case(dropout.locked_dropout, (KEY, SERIES), {"rate": 0.3}, {"rate": 0.0}, {"time_axis": 0}),
    _dropout(dropout.spatial_dropout, SERIES),
    Case(
        dropout.drop_block,
        (KEY, MAPS),
        {"rate": 0.3},
        {"rate": 0.0},
        {"block_size": 3},
        errors=(
            *WRONG_RATES,
            WRONG_BITS,
            (ValueError, r"`block_size` must be in \[1, 5\].*axis 2 .*got 6", {"block_size": 6}),
            (ValueError, r"`block_size` .* one per block axis, 2", {"block_size": (1, 1, 1)}),
            (TypeError, r"`block_size` must be an integer, got float 2\.0", {"block_size": 2.0}),
            (ValueError, r"`axis` must lie in \[-4, 4\), got 4", {"axis": 4}),
            (ValueError, r"`axis` must name .* batch axis 0, got \(0, 1\)", {"axis": (0, 1)}),
            (ValueError, r"`broadcast_axes` .* block axis 1, got 1", {"broadcast_axes": 1}),
        ),
    ),
    Case(
        dropout.drop_block,
        (KEY, MAPS),
        {"rate": 0.3},
        {"rate": 0.0},
        {"block_size": (2, 3), "broadcast_axes": -1},
    ),
    Case(
        dropout.drop_block,
        (KEY, X),
        {"rate": 0.3},
        {"rate": 0.0},
        {"block_size": 3, "axis": -1},
    ),
    Case(dropout.stochastic_depth, (KEEPING_KEY, X), {"rate": 0.4}, call=_stochastic_depth),
    Case(dropout.full_depth, (X,), call=_full_depth),
    Case(
        dropout.patch_dropout,
        (KEY, SERIES),
        options={"rate": 0.4},
        call=_patch_dropout,
        errors=(
            (ValueError, r"`rate`.*\[0, 1\].*1\.5", {"rate": 1.5}),
            (TypeError, r"`rate` .*Python or NumPy number.*shape", {"rate": jnp.float32(0.5)}),
            (ValueError, r"`prefix` must be in \[0, 4\].*got 5", {"prefix": 5}),
            WRONG_BITS,
        ),
    ),
    Case(dropout.every_patch, (SERIES,), call=_every_patch),
    Case(
        dropout.concrete_dropout,
        (KEY, X),
        {"logit": -1.0, "temperature": 0.5},
        {"logit": -float("inf")},
        errors=(
            (ValueError, r"`logit` must broadcast.*\(5,\)", {"logit": array(np.ones(5))}),
            (ValueError, r"`logit` must be a number .*nan", {"logit": float("nan")}),
            (ValueError, r"`temperature` must be positive, got 0\.0", {"temperature": 0.0}),
            (ValueError, r"`temperature` must be a single number", {"temperature": X[0]}),
            WRONG_BITS,
        ),
    ),
    Case(
        dropout.concrete_dropout,
        (KEY, X),
        {"temperature": 0.5},
        options={"logit": array(np.linspace(-2.0, 1.0, 8))},
    ),
    Case(
        dropout.concrete_dropout_penalty,
        (X,),
        {"logit": -1.0, "weight": 0.1, "entropy_weight": 0.2},
        errors=(
            (ValueError, r"`logit` must broadcast.*\(8,\)", {"logit": array(np.ones(8))}),
            (ValueError, r"`logit` must be a number .*nan", {"logit": float("nan")}),
            (ValueError, r"`weight`.*got -1", {"weight": -1.0}),
            (ValueError, r"`weight` must be a single number", {"weight": X[0]}),
            (ValueError, r"`entropy_weight`.*got -1", {"entropy_weight": -1.0}),
            (ValueError, r"`entropy_weight` must be a single number", {"entropy_weight": X[0]}),
        ),
    ),
    Case(
        dropout.variational_dense,
        (KEY, X, KERNEL, LOG_VARIANCE),
        options={"bias": array(np.linspace(-1.0, 1.0, 8))},
        errors=(
            (ValueError, r"`bias` must broadcast.*\(8,\).*\(5,\)", {"bias": array(np.ones(5))}),
            WRONG_BITS,
        ),
    ),
    Case(
        dropout.variational_dense_inference,
        (X, KERNEL, LOG_VARIANCE),
        {"threshold": 2.0},
        options={"bias": array(np.linspace(-1.0, 1.0, 8))},
        errors=(
            (ValueError, r"`bias` must broadcast.*\(8,\).*\(5,\)", {"bias": array(np.ones(5))}),
            (ValueError, r"`threshold` must be a number in .*got nan", {"threshold": float("nan")}),
        ),
    ),
    Case(
        dropout.variational_dropout,
        (KEY, X),
        {"log_alpha": -1.0},
        {"log_alpha": -float("inf")},
        errors=(
            (ValueError, r"`log_alpha` .*below infinity, got inf", {"log_alpha": float("inf")}),
            (ValueError, r"`log_alpha` .*below infinity, got nan", {"log_alpha": float("nan")}),
            (ValueError, r"`log_alpha` must broadcast.*\(5,\)", {"log_alpha": array(np.ones(5))}),
            WRONG_BITS,
        ),
    ),
    Case(
        dropout.variational_dropout,
        (KEY, X),
        options={"log_alpha": array(np.linspace(-2.0, 1.0, 8))},
    ),
    Case(dropout.variational_dropout_kl, (3 * X,)),
    Case(dropout.variational_log_alpha, (2 + X, LOG_VARIANCE[0])),
    Case(
        dropout.variational_prune,
        (X, LOG_VARIANCE[0]),
        {"threshold": 2.0},
        {"threshold": float("inf")},
        errors=(
            (ValueError, r"`threshold` must be a number in .*got nan", {"threshold": float("nan")}),
            (ValueError, r"`threshold` must be a single number", {"threshold": X[0]}),
        ),
    ),
    Case(
        dropout.zoneout,
        (STEADY_KEY, X, X[::-1]),
        {"rate": 0.3},
        {"rate": 0.0},
        call=_zoneout,
        errors=(*WRONG_RATES, WRONG_BITS),
    ),
    Case(
        dropout.zoneout_mean,
        (X, X[::-1]),
        {"rate": 0.3},
        {"rate": 0.0},
        call=_zoneout_mean,
        errors=WRONG_RATES,
    ),
    Case(dropout.classical_scale, (X,), {"rate": 0.3}, {"rate": 0.0}, errors=WRONG_RATES),
    Case(
        dropout.hard_concrete,
        (KEY, 2 * X),
        {"temperature": 0.7, "low": -0.4, "high": 2.2},
        errors=(*WRONG_GATES, WRONG_BITS),
    ),
    Case(
        dropout.hard_concrete_inference,
        (2 * X,),
        {"low": -0.4, "high": 2.2},
        errors=WRONG_ENDS,
    ),
)
