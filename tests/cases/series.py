"""Rows of augmentations of series and tables."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import augment
from jaxreg._numerics import widen
from jaxreg.augment import series
from tests.cases.base import KEY, array, misfit, negative, outside, row

# With as many channels as devices, so that they can be sharded.
X = array(np.sin(np.arange(1.0, 16 * 7 * 8 + 1)).reshape(16, 7, 8))
FACTORS = array(1 + 0.3 * np.cos(np.arange(16 * 4 * 8.0)).reshape(16, 4, 8))
LOGS = array(0.4 * np.sin(np.arange(16 * 5.0)).reshape(16, 5))
# All distances between examples differ.
TABLE = array(np.sin(np.arange(1.0, 16 * 8 + 1) ** 2).reshape(16, 8))
LENGTHS = array(np.arange(16) % 8)
ORDER = array(np.stack([np.roll(np.arange(3), i) for i in range(16)]))
POLICY = series.SpecPolicy(0.0, 0.0, 1, 0.0, 2, 0.6)


_LENGTH = (
    (TypeError, r"`length` must be an integer, got dtype float32", {"length": 2.0}),
    (ValueError, r"`length` must be zero or positive, got -1", {"length": -1}),
    (ValueError, r"`length` must broadcast to shape \(16,\)", {"length": jnp.ones(3, jnp.int32)}),
)
_KNOTS = (
    (ValueError, r"`knots` must be at least 1, got 0", {"knots": 0}),
    (TypeError, r"`knots` must be an integer", {"knots": 2.5}),
)


def _magnitude_warp(x: jax.Array, factors: jax.Array, length: jax.Array) -> jax.Array:
    return series.magnitude_warp(x, factors=factors, length=length)


def _time_warp(x: jax.Array, logs: jax.Array, length: jax.Array) -> jax.Array:
    return series.time_warp(x, log_speeds=logs, length=length)


def _permutation(x: jax.Array, order: jax.Array, length: jax.Array) -> jax.Array:
    return series.permutation(x, order=order, length=length)


def _random_cuts(key: jax.Array, x: jax.Array) -> jax.Array:
    return series.random_permutation(key, x, segments=3, cuts=series.random_cuts)


def _spec_augment(
    key: jax.Array, x: jax.Array, *, warp: Any, frequency_width: Any, time_width: Any
) -> jax.Array:
    policy = POLICY._replace(warp=warp, frequency_width=frequency_width, time_width=time_width)
    return series.random_spec_augment(key, x, policy=policy)


def _smote(key: jax.Array, x: jax.Array, labels: jax.Array) -> jax.Array:
    return widen(augment.tables.smote(key, x, labels, wanted=jnp.arange(18) % 5 - 1, neighbors=2))


def _sampled(key: jax.Array, means: jax.Array) -> jax.Array:
    root = jnp.sin(jnp.arange(1.0, 16 * 2 * 9 + 1)).reshape(16, 2, 3, 3)[: len(means)]
    covariances = jnp.matmul(root, root.swapaxes(-1, -2)) + jnp.eye(3)[None, None]
    mixture = augment.tables.Mixture(
        jnp.full((len(means), 2), 0.5), means, covariances.astype(jnp.float32)
    )
    return widen(augment.tables.sample_mixture(key, mixture, wanted=jnp.arange(9)))


_SEGMENTS = (ValueError, r"`segments` must be at least 1, got 0", {"segments": 0})
FUNCTIONS = (
    row(
        series.random_jitter,
        KEY,
        X,
        stddev=0.3,
        off={"stddev": 0.0},
        errors=[negative("stddev"), misfit("stddev"), *_LENGTH],
    ),
    row(
        series.scaling,
        X,
        factor=1.3,
        off={"factor": 1.0},
        errors=[(ValueError, r"`factor` must broadcast to shape \(16, 8\)", {"factor": X[0]})],
    ),
    row(
        series.random_scaling,
        KEY,
        X,
        stddev=0.3,
        off={"stddev": 0.0},
        errors=[negative("stddev"), misfit("stddev")],
    ),
    row(
        series.magnitude_warp,
        X,
        FACTORS,
        LENGTHS,
    ).but(call=_magnitude_warp),
    row(
        series.random_magnitude_warp,
        KEY,
        X,
        stddev=0.3,
        off={"stddev": 0.0},
        errors=[negative("stddev"), *_KNOTS],
    ).but(options={"knots": 4}),
    row(
        series.time_warp,
        X,
        LOGS,
        LENGTHS,
    ).but(call=_time_warp),
    row(
        series.random_time_warp,
        KEY,
        X,
        stddev=0.3,
        off={"stddev": 0.0},
        errors=[negative("stddev"), misfit("stddev"), *_KNOTS],
    ).but(options={"knots": 4}),
    row(
        series.window_slice,
        X,
        start=0.37,
        share=0.71,
        off={"start": 0.0, "share": 1.0},
        errors=[outside("share"), misfit("start"), *_LENGTH],
    ),
    row(
        series.random_window_slice,
        KEY,
        X,
        share=0.71,
        off={"share": 1.0},
        errors=[outside("share"), misfit("share")],
    ),
    row(
        series.window_warp,
        X,
        start=1.13,
        share=0.31,
        factor=1.9,
        off={"share": 0.0},
        errors=[
            outside("share"),
            misfit("factor"),
            (ValueError, r"`factor` must be positive, got 0\.0", {"factor": 0.0}),
        ],
    ),
    row(
        series.random_window_warp,
        KEY,
        X,
        share=0.31,
        off={"share": 0.0},
        errors=[
            outside("share"),
            (ValueError, r"`factors` must be positive, got -1\.0", {"factors": (-1.0, 2.0)}),
            (ValueError, r"`factors` must be a pair", {"factors": (1.0,)}),
        ],
    ),
    row(
        series.permutation,
        X,
        ORDER,
        LENGTHS,
    ).but(call=_permutation),
    row(series.random_permutation, KEY, X, errors=[_SEGMENTS]).but(options={"segments": 3}),
    row(series.random_permutation, KEY, X).but(call=_random_cuts),
    row(
        series.random_spec_augment,
        KEY,
        X,
        warp=1.7,
        # Widths are rounded down, so nothing jumps between whole numbers.
        frequency_width=3.5,
        time_width=2.5,
        off={"warp": 0.0, "frequency_width": 0.0, "time_width": 0.0},
    ).but(call=_spec_augment),
    row(augment.tables.smote, KEY, TABLE, jnp.arange(16, dtype=jnp.int32) % 3).but(call=_smote),
    row(augment.tables.sample_mixture, KEY, X[:, :2, :3]).but(call=_sampled),
)
