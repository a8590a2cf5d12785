"""Rows of normalization."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import (
    normalization,
)
from jaxreg._numerics import widen
from tests.cases.base import MAPS, MASK, SERIES, Case, X, array

TIMES = array((np.arange(64) % 3 != 0).reshape(16, 4, 1))

WEIGHT = array(np.linspace(0.5, 1.5, 8))

STATS = normalization.BatchStats(array(np.full(8, 0.1)), array(np.full(8, 0.9)))

# So far from X, and so narrow, that both corrections of batch renorm are at their limits: between
# the limits, its gradient differs from its values' gradient by design.
FAR_STATS = normalization.BatchStats(array(np.full(8, -5.0)), array(np.full(8, 0.01)))

FEATURES = {"scale": array(np.linspace(0.5, 1.5, 8)), "bias": array(np.linspace(-1, 1, 8))}


def _masked_moments(x: jax.Array, where: jax.Array) -> normalization.Moments:
    return normalization.moments(x, axis=(0, 1), where=where)


def _masked_batch_norm(
    x: jax.Array,
    stats: normalization.BatchStats,
    where: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    momentum: Any,
    eps: Any,
) -> Any:
    return normalization.batch_norm(
        x, stats, where=where, scale=scale, bias=bias, momentum=momentum, eps=eps, axis_name=()
    )


def _masked_layer_norm(x: jax.Array, where: jax.Array, *, eps: Any) -> jax.Array:
    return normalization.layer_norm(
        x, where=where, eps=eps, reduction_axes=(1, 2), scale=WEIGHT.astype(x.dtype)
    )


def _masked_rms_norm(x: jax.Array, where: jax.Array, *, eps: Any) -> jax.Array:
    return normalization.rms_norm(x, where=where, eps=eps, reduction_axes=(1, 2))


def _masked_group_norm(x: jax.Array, where: jax.Array, *, eps: Any) -> jax.Array:
    return normalization.group_norm(x, groups=2, where=where, eps=eps)


def _fold_batch_norm(
    kernel: jax.Array,
    stats: normalization.BatchStats,
    layer_bias: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    eps: Any,
) -> Any:
    """Returns the bias in float32, as the contract requires for another shape than the data's."""
    kernel, offset = normalization.fold_batch_norm(
        kernel, stats, layer_bias=layer_bias, scale=scale, bias=bias, eps=eps
    )
    return kernel, widen(offset)


def _masked_ghost_batch_norm(
    x: jax.Array, stats: normalization.BatchStats, where: jax.Array, *, momentum: Any, eps: Any
) -> Any:
    return normalization.ghost_batch_norm(
        x, stats, ghost_batch_size=2, where=where, momentum=momentum, eps=eps, **FEATURES
    )


def _masked_batch_renorm(
    x: jax.Array,
    stats: normalization.BatchStats,
    where: jax.Array,
    *,
    r_max: Any,
    d_max: Any,
    momentum: Any,
    eps: Any,
) -> Any:
    return normalization.batch_renorm(
        x,
        stats,
        r_max=r_max,
        d_max=d_max,
        where=where,
        momentum=momentum,
        eps=eps,
        axis_name=(),
        **FEATURES,
    )


def _masked_adaptive_instance_norm(
    x: jax.Array, style_mean: jax.Array, style_stddev: jax.Array, where: jax.Array, *, eps: Any
) -> jax.Array:
    return normalization.adaptive_instance_norm(x, style_mean, style_stddev, where=where, eps=eps)


WRONG_EPS = ((ValueError, r"`eps` must be zero or positive, got -1\.0", {"eps": -1.0}),)


