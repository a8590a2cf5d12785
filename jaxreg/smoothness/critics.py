"""Penalties on the gradient of a critic or discriminator with respect to its inputs."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import check_between, check_key
from jaxreg._numerics import as_strength, safe_norm, square, widen
from jaxreg._scopes import mark
from jaxreg.smoothness._batches import (
    Function,
    check_batch,
    check_outputs,
    check_same,
    example_axes,
    sum_of_squares,
)


@mark()
def gradient_penalty(
    critic: Function, real: jax.Array, fake: jax.Array, *, key: jax.Array, target: ArrayLike = 1.0
) -> jax.Array:
    r"""Returns the WGAN-GP penalty: mean squared deviation of gradient norms from ``target``.

    .. math::

      \frac{1}{n} \sum_{i=1}^n \left(\|\nabla D(\hat x_i)\| - t\right)^2, \qquad
      \hat x_i = u_i x_i + (1 - u_i) \tilde x_i, \qquad u_i \sim \mathcal U(0, 1)

    Where the gradient is zero, for example because the last layer is all zeros, the norm has
    derivative 0, so the example has no effect and nothing becomes NaN. Gulrajani et al. use a
    weight of 10. Gradients also flow to ``real`` and ``fake``; stop them if the critic's step
    differentiates the generator too.

    For DRAGAN, which penalizes around the real examples, pass noisy real examples as ``fake``; its
    authors use ``real + 0.5 * real.std() * jax.random.uniform(noise_key, real.shape)``.

    Args:
      critic: Function of a batch, ``[batch, ...] -> [batch]`` or ``[batch, 1]``, that treats each
        example separately.
      real: Real floating-point examples :math:`x`, ``[batch, ...]``.
      fake: Generated examples :math:`\tilde x`, with the shape and dtype of ``real``.
      key: PRNG key.
      target: Target :math:`t` of the gradient norm, zero or positive.

    Returns:
      Scalar, float32 or wider; 0 for an empty batch.

    Raises:
      TypeError: ``real``, ``fake`` or the result of ``critic`` is not floating-point, or ``key`` is
        not a single PRNG key.
      ValueError: ``fake`` has a different shape or dtype from ``real``, ``critic`` does not return
        one number per example, or ``target`` is a negative number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import smoothness
      >>> real, fake = jnp.ones((8, 4)), jnp.zeros((8, 4))
      >>> critic = lambda x: x.sum(axis=1)
      >>> print(smoothness.gradient_penalty(critic, real, fake, key=jax.random.key(0)))
      1.0

    References:
      Gulrajani et al., `Improved Training of Wasserstein GANs <https://arxiv.org/abs/1704.00028>`_,
      2017; Kodali et al., `On Convergence and Stability of GANs
      <https://arxiv.org/abs/1705.07215>`_, 2017 (DRAGAN)
    """
    check_batch(real, "real")
    check_same(real, fake, ("real", "fake"))
    check_key(key)
    check_between(target, "target", 0, float("inf"))
    per_example = real.shape[:1] + (1,) * (real.ndim - 1)
    u = _bits.uniform(key, per_example, like=real).astype(widen(real).dtype)
    between = u * widen(real) + (1 - u) * widen(fake)
    gradient = _input_gradient(critic, between.astype(real.dtype))
    norm = safe_norm(gradient, axis=example_axes(real))
    return jnp.sum(square(norm - as_strength(target, norm))) / max(len(real), 1)


@mark()
def zero_centered_penalty(critic: Function, x: jax.Array) -> jax.Array:
    r"""Returns the mean squared norm of a discriminator's input gradients (R1 and R2).

    .. math::

      \frac{1}{n} \sum_{i=1}^n \|\nabla D(x_i)\|^2

    On real examples this is R1, on generated ones R2. Mescheder et al. use a weight of
    :math:`\gamma / 2`.

    Args:
      critic: Function of a batch, ``[batch, ...] -> [batch]`` or ``[batch, 1]``, that treats each
        example separately.
      x: Real floating-point examples, ``[batch, ...]``.

    Returns:
      Scalar, float32 or wider; 0 for an empty batch.

    Raises:
      TypeError: ``x`` or the result of ``critic`` is not floating-point.
      ValueError: ``critic`` does not return one number per example.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import smoothness
      >>> print(smoothness.zero_centered_penalty(lambda x: x.sum(axis=1), jnp.ones((8, 4))))
      4.0

    References:
      Mescheder, Geiger and Nowozin, `Which Training Methods for GANs do actually Converge?
      <https://arxiv.org/abs/1801.04406>`_, 2018
    """
    check_batch(x, "x")
    return sum_of_squares(_input_gradient(critic, x)) / max(len(x), 1)


def _input_gradient(critic: Function, x: jax.Array) -> jax.Array:
    """Returns the gradient of each example's score with respect to that example."""
    scores, pull_back = jax.vjp(critic, x)
    check_outputs(scores, x, "critic")
    if scores.size != len(x):
        raise ValueError(
            f"`critic` must return one number per example, got shape {scores.shape} for "
            f"{len(x)} examples; for functions with several outputs use jacobian_exact."
        )
    return pull_back(jnp.ones_like(scores))[0]
