"""Penalties of groups of weights and of differences between neighbors."""

import math

import jax
import jax.numpy as jnp

from jaxreg._checks import canonical_axes, check_floating
from jaxreg._numerics import safe_norm, widen
from jaxreg._scopes import mark
from jaxreg._sharding import whole_along
from jaxreg.penalties.elementwise import magnitude


@mark()
def group_lasso(w: jax.Array, *, axis: int | tuple[int, ...] | None = None) -> jax.Array:
    r"""Returns the sum of group norms, which drives whole groups of weights to zero.

    .. math::

      R(w) = \sum_g \sqrt{p_g} \, \|w_g\|

    The factor :math:`\sqrt{p_g}`, with :math:`p_g` the group size, is from Yuan and Lin. It lets
    groups of different sizes, as in different layers, share one weight. The mixed norm
    :math:`\|w\|_{2,1}`, as in scikit-learn's ``MultiTaskLasso``, lacks this factor: divide by
    ``math.sqrt(p)``. With groups of one weight it is :func:`l1`.

    At a group of zeros the first and second derivatives are 0. Results are accurate for weights
    near 1e-30 and 1e30 too.

    Args:
      w: Floating-point array of any shape.
      axis: Axes that one group spans. By default all but the last: a group holds the incoming
        weights of a unit of a dense or convolution kernel, as in
        :func:`jaxreg.projections.max_norm`. With ``axis=-1`` a group holds the outgoing weights of
        an input, which selects inputs.

    Returns:
      Scalar, float32 or wider.

    Raises:
      TypeError: ``w`` is not floating-point.
      ValueError: ``axis`` lies outside ``w``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import penalties
      >>> w = jnp.array([[3.0, 0.0], [4.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
      >>> print(penalties.group_lasso(w))
      10.0

    References:
      Yuan and Lin, `Model Selection and Estimation in Regression with Grouped Variables
      <https://doi.org/10.1111/j.1467-9868.2005.00532.x>`_, 2006
    """
    check_floating(w, "w")
    axes = tuple(range(w.ndim - 1)) if axis is None else canonical_axes(axis, w.ndim)
    size = math.prod(w.shape[a] for a in axes)
    return math.sqrt(size) * jnp.sum(safe_norm(w, axis=axes))


@mark()
def total_variation(x: jax.Array, *, axis: int | tuple[int, ...]) -> jax.Array:
    r"""Returns the sum of absolute differences between neighbors, along each axis separately.

    .. math::

      R(x) = \sum_i \sum_a |x_{i + e_a} - x_i|

    This is the anisotropic form, as in TensorFlow's ``tf.image.total_variation``. Along one axis of
    weights it is the fused lasso. The first and last elements are not neighbors. Differences of 0
    have derivative 0.

    Args:
      x: Floating-point array.
      axis: Axes :math:`a` along which elements are neighbors: ``(1, 2)`` for images ``[batch,
        height, width, channels]``.

    Returns:
      Scalar, float32 or wider: the sum over all images and channels.

    Raises:
      TypeError: ``x`` is not floating-point.
      ValueError: ``axis`` is empty or lies outside ``x``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import penalties
      >>> image = jnp.array([[0.0, 0.0], [3.0, 4.0]])
      >>> print(penalties.total_variation(image, axis=(0, 1)))
      8.0

    References:
      Rudin, Osher and Fatemi, `Nonlinear Total Variation Based Noise Removal Algorithms
      <https://doi.org/10.1016/0167-2789(92)90242-F>`_, 1992; Tibshirani et al., `Sparsity and
      Smoothness via the Fused Lasso <https://doi.org/10.1111/j.1467-9868.2005.00490.x>`_, 2005
    """
    return jnp.sum(magnitude(_differences(x, axis)))


@mark()
def isotropic_total_variation(x: jax.Array, *, axis: int | tuple[int, ...]) -> jax.Array:
    r"""Returns the sum of gradient magnitudes over all positions of an image.

    .. math::

      R(x) = \sum_i \sqrt{\sum_a (x_{i + e_a} - x_i)^2}

    The difference after the last element of an axis is 0. Unlike :func:`total_variation`, it
    prefers no direction, apart from effects of the grid. A gradient of 0 has derivative 0.

    Args:
      x: Floating-point array.
      axis: Axes :math:`a` along which elements are neighbors: ``(1, 2)`` for images ``[batch,
        height, width, channels]``.

    Returns:
      Scalar, float32 or wider: the sum over all images and channels.

    Raises:
      TypeError: ``x`` is not floating-point.
      ValueError: ``axis`` is empty or lies outside ``x``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import penalties
      >>> image = jnp.array([[3.0, 7.0], [0.0, 0.0]])
      >>> print(penalties.isotropic_total_variation(image, axis=(0, 1)))
      12.0

    References:
      Rudin, Osher and Fatemi, `Nonlinear Total Variation Based Noise Removal Algorithms
      <https://doi.org/10.1016/0167-2789(92)90242-F>`_, 1992
    """
    return jnp.sum(safe_norm(_differences(x, axis), axis=0))


def _differences(x: jax.Array, axis: int | tuple[int, ...]) -> jax.Array:
    """Returns forward differences ``[axes, *x.shape]``, 0 at the last element of each axis."""
    check_floating(x, "x")
    axes = canonical_axes(axis, x.ndim)
    if not axes:
        raise ValueError(
            f"`axis` must name at least one axis, got {axis}; pass (1, 2) for images "
            "[batch, height, width, channels]."
        )
    x = whole_along(widen(x), axes)
    return jnp.stack([_difference(x, a) for a in axes])


def _difference(x: jax.Array, axis: int) -> jax.Array:
    if x.shape[axis] == 0:
        return x
    last = jax.lax.slice_in_dim(x, x.shape[axis] - 1, None, axis=axis)
    return jnp.diff(x, axis=axis, append=last)
