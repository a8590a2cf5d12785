r"""The gradient of batch normalization by hand, against automatic differentiation.

With the cotangent :math:`g` of the output and the normalized input :math:`\hat x`, all means taken
over the batch (Ioffe and Szegedy, 2015, section 3):

.. math::

  \frac{\partial L}{\partial x} = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}}
    \big( g - \overline{g} - \hat x \, \overline{g \hat x} \big), \qquad
  \frac{\partial L}{\partial \gamma} = \sum g \hat x, \qquad
  \frac{\partial L}{\partial \beta} = \sum g
"""

import jax
import jax.numpy as jnp

from jaxreg import normalization

EPS = 1e-5


def by_hand(x: jax.Array, scale: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, ...]:
    """Computes the gradients with respect to the input, the scale and the bias."""
    mean, var, _ = normalization.moments(x, axis=0)
    inverse = jax.lax.rsqrt(var + EPS)
    normalized = (x - mean) * inverse
    projected = (cotangent * normalized).mean(axis=0)
    dx = scale * inverse * (cotangent - cotangent.mean(axis=0) - normalized * projected)
    return dx, (cotangent * normalized).sum(axis=0), cotangent.sum(axis=0)


def by_autodiff(
    x: jax.Array, scale: jax.Array, bias: jax.Array, cotangent: jax.Array
) -> tuple[jax.Array, ...]:
    """Computes the same gradients by differentiating ``normalization.batch_norm``."""

    def forward(x, scale, bias):
        stats = normalization.init_stats(x.shape[1])
        y, _ = normalization.batch_norm(x, stats, scale=scale, bias=bias, eps=EPS)
        return y

    _, pull_back = jax.vjp(forward, x, scale, bias)
    return pull_back(cotangent)


def main() -> None:
    """Prints the largest difference of each gradient, relative to its largest element."""
    keys = jax.random.split(jax.random.key(0), 4)
    # One-pass formulas lose digits if the mean is far from zero.
    x = 100 + jax.random.normal(keys[0], (256, 32))
    scale, bias = 1 + 0.1 * jax.random.normal(keys[1], (2, 32))
    cotangent = jax.random.normal(keys[2], x.shape)
    hand = by_hand(x, scale, cotangent)
    autodiff = by_autodiff(x, scale, bias, cotangent)
    for name, a, b in zip(("input", "scale", "bias"), hand, autodiff, strict=True):
        print(f"{name}: {jnp.abs(a - b).max() / jnp.abs(b).max():.1e}")


if __name__ == "__main__":
    main()
