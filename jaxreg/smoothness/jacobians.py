"""Squared Frobenius norms of Jacobians, estimated and exact."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxreg import _bits
from jaxreg._checks import check_key, check_static_integer
from jaxreg._numerics import unit, widen
from jaxreg._scopes import mark
from jaxreg.smoothness._batches import (
    Function,
    check_batch,
    check_outputs,
    example_axes,
    sum_of_squares,
    tangent,
)

# Up to this many passes are unrolled; more run in a loop. On CPU, XLA uses its fast convolutions
# only outside loops, where they are three times faster; compilation time grows with each pass.
_MAX_UNROLLED = 16


@mark()
def jacobian(f: Function, x: jax.Array, *, key: jax.Array, probes: int = 1) -> jax.Array:
    r"""Estimates the mean squared Frobenius norm of the Jacobian from random input directions.

    .. math::

      \frac{1}{n m} \sum_{i=1}^n \sum_{k=1}^m \|J_i v_{ik}\|^2
        \approx \frac{1}{n} \sum_i \|J_i\|_F^2, \qquad
      J_i = \frac{\partial f(x)_i}{\partial x_i}, \qquad v_{ik} \sim \mathcal N(0, I)

    The estimate is unbiased. A forward derivative gives :math:`J_i v`, so a training step needs no
    second reverse pass and costs less than with :func:`jacobian_projected`. For each example its
    variance is :math:`2 \|J^\top J\|_F^2 / m`, the same as for Gaussian projections of the outputs.
    The unit projections of :func:`jacobian_projected` have :math:`(C - r) / (C + 2)` times that
    variance, where :math:`C` is the number of outputs and
    :math:`r = \|J\|_F^4 / \|J^\top J\|_F^2 \in [1, C]` their effective rank. More than 16 probes
    are drawn in a loop.

    For an encoder this is the penalty of the contractive autoencoder (Rifai et al., 2011).

    Args:
      f: Function of a batch, ``[batch, ...] -> [batch, ...]``, that treats each example separately.
        It must support forward-mode derivatives; functions with ``jax.custom_vjp`` do not.
      x: Real floating-point inputs, ``[batch, ...]``.
      key: PRNG key.
      probes: Number :math:`m` of directions per example, at least 1.

    Returns:
      Scalar, float32 or wider; 0 for an empty batch.

    Raises:
      TypeError: ``x`` or the result of ``f`` is not floating-point, ``key`` is not a single PRNG
        key, or ``probes`` is not an integer.
      ValueError: ``probes`` is less than 1, or ``f`` does not return one row per example.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import smoothness
      >>> x, key = jnp.ones((10_000, 3)), jax.random.key(0)
      >>> print(smoothness.jacobian(lambda x: 2 * x, x, key=key).round())
      12.0

    References:
      Hoffman, Roberts and Yaida, `Robust Learning with Jacobian Regularization
      <https://arxiv.org/abs/1908.02729>`_, 2019; Rifai et al., `Contractive Auto-Encoders
      <https://icml.cc/2011/papers/455_icmlpaper.pdf>`_, 2011
    """
    keys = _probe_keys(x, key, probes)
    y, along = jax.linearize(f, x)
    check_outputs(y, x, "f")

    def term(key: jax.Array) -> jax.Array:
        v = _bits.normal(key, x.shape, like=x)
        return sum_of_squares(along(tangent(v, x)))

    return _sum_over(term, keys) / (max(len(x), 1) * probes)


@mark()
def jacobian_projected(f: Function, x: jax.Array, *, key: jax.Array, probes: int = 1) -> jax.Array:
    r"""Estimates the mean squared Frobenius norm of the Jacobian from random output projections.

    .. math::

      \frac{C}{n m} \sum_{i=1}^n \sum_{k=1}^m \|u_{ik}^\top J_i\|^2
        \approx \frac{1}{n} \sum_i \|J_i\|_F^2, \qquad
      u_{ik} \text{ uniform on the unit sphere of the } C \text{ outputs}

    This is the algorithm of Hoffman et al. The estimate is unbiased, and exact if there is only one
    output. :func:`jacobian` costs less for a single probe, but has a larger variance, which its
    documentation gives. Unlike :func:`jacobian`, this function works with ``jax.custom_vjp``.

    Args:
      f: Function of a batch, ``[batch, ...] -> [batch, ...]``, that treats each example separately.
      x: Real floating-point inputs, ``[batch, ...]``.
      key: PRNG key.
      probes: Number :math:`m` of projections per example, at least 1.

    Returns:
      Scalar, float32 or wider; 0 for an empty batch.

    Raises:
      TypeError: ``x`` or the result of ``f`` is not floating-point, ``key`` is not a single PRNG
        key, or ``probes`` is not an integer.
      ValueError: ``probes`` is less than 1, or ``f`` does not return one row per example.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import smoothness
      >>> x, key = jnp.ones((4, 3)), jax.random.key(0)
      >>> print(smoothness.jacobian_projected(lambda x: x.sum(axis=1), x, key=key))
      3.0

    References:
      Hoffman, Roberts and Yaida, `Robust Learning with Jacobian Regularization
      <https://arxiv.org/abs/1908.02729>`_, 2019, algorithm 1
    """
    keys = _probe_keys(x, key, probes)
    y, pull_back = jax.vjp(f, x)
    check_outputs(y, x, "f")

    def term(key: jax.Array) -> jax.Array:
        u = unit(_bits.normal(key, y.shape, like=y), axis=example_axes(y))
        return sum_of_squares(pull_back(tangent(u, y))[0])

    outputs = math.prod(y.shape[1:])
    return _sum_over(term, keys) * outputs / (max(len(x), 1) * probes)


@mark()
def jacobian_exact(f: Function, x: jax.Array) -> jax.Array:
    r"""Returns the exact mean squared Frobenius norm of the Jacobian.

    .. math::

      \frac{1}{n} \sum_{i=1}^n \|J_i\|_F^2, \qquad
      J_i = \frac{\partial f(x)_i}{\partial x_i}

    It takes one reverse pass per output of an example, or one forward pass per input, whichever is
    fewer. Passes share the derivative at ``x``; more than 16 run in a loop, whose memory does not
    grow with their number.

    Args:
      f: Function of a batch, ``[batch, ...] -> [batch, ...]``, that treats each example separately.
        It must support forward-mode derivatives; functions with ``jax.custom_vjp`` do not.
      x: Real floating-point inputs, ``[batch, ...]``.

    Returns:
      Scalar, float32 or wider; 0 for an empty batch.

    Raises:
      TypeError: ``x`` or the result of ``f`` is not floating-point.
      ValueError: ``f`` does not return one row per example.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import smoothness
      >>> print(smoothness.jacobian_exact(lambda x: 2 * x, jnp.ones((10, 3))))
      12.0

    References:
      Hoffman, Roberts and Yaida, `Robust Learning with Jacobian Regularization
      <https://arxiv.org/abs/1908.02729>`_, 2019; Sokolic et al., `Robust Large Margin Deep Neural
      Networks <https://arxiv.org/abs/1605.08254>`_, 2017
    """
    check_batch(x, "x")
    y, along = jax.linearize(f, x)
    check_outputs(y, x, "f")
    inputs = math.prod(x.shape[1:])
    outputs = math.prod(y.shape[1:])

    def column(index: jax.Array) -> jax.Array:
        return sum_of_squares(along(_one_hot(index, x)))

    def row(index: jax.Array) -> jax.Array:
        return _squares_of_row(along, _one_hot(index, y), x)

    term, passes = (column, inputs) if inputs < outputs else (row, outputs)
    return _sum_over(term, jnp.arange(passes)) / max(len(x), 1)


def _squares_of_row(along: Function, w: jax.Array, x: jax.Array) -> jax.Array:
    r"""Returns :math:`\|J^\top w\|^2`, where ``along`` is the linear map :math:`v \mapsto J v`.

    JAX would differentiate it by reversing the reverse pass. With :math:`u = J^\top w`, it has the
    same derivative as :math:`2 w^\top J u`, which reverses a forward pass. The reverse pass for
    :math:`w` is at hand, and the gradients of kernels are computed as in an ordinary training step;
    on CPU, XLA has no fast convolution for the alternative.
    """

    @jax.custom_jvp
    def squares(along: Function, w: jax.Array) -> jax.Array:
        return sum_of_squares(jax.linear_transpose(along, x)(w)[0])

    @squares.defjvp
    def rule(primals, tangents):
        along, w = primals
        (u,) = jax.linear_transpose(along, x)(w)
        _, pull_back = jax.vjp(lambda along: along(u), along)
        pairs = zip(jax.tree.leaves(pull_back(w)), jax.tree.leaves(tangents[0]), strict=True)
        terms = [jnp.sum(widen(g) * widen(t)) for g, t in pairs if g.dtype != jax.dtypes.float0]
        value = sum_of_squares(u)
        return value, 2 * sum(terms, start=jnp.zeros_like(value))

    return squares(along, w)


def _sum_over(term: Callable[[jax.Array], jax.Array], items: jax.Array) -> jax.Array:
    """Returns the sum of ``term(item)`` over ``items``."""
    if len(items) <= _MAX_UNROLLED:
        terms = [term(item) for item in items]
        if not terms:
            return jnp.zeros((), jnp.float32)
        return sum(terms[1:], start=terms[0])
    recomputed = jax.checkpoint(term, prevent_cse=False)
    return jnp.sum(jax.lax.map(recomputed, items))


def _one_hot(index: jax.Array, like: jax.Array) -> jax.Array:
    """Returns an array like ``like``: each example is 1 at the flat ``index`` and 0 elsewhere."""
    example = like.shape[1:]
    one = jax.nn.one_hot(index, math.prod(example), dtype=like.dtype)
    return tangent(one.reshape(1, *example), like)


def _probe_keys(x: jax.Array, key: jax.Array, probes: int) -> jax.Array:
    """Checks the arguments of a Jacobian estimate and returns a key for each probe."""
    check_batch(x, "x")
    check_key(key)
    check_static_integer(probes, "probes")
    if probes < 1:
        raise ValueError(f"`probes` must be at least 1, got {probes}; for none, omit the penalty.")
    return jax.random.split(key, probes)
