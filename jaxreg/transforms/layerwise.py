"""Layer-wise learning rates."""

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxreg._selection import is_function_of_tree
from jaxreg.transforms._steps import (
    Schedule,
    StepState,
    check_params,
    check_strength,
    init_state,
    map_steps,
    next_state,
    strength_at,
)


def layerwise_scale(
    factor: Schedule, depth: Any | Callable[[Any], Any]
) -> optax.GradientTransformationExtraArgs:
    r"""Scales updates by ``factor`` to the power of the layer's distance from the deepest layer.

    .. math::

      u \leftarrow \gamma_t^{L - d} \, u

    for a parameter at depth :math:`d`, where :math:`L` is the largest depth of the model. Each
    layer thus has its own learning rate. Chain it after the optimizer, since it scales what comes
    before it in the chain. So a :func:`decoupled_decay` before it is scaled by layer too, as in
    BEiT and timm; one after it is equal in all layers. For a weight of your own for each layer,
    chain several decays, each with the mask of its layer, as in the second example.

    Args:
      factor: Factor :math:`\gamma_t` for one layer, zero or positive, or a schedule. 1 means no
        change; with 0, only the deepest layer is trained.
      depth: Tree of integers shaped like the parameters, or a function of them that returns one,
        such as :func:`jaxreg.masks.depth` with its ``order``. A stack of layers, ``[layers, ...]``,
        may have an array of integers, one per layer; :func:`jaxreg.masks.depth` makes them from its
        ``stacked``.

    Returns:
      A transformation; its update needs ``params``.

    Raises:
      ValueError: ``factor`` is a negative number, the update is called without ``params``,
        ``depth`` lacks an integer for a parameter, or ``depth`` is a function that sees only part
        of the model.
      TypeError: ``depth`` is a single number.

    Example:
      >>> from functools import partial
      >>> import jax.numpy as jnp, optax
      >>> from jaxreg import masks, transforms
      >>> depth = partial(masks.depth, order=("embed", "block", "head"))
      >>> tx = optax.chain(optax.sgd(1.0), transforms.layerwise_scale(0.5, depth))
      >>> params = {"embed": jnp.ones(2), "block": jnp.ones(2), "head": jnp.ones(2)}
      >>> updates, _ = tx.update(params, tx.init(params), params)
      >>> print(updates["embed"], updates["block"], updates["head"])
      [-0.25 -0.25] [-0.5 -0.5] [-1. -1.]
      >>> weights = {"embed": 0.5, "block": 0.25}
      >>> tx = optax.chain(
      ...     *(
      ...         transforms.independent_decay(weight, mask=masks.match(name))
      ...         for name, weight in weights.items()
      ...     )
      ... )
      >>> updates, _ = tx.update({k: 0 * w for k, w in params.items()}, tx.init(params), params)
      >>> print(updates["embed"], updates["block"], updates["head"])
      [-0.5 -0.5] [-0.25 -0.25] [0. 0.]

    References:
      - Clark et al., `ELECTRA <https://arxiv.org/abs/2003.10555>`_, 2020
      - Bao et al., `BEiT <https://arxiv.org/abs/2106.08254>`_, 2022
    """
    check_strength(factor, "factor")
    if isinstance(depth, int | jax.Array):
        raise TypeError(
            f"`depth` must be a tree of integers or a function of the parameters, got {depth}; "
            'under optax.inject_hyperparams, pass static_args=("depth",).'
        )

    def update(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, StepState]:
        del extra_args
        check_params(params, "layerwise_scale")
        depths = _depths(depth, params)
        deepest = max((int(np.max(d, initial=0)) for d in jax.tree.leaves(depths)), default=0)
        scale = strength_at(factor, state)

        def step(_: jax.Array, u: jax.Array, d: Any) -> jax.Array:
            power = (scale ** (deepest - d)).astype(u.real.dtype)
            return power.reshape(np.shape(d) + (1,) * (u.ndim - np.ndim(d))) * u

        return map_steps(step, updates, params, depths), next_state(state)

    return optax.GradientTransformationExtraArgs(init_state, update)


def _depths(depth: Any, params: Any) -> Any:
    """Returns the tree of depths; raises if a function of the tree gets masked parameters."""
    if is_function_of_tree(depth, params):
        if any(map(_is_masked, jax.tree.leaves(params, is_leaf=_is_masked))):
            raise ValueError(
                "`depth` must be a tree if optax.masked or optax.partition hides parameters from "
                f"`layerwise_scale`, got the function {depth}; pass its result for all parameters."
            )
        depth = depth(params)
    try:
        jax.tree.map(_check_depth, params, depth, is_leaf=_is_masked)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`depth` must give an integer for each parameter, got {depth}: {error}"
        ) from error
    return depth


def _check_depth(w: Any, d: Any) -> None:
    if _is_masked(w):
        return
    if np.ndim(d) == 0:
        operator.index(d)
    elif np.asarray(d).dtype.kind not in "iu" or np.shape(d) != jnp.shape(w)[:1]:
        raise ValueError(f"{d} does not give an integer for each layer of shape {jnp.shape(w)}")


def _is_masked(leaf: Any) -> bool:
    return isinstance(leaf, optax.MaskedNode)
