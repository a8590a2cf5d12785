r"""Variational dropout: learned rates, and dense layers that prune noisy weights.

A weight is a Gaussian :math:`w \sim \mathcal N(\theta, \alpha \theta^2)`, the noise of
``gaussian_dropout`` at the rate :math:`\alpha / (1 + \alpha)`. Each :math:`\alpha` is a parameter,
regularized by the divergence of :func:`variational_dropout_kl`; a weight with a large
:math:`\alpha` is mostly noise and can be pruned.
"""

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
    check_real,
    is_static,
)
from jaxreg._numerics import align, as_strength, wide_dtype, widen
from jaxreg._scopes import mark

# Above it, alpha / (1 + alpha) rounds to 1 in float32; `gaussian_dropout` clips its rate there.
_LARGEST = 24 * math.log(2)
# Bounds the gradient of the logarithm by 1e4, which float16 can represent.
_EPS = 1e-8


@mark()
def variational_dropout(
    key: jax.Array, x: jax.Array, *, log_alpha: ArrayLike, bits: _bits.Bits | None = None
) -> jax.Array:
    r"""Multiplies elements by Gaussian noise of mean 1 and learnable variance.

    .. math::

      y_i = x_i (1 + \sqrt{\alpha_i} \, \varepsilon_i), \qquad \varepsilon_i \sim \mathcal N(0, 1)

    The gradient with respect to ``log_alpha`` differentiates this equation at the drawn noise. Add
    :func:`variational_dropout_kl` to the loss; otherwise the rates only shrink.

    Args:
      key: PRNG key.
      x: Floating-point array of any shape.
      log_alpha: Logarithm of the variance :math:`\alpha` relative to ``x``: a number, or an array
        that broadcasts to ``x``. Minus infinity is exactly the identity. More than 16.6, at which
        the dropout rate rounds to 1, counts as 16.6.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array with the shape and dtype of ``x``, equal to it in expectation.

    Raises:
      TypeError: ``x`` is not floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``log_alpha`` is NaN or infinity, or does not broadcast to ``x``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> x = jnp.ones(100_000)
      >>> y = dropout.variational_dropout(jax.random.key(0), x, log_alpha=jnp.log(0.25))
      >>> print(jnp.round(jnp.var(y), 2))
      0.25

    References:
      Kingma et al., `Variational Dropout and the Local Reparameterization Trick
      <https://arxiv.org/abs/1506.02557>`_, 2015
    """
    check_key(key)
    check_floating(x, "x")
    if is_static(log_alpha) and not float(log_alpha) < math.inf:  # pyright: ignore[reportArgumentType]
        raise ValueError(
            f"`log_alpha` must be below infinity, got {log_alpha}; pass a number, or -inf "
            "for no noise."
        )
    check_broadcasts(log_alpha, "log_alpha", x.shape)
    return _noisy(key, x, align(log_alpha, x), bits)


@mark()
def variational_dropout_kl(log_alpha: jax.Array) -> jax.Array:
    r"""Returns the approximate KL divergence of Gaussian weights from a log-uniform prior.

    .. math::

      \mathrm{KL} \approx \sum_i k_1 \sigma(-k_2 - k_3 \log \alpha_i)
        + \tfrac{1}{2} \log(1 + \alpha_i^{-1})

    with :math:`k = (0.63576, 1.8732, 1.48695)`, within 0.0094 of the exact integral for each
    element. The improper prior leaves a constant undetermined; it is chosen so that the divergence
    goes to 0 as :math:`\alpha` grows. In a loss that is a mean over :math:`N` examples its weight
    is :math:`1 / N`, often raised from zero during the first epochs.

    Args:
      log_alpha: Logarithms of :math:`\alpha`, floating-point, of any shape.

    Returns:
      Scalar, float32 or wider, zero or positive. It is infinite if an element is minus infinity;
      the gradient is finite even then.

    Raises:
      TypeError: ``log_alpha`` is not real floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> print(f"{dropout.variational_dropout_kl(jnp.zeros(2)):.1f}")
      0.9

    References:
      Molchanov et al., `Variational Dropout Sparsifies Deep Neural Networks
      <https://arxiv.org/abs/1701.05369>`_, 2017
    """
    check_real(log_alpha, "log_alpha")
    wide = widen(log_alpha)
    # The form of Molchanov et al. subtracts two numbers near k1, which loses digits.
    tail = 0.63576 * jax.nn.sigmoid(-1.8732 - 1.48695 * wide)
    return jnp.sum(tail + jax.nn.softplus(-wide) / 2)


