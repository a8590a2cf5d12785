"""Cubic splines through evenly spaced knots."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.augment.series._steps import place_by_example


def through(knots: jax.Array, position: jax.Array) -> jax.Array:
    r"""Evaluates the cubic spline through evenly spaced knots, as SciPy's ``CubicSpline`` does.

    .. math::

      s(i + t) = (1 + 2 t) (1 - t)^2 v_i + t^2 (3 - 2 t) v_{i+1}
        + t (1 - t)^2 d_i - t^2 (1 - t) d_{i+1}

    with slopes :math:`d = D v` that make the second derivative continuous, and the third one next
    to the ends ("not-a-knot"). A curve is the product of its knots and of weights that depend only
    on the positions, so nothing is gathered and no system is solved.

    Args:
      knots: Values ``[..., knots, channels]`` at 0, 1, and so on.
      position: Positions to read, ``[..., steps]``, between the first knot and the last, shared by
        all examples or separate for each.

    Returns:
      Array ``[..., steps, channels]``.
    """
    number = knots.shape[-2]
    position = position[..., None]
    before = jnp.clip(jnp.floor(position), 0, max(number - 2, 0))
    t = position - before
    knot = jnp.arange(number, dtype=position.dtype).reshape((1,) * (position.ndim - 1) + (number,))
    at = (knot == before).astype(position.dtype)
    after = (knot == before + 1).astype(position.dtype)
    tangents = at * t * (1 - t) ** 2 - after * t**2 * (1 - t)
    slopes = jnp.asarray(_slopes(number), position.dtype)
    weights = at * (1 + 2 * t) * (1 - t) ** 2 + after * t**2 * (3 - 2 * t)
    weights = weights + jnp.matmul(tangents, slopes, precision=jax.lax.Precision.HIGHEST)
    weights = jnp.broadcast_to(weights, (*knots.shape[:-2], *weights.shape[-2:]))
    weights = place_by_example(weights, knots)
    return jnp.matmul(weights, knots, precision=jax.lax.Precision.HIGHEST)


@functools.cache
def _slopes(number: int) -> np.ndarray:
    """Returns the matrix that maps values at the knots to slopes of the spline at the knots."""
    if number == 1:
        return np.zeros((1, 1))
    if number == 2:
        return np.array([[-1.0, 1.0], [-1.0, 1.0]])
    if number == 3:
        return np.array([[-1.5, 2.0, -0.5], [-0.5, 0.0, 0.5], [0.5, -2.0, 1.5]])
    left, right = np.zeros((2, number, number))
    for i in range(1, number - 1):
        left[i, i - 1 : i + 2] = 1, 4, 1
        right[i, i - 1 : i + 2] = -3, 0, 3
    # The third derivative, 6 (2 (v_i - v_{i+1}) + d_i + d_{i+1}), equals the next interval's.
    left[0, [0, 2]] = left[-1, [-3, -1]] = 1, -1
    right[0, :3] = right[-1, -3:] = -2, 4, -2
    return np.linalg.solve(left, right)
