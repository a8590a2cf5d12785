"""Inverted dropout of channels, examples, features over time, embedding rows and weights."""

import jax
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import canonical_axes, check_axes, check_floating
from jaxreg._scopes import mark
from jaxreg.dropout.elementwise import dropout


@mark("rate")
def spatial_dropout(
    key: jax.Array, x: jax.Array, *, rate: ArrayLike, bits: _bits.Bits | None = None
) -> jax.Array:
    r"""Drops whole channels of each example (SpatialDropout).

    .. math::

      y_{n s c} = \frac{m_{n c}}{1 - p} \, x_{n s c}, \qquad m_{n c} \sim \mathrm{Bernoulli}(1 - p)

    Neighboring pixels of a feature map are similar, so a network can recover from the neighbors
    what elementwise dropout removes.

    Args:
      key: PRNG key.
      x: Floating-point array ``[batch, *spatial, channels]``.
      rate: Probability :math:`p` of dropping a channel, in ``[0, 1]``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array with the shape and dtype of ``x``, equal to it in expectation.

    Raises:
      TypeError: ``x`` is not floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``rate`` is a number outside ``[0, 1]``, or ``x`` has fewer than two axes.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> y = dropout.spatial_dropout(jax.random.key(0), jnp.ones((4, 8, 8, 32)), rate=0.5)
      >>> print(jnp.all(y == y[:, :1, :1]), jnp.unique(y))
      True [0. 2.]

    References:
      Tompson et al., `Efficient Object Localization Using Convolutional Networks
      <https://arxiv.org/abs/1411.4280>`_, 2015
    """
    check_floating(x, "x")
    check_axes(x, 2, "[batch, *spatial, channels]")
    return dropout(key, x, rate=rate, broadcast_axes=range(1, x.ndim - 1), bits=bits)


@mark("rate")
def drop_path(
    key: jax.Array, x: jax.Array, *, rate: ArrayLike, bits: _bits.Bits | None = None
) -> jax.Array:
    r"""Drops the residual branch of random examples (DropPath, stochastic depth per example).

    .. math::

      y_n = \frac{m_n}{1 - p} \, x_n, \qquad m_n \sim \mathrm{Bernoulli}(1 - p)

    Use it as ``x + drop_path(key, branch(x), rate=rate)``. The branch is always computed;
    :func:`stochastic_depth` skips it, with one decision for the whole batch.

    Args:
      key: PRNG key.
      x: Output of the branch, floating-point, ``[batch, ...]``.
      rate: Probability :math:`p` of dropping the branch for an example, in ``[0, 1]``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array with the shape and dtype of ``x``, equal to it in expectation.

    Raises:
      TypeError: ``x`` is not floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``rate`` is a number outside ``[0, 1]``, or ``x`` has no axis.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> y = dropout.drop_path(jax.random.key(0), jnp.ones((100, 2)), rate=0.5)
      >>> print(jnp.all(y[:, 0] == y[:, 1]), jnp.unique(y))
      True [0. 2.]

    References:
      Huang et al., `Deep Networks with Stochastic Depth
      <https://arxiv.org/abs/1603.09382>`_, 2016; Larsson et al., `FractalNet
      <https://arxiv.org/abs/1605.07648>`_, 2017
    """
    check_floating(x, "x")
    check_axes(x, 1, "[batch, ...]")
    return dropout(key, x, rate=rate, broadcast_axes=range(1, x.ndim), bits=bits)


