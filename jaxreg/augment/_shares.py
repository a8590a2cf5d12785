"""Random shares from Beta and Dirichlet distributions, drawn without a loop."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._numerics import as_strength

# One proposal in twenty is rejected, so one variate in ten million has no accepted proposal.
_PROPOSALS = 6


def beta(key: jax.Array, x: jax.Array, alpha: ArrayLike, shape: tuple[int, ...]) -> jax.Array:
    r"""Draws from ``Beta(alpha, alpha)``; returns 1 if ``alpha`` is 0, and 1/2 if it is infinite.

    Nothing is redrawn, so no device waits for another. A point of the unit disc with

    .. math::

      R^2 = 1 - U^{1 / (\alpha + 1/2)}, \qquad X = R \cos \pi V

    gives a :math:`B = (1 + X) / 2` of ``Beta(alpha + 1, alpha + 1)`` (Ulrich, "Computer Generation
    of Distributions on the m-Sphere", 1984). A gamma variate of ``alpha + 1`` times a power
    :math:`W^{1 / \alpha}` is a gamma variate of ``alpha``, so the share of
    :math:`B W^{1 / \alpha}` in its sum with :math:`(1 - B) W'^{1 / \alpha}` follows
    ``Beta(alpha, alpha)``. The computation uses log odds, which stay precise near 0 and 1.
    """
    x = jnp.asarray(x)
    alpha = as_strength(alpha, x)
    positive = alpha > 0
    a = _clip_alpha(alpha)
    lines = (*shape, *(1,) * (x.ndim - len(shape)))

    def draw(own: jax.Array) -> jax.Array:
        return _bits.uniform(own, lines, like=x).reshape(shape).astype(alpha.dtype)

    u_key, v_key, w_key, other_key = jax.random.split(key, 4)
    u = draw(u_key)
    v = draw(v_key)
    w = draw(w_key)
    other = draw(other_key)
    power = jnp.log(u) / (a + 0.5)
    square = -jnp.expm1(power)
    angle = jnp.pi * jnp.minimum(v, 1 - v)
    rest = jnp.exp(power) + square * jnp.sin(angle) ** 2  # 1 - X^2, without a subtraction
    odds = 2 * jnp.log1p(jnp.sqrt(square) * jnp.cos(angle)) - jnp.log(rest)
    odds = jnp.where(v < 0.5, odds, -odds) + (jnp.log(w) - jnp.log(other)) / a
    return jnp.where(positive, jax.nn.sigmoid(odds), jnp.ones_like(odds))


def dirichlet(key: jax.Array, image: jax.Array, alpha: ArrayLike, width: int) -> jax.Array:
    r"""Draws ``width`` shares from ``Dirichlet(alpha, ..., alpha)`` for each example.

    They are normalized gamma variates. Each is the first accepted one of a fixed number of
    proposals (Marsaglia and Tsang, "A Simple Method for Generating Gamma Variables", 2000):

    .. math::

      G = d (1 + Z / \sqrt{9 d})^3 \, W^{1 / \alpha}, \qquad d = \alpha + 2/3
    """
    a = _clip_alpha(as_strength(alpha, image))
    normal_key, uniform_key, power_key = jax.random.split(key, 3)
    shape = (*image.shape[:-3], width, _PROPOSALS, 1)
    z = _bits.normal(normal_key, shape, like=image)[..., 0].astype(a.dtype)
    u = _bits.uniform(uniform_key, shape, like=image)[..., 0].astype(a.dtype)
    w = _bits.uniform(power_key, (*shape[:-2], 1, 1), like=image)[..., 0, 0].astype(a.dtype)
    d = a + 2 / 3
    step = z / jnp.sqrt(9 * d)
    log_v = 3 * jnp.log1p(jnp.maximum(step, -0.99))
    accepted = (step > -0.99) & (jnp.log(u) < z**2 / 2 - d * (jnp.expm1(log_v) - log_v))
    first = accepted & (jnp.cumsum(accepted, axis=-1, dtype=jnp.int32) == 1)
    log_v = jnp.sum(jnp.where(first, log_v, jnp.zeros_like(log_v)), axis=-1)
    return jax.nn.softmax(log_v + jnp.log(w) / a, axis=-1)


def _clip_alpha(alpha: jax.Array) -> jax.Array:
    """Clips ``alpha`` to avoid overflow; values outside the range would not change the results."""
    return jnp.clip(alpha, 1e-6, 1e29)
