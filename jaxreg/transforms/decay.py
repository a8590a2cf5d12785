"""Weight decay, in kinds that say their formula."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from jaxreg import masks
from jaxreg.transforms._steps import (
    Mask,
    Schedule,
    StepState,
    check_mask,
    check_params,
    check_strength,
    init_state,
    map_steps,
    next_state,
    strength_at,
)


def decoupled_decay(
    weight: Schedule, *, learning_rate: Schedule, mask: Mask = masks.kernels
) -> optax.GradientTransformationExtraArgs:
    r"""Shrinks weights by a share of the learning rate, outside the gradient.

    .. math::

      w \leftarrow w + u - \eta_t \lambda_t \, w

    Chain it after the optimizer. After ``optax.adam`` this is AdamW, as in torch and
    ``optax.adamw``; after plain SGD it equals :func:`jaxreg.penalties.l2` through the gradient.

    Args:
      weight: Decay :math:`\lambda_t`, zero or positive, or a schedule of it.
      learning_rate: Learning rate :math:`\eta_t` of the optimizer, or its schedule.
      mask: Tree of booleans shaped like the parameters, a function that makes one, or None for all.
        By default :func:`jaxreg.masks.kernels`: biases and the scales of norms do not decay.

    Returns:
      A transformation; its update needs ``params``. Nothing that scales updates may follow it.

    Raises:
      ValueError: A number is negative, or the update got no ``params``.
      TypeError: ``mask`` is a single boolean.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from jaxreg import transforms
      >>> tx = optax.chain(optax.adam(0.1), transforms.decoupled_decay(0.5, learning_rate=0.1))
      >>> params = {"bias": jnp.ones(2), "kernel": jnp.ones((2, 2))}
      >>> zeros = {"bias": jnp.zeros(2), "kernel": jnp.zeros((2, 2))}
      >>> updates, _ = tx.update(zeros, tx.init(params), params)
      >>> print(abs(updates["bias"]), updates["kernel"][0])
      [0. 0.] [-0.05 -0.05]

    References:
      Loshchilov and Hutter, `Decoupled Weight Decay Regularization
      <https://arxiv.org/abs/1711.05101>`_, 2019
    """
    check_strength(weight, "weight")
    check_strength(learning_rate, "learning_rate")

    def share(state: StepState) -> jax.Array:
        return strength_at(learning_rate, state) * strength_at(weight, state)

    return _masked_decay(share, mask, "decoupled_decay")


def independent_decay(
    weight: Schedule, *, mask: Mask = masks.kernels
) -> optax.GradientTransformationExtraArgs:
    r"""Shrinks weights by a share that does not depend on the learning rate.

    .. math::

      w \leftarrow w + u - \lambda_t \, w

    Chain it after the optimizer. The weight is smaller than that of :func:`decoupled_decay` by the
    factor of the learning rate, and stays right when the learning rate is tuned.

    Args:
      weight: Decay :math:`\lambda_t`, zero or positive, or a schedule of it.
      mask: Tree of booleans shaped like the parameters, a function that makes one, or None for all.
        By default :func:`jaxreg.masks.kernels`: biases and the scales of norms do not decay.

    Returns:
      A transformation; its update needs ``params``. Nothing that scales updates may follow it.

    Raises:
      ValueError: ``weight`` is a negative number, or the update got no ``params``.
      TypeError: ``mask`` is a single boolean.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import transforms
      >>> tx = transforms.independent_decay(0.5)
      >>> w = jnp.ones((2, 2))
      >>> updates, _ = tx.update(jnp.zeros((2, 2)), tx.init(w), w)
      >>> print(updates[0])
      [-0.5 -0.5]

    References:
      Loshchilov and Hutter, `Decoupled Weight Decay Regularization
      <https://arxiv.org/abs/1711.05101>`_, 2019, algorithm 2 with a schedule multiplier of 1
    """
    check_strength(weight, "weight")

    def share(state: StepState) -> jax.Array:
        return strength_at(weight, state)

    return _masked_decay(share, mask, "independent_decay")


def _masked_decay(
    share: Callable[[StepState], jax.Array], mask: Mask, name: str
) -> optax.GradientTransformationExtraArgs:
    """Subtracts ``share(state) * w`` from the weights that the mask selects."""
    check_mask(mask)

    def update(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, StepState]:
        del extra_args
        check_params(params, name)
        factor = share(state)

        def step(w: jax.Array, u: jax.Array) -> jax.Array:
            return u - factor.astype(w.real.dtype) * w

        return map_steps(step, updates, params), next_state(state)

    decay = optax.GradientTransformationExtraArgs(init_state, update)
    return decay if mask is None else optax.masked(decay, mask)
