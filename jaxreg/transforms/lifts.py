"""Optax transformations made from penalties, proximal operators and projections."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxreg._checks import is_floating
from jaxreg._selection import Mask, check_mask, select_stacked
from jaxreg._trees import per_layer
from jaxreg.transforms._steps import (
    Schedule,
    StepState,
    at_rest,
    check_multipliers,
    check_params,
    check_strength,
    init_state,
    map_steps,
    multipliers_for,
    next_state,
    strength_at,
)


class ProximalOperator(Protocol):
    """Function that takes a proximal step on one array, such as :func:`jaxreg.proximal.l1`."""

    def __call__(self, w: jax.Array, /, *, step: ArrayLike) -> jax.Array:
        """Returns the proximal point of ``w`` for the step size ``step``."""
        ...


def add_penalty_gradient(
    penalty: Callable[[jax.Array], jax.Array],
    weight: Schedule,
    *,
    multipliers: Any = None,
    stacked: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Adds the gradient of a penalty to the gradients of the loss.

    .. math::

      g \leftarrow g + \lambda \nabla R(w)

    Chain it before the optimizer for the same effect as a penalty in the loss; :func:`sam` and
    other wrappers take the whole chain. Adaptive optimizers such as Adam divide that gradient by
    their running scale, so there :func:`jaxreg.penalties.l2` is not weight decay; use
    :func:`decoupled_decay`.

    Args:
      penalty: Function of one array, such as :func:`jaxreg.penalties.l2`.
      weight: Weight :math:`\lambda`, zero or positive, or a schedule.
      multipliers: Tree of factors for the weight, shaped like the parameters, or a function that
        returns one, such as :func:`jaxreg.masks.multipliers`; None means 1.
      stacked: Mask of the leaves that stack one kernel per layer along their first axis, as
        ``nn.scan`` and ``nnx.vmap`` do; each layer is penalized separately. None means no leaf.

    Returns:
      A transformation; its update needs ``params``.

    Raises:
      ValueError: ``weight`` is a negative number, the update is called without ``params``, or
        ``multipliers`` or ``stacked`` has a different tree structure.
      TypeError: ``multipliers`` is not a tree of numbers, or ``stacked`` is not a mask of
        whole leaves.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from jaxreg import penalties, transforms
      >>> tx = optax.chain(transforms.add_penalty_gradient(penalties.l2, 0.1), optax.sgd(1.0))
      >>> w = jnp.array([1.0, 2.0])
      >>> updates, _ = tx.update(jnp.zeros(2), tx.init(w), w)
      >>> print(updates)
      [-0.1 -0.2]

    References:
      Krogh and Hertz, `A Simple Weight Decay Can Improve Generalization
      <https://papers.nips.cc/paper/563-a-simple-weight-decay-can-improve-generalization>`_, 1991
    """
    check_strength(weight, "weight")
    check_multipliers(multipliers)
    check_mask(stacked, "stacked")

    def update(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, StepState]:
        del extra_args
        check_params(params, "add_penalty_gradient")
        factor = strength_at(weight, state)

        def step(w: jax.Array, u: jax.Array, times: Any, in_stack: Any) -> jax.Array:
            gradient = per_layer(jax.grad(lambda v: penalty(v).real), in_stack)(w)
            # The gradient of a complex parameter points along the conjugate of steepest ascent.
            return u + (factor * times).astype(w.real.dtype) * gradient.conj()

        rest = multipliers_for(multipliers, params), select_stacked(stacked, params)
        return map_steps(step, updates, params, *rest), next_state(state)

    return optax.GradientTransformationExtraArgs(init_state, update)


