"""Random shares: variates of the Beta and of the Dirichlet distribution, without a loop."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._numerics import as_strength

# One proposal in twenty is rejected: one variate in ten million finds none.
_PROPOSALS = 6


def beta(key: jax.Array, x: jax.Array, alpha: ArrayLike, shape: tuple[int, ...]) -> jax.Array:
    r"""Variates of ``Beta(alpha, alpha)``; 1 where ``alpha`` is 0, and 1/2 where it is infinite.

    Nothing is drawn again, so that no device waits for others. A point of the unit disc with

    .. math::

      R^2 = 1 - U^{1 / (\alpha + 1/2)}, \qquad X = R \cos \pi V

    has a :math:`B = (1 + X) / 2` of ``Beta(alpha + 1, alpha + 1)`` (Ulrich, "Computer Generation of
    Distributions on the m-Sphere", 1984), and :math:`B W^{1 / \alpha}` as a share of it and of
    :math:`(1 - B) W'^{1 / \alpha}` is of ``Beta(alpha, alpha)``: gamma variates of ``alpha`` are
    those of ``alpha + 1`` times such powers. Both are log odds, which lose nothing near
    the ends.
    """
    x = jnp.asarray(x)
    alpha = as_strength(alpha, x)
    positive = alpha > 0
    a = _clipped(alpha)
    lines = (*shape, *(1,) * (x.ndim - len(shape)))
    u, v, w, other = (
        _bits.uniform(own, lines, like=x).reshape(shape).astype(alpha.dtype)
        for own in jax.random.split(key, 4)
    )
    power = jnp.log(u) / (a + 0.5)
    square = -jnp.expm1(power)
    angle = jnp.pi * jnp.minimum(v, 1 - v)
    rest = jnp.exp(power) + square * jnp.sin(angle) ** 2  # 1 - X^2, without a difference
    odds = 2 * jnp.log1p(jnp.sqrt(square) * jnp.cos(angle)) - jnp.log(rest)
    odds = jnp.where(v < 0.5, odds, -odds) + (jnp.log(w) - jnp.log(other)) / a
    return jnp.where(positive, jax.nn.sigmoid(odds), jnp.ones_like(odds))


def dirichlet(key: jax.Array, image: jax.Array, alpha: ArrayLike, width: int) -> jax.Array:
    r"""Variates ``[..., width]`` of ``Dirichlet(alpha, ..., alpha)``, one for each example.

    They are shares of gamma variates, each the first that is accepted of some proposals, all of
    which are drawn (Marsaglia and Tsang, "A Simple Method for Generating Gamma Variables", 2000):

    .. math::

      G = d (1 + Z / \sqrt{9 d})^3 \, W^{1 / \alpha}, \qquad d = \alpha + 2/3
    """
    a = _clipped(as_strength(alpha, image))
    *keys, power_key = jax.random.split(key, 3)
    shape = (*image.shape[:-3], width, _PROPOSALS, 1)
    draws = (_bits.normal, _bits.uniform)
    z, u = (
        draw(own, shape, like=image)[..., 0].astype(a.dtype)
        for draw, own in zip(draws, keys, strict=True)
    )
    w = _bits.uniform(power_key, (*shape[:-2], 1, 1), like=image)[..., 0, 0].astype(a.dtype)
    d = a + 2 / 3
    step = z / jnp.sqrt(9 * d)
    log_v = 3 * jnp.log1p(jnp.maximum(step, -0.99))
    accepted = (step > -0.99) & (jnp.log(u) < z**2 / 2 - d * (jnp.expm1(log_v) - log_v))
    first = accepted & (jnp.cumsum(accepted, axis=-1, dtype=jnp.int32) == 1)
    log_v = jnp.sum(jnp.where(first, log_v, jnp.zeros_like(log_v)), axis=-1)
    return jax.nn.softmax(log_v + jnp.log(w) / a, axis=-1)


def _clipped(alpha: jax.Array) -> jax.Array:
    """A parameter beyond whose limits nothing changes, nor anything is infinite."""
    return jnp.clip(alpha, 1e-6, 1e29)