FUNCTIONS = (
    Case(
        normalization.moments,
        (X,),
        options={"axis": 0},
        errors=((ValueError, r"`axis`.*got 2", {"axis": 2}),),
    ),
    Case(normalization.moments, (X, MASK), call=_masked_moments),
    Case(
        normalization.batch_norm,
        (X, STATS),
        {"momentum": 0.9, "eps": 1e-3},
        # Each device has its own statistics, since `shard_map` runs the function on each device.
        options={"axis_name": ()},
        errors=(
            (ValueError, r"`momentum`.*\[0, 1\].*1\.1", {"momentum": 1.1}),
            (ValueError, r"`eps`.*got -1", {"eps": -1.0}),
            (ValueError, r"`scale`.*\(8,\).*\(5,\)", {"scale": array(np.ones(5))}),
            (ValueError, r"`where`.*\(3,\)", {"where": array(np.ones(3))}),
        ),
    ),
    Case(
        normalization.batch_norm,
        (X, STATS, MASK, array(np.linspace(0.5, 1.5, 8)), array(np.linspace(-1, 1, 8))),
        {"momentum": 0.9, "eps": 1e-3},
        call=_masked_batch_norm,
    ),
    Case(normalization.batch_norm_inference, (X, STATS), {"eps": 1e-3}),
    Case(normalization.layer_norm, (X,), {"eps": 1e-3}, errors=WRONG_EPS),
    Case(normalization.layer_norm, (SERIES, TIMES), {"eps": 1e-3}, call=_masked_layer_norm),
    Case(normalization.rms_norm, (X,), {"eps": 1e-3}, errors=WRONG_EPS),
    Case(normalization.rms_norm, (SERIES, TIMES), {"eps": 1e-3}, call=_masked_rms_norm),
    Case(
        normalization.group_norm,
        (MAPS,),
        {"eps": 1e-3},
        options={"groups": 4},
        errors=(
            *WRONG_EPS,
            (ValueError, r"`groups` must divide the 8 channels of `x`, got 3", {"groups": 3}),
            (TypeError, r"`groups` must be an integer, got float 2\.0", {"groups": 2.0}),
            (
                ValueError,
                r"`reduction_axes` must name the last axis, the channels, got \(1, 2\)",
                {"reduction_axes": (1, 2)},
            ),
        ),
    ),
    Case(normalization.group_norm, (SERIES, TIMES), {"eps": 1e-3}, call=_masked_group_norm),
    Case(
        normalization.instance_norm,
        (SERIES,),
        {"eps": 1e-3},
        errors=(
            *WRONG_EPS,
            (ValueError, r"`feature_axes` must not name axis 0", {"feature_axes": (0, 2)}),
        ),
    ),
    Case(
        normalization.fold_batch_norm,
        (X, STATS, *(array(np.linspace(low, 1.5, 8)) for low in (-1.0, 0.5, -0.5))),
        {"eps": 1e-3},
        call=_fold_batch_norm,
    ),
    Case(
        normalization.fold_batch_norm,
        (X, STATS),
        {"eps": 1e-3},
        errors=(
            (ValueError, r"`eps`.*got -1", {"eps": -1.0}),
            (ValueError, r"`axis`.*got 2", {"axis": 2}),
            (ValueError, r"`layer_bias`.*\(8,\).*\(5,\)", {"layer_bias": array(np.ones(5))}),
            (ValueError, r"`scale`.*\(8,\).*\(5,\)", {"scale": array(np.ones(5))}),
            (ValueError, r"`bias`.*\(8,\).*\(5,\)", {"bias": array(np.ones(5))}),
        ),
        narrows=False,
    ),
    Case(
        normalization.ghost_batch_norm,
        (X, STATS),
        {"momentum": 0.9, "eps": 0.1},
        options={"ghost_batch_size": 2},
        errors=(
            (ValueError, r"`ghost_batch_size` must divide.*16, got 5", {"ghost_batch_size": 5}),
            (ValueError, r"`ghost_batch_size` must be positive, got 0", {"ghost_batch_size": 0}),
            (TypeError, r"`ghost_batch_size`.*integer.*2\.0", {"ghost_batch_size": 2.0}),
            (ValueError, r"`momentum`.*\[0, 1\].*1\.1", {"momentum": 1.1}),
            (ValueError, r"`eps`.*got -1", {"eps": -1.0}),
            (ValueError, r"`scale`.*\(8,\).*\(5,\)", {"scale": array(np.ones(5))}),
            (ValueError, r"`where`.*\(3,\)", {"where": array(np.ones(3))}),
        ),
    ),
    Case(
        normalization.ghost_batch_norm,
        (X, STATS, MASK),
        {"momentum": 0.9, "eps": 0.1},
        call=_masked_ghost_batch_norm,
    ),
    Case(
        normalization.batch_renorm,
        (X, FAR_STATS),
        {"r_max": 4.0, "d_max": 0.5, "momentum": 0.9, "eps": 1e-3},
        options={"axis_name": ()},
        errors=(
            (ValueError, r"`r_max` must be .*\[1, inf\], got 0\.5", {"r_max": 0.5}),
            (ValueError, r"`r_max` must be a single number", {"r_max": X[0]}),
            (ValueError, r"`d_max` must be zero or positive, got -1", {"d_max": -1.0}),
            (ValueError, r"`d_max` must be a single number", {"d_max": X[0]}),
            (ValueError, r"`momentum`.*\[0, 1\].*1\.1", {"momentum": 1.1}),
            (ValueError, r"`eps`.*got -1", {"eps": -1.0}),
            (ValueError, r"`bias`.*\(8,\).*\(5,\)", {"bias": array(np.ones(5))}),
            (ValueError, r"`where`.*\(3,\)", {"where": array(np.ones(3))}),
            (ValueError, r"`axis` must lie in \[-2, 2\), got 2", {"axis": 2}),
        ),
    ),
    Case(
        normalization.batch_renorm,
        (X, FAR_STATS, MASK),
        {"r_max": 4.0, "d_max": 0.5, "momentum": 0.9, "eps": 1e-3},
        call=_masked_batch_renorm,
    ),
    Case(
        normalization.adaptive_instance_norm,
        (SERIES, X, 2 + X),
        {"eps": 1e-3},
        errors=(
            (ValueError, r"`eps`.*got -1", {"eps": -1.0}),
            (ValueError, r"`where`.*\(3,\)", {"where": array(np.ones(3))}),
        ),
    ),
    Case(
        normalization.adaptive_instance_norm,
        (SERIES, X, 2 + X, jnp.arange(16 * 4).reshape(16, 4, 1) % 5 != 0),
        {"eps": 1e-3},
        call=_masked_adaptive_instance_norm,
    ),
    Case(
        normalization.filter_response_norm,
        (SERIES,),
        {"eps": 1e-3},
        errors=(
            (ValueError, r"`eps` must broadcast.*\(8,\).*\(5,\)", {"eps": array(np.ones(5))}),
            (ValueError, r"`scale`.*\(8,\).*\(5,\)", {"scale": array(np.ones(5))}),
            (ValueError, r"`bias`.*\(8,\).*\(5,\)", {"bias": array(np.ones(5))}),
            (ValueError, r"`threshold`.*\(8,\).*\(5,\)", {"threshold": array(np.ones(5))}),
        ),
    ),
    Case(
        normalization.filter_response_norm,
        (MAPS,),
        options={
            **FEATURES,
            "threshold": array(np.linspace(-1, 0.5, 8)),
            "eps": array(np.full(8, -0.1)),
        },
    ),
    Case(
        normalization.l2_normalize,
        (X,),
        errors=((ValueError, r"`axis` must lie in \[-2, 2\), got 2", {"axis": 2}),),
    ),
    Case(normalization.l2_normalize, (SERIES,), options={"axis": (0, 1)}),
)
