"""Compares forward- and reverse-mode derivatives with finite differences, in one program."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# For values in float64, and for a function that computes in float32 at a float64 point.
_FINE = {"step": 1e-5, "bound": 1e-5}
_COARSE = {"step": 1e-2, "bound": 1e-2}


def check_derivatives(value: Callable[[Any], jax.Array], point: Any, *, order: int) -> None:
    """Raises if a derivative along a random direction differs from finite differences.

    Args:
      value: Scalar function of a tree of float64 arrays; needs ``jax.enable_x64``.
      point: Tree at which to differentiate.
      order: 1, or 2 to check second derivatives too, in every pair of modes.
    """
    random = np.random.default_rng(0)

    def direction() -> Any:
        return jax.tree.map(lambda a: random.standard_normal(a.shape), point)

    first = direction()
    second = direction()

    @jax.jit
    def program(point: Any, s: float, t: float) -> Any:
        def on_plane(s: Any, t: Any) -> jax.Array:
            return value(jax.tree.map(lambda p, u, v: p + s * u + t * v, point, first, second))

        slopes = _slopes(lambda s: on_plane(s, t), s)
        return on_plane(s, t), slopes, _curvatures(on_plane, s, t) if order == 2 else {}

    steps = _COARSE if _computes_in_float32(lambda p: program(p, 0.0, 0.0)[0], point) else _FINE
    h = steps["step"]
    _, slopes, curvatures = program(point, 0.0, 0.0)
    above = program(point, h, 0.0)[0]
    below = program(point, -h, 0.0)[0]
    close = partial(np.testing.assert_allclose, rtol=steps["bound"], atol=steps["bound"])
    for mode, slope in slopes.items():
        close(slope, (above - below) / (2 * h), err_msg=f"{mode} mode")
    if order == 2:
        above = program(point, 0.0, h)[1]
        below = program(point, 0.0, -h)[1]
        for modes, curvature in curvatures.items():
            expected = (above["forward"] - below["forward"]) / (2 * h)
            close(curvature, expected, err_msg=modes)


def _slopes(function: Callable[[Any], jax.Array], at: Any) -> dict[str, jax.Array]:
    """Returns the derivative of a function of one number, in forward and reverse mode."""
    forward = jax.jvp(function, (at,), (jnp.ones_like(at),))[1]
    return {"forward": forward, "reverse": jax.grad(function)(at)}


def _curvatures(function: Callable[..., jax.Array], s: Any, t: Any) -> dict[str, jax.Array]:
    """Returns the mixed second derivative in ``s`` and ``t``, for every pair of modes."""
    return {
        f"{outer} over {inner}": value
        for inner in ("forward", "reverse")
        for outer, value in _slopes(
            lambda t: _slopes(lambda s: function(s, t), s)[inner],  # noqa: B023
            t,
        ).items()
    }


def _computes_in_float32(value: Callable[[Any], jax.Array], point: Any) -> bool:
    """Returns whether a function ignores changes of its input that only float64 can represent."""

    def moves(factor: float) -> bool:
        return bool(value(point) != value(jax.tree.map(lambda a: a * factor, point)))

    # A value that ignores a larger change too is constant; a coarse step could flip its decisions.
    return moves(1 + 1e-5) and not moves(1 + 1e-12)
