"""Rows of smoothness."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxreg import (
    smoothness,
)
from jaxreg._numerics import widen
from tests.cases.base import KERNEL, KEY, SERIES, Case, X


def _outputs(x: jax.Array) -> jax.Array:
    """Returns three smooth outputs of every example, rounded once."""
    wide = widen(x)
    return jnp.tanh(wide @ KERNEL[:, :3].astype(wide.dtype)).astype(x.dtype)


def _scores(x: jax.Array) -> jax.Array:
    return jnp.sum(_outputs(x), axis=-1)


def _jacobian(key: jax.Array, x: jax.Array) -> jax.Array:
    return smoothness.jacobian(_outputs, x, key=key, probes=2)


def _many_probes(key: jax.Array, x: jax.Array) -> jax.Array:
    return smoothness.jacobian(_outputs, x, key=key, probes=17)


def _jacobian_projected(key: jax.Array, x: jax.Array) -> jax.Array:
    return smoothness.jacobian_projected(_outputs, x, key=key, probes=2)


def _jacobian_rows(x: jax.Array) -> jax.Array:
    return smoothness.jacobian_exact(_outputs, x)


def _jacobian_columns(x: jax.Array) -> jax.Array:
    return smoothness.jacobian_exact(lambda x: jnp.concatenate([_outputs(x)] * 3, axis=1), x)


def _jacobian_many_rows(x: jax.Array) -> jax.Array:
    return smoothness.jacobian_exact(lambda x: jnp.tanh(x[:, ::-1]), x)


def _gradient_penalty(
    key: jax.Array, real: jax.Array, fake: jax.Array, *, target: Any
) -> jax.Array:
    fake = fake.astype(real.dtype)
    return smoothness.gradient_penalty(_scores, real, fake, key=key, target=target)


def _zero_centered_penalty(x: jax.Array) -> jax.Array:
    return smoothness.zero_centered_penalty(_scores, x)


def _dense_laplacian(predictions: jax.Array) -> jax.Array:
    number = len(predictions)
    affinity = jnp.linspace(0.0, 1.0, number**2).reshape(number, number)
    return smoothness.graph_laplacian(predictions, affinity)


def _knn_laplacian(predictions: jax.Array, weights: jax.Array) -> jax.Array:
    indices = (jnp.arange(len(predictions))[:, None] + jnp.array([[1, 3, 4]])) % len(predictions)
    return smoothness.graph_laplacian(predictions, smoothness.Neighbors(indices, weights))


def _knn_weights(x: jax.Array, *, length_scale: Any) -> tuple[jax.Array, jax.Array]:
    found = smoothness.knn_affinity(x, neighbors=1, length_scale=length_scale)
    return found.weights, found.indices


FUNCTIONS = (
    Case(
        smoothness.gradient_penalty, (KEY, X, 2 * X[::-1]), {"target": 0.7}, call=_gradient_penalty
    ),
    Case(smoothness.graph_laplacian, (X,), call=_dense_laplacian),
    Case(
        smoothness.graph_laplacian,
        (X, jnp.linspace(0.0, 1.0, 48).reshape(16, 3)),
        call=_knn_laplacian,
    ),
    Case(smoothness.jacobian, (KEY, X), call=_jacobian),
    Case(smoothness.jacobian, (KEY, X), call=_many_probes),
    Case(smoothness.jacobian_projected, (KEY, X), call=_jacobian_projected),
    Case(smoothness.jacobian_exact, (X,), call=_jacobian_rows),
    Case(smoothness.jacobian_exact, (X,), call=_jacobian_columns),
    Case(smoothness.jacobian_exact, (SERIES,), call=_jacobian_many_rows),
    Case(
        smoothness.knn_affinity,
        (X,),
        {"length_scale": 1.5},
        options={"neighbors": 3},
        call=_knn_weights,
        errors=(
            (ValueError, r"`neighbors` must be in \[1, 15\].*got 16", {"neighbors": 16}),
            (ValueError, r"`neighbors` must be in \[1, 15\].*got 0", {"neighbors": 0}),
            (TypeError, r"`neighbors` must be an integer, got float 3\.0", {"neighbors": 3.0}),
            (ValueError, r"`length_scale` must be positive, got 0", {"length_scale": 0.0}),
            (ValueError, r"`length_scale` must be a single number", {"length_scale": X[0]}),
        ),
    ),
    Case(
        smoothness.rbf_affinity,
        (X,),
        {"length_scale": 1.5},
        errors=(
            (ValueError, r"`length_scale` must be .*\[0, inf\].*got -1", {"length_scale": -1.0}),
            (ValueError, r"`length_scale` must be positive, got 0", {"length_scale": 0.0}),
        ),
    ),
    Case(smoothness.zero_centered_penalty, (X,), call=_zero_centered_penalty),
)
