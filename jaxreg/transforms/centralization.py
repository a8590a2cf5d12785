"""Gradient centralization."""

import math
from typing import Any

import jax
import optax

from jaxreg import masks
from jaxreg._checks import canonical_axes
from jaxreg._numerics import widen
from jaxreg._selection import Mask, check_mask, select_stacked
from jaxreg._trees import per_layer
from jaxreg.transforms._steps import at_rest


def centralize(
    *, axis: int | tuple[int, ...] | None = None, stacked: Mask = None
) -> optax.GradientTransformationExtraArgs:
    r"""Subtracts the mean from the gradient of every unit (gradient centralization).

    .. math::

      g_j \leftarrow g_j - \frac{1}{n} \sum_{i=1}^{n} g_{ij}

    Chain it before the optimizer. SGD then keeps the sum of the incoming weights of each unit.
    It acts on the kernels of :func:`jaxreg.masks.kernels`; restrict it further with
    ``optax.masked``. A unit with one incoming weight keeps its gradient, which would become zero.

    It differs from ``optax.centralize``, which takes the mean over all axes but the *first*. That
    is right for kernels with the units first; in a Flax kernel, ``[in, out]``, it centers the
    outgoing weights of each input. Optax's also acts on biases and scales that have two axes.

    Args:
      axis: Axes over which the mean of a unit is taken. By default all but the last, which holds
        the units of a dense or convolution kernel. The query, key and value kernels of attention,
        ``[features, heads, depth]``, need ``axis=0``; their output kernel, ``[heads, depth,
        features]``, needs the default.
      stacked: Mask of the leaves that stack one kernel per layer along their first axis, as
        ``nn.scan`` and ``nnx.vmap`` do; ``axis`` refers to one layer. None means no leaf.

    Returns:
      A stateless transformation. Gradients of integers, which have the dtype float0, become zeros
      if the update gets ``params``.

    Raises:
      ValueError: On update, ``axis`` lies outside a kernel, or the tree structure of ``stacked``
        differs from the gradients'.
      TypeError: ``stacked`` does not hold one boolean per leaf.

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
    check_mask(stacked, "stacked")

    def center(g: jax.Array) -> jax.Array:
        axes = tuple(range(g.ndim - 1)) if axis is None else canonical_axes(axis, g.ndim)
        if math.prod(g.shape[a] for a in axes) <= 1:
            return g
        wide = widen(g)
        return (wide - wide.mean(axis=axes, keepdims=True)).astype(g.dtype)

    def update(updates: Any, state: Any, params: Any = None, **extra_args: Any) -> tuple[Any, Any]:
        del extra_args
        chosen = masks.kernels(updates, stacked=stacked)

        def leaf(selected: bool, in_stack: bool, g: Any, w: Any) -> Any:  # noqa: FBT001
            return per_layer(center, in_stack)(g) if selected else at_rest(g, w)

        weights = updates if params is None else params
        return jax.tree.map(leaf, chosen, select_stacked(stacked, updates), updates, weights), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)
