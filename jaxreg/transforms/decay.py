"""Weight decay, in kinds that say their formula."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxreg import masks
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

Mask = Any | Callable[[Any], Any] | None


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


def cautious_decay(
    weight: Schedule, *, learning_rate: Schedule, mask: Mask = masks.kernels
) -> optax.GradientTransformationExtraArgs:
    r"""Shrinks only the weights that the optimizer does not enlarge.

    .. math::

      w_i \leftarrow w_i + u_i - \eta_t \lambda_t \, \mathbb{1}[u_i w_i \leq 0] \, w_i

    Chain it right after the optimizer: it looks at the signs of the steps :math:`u` before it. A
    weight whose step is zero decays. With the step :math:`-\eta u` of the paper the condition is
    :math:`u_i w_i \geq 0`. A complex weight decays where the step does not lead away from zero,
    :math:`\mathrm{Re}(\bar w_i u_i) \leq 0`.

    Args:
      weight: Decay :math:`\lambda_t`, zero or positive, or a schedule of it: that of
        :func:`decoupled_decay` without tuning, as the paper has it.
      learning_rate: Learning rate :math:`\eta_t` of the optimizer, or its schedule.
      mask: Tree of booleans shaped like the parameters, a function that makes one, or None for all.
        By default :func:`jaxreg.masks.kernels`: biases and the scales of norms do not decay.

    Returns:
      A transformation; its update needs ``params``.

    Raises:
      ValueError: A number is negative, or the update got no ``params``.
      TypeError: ``mask`` is a single boolean.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import transforms
      >>> tx = transforms.cautious_decay(0.5, learning_rate=1.0)
      >>> w = jnp.ones((1, 3))
      >>> updates, _ = tx.update(jnp.array([[-0.25, 0.0, 0.25]]), tx.init(w), w)
      >>> print(updates)
      [[-0.75 -0.5   0.25]]

    References:
      Chen et al., `Cautious Weight Decay <https://arxiv.org/abs/2510.12402>`_, 2025
    """
    check_strength(weight, "weight")
    check_strength(learning_rate, "learning_rate")

    def share(state: StepState) -> jax.Array:
        return strength_at(learning_rate, state) * strength_at(weight, state)

    return _masked_decay(share, mask, "cautious_decay", _not_enlarged)


def _all_of(w: jax.Array, u: jax.Array) -> jax.Array:
    del u
    return w


def _not_enlarged(w: jax.Array, u: jax.Array) -> jax.Array:
    # Signs, since the product of two small numbers is zero.
    enlarged = (jnp.sign(u) * jnp.sign(w).conj()).real > 0
    return jnp.where(enlarged, jnp.zeros_like(w), w)


def _masked_decay(
    share: Callable[[StepState], jax.Array],
    mask: Mask,
    name: str,
    part: Callable[[jax.Array, jax.Array], jax.Array] = _all_of,
) -> optax.GradientTransformationExtraArgs:
    """Subtracts ``share(state) * part(w, u)`` from the weights that the mask selects."""
    # Optax calls a mask that it takes for a schedule with the step, and gets one boolean.
    if isinstance(mask, bool | jax.Array):
        raise TypeError(
            f"`mask` must be a tree of booleans or a function of the parameters, got {mask}; pass "
            'None for all, and under optax.inject_hyperparams static_args=("mask",).'
        )

    def update(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, StepState]:
        del extra_args
        check_params(params, name)
        factor = share(state)

        def step(w: jax.Array, u: jax.Array) -> jax.Array:
            return u - factor.astype(w.real.dtype) * part(w, u)

        return map_steps(step, updates, params), next_state(state)

    decay = optax.GradientTransformationExtraArgs(init_state, update)
    return decay if mask is None else optax.masked(decay, mask)
