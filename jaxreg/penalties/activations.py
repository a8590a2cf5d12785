"""Penalties of activations."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_floating, check_nonnegative, check_real, check_scalar
from jaxreg._numerics import as_strength, square, widen
from jaxreg._scopes import mark
from jaxreg._sharding import whole_along
from jaxreg.penalties._singular import gram


@mark("weight")
def activity(
    x: jax.Array, *, penalty: Callable[[jax.Array], jax.Array], weight: ArrayLike
) -> jax.Array:
    r"""Returns ``weight * penalty(x)`` for the activations ``x`` of a layer.

    .. math::

      R(x) = \lambda \, P(x)

    The modules ``ActivityPenalty`` of :mod:`jaxreg.linen` and :mod:`jaxreg.nnx` add it to the loss.
    The penalty gets the whole batch. A sum such as :func:`l1` grows with the batch; the mean over
    examples, ``per_example(l1)``, does not, and equals Keras's ``activity_regularizer``.
    :func:`decorrelation` is already a mean.

    Args:
      x: Floating-point array, ``[batch, ...]``.
      penalty: Function :math:`P` of the activations.
      weight: Factor :math:`\lambda`, zero or positive.

    Returns:
      Scalar, float32 or wider.

    Raises:
      TypeError: ``x`` is not floating-point.
      ValueError: ``weight`` is a negative number or not a single number.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import penalties
      >>> print(penalties.activity(jnp.ones((4, 3)), penalty=penalties.l1, weight=0.5))
      6.0
    """
    check_floating(x, "x")
    check_scalar(weight, "weight")
    check_nonnegative(weight, "weight")
    return as_strength(weight, x) * penalty(x)


def per_example(penalty: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    r"""Lifts a penalty of one example to a batch, as the mean over the batch axis.

    .. math::

      \bar R(x) = \frac{1}{N} \sum_{n=1}^N R(x_n)

    A batch without examples has penalty 0.

    Args:
      penalty: Function of an array, such as :func:`l1`.

    Returns:
      Function of ``[batch, ...]``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import penalties
      >>> print(penalties.per_example(penalties.l1)(jnp.ones((4, 3))))
      3.0
    """
    return partial(_mean_over_examples, penalty=penalty)


@mark()
def decorrelation(x: jax.Array) -> jax.Array:
    r"""Returns half the sum of squared covariances between different features (DeCov).

    .. math::

      R(x) = \frac{1}{2} \sum_{i \ne j} C_{i j}^2, \qquad
      C = \frac{1}{N} \sum_{n=1}^N (x_n - \bar x) (x_n - \bar x)^\top

    Variances are not penalized. The gradient flows through the mean. Inside ``shard_map`` the
    covariances are computed within each shard.

    Args:
      x: Real floating-point activations, ``[..., features]``; all axes but the last count as
        examples.

    Returns:
      Scalar, float32 or wider; 0 for fewer than two examples.

    Raises:
      TypeError: ``x`` is not real and floating-point.
      ValueError: ``x`` has fewer than two axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import penalties
      >>> x = jnp.array([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
      >>> print(penalties.decorrelation(x), penalties.decorrelation(x.at[:, 0].set(x[:, 1])))
      0.0 1.0

    References:
      Cogswell et al., `Reducing Overfitting in Deep Networks by Decorrelating Representations
      <https://arxiv.org/abs/1511.06068>`_, 2016
    """
    check_real(x, "x")
    if x.ndim < 2:
        raise ValueError(f"`x` must have axes [batch, features], got shape {x.shape}.")
    # The batch may stay split: the means and the Gram matrix are sums over it.
    x = whole_along(widen(x), range(1, x.ndim))
    number = math.prod(x.shape[:-1])
    examples = x.reshape(number, x.shape[-1])
    number = max(number, 1)
    centered = examples - jnp.sum(examples, axis=0, keepdims=True) / number
    covariances = gram(centered) / number
    own = jnp.eye(x.shape[-1], dtype=bool)
    return jnp.sum(square(jnp.where(own, jnp.zeros_like(covariances), covariances))) / 2


def _mean_over_examples(x: jax.Array, *, penalty: Callable[[jax.Array], jax.Array]) -> jax.Array:
    check_floating(x, "x")
    if x.ndim == 0:
        raise ValueError("`x` must have axes [batch, ...], got a single number.")
    return jnp.sum(jax.vmap(penalty)(x)) / max(len(x), 1)
