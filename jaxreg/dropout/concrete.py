"""Dropout with a relaxed mask, so that its rate can be learned by gradients."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import (
    check_between,
    check_broadcasts,
    check_floating,
    check_key,
    check_nonnegative,
    check_scalar,
    is_static,
)
from jaxreg._numerics import align, as_strength, square, widen
from jaxreg._scopes import mark

# Beyond these logits the result does not change, but intermediate numbers overflow.
_LOGITS = (-1000.0, 60.0)
_COLDEST = 1e-6


@mark("logit")
def concrete_dropout(
    key: jax.Array,
    x: jax.Array,
    *,
    logit: ArrayLike,
    temperature: ArrayLike,
    bits: _bits.Bits | None = None,
) -> jax.Array:
    r"""Applies dropout with a relaxed mask that is differentiable in the rate (concrete dropout).

    .. math::

      y_i = \frac{1 - z_i}{1 - p} \, x_i, \qquad
      z_i = \sigma\left(\frac{l + \log u_i - \log(1 - u_i)}{T}\right), \qquad
      u_i \sim \mathcal U(0, 1), \qquad p = \sigma(l)

    At any temperature :math:`z_i > 1/2` with probability :math:`p`. As :math:`T` goes to 0, this
    becomes :func:`dropout` at the rate :math:`p`, and the mean over masks becomes ``x``. Gal et al.
    use :math:`T = 0.1`. Add :func:`concrete_dropout_penalty` to the loss. At evaluation time, Gal
    et al. average over masks; omitting the function needs only one pass.

    The uniform numbers :math:`u_i` are odd multiples of 2**-24: the probability of dropping an
    element is :math:`p` to within 2**-24, and 0 for a logit below -16.6.

    Args:
      key: PRNG key.
      x: Floating-point array of any shape.
      logit: Logit :math:`l` of the rate: a number, or an array that broadcasts to ``x``. Minus
        infinity is exactly the identity; more than 60 counts as 60.
      temperature: Temperature :math:`T`, positive; less than 1e-6 counts as 1e-6.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``logit`` is NaN or does not broadcast to ``x``, or ``temperature`` is a number
        that is not positive.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> x = jnp.ones(100)
      >>> y = dropout.concrete_dropout(jax.random.key(0), x, logit=0.0, temperature=1e-6)
      >>> print(jnp.unique(y))
      [0. 2.]

    References:
      Gal, Hron and Kendall, `Concrete Dropout <https://arxiv.org/abs/1705.07832>`_, 2017
    """
    check_key(key)
    check_floating(x, "x")
    check_broadcasts(logit, "logit", x.shape)
    _check_number(logit, "logit")
    check_scalar(temperature, "temperature")
    if is_static(temperature) and not float(temperature) > 0:  # pyright: ignore[reportArgumentType]
        raise ValueError(f"`temperature` must be positive, got {temperature}; Gal et al. use 0.1.")
    return _concrete(key, x, align(logit, x), as_strength(temperature, x), bits)


@mark("weight")
def concrete_dropout_penalty(
    w: jax.Array, *, logit: ArrayLike, weight: ArrayLike, entropy_weight: ArrayLike
) -> jax.Array:
    r"""Returns the KL penalty of a layer whose inputs pass through :func:`concrete_dropout`.

    .. math::

      R(w, l) = \lambda \sum_{k, j} \frac{w_{k j}^2}{1 - p_k}
        + \eta \sum_{k=1}^K \left(p_k \log p_k + (1 - p_k) \log(1 - p_k)\right), \qquad
      p = \sigma(l)

    In a loss that is the mean of :math:`-\log p(y \mid x)` over :math:`N` examples, such as cross
    entropy, Gal et al. weight the divergence by :math:`1 / N`. With a prior of length scale
    :math:`\ell` this is :math:`\lambda = \ell^2 / (2 N)` and :math:`\eta = 1 / N`. For the mean of
    squared errors of a model with precision :math:`\tau`, the inverse variance of observations,
    both are multiplied by :math:`2 / \tau`: :math:`\lambda = \ell^2 / (\tau N)` and
    :math:`\eta = 2 / (\tau N)`, the ``weight_regularizer`` and ``dropout_regularizer`` of the
    authors' code.

    Args:
      w: Weights of the layer that follows, floating-point, ``[..., in, out]``; its :math:`K` inputs
        are the second axis from the end.
      logit: Logit :math:`l` of the rate: a single number, or one per input. More than 60 counts as
        60.
      weight: Factor :math:`\lambda` of the squares, zero or positive.
      entropy_weight: Factor :math:`\eta` of the negative entropies, zero or positive.

    Returns:
      Scalar, float32 or wider. The second sum is negative.

    Raises:
      TypeError: ``w`` is not floating-point.
      ValueError: ``w`` has fewer than two axes, ``logit`` is NaN or does not broadcast to the
        inputs, or ``weight`` or ``entropy_weight`` is a negative number.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> w = jnp.ones((3, 4))
      >>> print(dropout.concrete_dropout_penalty(w, logit=0.0, weight=0.5, entropy_weight=0.0))
      12.0

    References:
      Gal, Hron and Kendall, `Concrete Dropout <https://arxiv.org/abs/1705.07832>`_, 2017; `the
      authors' code <https://github.com/yaringal/ConcreteDropout>`_
    """
    check_floating(w, "w")
    if w.ndim < 2:
        raise ValueError(f"`w` must have axes [..., in, out], got shape {w.shape}.")
    inputs = w.shape[-2:-1]
    check_broadcasts(logit, "logit", inputs)
    _check_number(logit, "logit")
    for value, name in ((weight, "weight"), (entropy_weight, "entropy_weight")):
        check_scalar(value, name)
        check_nonnegative(value, name)
    logit = jnp.broadcast_to(_within_range(as_strength(logit, w)), inputs)
    squares = jnp.sum(square(widen(w)), axis=[a for a in range(w.ndim) if a != w.ndim - 2])
    squares = jnp.sum(squares * (1 + jnp.exp(logit)))
    rate = jax.nn.sigmoid(logit)
    entropy = jnp.sum(rate * jax.nn.softplus(-logit) + (1 - rate) * jax.nn.softplus(logit))
    return as_strength(weight, w) * squares - as_strength(entropy_weight, w) * entropy


def concrete_dropout_logit(init_rate: float) -> float:
    r"""Returns the initial ``logit`` of :func:`concrete_dropout` for an initial dropout rate.

    .. math::

      l = \log p - \log(1 - p)

    Args:
      init_rate: Probability :math:`p` of dropping at the start, a Python number in the open
        interval (0, 1).

    Returns:
      Python number.

    Raises:
      ValueError: ``init_rate`` is not in the open interval (0, 1).

    Example:
      >>> from jaxreg import dropout
      >>> print(round(dropout.concrete_dropout_logit(0.1), 3))
      -2.197
    """
    if not 0 < init_rate < 1:
        raise ValueError(
            f"`init_rate` must be a probability in (0, 1), got {init_rate}; the logit of 0 or 1 is "
            "infinite, so start from a small rate in place of 0."
        )
    return math.log(init_rate) - math.log1p(-init_rate)


@partial(jax.jit, static_argnums=(4,))
@partial(jax.checkpoint, static_argnums=(4,))
def _concrete(
    key: jax.Array,
    x: jax.Array,
    logit: jax.Array,
    temperature: jax.Array,
    bits: _bits.Bits | None,
) -> jax.Array:
    u = _bits.uniform(key, x.shape, like=x, bits=bits).astype(logit.dtype)
    finite = _within_range(logit)
    heat = jnp.maximum(temperature, _COLDEST)
    drop = (finite + jnp.log(u / (1 - u))) / heat
    # If 1 / (1 - p) is huge, the kept share underflows, but their product does not.
    raised = jnp.exp(jax.nn.softplus(finite) - jnp.maximum(drop, 0))
    scaled = (widen(x) * (raised / (1 + jnp.exp(-jnp.abs(drop))))).astype(x.dtype)
    return jnp.where(logit == -jnp.inf, x, scaled)


def _check_number(value: ArrayLike, name: str) -> None:
    """Raises if ``value`` is a Python or NumPy NaN; JAX arrays are not checked."""
    if is_static(value):
        check_between(value, name, -math.inf, math.inf)


def _within_range(logit: jax.Array) -> jax.Array:
    return jnp.clip(logit, *_LOGITS)