@mark("rate")
def locked_dropout(
    key: jax.Array,
    x: jax.Array,
    *,
    rate: ArrayLike,
    time_axis: int = 1,
    bits: _bits.Bits | None = None,
) -> jax.Array:
    r"""Applies one dropout mask to all time steps of an example (variational RNN dropout).

    .. math::

      y_{n t c} = \frac{m_{n c}}{1 - p} \, x_{n t c}, \qquad m_{n c} \sim \mathrm{Bernoulli}(1 - p)

    Args:
      key: PRNG key.
      x: Floating-point array with a time axis, such as ``[batch, time, features]``.
      rate: Probability :math:`p` of dropping a feature of an example, in ``[0, 1]``.
      time_axis: Axis along which one decision is shared.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array with the shape and dtype of ``x``, equal to it in expectation.

    Raises:
      TypeError: ``x`` is not floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``rate`` is a number outside ``[0, 1]``, or ``x`` has no such axis.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> y = dropout.locked_dropout(jax.random.key(0), jnp.ones((4, 50, 32)), rate=0.5)
      >>> print(jnp.all(y == y[:, :1]), jnp.unique(y))
      True [0. 2.]

    References:
      Gal and Ghahramani, `A Theoretically Grounded Application of Dropout in Recurrent Neural
      Networks <https://arxiv.org/abs/1512.05287>`_, 2016; Merity et al., `Regularizing and
      Optimizing LSTM Language Models <https://arxiv.org/abs/1708.02182>`_, 2018
    """
    check_floating(x, "x")
    shared = canonical_axes(time_axis, x.ndim, "time_axis")
    return dropout(key, x, rate=rate, broadcast_axes=shared, bits=bits)


@mark("rate")
def embedding_dropout(
    key: jax.Array, table: jax.Array, *, rate: ArrayLike, bits: _bits.Bits | None = None
) -> jax.Array:
    r"""Drops random rows of an embedding table, and thereby all occurrences of their words.

    .. math::

      E'_v = \frac{m_v}{1 - p} \, E_v, \qquad m_v \sim \mathrm{Bernoulli}(1 - p)

    Args:
      key: PRNG key.
      table: Floating-point embeddings ``[vocabulary, ...]``.
      rate: Probability :math:`p` of dropping a row, in ``[0, 1]``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array with the shape and dtype of ``table``, equal to it in expectation.

    Raises:
      TypeError: ``table`` is not floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``rate`` is a number outside ``[0, 1]``, or ``table`` has no axis.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> table = dropout.embedding_dropout(jax.random.key(0), jnp.ones((100, 8)), rate=0.5)
      >>> print(jnp.all(table == table[:, :1]), jnp.unique(table))
      True [0. 2.]

    References:
      Gal and Ghahramani, `A Theoretically Grounded Application of Dropout in Recurrent Neural
      Networks <https://arxiv.org/abs/1512.05287>`_, 2016, section 4.2
    """
    check_floating(table, "table")
    check_axes(table, 1, "[vocabulary, ...]", "table")
    return dropout(key, table, rate=rate, broadcast_axes=range(1, table.ndim), bits=bits)


@mark("rate")
def drop_connect(
    key: jax.Array, w: jax.Array, *, rate: ArrayLike, bits: _bits.Bits | None = None
) -> jax.Array:
    r"""Drops random weights and scales up the rest (DropConnect).

    .. math::

      w'_{i j} = \frac{m_{i j}}{1 - p} \, w_{i j}, \qquad m_{i j} \sim \mathrm{Bernoulli}(1 - p)

    One mask serves the whole batch. Kept weights are scaled during training, so evaluation uses
    ``w`` itself. Wan et al. draw one mask per example, and approximate evaluation by moment
    matching.

    Args:
      key: PRNG key.
      w: Floating-point weights of any shape.
      rate: Probability :math:`p` of dropping a weight, in ``[0, 1]``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array with the shape and dtype of ``w``, equal to it in expectation.

    Raises:
      TypeError: ``w`` is not floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``rate`` is a number outside ``[0, 1]``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> w = dropout.drop_connect(jax.random.key(0), jnp.ones((20, 30)), rate=0.5)
      >>> print(jnp.unique(w))
      [0. 2.]

    References:
      Wan et al., `Regularization of Neural Networks using DropConnect
      <https://proceedings.mlr.press/v28/wan13.html>`_, 2013
    """
    check_floating(w, "w")
    return dropout(key, w, rate=rate, bits=bits)