def variational_log_alpha(kernel: jax.Array, log_var: ArrayLike) -> jax.Array:
    r"""Returns :math:`\log \alpha`, the log ratio of each weight's variance to its squared mean.

    .. math::

      \log \alpha_{i j} = \log \sigma^2_{i j} - \log(\theta_{i j}^2 + 10^{-8})

    Learning the variance and the mean instead of :math:`\alpha` reduces the variance of gradients
    (the additive parametrization). Adding 1e-8 keeps the result and the gradient finite at a mean
    of zero; it matters only for means of a magnitude below 1e-3.

    Args:
      kernel: Means :math:`\theta` of the weights, floating-point, of any shape.
      log_var: Logarithms of their variances :math:`\sigma^2`, which broadcast to ``kernel``.

    Returns:
      Array with the shape and dtype of ``kernel``.

    Raises:
      TypeError: ``kernel`` is not real floating-point.
      ValueError: ``log_var`` is NaN or does not broadcast to ``kernel``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> print(dropout.variational_log_alpha(jnp.array([1.0, -1.0]), jnp.array([-2.0, 0.0])))
      [-2.  0.]

    References:
      Molchanov et al., `Variational Dropout Sparsifies Deep Neural Networks
      <https://arxiv.org/abs/1701.05369>`_, 2017
    """
    check_real(kernel, "kernel")
    return _wide_log_alpha(kernel, log_var).astype(kernel.dtype)


@mark()
def variational_dense(
    key: jax.Array,
    x: jax.Array,
    kernel: jax.Array,
    log_var: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    bits: _bits.Bits | None = None,
) -> jax.Array:
    r"""Applies a dense layer with Gaussian weights by sampling outputs (local reparametrization).

    .. math::

      y_{n j} = \sum_i x_{n i} \theta_{i j} + b_j
        + \varepsilon_{n j} \sqrt{\sum_i x_{n i}^2 \sigma^2_{i j}}, \qquad
      \varepsilon_{n j} \sim \mathcal N(0, 1)

    Each output is distributed as if weights
    :math:`w_{i j} \sim \mathcal N(\theta_{i j}, \sigma^2_{i j})` were drawn separately for each
    example. Products have the dtype of ``x``, squares and variances a dtype with the range of
    float32, and sums are accumulated in float32 or wider. The backward pass draws the noise again;
    it stores the variances of the outputs, which would take a matrix product to recompute.

    Args:
      key: PRNG key.
      x: Inputs ``[..., in]``.
      kernel: Means :math:`\theta` of the weights ``[in, out]``.
      log_var: Logarithms of their variances :math:`\sigma^2`, which broadcast to ``kernel``; more
        than 16.6 counts as 16.6.
      bias: Array that broadcasts to ``[out]``, added without noise.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array ``[..., out]`` with the dtype of ``x``.

    Raises:
      TypeError: ``x`` or ``kernel`` is not real floating-point, or ``key`` is not a single PRNG
        key.
      ValueError: The shapes of ``x`` and ``kernel`` do not match, or ``log_var`` or ``bias``
        does not broadcast, or ``log_var`` is NaN.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> x, kernel, log_var = jnp.ones((100_000, 4)), jnp.full((4, 1), 0.5), jnp.log(0.25)
      >>> y = dropout.variational_dense(jax.random.key(0), x, kernel, log_var)
      >>> print(jnp.round(jnp.mean(y), 1), jnp.round(jnp.var(y), 1))
      2.0 1.0

    References:
      Kingma et al., `Variational Dropout and the Local Reparameterization Trick
      <https://arxiv.org/abs/1506.02557>`_, 2015
    """
    check_key(key)
    _check_dense(x, kernel, bias)
    _check_log_variance(log_var, kernel)
    return _dense(key, x, kernel, as_strength(log_var, kernel), bias, bits)


def variational_dense_inference(
    x: jax.Array,
    kernel: jax.Array,
    log_var: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    threshold: ArrayLike = 3.0,
) -> jax.Array:
    r"""Applies a dense layer with the weight means that :func:`variational_prune` keeps.

    .. math::

      y_{n j} = \sum_{i: \log \alpha_{i j} \le t} x_{n i} \theta_{i j} + b_j

    It is the evaluation counterpart of :func:`variational_dense`.

    Args:
      x: Inputs ``[..., in]``.
      kernel: Means :math:`\theta` of the weights ``[in, out]``.
      log_var: Logarithms of their variances, which broadcast to ``kernel``.
      bias: Array that broadcasts to ``[out]``.
      threshold: Largest :math:`\log \alpha` of a weight that is used.

    Returns:
      Array ``[..., out]`` with the dtype of ``x``.

    Raises:
      TypeError: ``x`` or ``kernel`` is not real floating-point.
      ValueError: The shapes of ``x`` and ``kernel`` do not match, ``log_var`` or ``bias`` does
        not broadcast, or ``log_var`` or ``threshold`` is NaN.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> kernel, log_var = jnp.array([[2.0], [0.01]]), jnp.full((2, 1), -1.0)
      >>> print(dropout.variational_dense_inference(jnp.ones(2), kernel, log_var))
      [2.]

    References:
      Molchanov et al., `Variational Dropout Sparsifies Deep Neural Networks
      <https://arxiv.org/abs/1701.05369>`_, 2017
    """
    _check_dense(x, kernel, bias)
    pruned = variational_prune(kernel, log_var, threshold=threshold)
    return _affine(x, pruned, bias).astype(x.dtype)


