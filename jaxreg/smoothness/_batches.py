"""Helpers for functions of a batch: checks, sums and tangents."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxreg._checks import check_floating, check_real, is_floating
from jaxreg._numerics import square, widen

Function = Callable[[jax.Array], jax.Array]


def check_batch(x: jax.Array, name: str) -> None:
    """Raises unless ``x`` is a real floating-point array with a batch axis."""
    check_real(x, name)
    if x.ndim == 0:
        raise ValueError(f"`{name}` must have axes [batch, ...], got a single number.")


def check_outputs(y: jax.Array, x: jax.Array, name: str) -> None:
    """Raises unless ``y``, the result of ``name``, is floating-point, with one row per example."""
    if not hasattr(y, "dtype"):
        raise TypeError(f"`{name}` must return one array, got {type(y).__name__}.")
    if not is_floating(y):
        raise TypeError(f"`{name}` must return floating-point numbers, got {y.dtype}.")
    if y.shape[:1] != x.shape[:1]:
        raise ValueError(
            f"`{name}` must return one row for each of the {len(x)} examples, got shape {y.shape}; "
            "do not take the mean over the batch."
        )


def check_same(a: jax.Array, b: jax.Array, names: tuple[str, str]) -> None:
    """Raises unless ``a`` and ``b`` have the same shape and floating-point dtype."""
    check_floating(b, names[1])
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        raise ValueError(
            f"`{names[1]}` must have the same shape and dtype as `{names[0]}`, {a.shape} and "
            f"{a.dtype}, got {b.shape} and {b.dtype}."
        )


def sum_of_squares(x: jax.Array) -> jax.Array:
    """Returns the sum of the squared magnitudes, in float32 or wider."""
    return jnp.sum(square(widen(x)))


def example_axes(x: jax.Array) -> tuple[int, ...]:
    """Returns all axes of ``x`` except the batch axis."""
    return tuple(range(1, x.ndim))


def tangent(v: jax.Array, x: jax.Array) -> jax.Array:
    """Broadcasts ``v`` to a tangent at ``x``, with the shape, dtype and sharding of ``x``."""
    return jnp.zeros_like(x) + v.astype(x.dtype)
