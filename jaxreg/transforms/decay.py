r"""Weight decay: one function per formula.

The list converts the decay of well-known optimizers, with a learning rate :math:`\eta_t` that
starts from or peaks at :math:`\eta`. ``tests/transforms/test_decay_conversions.py`` tests each
line:

- :math:`w \leftarrow w + u - \eta_t \lambda w`: ``optax.adamw``, ``nadamw``, ``adamaxw``, ``lion``,
  ``adan`` and ``contrib.muon``, torch ``AdamW``, timm, and every Keras optimizer with
  ``weight_decay``. After the same optimizer without decay,
  ``decoupled_decay(weight, learning_rate=rate)``; with ``mask=None``, since Optax and torch decay
  biases and norms too by default.
- :math:`w \leftarrow w + u - \eta_t^2 \lambda w / \eta`: timm with ``corrected_weight_decay``.
  ``decoupled_decay(lambda t: weight * rate(t) / peak, learning_rate=rate)``.
- :math:`w \leftarrow w + u - \eta_t \lambda w / \eta`, with the schedule and without the base rate:
  ``wd`` of big_vision, ``DecoupledAdamW`` of MosaicML.
  ``decoupled_decay(weight / peak, learning_rate=rate)``.
- :math:`w \leftarrow w + u - \lambda w`: ``optax.adafactor``. ``independent_decay(weight)``.
- Through the gradient, :math:`g + \lambda w`: torch ``SGD`` and ``Adam`` with ``weight_decay``,
  ``optax.add_decayed_weights`` before ``optax.sgd``, ``optax.adadelta`` and ``optax.lars``.
  ``add_penalty_gradient(penalties.l2, weight)`` before the optimizer. It is decay for SGD only:
  adaptive optimizers rescale it together with the gradient.
- Inside the trust ratio: ``optax.lamb``. ``add_penalty_gradient(penalties.l2, weight)`` between
  ``optax.scale_by_adam`` and ``optax.scale_by_trust_ratio``. With a gradient of zero the size of
  :math:`\lambda` cancels, as it does in ``optax.lars``.

For a decay that depends on the layer, pass ``multipliers``, for example from
:func:`jaxreg.masks.multipliers`, or chain decays, each with the mask of its layer:
``independent_decay(0.1, mask=masks.match("block_0/.*kernel"))``.

With ``optax.contrib.schedule_free``, ``lookahead``, ``sam`` and ``optax.MultiSteps`` decay belongs
inside the wrapper, after the wrapped optimizer.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxreg import masks
from jaxreg._selection import Mask, check_mask, select
from jaxreg.transforms._steps import (
    Schedule,
    StepState,
    check_multipliers,
    check_params,
    check_strength,
    init_state,
    map_steps,
    multipliers_for,
    next_state,
    strength_at,
    where,
)


def decoupled_decay(
    weight: Schedule,
    *,
    learning_rate: Schedule,
    mask: Mask = masks.kernels,
    multipliers: Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Shrinks weights in proportion to the learning rate, outside the gradient (as in AdamW).

    .. math::

      w \leftarrow w + u - \eta_t \lambda_t \, w

    Chain it after the optimizer. After ``optax.adam`` this is AdamW, as in torch and
    ``optax.adamw``; after plain SGD it equals :func:`jaxreg.penalties.l2` through the gradient.

    Args:
      weight: Decay :math:`\lambda_t`, zero or positive, or a schedule.
      learning_rate: Learning rate :math:`\eta_t` of the optimizer, or its schedule.
      mask: Tree of booleans shaped like the parameters, a function that returns one, or None for
        all. By default :func:`jaxreg.masks.kernels`: biases and the scales of norms do not decay,
        while class tokens and position embeddings of two or more axes do. An array of booleans that
        broadcasts to a parameter, such as ``[rows, 1]``, selects parts of it.
      multipliers: Tree of factors for the weight, shaped like the parameters, or a function that
        returns one, such as :func:`jaxreg.masks.multipliers`; None means 1.

    Returns:
      A transformation; its update needs ``params``. Nothing that scales updates may follow it,
      except :func:`layerwise_scale` to make the decay depend on the layer too.

    Raises:
      ValueError: A number is negative, the update is called without ``params``, or ``mask`` or
        ``multipliers`` has a different tree structure.
      TypeError: ``mask`` is not a tree of booleans, or ``multipliers`` is not a tree of numbers.

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

    return _masked_decay(share, mask, multipliers, "decoupled_decay")


def independent_decay(
    weight: Schedule, *, mask: Mask = masks.kernels, multipliers: Any = None
) -> optax.GradientTransformationExtraArgs:
    r"""Shrinks weights by a fraction that does not depend on the learning rate.

    .. math::

      w \leftarrow w + u - \lambda_t \, w

    Chain it after the optimizer. The same decay takes a smaller weight than in
    :func:`decoupled_decay`, by a factor of the learning rate. Tuning the learning rate does not
    change the share that decays in a step, nor the angle by which a step of Adam rotates the
    weights before a norm. The length of these weights is then proportional to the learning rate;
    under :func:`decoupled_decay` both length and angle grow with its square root.

    Args:
      weight: Decay :math:`\lambda_t`, zero or positive, or a schedule.
      mask: Tree of booleans shaped like the parameters, a function that returns one, or None for
        all. By default :func:`jaxreg.masks.kernels`: biases and the scales of norms do not decay,
        while class tokens and position embeddings of two or more axes do. An array of booleans that
        broadcasts to a parameter, such as ``[rows, 1]``, selects parts of it.
      multipliers: Tree of factors for the weight, shaped like the parameters, or a function that
        returns one, such as :func:`jaxreg.masks.multipliers`; None means 1.

    Returns:
      A transformation; its update needs ``params``. Nothing that scales updates may follow it.

    Raises:
      ValueError: ``weight`` is negative, the update is called without ``params``, or ``mask`` or
        ``multipliers`` has a different tree structure.
      TypeError: ``mask`` is not a tree of booleans, or ``multipliers`` is not a tree of numbers.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import transforms
      >>> tx = transforms.independent_decay(0.5)
      >>> w = jnp.ones((2, 2))
      >>> updates, _ = tx.update(jnp.zeros((2, 2)), tx.init(w), w)
      >>> print(updates[0])
      [-0.5 -0.5]

    References:
      - Loshchilov and Hutter, `Decoupled Weight Decay Regularization
        <https://arxiv.org/abs/1711.05101>`_, 2019, algorithm 2 with a schedule multiplier of 1
      - Kosson et al., `Rotational Equilibrium <https://arxiv.org/abs/2305.17212>`_, 2024
    """
    check_strength(weight, "weight")

    def share(state: StepState) -> jax.Array:
        return strength_at(weight, state)

    return _masked_decay(share, mask, multipliers, "independent_decay")


def cautious_decay(
    weight: Schedule,
    *,
    learning_rate: Schedule,
    mask: Mask = masks.kernels,
    multipliers: Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Shrinks only the weights that the optimizer's step does not move away from zero.

    .. math::

      w_i \leftarrow w_i + u_i - \eta_t \lambda_t \, \mathbb{1}[u_i w_i \leq 0] \, w_i

    Chain it right after the optimizer: it looks at the signs of the steps :math:`u` before it. A
    weight whose step is zero decays. (Chen et al. write the step as :math:`-\eta u`, so their
    condition is :math:`u_i w_i \geq 0`.) A complex weight decays if the step does not lead away
    from zero, :math:`\mathrm{Re}(\bar w_i u_i) \leq 0`.

    Args:
      weight: Decay :math:`\lambda_t`, zero or positive, or a schedule. Chen et al. reuse the weight
        of :func:`decoupled_decay` without tuning.
      learning_rate: Learning rate :math:`\eta_t` of the optimizer, or its schedule.
      mask: Tree of booleans shaped like the parameters, a function that returns one, or None for
        all. By default :func:`jaxreg.masks.kernels`: biases and the scales of norms do not decay,
        while class tokens and position embeddings of two or more axes do. An array of booleans that
        broadcasts to a parameter, such as ``[rows, 1]``, selects parts of it.
      multipliers: Tree of factors for the weight, shaped like the parameters, or a function that
        returns one, such as :func:`jaxreg.masks.multipliers`; None means 1.

    Returns:
      A transformation; its update needs ``params``.

    Raises:
      ValueError: A number is negative, the update is called without ``params``, or ``mask`` or
        ``multipliers`` has a different tree structure.
      TypeError: ``mask`` is not a tree of booleans, or ``multipliers`` is not a tree of numbers.

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

    return _masked_decay(share, mask, multipliers, "cautious_decay", _not_enlarged)


def _all_of(w: jax.Array, u: jax.Array) -> jax.Array:
    del u
    return w


def _not_enlarged(w: jax.Array, u: jax.Array) -> jax.Array:
    # Multiplies signs, since the product of two small numbers underflows to zero.
    enlarged = (jnp.sign(u) * jnp.sign(w).conj()).real > 0
    return jnp.where(enlarged, jnp.zeros_like(w), w)


def _masked_decay(
    share: Callable[[StepState], jax.Array],
    mask: Mask,
    multipliers: Any,
    name: str,
    part: Callable[[jax.Array, jax.Array], jax.Array] = _all_of,
) -> optax.GradientTransformationExtraArgs:
    """Makes a transformation that subtracts ``share(state) * part(w, u)`` from selected weights."""
    check_mask(mask)
    check_multipliers(multipliers)

    def update(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, StepState]:
        del extra_args
        check_params(params, name)
        factor = share(state)

        def step(w: jax.Array, u: jax.Array, chosen: Any, times: Any) -> jax.Array:
            def decay() -> jax.Array:
                return u - (factor * times).astype(w.real.dtype) * part(w, u)

            return where(chosen, decay, u)

        rest = select(mask, params), multipliers_for(multipliers, params)
        return map_steps(step, updates, params, *rest), next_state(state)

    return optax.GradientTransformationExtraArgs(init_state, update)
