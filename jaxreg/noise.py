"""Noise: functions ``(key, x) -> x`` that add random numbers to ``x`` or replace parts of it.

All of them keep the shape and dtype of ``x``, which may be the input of a model, an activation or,
with :func:`perturb`, a tree of weights. A strength may be a traced array. A strength of 0 is
exactly the identity. A negative Python or NumPy strength raises; negative elements of an array
count as 0. Noise is sampled and added in float32 and rounded once, so that low precision is as
unbiased as float32. The backward pass draws the noise again from the key and stores none.

The functions have no evaluation mode: do not call them at evaluation time.

The random bits of an element are a hash of the key and the element's position: the same on one
device and on many. Pass ``bits=jax.random.bits`` to use JAX's generator instead; it is several
times slower.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits, _signatures
from jaxreg._checks import (
    check_broadcasts,
    check_floating,
    check_key,
    check_nonnegative,
    check_rate,
    check_real,
    check_scalar,
    is_floating,
)
from jaxreg._numerics import align, as_strength, nan_where, widen
from jaxreg._scopes import mark
from jaxreg._trees import map_with_keys

__all__ = ["gaussian_noise", "perturb", "salt_and_pepper", "uniform_noise"]


@mark("stddev")
def gaussian_noise(
    key: jax.Array, x: jax.Array, *, stddev: ArrayLike, bits: _bits.Bits | None = None
) -> jax.Array:
    r"""Adds Gaussian noise of mean 0 and standard deviation ``stddev``.

    .. math::

      y_i = x_i + \sigma_i \varepsilon_i, \qquad \varepsilon_i \sim \mathcal N(0, 1)

    Args:
      key: PRNG key.
      x: Real floating-point array of any shape.
      stddev: Standard deviation :math:`\sigma`, zero or positive: a number, or an array that
        broadcasts to ``x``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array with the shape and dtype of ``x``, equal to it in expectation.

    Raises:
      TypeError: ``x`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``stddev`` is a negative number or does not broadcast to ``x``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import noise
      >>> y = noise.gaussian_noise(jax.random.key(0), jnp.ones(100_000), stddev=0.5)
      >>> print(jnp.round(jnp.mean(y), 1), jnp.round(jnp.std(y), 2))
      1.0 0.5

    References:
      Bishop, `Training with Noise is Equivalent to Tikhonov Regularization
      <https://doi.org/10.1162/neco.1995.7.1.108>`_, 1995
    """
    check_key(key)
    check_real(x, "x")
    return _add(key, x, _noise_size(stddev, "stddev", x), _bits.normal, bits)


@mark("limit")
def uniform_noise(
    key: jax.Array, x: jax.Array, *, limit: ArrayLike, bits: _bits.Bits | None = None
) -> jax.Array:
    r"""Adds noise drawn uniformly from ``(-limit, limit)``.

    .. math::

      y_i = x_i + r_i u_i, \qquad u_i \sim \mathrm{U}(-1, 1)

    Its standard deviation is :math:`r / \sqrt 3`.

    Args:
      key: PRNG key.
      x: Real floating-point array of any shape.
      limit: Largest magnitude :math:`r` of the noise, zero or positive: a number, or an array that
        broadcasts to ``x``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array with the shape and dtype of ``x``, equal to it in expectation.

    Raises:
      TypeError: ``x`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``limit`` is a negative number or does not broadcast to ``x``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import noise
      >>> y = noise.uniform_noise(jax.random.key(0), jnp.zeros(100_000), limit=0.5)
      >>> print(jnp.all(abs(y) <= 0.5), jnp.round(jnp.std(y) * jnp.sqrt(3), 2))
      True 0.5

    References:
      Sietsma and Dow, `Creating artificial neural networks that generalize
      <https://doi.org/10.1016/0893-6080(91)90033-2>`_, 1991
    """
    check_key(key)
    check_real(x, "x")
    return _add(key, x, _noise_size(limit, "limit", x), _symmetric_uniform, bits)


@mark("rate")
def salt_and_pepper(
    key: jax.Array,
    x: jax.Array,
    *,
    rate: ArrayLike,
    low: ArrayLike = 0.0,
    high: ArrayLike = 1.0,
    bits: _bits.Bits | None = None,
) -> jax.Array:
    r"""Replaces random elements by ``low`` (pepper) or ``high`` (salt).

    .. math::

      y_i = \begin{cases}
        l & \text{with probability } p / 2 \\
        h & \text{with probability } p / 2 \\
        x_i & \text{otherwise}
      \end{cases}

    Args:
      key: PRNG key.
      x: Floating-point array of any shape.
      rate: Probability :math:`p` of replacing an element, in ``[0, 1]``.
      low: Value of pepper: a number, or an array that broadcasts to ``x``.
      high: Value of salt: a number, or an array that broadcasts to ``x``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``rate`` is a number outside ``[0, 1]``, or ``low`` or ``high`` does not
        broadcast to ``x``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import noise
      >>> y = noise.salt_and_pepper(jax.random.key(0), jnp.full((40, 40), 0.5), rate=0.1)
      >>> print(jnp.unique(y))
      [0.  0.5 1. ]

    References:
      Vincent et al., `Stacked Denoising Autoencoders
      <https://jmlr.org/papers/v11/vincent10a.html>`_, 2010, section 3.3
    """
    check_key(key)
    check_floating(x, "x")
    check_rate(rate)
    check_broadcasts(low, "low", x.shape)
    check_broadcasts(high, "high", x.shape)
    p = jnp.clip(as_strength(rate, x), 0, 1)
    return _replace(key, x, p, align(low, x), align(high, x), bits)


@mark("stddev")
def perturb(
    key: jax.Array, params: Any, *, stddev: ArrayLike, bits: _bits.Bits | None = None
) -> Any:
    r"""Adds Gaussian noise to every floating-point leaf of a pytree.

    .. math::

      w'_i = w_i + \sigma \varepsilon_i, \qquad \varepsilon_i \sim \mathcal N(0, 1)

    Compute the loss at the perturbed weights and apply its gradient to ``params``. The noise of a
    leaf depends on its position among the leaves.

    Args:
      key: PRNG key.
      params: Any pytree: Linen parameters, an NNX state, a list of arrays. Leaves that are not
        floating-point (counters, keys) are unchanged.
      stddev: Standard deviation :math:`\sigma`, zero or positive.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Tree like ``params``, equal to it in expectation.

    Raises:
      TypeError: A leaf of ``params`` is complex, or ``key`` is not a single PRNG key.
      ValueError: ``stddev`` is negative or not a single number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import noise
      >>> params = {"kernel": jnp.ones((200, 300)), "step": 3}
      >>> noisy = noise.perturb(jax.random.key(0), params, stddev=0.5)
      >>> print(jnp.round(jnp.std(noisy["kernel"]), 1), noisy["step"])
      0.5 3

    References:
      Graves, `Practical Variational Inference for Neural Networks
      <https://papers.nips.cc/paper/4329-practical-variational-inference-for-neural-networks>`_,
      2011
    """
    check_scalar(stddev, "stddev")
    check_nonnegative(stddev, "stddev")

    def add_noise(own_key: jax.Array, w: Any) -> Any:
        if not is_floating(w):
            return w
        w = jnp.asarray(w)
        check_real(w, "params")
        return _add(own_key, w, jnp.maximum(as_strength(stddev, w), 0), _bits.normal, bits)

    return map_with_keys(add_noise, key, params)


def _noise_size(value: ArrayLike, name: str, x: jax.Array) -> jax.Array:
    """Validates ``value``, clips it to at least 0 and expands it to broadcast to ``x``."""
    check_nonnegative(value, name)
    check_broadcasts(value, name, x.shape)
    return jnp.maximum(align(value, x), 0)


def _symmetric_uniform(
    key: jax.Array, shape: tuple[int, ...], *, like: jax.Array, bits: _bits.Bits | None
) -> jax.Array:
    """Draws numbers uniformly from ``(-1, 1)``, each as likely as its negative."""
    return 2 * _bits.uniform(key, shape, like=like, bits=bits) - 1


@partial(jax.jit, static_argnums=(3, 4))
@partial(jax.checkpoint, static_argnums=(3, 4))
def _add(
    key: jax.Array,
    x: jax.Array,
    size: jax.Array,
    sample: Callable[..., jax.Array],
    bits: _bits.Bits | None,
) -> jax.Array:
    sampled = sample(key, x.shape, like=x, bits=bits)
    noisy = (widen(x) + size * sampled.astype(size.dtype)).astype(x.dtype)
    return jnp.where(size == 0, x, noisy)


@partial(jax.jit, static_argnums=(5,))
@partial(jax.checkpoint, static_argnums=(5,))
def _replace(
    key: jax.Array,
    x: jax.Array,
    rate: jax.Array,
    low: jax.Array,
    high: jax.Array,
    bits: _bits.Bits | None,
) -> jax.Array:
    words = _bits.draw(key, x.shape, like=x, bits=bits)
    pepper = _bits.below(words, rate / 2)
    # The converted booleans are 1 where they count. A scan would store arrays of both values.
    value = jnp.where(pepper, pepper.astype(low.dtype) * low, (~pepper).astype(high.dtype) * high)
    replaced = jnp.where(_bits.below(words, rate), value.astype(x.dtype), x)
    return nan_where(jnp.isnan(rate), replaced)


_signatures.show(__name__)