def proximal(
    prox: ProximalOperator,
    weight: Schedule,
    learning_rate: Schedule,
    *,
    multipliers: Any = None,
    stacked: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Takes a proximal step after each step of the optimizer.

    .. math::

      w \leftarrow \mathrm{prox}_{\eta_t \lambda R}(w + u)

    Chain it after the optimizer, with the same learning rate :math:`\eta_t`, and inside
    ``optax.MultiSteps``, :func:`sam` and :func:`lookahead`, so that it acts once per real step;
    inside ``optax.contrib.schedule_free`` with :func:`own_iterates` around the chain. With plain
    SGD the iteration solves the penalized problem, and weights that the operator sets to zero are
    exactly zero. Momentum :math:`\mu` multiplies the step of SGD in the long run: pass
    :math:`\eta_t / (1 - \mu)` here to solve the same problem. After an adaptive optimizer such as
    Adam the step is taken in the Euclidean metric and not in the optimizer's: the zeros are exact,
    but they solve a different problem; :func:`preconditioned_proximal` solves the penalized one.
    For Lion and other sign methods no such problem exists.

    The zeros are exact. Other weights are within one rounding of the proximal point, since no
    update is finer than the spacing of numbers at the weight. For the exact point, leave the step
    out of the chain and take it on the parameters after ``optax.apply_updates``:
    ``jax.tree.map(partial(proximal.l1, step=t), params)``.

    Args:
      prox: Proximal operator of one array, such as :func:`jaxreg.proximal.l1`.
      weight: Weight :math:`\lambda` of the penalty, zero or positive, or a schedule.
      learning_rate: Learning rate :math:`\eta_t` of the optimizer, or its schedule.
      multipliers: Tree of factors for the weight, shaped like the parameters, or a function that
        returns one, such as :func:`jaxreg.masks.multipliers`; None means 1.
      stacked: Mask of the leaves that stack one kernel per layer along their first axis, as
        ``nn.scan`` and ``nnx.vmap`` do; the operator gets them layer by layer. None means no leaf.

    Returns:
      A transformation; its update needs ``params``. Nothing that scales updates may follow it.

    Raises:
      ValueError: A number is negative, the update is called without ``params``, or ``multipliers``
        or ``stacked`` has a different tree structure.
      TypeError: ``multipliers`` is not a tree of numbers, or ``stacked`` is not a mask of
        whole leaves.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from jaxreg import proximal, transforms
      >>> tx = optax.chain(optax.sgd(0.1), transforms.proximal(proximal.l1, 5.0, 0.1))
      >>> w = jnp.array([1.0, 0.25])
      >>> updates, _ = tx.update(jnp.zeros(2), tx.init(w), w)
      >>> print(optax.apply_updates(w, updates))
      [0.5 0. ]

    References:
      Parikh and Boyd, `Proximal Algorithms
      <https://web.stanford.edu/~boyd/papers/prox_algs.html>`_, 2014, section 4.2
    """
    check_strength(weight, "weight")
    check_strength(learning_rate, "learning_rate")
    check_multipliers(multipliers)
    check_mask(stacked, "stacked")

    def update(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, StepState]:
        del extra_args
        check_params(params, "proximal")
        size = strength_at(learning_rate, state) * strength_at(weight, state)

        def step(w: jax.Array, u: jax.Array, times: Any, in_stack: Any) -> jax.Array:
            operator = partial(prox, step=size * times)
            return per_layer(operator, in_stack)(w + u) - w

        rest = multipliers_for(multipliers, params), select_stacked(stacked, params)
        return map_steps(step, updates, params, *rest), next_state(state)

    return optax.GradientTransformationExtraArgs(init_state, update)


def project(
    projection: Callable[[jax.Array], jax.Array],
    *,
    stacked: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Projects every parameter onto a constraint set after each update.

    .. math::

      w \leftarrow P(w + u)

    Chain it last, and inside ``optax.MultiSteps``, :func:`sam` and :func:`lookahead`; inside
    ``optax.contrib.schedule_free`` with :func:`own_iterates` around the chain. Parameters that the
    optimizer leaves inside the set get exactly the optimizer's update.

    A chain has to keep the step and the projected point in memory at once. To save that memory,
    project the new parameters instead, ``jax.tree.map(projection, params)`` after
    ``optax.apply_updates``. It works in place, in less than half the time on a CPU. On a CPU, XLA
    may also keep the steps of all parameters at once. Starting Python with
    ``XLA_FLAGS=--xla_cpu_enable_concurrency_optimized_scheduler=false`` makes it finish one
    parameter before the next, in less memory and about half the time.

    Args:
      projection: Projection of one array, such as
        ``functools.partial(projections.max_norm, radius=2.0)``.
      stacked: Mask of the leaves that stack one kernel per layer along their first axis, as
        ``nn.scan`` and ``nnx.vmap`` do; each layer is projected separately. None means no leaf.

    Returns:
      A stateless transformation; its update needs ``params``.

    Raises:
      ValueError: The update is called without ``params``, or ``stacked`` has a different tree
        structure.
      TypeError: ``stacked`` is not a mask of whole leaves.

    Example:
      >>> from functools import partial
      >>> import jax.numpy as jnp, optax
      >>> from jaxreg import projections, transforms
      >>> ball = partial(projections.max_norm, radius=1.0)
      >>> tx = optax.chain(optax.sgd(0.1), transforms.project(ball))
      >>> w = jnp.array([[3.0], [4.0]])
      >>> updates, _ = tx.update(jnp.zeros((2, 1)), tx.init(w), w)
      >>> print(jnp.linalg.norm(optax.apply_updates(w, updates)).round(5))
      1.0

    References:
      Bertsekas, `On the Goldstein-Levitin-Polyak Gradient Projection Method
      <https://doi.org/10.1109/TAC.1976.1101194>`_, 1976
    """
    check_mask(stacked, "stacked")

    def update(updates: Any, state: Any, params: Any = None, **extra_args: Any) -> tuple[Any, Any]:
        del extra_args
        check_params(params, "project")

        def leaf(u: Any, w: Any, in_stack: bool) -> Any:  # noqa: FBT001
            if u is None or not is_floating(w):
                return at_rest(u, w)
            w = jnp.asarray(w)
            moved = (w + u).astype(w.dtype)
            inside = per_layer(projection, in_stack)(moved)
            return jnp.where(inside == moved, u, _step_within(w, inside).astype(u.dtype))

        stacks = select_stacked(stacked, params)
        return jax.tree.map(leaf, updates, params, stacks, is_leaf=lambda u: u is None), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def _step_within(w: jax.Array, goal: jax.Array) -> jax.Array:
    """Returns a step whose rounded sum with ``w`` is, elementwise, ``goal`` or closer to zero.

    Far from a small ball a step cannot be finer than the spacing of numbers at ``w``.
    """
    step = goal - w
    if jnp.iscomplexobj(w):
        return step
    landed = w + step
    inward = jnp.nextafter(step, -jnp.sign(landed) * jnp.array(jnp.inf, w.dtype))
    return jnp.where(jnp.abs(landed) > jnp.abs(goal), inward, step)
