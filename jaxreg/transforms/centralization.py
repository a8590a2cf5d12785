"""Gradients without their mean."""

import math
from typing import Any

import jax
import optax

from jaxreg import masks
from jaxreg._checks import canonical_axes
from jaxreg._numerics import widen


def centralize(
    *, axis: int | tuple[int, ...] | None = None
) -> optax.GradientTransformationExtraArgs:
    r"""Takes the mean off the gradient of every unit (gradient centralization).

    .. math::

      g_j \leftarrow g_j - \frac{1}{n} \sum_{i=1}^{n} g_{ij}

    Chain it before the optimizer. The sum of the incoming weights of a unit then stays what it was
    under SGD. It acts on the kernels of :func:`jaxreg.masks.kernels`; restrict it further with
    ``optax.masked``. A unit with one incoming weight keeps its gradient, of which nothing would be
    left.

    Args:
      axis: Axes that the mean of one unit runs over. By default all but the last, which holds the
        units of a dense or convolution kernel. The query, key and value kernels of attention,
        ``[features, heads, depth]``, need ``axis=0``; their output kernel, ``[heads, depth,
        features]``, the default.

    Returns:
      A stateless transformation.

    Raises:
      ValueError: ``axis`` lies outside a kernel, in the update.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import transforms
      >>> tx = transforms.centralize()
      >>> gradient = jnp.array([[1.0, 20.0], [3.0, 40.0]])
      >>> print(tx.update(gradient, tx.init(gradient))[0])
      [[ -1. -10.]
       [  1.  10.]]

    References:
      Yong et al., `Gradient Centralization <https://arxiv.org/abs/2004.01461>`_, 2020, equation 1
    """

    def leaf(selected: bool, g: Any) -> Any:  # noqa: FBT001
        if not selected:
            return g
        axes = tuple(range(g.ndim - 1)) if axis is None else canonical_axes(axis, g.ndim)
        if math.prod(g.shape[a] for a in axes) <= 1:
            return g
        wide = widen(g)
        return (wide - wide.mean(axis=axes, keepdims=True)).astype(g.dtype)

    def update(updates: Any, state: Any, params: Any = None, **extra_args: Any) -> tuple[Any, Any]:
        del params, extra_args
        return jax.tree.map(leaf, masks.kernels(updates), updates), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)
