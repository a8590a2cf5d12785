r"""Projection onto a simplex: subtracts a level from all numbers and clips them to at least 0.

Newton's method finds the level from below, in a few sums over the row, and without a sort. The sums
that decide the result are exact, in integers, so they are the same in any order and on any mesh.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxreg._sharding import vary_with

_Level = tuple[jax.Array, jax.Array]  # a number and its rounding error


def excess(x: jax.Array, total: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    r"""Projects ``x`` onto the nonnegative arrays whose sum is ``total``.

    .. math::

      v_i = \max(x_i - \theta, 0), \qquad \sum_i v_i = t

    Args:
      x: Real array, in float32 or wider.
      total: Totals :math:`t`, zero or positive, with the reduced axes of size 1.
      axes: Axes over which each sum is taken.

    Returns:
      Array like ``x``. Its sums are off by at most half a rounding of ``total``.
    """
    scale, inverse = power_of_two(total)
    x = x * inverse
    total = total * inverse
    fixed, goal = jax.lax.stop_gradient((x, total))
    high, low = _level(fixed, goal, axes)
    active = (fixed - high) - low > 0
    over = jnp.where(active, (x - high) - low, jnp.zeros_like(x))
    # Once the active numbers are known, a step of Newton's method and its derivative are exact.
    step = surplus(over, total, axes) / _number_of(active, axes, total)
    return scale * jnp.where(active & (over - step > 0), over - step, jnp.zeros_like(x))


def power_of_two(total: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the largest power of two not above ``total``, or 1 for 0, and its exact inverse."""
    total = jax.lax.stop_gradient(total)
    usable = (total > 0) & jnp.isfinite(total)
    _, exponent = jnp.frexp(jnp.where(usable, total, jnp.ones_like(total)))
    # Neither the power nor its inverse may be subnormal, which many devices flush to zero.
    info = jnp.finfo(total.dtype)
    exponent = jnp.clip(exponent - 1, info.minexp + 2, info.maxexp - 2)
    one = jnp.ones_like(total)
    return jnp.ldexp(one, exponent), jnp.ldexp(one, -exponent)


def _level(x: jax.Array, total: jax.Array, axes: tuple[int, ...]) -> _Level:
    """Returns the level before the last Newton step, as a number and its rounding error."""
    largest = jnp.max(x, axis=axes, keepdims=True)
    start = _sum_of_two(largest, -total)
    numbers = math.prod(x.shape[a] for a in axes)

    def step(level: _Level, sums: Any) -> tuple[_Level, jax.Array]:
        over = (x - level[0]) - level[1]
        active = over > 0
        over = jnp.where(active, over, jnp.zeros_like(over))
        count = _number_of(active, axes, total)
        rise = sums(over, total, axes) / count
        return _sum_of_two(level[0], level[1] + rise), count

    def falls(state: tuple[_Level, jax.Array, jax.Array]) -> jax.Array:
        _, count, before = state
        return jnp.any(count < before)

    def body(state: tuple[_Level, jax.Array, jax.Array]) -> tuple[_Level, jax.Array, jax.Array]:
        level, before, _ = state
        level, count = step(level, _rough_surplus)
        return level, count, before

    # Two decreasing counts above any real one, so that the loop begins.
    more = vary_with(jnp.full_like(total, 2 * numbers), start)
    most = vary_with(jnp.full_like(total, 3 * numbers), start)
    level, *_ = jax.lax.while_loop(falls, body, (start, more, most))
    return step(level, surplus)[0]


def _sum_of_two(a: jax.Array, b: jax.Array) -> _Level:
    """Returns the rounded sum of two numbers and its rounding error."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def _number_of(active: jax.Array, axes: tuple[int, ...], like: jax.Array) -> jax.Array:
    """Counts the true elements of ``active`` along ``axes``, with a minimum of 1."""
    count = jnp.sum(active, axis=axes, keepdims=True, dtype=jnp.int32)
    return jnp.maximum(count, 1).astype(like.dtype)


def _rough_surplus(x: jax.Array, total: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return jnp.sum(x, axis=axes, keepdims=True) - total


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def surplus(x: jax.Array, total: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    r"""Returns :math:`\sum_i x_i - t` for ``x`` in ``[0, 4]``, summed exactly and rounded once.

    The numbers are cut into words short enough for their sums to fit into 32-bit integers. The
    part below the last word is less than a rounding of 1.
    """
    numbers = max(math.prod(x.shape[a] for a in axes), 1)
    carry_bits = math.ceil(math.log2(numbers))
    bits = max(28 - carry_bits, 1)
    words = math.ceil((jnp.finfo(x.dtype).nmant + 4 + carry_bits) / bits)
    unit = 2.0**-bits
    result = jnp.zeros_like(total)
    for _ in range(words):
        of_x = jnp.floor(x * 2**bits)
        of_total = jnp.floor(total * 2**bits)
        x = x * 2**bits - of_x
        total = total * 2**bits - of_total
        sums = jnp.sum(of_x.astype(jnp.int32), axis=axes, keepdims=True, dtype=jnp.int32)
        result = result + (sums - of_total.astype(jnp.int32)).astype(total.dtype) * unit
        unit *= 2.0**-bits
    return result


@surplus.defjvp
def _surplus_jvp(axes: tuple[int, ...], primals: tuple, tangents: tuple) -> tuple:
    x, total = primals
    of_x, of_total = tangents
    return surplus(x, total, axes), jnp.sum(of_x, axis=axes, keepdims=True) - of_total