def variational_prune(
    kernel: jax.Array, log_var: ArrayLike, *, threshold: ArrayLike = 3.0
) -> jax.Array:
    r"""Zeros weights whose variance is large relative to their squared mean.

    .. math::

      \theta'_{i j} = \begin{cases} \theta_{i j} & \log \alpha_{i j} \le t \\ 0 & \text{else}
        \end{cases}

    The default is from Molchanov et al.: :math:`\log \alpha = 3` is a dropout rate of 0.95.

    Args:
      kernel: Means :math:`\theta` of the weights, floating-point, of any shape.
      log_var: Logarithms of their variances, which broadcast to ``kernel``.
      threshold: Largest :math:`\log \alpha`, see :func:`variational_log_alpha`, of a weight that is
        kept; infinity is exactly the identity.

    Returns:
      Array with the shape and dtype of ``kernel``.

    Raises:
      TypeError: ``kernel`` is not real floating-point.
      ValueError: ``log_var`` does not broadcast to ``kernel``, or it or ``threshold`` is NaN.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> print(dropout.variational_prune(jnp.array([2.0, 0.01]), jnp.array([-1.0, -1.0])))
      [2. 0.]

    References:
      Molchanov et al., `Variational Dropout Sparsifies Deep Neural Networks
      <https://arxiv.org/abs/1701.05369>`_, 2017
    """
    check_real(kernel, "kernel")
    check_between(threshold, "threshold", -math.inf, math.inf)
    noise = _wide_log_alpha(kernel, log_var) > as_strength(threshold, kernel)
    return jnp.where(noise, jnp.zeros_like(kernel), kernel)


@partial(jax.jit, static_argnums=(3,))
@partial(jax.checkpoint, static_argnums=(3,))
def _noisy(
    key: jax.Array, x: jax.Array, log_alpha: jax.Array, bits: _bits.Bits | None
) -> jax.Array:
    noise = _bits.normal(key, x.shape, like=x, bits=bits).astype(log_alpha.dtype)
    stddev = jnp.exp(jnp.minimum(log_alpha, _LARGEST) / 2)
    noisy = (widen(x) * (1 + stddev * noise)).astype(x.dtype)
    return jnp.where(log_alpha == -jnp.inf, x, noisy)


@partial(jax.jit, static_argnums=(5,))
@partial(jax.checkpoint, static_argnums=(5,), policy=jax.checkpoint_policies.dots_saveable)
def _dense(
    key: jax.Array,
    x: jax.Array,
    kernel: jax.Array,
    log_var: jax.Array,
    bias: ArrayLike | None,
    bits: _bits.Bits | None,
) -> jax.Array:
    mean = _affine(x, kernel, bias)
    variances = jnp.broadcast_to(jnp.exp(jnp.minimum(log_var, _LARGEST)), kernel.shape)
    # Squares and variances can overflow float16, but not bfloat16.
    dtype = x.dtype if x.dtype == jnp.bfloat16 else mean.dtype
    squares = jnp.square(widen(x)).astype(dtype)
    variance = jnp.matmul(squares, variances.astype(dtype), preferred_element_type=mean.dtype)
    # The root has an infinite derivative at 0: inputs of zero take the other branch.
    zero = variance == 0
    root = jnp.sqrt(jnp.where(zero, jnp.ones_like(variance), variance))
    stddev = jnp.where(zero, jnp.zeros_like(root), root)
    noise = _bits.normal(key, mean.shape, like=mean, bits=bits).astype(mean.dtype)
    return (mean + stddev * noise).astype(x.dtype)


def _affine(x: jax.Array, kernel: jax.Array, bias: ArrayLike | None) -> jax.Array:
    """Returns ``x @ kernel + bias`` in the accumulation dtype, float32 or wider."""
    y = jnp.matmul(x, kernel.astype(x.dtype), preferred_element_type=wide_dtype(x.dtype))
    if bias is None:
        return y
    bias = jnp.asarray(bias, y.dtype)
    return y + jax.lax.expand_dims(bias, range(y.ndim - bias.ndim))


def _wide_log_alpha(kernel: jax.Array, log_var: ArrayLike) -> jax.Array:
    _check_log_variance(log_var, kernel)
    log_var = as_strength(log_var, kernel)
    log_var = jax.lax.expand_dims(log_var, range(kernel.ndim - log_var.ndim))
    return log_var - jnp.log(jnp.square(widen(kernel)) + _EPS)


def _check_log_variance(log_var: ArrayLike, kernel: jax.Array) -> None:
    if is_static(log_var) and math.isnan(log_var):  # pyright: ignore[reportArgumentType]
        raise ValueError("`log_var` must be a number, got nan; pass one, or -inf for no noise.")
    check_broadcasts(log_var, "log_var", kernel.shape)


def _check_dense(x: jax.Array, kernel: jax.Array, bias: ArrayLike | None) -> None:
    check_real(x, "x")
    check_real(kernel, "kernel")
    if kernel.ndim != 2 or x.ndim == 0 or x.shape[-1] != kernel.shape[0]:
        raise ValueError(
            "`kernel` must have axes [in, out] and `x` axes [..., in], got shapes "
            f"{kernel.shape} and {x.shape}."
        )
    if bias is not None:
        check_broadcasts(bias, "bias", kernel.shape[1:])
