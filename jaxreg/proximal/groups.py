"""Proximal operators of groups of weights."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import (
    canonical_axes,
    check_between,
    check_broadcasts,
    check_floating,
    check_nonnegative,
)
from jaxreg._numerics import aligned, peak, safe_norm, strength, widen
from jaxreg.proximal.elementwise import soft, times


def group_lasso(
    w: jax.Array, *, threshold: ArrayLike, axis: int | tuple[int, ...] | None = None
) -> jax.Array:
    r"""Block soft threshold, the proximal operator of :func:`jaxreg.penalties.group_lasso`.

    .. math::

      \mathrm{prox}(w)_g = w_g \max\left(0, 1 - \frac{t \sqrt{p_g}}{\|w_g\|}\right)

    Groups of a norm up to :math:`t \sqrt{p_g}`, with :math:`p_g` the group size, become exactly
    zero as a whole, in every dtype; the others keep their direction.

    Args:
      w: Floating-point array.
      threshold: Threshold :math:`t`, zero or positive: one number, or one for each group, with the
        reduced axes of size 1.
      axis: Axes that one group runs over. By default all but the last, so that a group is what
        comes into a unit; with ``axis=-1`` it is what goes out of an input.

    Returns:
      Array with the shape and dtype of ``w``.

    Raises:
      TypeError: ``w`` is not floating-point.
      ValueError: ``threshold`` is a negative number or has another shape, or ``axis`` lies outside
        ``w``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import proximal
      >>> w = jnp.array([[3.0, 0.6], [4.0, 0.8], [0.0, 0.0], [0.0, 0.0]])
      >>> print(proximal.group_lasso(w, threshold=1.25, axis=0))
      [[1.5 0. ]
       [2.  0. ]
       [0.  0. ]
       [0.  0. ]]

    References:
      Yuan and Lin, `Model Selection and Estimation in Regression with Grouped Variables
      <https://doi.org/10.1111/j.1467-9868.2005.00532.x>`_, 2006;
      Parikh and Boyd, `Proximal Algorithms
      <https://web.stanford.edu/~boyd/papers/prox_algs.html>`_, 2014, section 6.5.4
    """
    t, axes = _check_groups(w, threshold, axis)
    wide = widen(w)
    return jnp.where(t == 0, w, _shrink(wide, t, axes).astype(w.dtype))


def sparse_group_lasso(
    w: jax.Array,
    *,
    l1_share: ArrayLike,
    threshold: ArrayLike,
    axis: int | tuple[int, ...] | None = None,
) -> jax.Array:
    r"""Proximal operator of the sparse-group lasso: soft threshold, then block soft threshold.

    .. math::

      R(w) = \alpha \|w\|_1 + (1 - \alpha) \sum_g \sqrt{p_g} \, \|w_g\|

    Whole groups become exactly zero, and single weights inside of those that remain. A share of 1
    makes it :func:`l1`, and one of 0 :func:`group_lasso`. Bind the share for
    :func:`jaxreg.transforms.proximal`: ``partial(sparse_group_lasso, l1_share=0.5)``.

    Args:
      w: Floating-point array.
      l1_share: Share :math:`\alpha` of the absolute values, in [0, 1]; an array is clipped to it.
      threshold: Threshold, zero or positive: one number, or one for each group, with the reduced
        axes of size 1.
      axis: Axes that one group runs over, by default all but the last.

    Returns:
      Array with the shape and dtype of ``w``.

    Raises:
      TypeError: ``w`` is not floating-point.
      ValueError: ``l1_share`` is outside [0, 1], ``threshold`` is a negative number or has another
        shape, or ``axis`` lies outside ``w``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import proximal
      >>> w = jnp.array([[5.0, 0.5], [1.0, 0.5], [0.0, 0.5], [0.0, 0.5]])
      >>> print(proximal.sparse_group_lasso(w, l1_share=0.5, threshold=2.0))
      [[2. 0.]
       [0. 0.]
       [0. 0.]
       [0. 0.]]

    References:
      Simon, Friedman, Hastie and Tibshirani, `A Sparse-Group Lasso
      <https://doi.org/10.1080/10618600.2012.681250>`_, 2013
    """
    check_between(l1_share, "l1_share", 0, 1)
    t, axes = _check_groups(w, threshold, axis)
    share = jnp.clip(strength(l1_share, w), 0, 1)
    thinned = soft(widen(w), times(t, share))
    return jnp.where(t == 0, w, _shrink(thinned, times(t, 1 - share), axes).astype(w.dtype))


def _check_groups(
    w: jax.Array, threshold: ArrayLike, axis: int | tuple[int, ...] | None
) -> tuple[jax.Array, tuple[int, ...]]:
    """Checks the threshold of every group; what is traced and negative counts as 0."""
    check_floating(w, "w")
    check_nonnegative(threshold, "threshold")
    axes = tuple(range(w.ndim - 1)) if axis is None else canonical_axes(axis, w.ndim)
    per_group = tuple(1 if a in axes else n for a, n in enumerate(w.shape))
    check_broadcasts(threshold, "threshold", per_group)
    like = jnp.sum(w.real, axis=axes, keepdims=True)
    return jnp.maximum(aligned(threshold, like), 0), axes


def _shrink(wide: jax.Array, t: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Block soft threshold, the identity where ``t`` is 0."""
    if wide.size == 0:
        return wide
    # From the largest element, since the derivative of a division squares the divisor.
    scale = peak(wide, axis=axes)
    norm = safe_norm(wide / scale, axis=axes)
    cut = t * math.sqrt(math.prod(wide.shape[a] for a in axes)) / scale
    within = norm <= cut
    norm = jnp.where(within, jnp.ones_like(norm), norm)
    factor = (norm - jnp.where(within, jnp.zeros_like(norm), cut)) / norm
    return jnp.where(t == 0, wide, jnp.where(within, jnp.zeros_like(wide), wide * factor))
