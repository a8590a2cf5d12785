r"""Proximal steps in the metric of an adaptive optimizer.

Adam, RMSProp and Adagrad divide the step of each weight by its own :math:`d_i`. The proximal step
of :func:`jaxreg.transforms.proximal` ignores :math:`d_i`, so the weights converge to a point where
the penalty balances :math:`g_i / d_i` instead of the gradient :math:`g_i`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxreg._checks import check_broadcasts, is_floating
from jaxreg._numerics import as_strength, square, widen
from jaxreg._selection import Mask, check_mask, select, select_stacked
from jaxreg.transforms._steps import (
    Schedule,
    StepState,
    at_rest_of,
    check_params,
    check_strength,
    init_state,
    map_steps,
    next_state,
    strength_at,
    where,
)
from jaxreg.transforms.lifts import ProximalOperator

Metric = Callable[[Any], Any]


class PreconditionedState(NamedTuple):
    """State of :func:`preconditioned_proximal`.

    Attributes:
      step: Number of updates so far, as a :class:`StepState`.
      inner_state: State of the inner optimizer.
    """

    step: StepState
    inner_state: Any


def preconditioned_proximal(
    inner: optax.GradientTransformation,
    prox: ProximalOperator,
    weight: Schedule,
    learning_rate: Schedule,
    *,
    metric: Metric,
    mask: Mask = None,
    stacked: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Takes a proximal step in the metric of an adaptive optimizer after each of its updates.

    Such an optimizer divides the step of each weight by a number :math:`d_i`. These numbers are the
    diagonal of its metric.

    .. math::

      w \leftarrow \arg\min_v \; \sum_i \frac{d_i}{2} \left(v_i - (w + u)_i\right)^2
        + \eta_t \lambda \, R(v), \qquad u = - \eta_t \, d^{-1} m

    A weight that never had a gradient has a :math:`d_i` near 0, and the first step takes it to the
    minimum of the penalty. With an L1 penalty, the rows of an embedding table whose tokens have not
    occurred yet become zero. Leave such tables out with ``mask``.

    The operator gets the step sizes :math:`\eta_t \lambda / d_i`, one per weight. When the
    optimizer has converged, so that the momentum :math:`m` is the gradient, the weights solve the
    penalized problem: the one that :func:`proximal` solves after SGD, but not after Adam.

    It is a wrapper, since in a chain no transformation sees the state of another. Wrappers that
    skip or delay steps go around it, such as ``optax.MultiSteps`` and ``optax.apply_if_finite``,
    and so do :func:`sam`, :func:`lookahead` and :func:`own_iterates`. If something else inside
    scales the steps, multiply ``learning_rate`` by its factor: by ``1 / (1 - b)`` for RMSProp with
    ``momentum=b``. Parameters that ``metric`` leaves out, as ``optax.MaskedNode`` or None, have no
    proximal step. Lion and other sign methods have no metric: use :func:`proximal`, which is
    Euclidean.

    Args:
      inner: The optimizer.
      prox: Proximal operator of one array that accepts one step size per weight: any of
        :mod:`jaxreg.proximal` except ``nuclear``.
      weight: Weight :math:`\lambda` of the penalty, zero or positive, or a schedule.
      learning_rate: Learning rate :math:`\eta_t` of the optimizer, or its schedule.
      metric: Function from the state of ``inner``, after its update, to the tree of the diagonals
        :math:`d`: :func:`adam_metric`, :func:`rmsprop_metric`, :func:`adagrad_metric`, or your own.
      mask: Tree of booleans shaped like the parameters, or a function that returns one, such as
        ``masks.all_of(masks.kernels, masks.negate(masks.match("embedding")))``. The optimizer moves
        all parameters; only the selected ones take the proximal step. None selects all. An array of
        booleans that broadcasts to a parameter selects parts of it: the step is computed for the
        whole parameter, and its result is used only where the array is True.
      stacked: Mask of the leaves that stack one kernel per layer along their first axis, as
        ``nn.scan`` and ``nnx.vmap`` do; the operator gets them layer by layer. None means no leaf.

    Returns:
      A transformation; its update needs ``params``. Nothing that scales updates may follow it.

    Raises:
      ValueError: A number is negative, the update is called without ``params``, ``metric`` does not
        find exactly one state, or the tree of ``metric``, ``mask`` or ``stacked`` differs from the
        parameters'.
      TypeError: ``mask`` is not a tree of booleans, or ``stacked`` is not a mask of whole leaves.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from jaxreg import proximal, transforms
      >>> tx = transforms.preconditioned_proximal(
      ...     optax.adam(0.5), proximal.l1, 2.0, 0.5, metric=transforms.adam_metric()
      ... )
      >>> w, state = jnp.array([3.0, 3.0]), tx.init(jnp.zeros(2))
      >>> updates, _ = tx.update(jnp.array([-1.0, -0.25]), state, w)  # Adam moves both by 0.5.
      >>> print(optax.apply_updates(w, updates).round(5) + 0)
      [2.5 0. ]

    References:
      Yun, Lozano and Yang, `A General Family of Stochastic Proximal Gradient Methods for Deep
      Learning <https://arxiv.org/abs/2007.07484>`_, 2020
    """
    check_strength(weight, "weight")
    check_strength(learning_rate, "learning_rate")
    check_mask(mask)
    check_mask(stacked, "stacked")
    inner = optax.with_extra_args_support(inner)

    def init(params: Any) -> PreconditionedState:
        return PreconditionedState(init_state(params), inner.init(params))

    def update(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, PreconditionedState]:
        check_params(params, "preconditioned_proximal")
        updates = at_rest_of(updates, params)
        updates, inner_state = inner.update(updates, state.inner_state, params, **extra_args)
        chosen = select(mask, params)
        diagonals = _check_structure(_mask_out(metric(inner_state), chosen), updates)
        factor = strength_at(learning_rate, state.step) * strength_at(weight, state.step)

        def step(w: jax.Array, u: jax.Array, d: jax.Array, part: Any, in_stack: Any) -> jax.Array:
            check_broadcasts(d, "metric", w.shape)
            steps = _quotient(factor.astype(w.real.dtype), d)
            return where(part, lambda: _proximal(prox, w + u, steps, in_stack) - w, u)

        rest = diagonals, chosen, select_stacked(stacked, params)
        moved = map_steps(step, updates, params, *rest)
        return moved, PreconditionedState(next_state(state.step), inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def adam_metric(
    *, b2: ArrayLike = 0.999, eps: ArrayLike = 1e-8, eps_root: ArrayLike = 0.0
) -> Metric:
    r"""Returns Adam's metric, a function of its state, for :func:`preconditioned_proximal`.

    .. math::

      d = \sqrt{\frac{\nu}{1 - \beta_2^t} + \epsilon_\mathrm{root}} + \epsilon

    It reads the state of ``optax.adam``, ``adamw``, ``nadam``, ``nadamw`` and ``scale_by_adam``,
    anywhere in the chain, and with ``eps=1e-3`` the state of ``optax.yogi``. Adamax and RAdam keep
    a state of the same name, but have other metrics. Decoupled decay, as in AdamW, is not divided
    by the metric and so is not part of the penalized problem; :func:`jaxreg.proximal.elastic_net`
    includes the squares.

    Args:
      b2: Decay :math:`\beta_2` of the second moment, as in the optimizer.
      eps: Term :math:`\epsilon` outside the root, as in the optimizer.
      eps_root: Term inside the root, as in the optimizer.

    Returns:
      Function from the state of an optimizer to the tree of the diagonals, in float32 or wider.

    Raises:
      ValueError: The returned function finds no state of Adam, or several.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from jaxreg import transforms
      >>> tx, w = optax.adam(0.1, b2=0.75), jnp.zeros(2)
      >>> _, state = tx.update(jnp.array([3.0, -4.0]), tx.init(w), w)
      >>> print(transforms.adam_metric(b2=0.75)(state).round(5))
      [3. 4.]

    References:
      Kingma and Ba, `Adam: A Method for Stochastic Optimization
      <https://arxiv.org/abs/1412.6980>`_, 2015
    """

    def metric(state: Any) -> Any:
        found = _find(state, "Adam", ("ScaleByAdamState",))

        def diagonal(second: jax.Array) -> jax.Array | None:
            if not is_floating(second):
                return None
            v = _correct_bias(second, b2, found.count).real
            d = jnp.sqrt(v + as_strength(eps_root, v)) + as_strength(eps, v)
            return _from_first_step(d, found.count)

        return jax.tree.map(diagonal, found.nu)

    return metric


def rmsprop_metric(
    *, decay: ArrayLike = 0.9, eps: ArrayLike = 1e-8, eps_outside: ArrayLike = 0.0
) -> Metric:
    r"""Returns RMSProp's metric, a function of its state, for :func:`preconditioned_proximal`.

    .. math::

      d = \sqrt{\nu + \epsilon} + \epsilon_\mathrm{outside}

    It reads the state of ``optax.rmsprop``, ``scale_by_rms`` and ``scale_by_stddev``. The state
    shows whether the moments are centered, :math:`\nu - |\mu|^2`, and whether their bias is
    corrected. With ``momentum=b``, pass ``learning_rate / (1 - b)`` as the learning rate of
    :func:`preconditioned_proximal`.

    Args:
      decay: Decay of the moments, as in the optimizer; used only if the bias is corrected.
      eps: Term :math:`\epsilon` inside the root, as in the optimizer.
      eps_outside: Term outside the root. For an optimizer with ``eps_in_sqrt=False``, pass its
        ``eps`` here, and ``eps=0``.

    Returns:
      Function from the state of an optimizer to the tree of the diagonals, in float32 or wider.

    Raises:
      ValueError: The returned function finds no state of RMSProp, or several.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from jaxreg import transforms
      >>> tx, w = optax.rmsprop(0.1, decay=0.75), jnp.zeros(2)
      >>> _, state = tx.update(jnp.array([3.0, -4.0]), tx.init(w), w)
      >>> print(transforms.rmsprop_metric(decay=0.75)(state).round(5))
      [1.5 2. ]

    References:
      Tieleman and Hinton, `Lecture 6.5: RMSProp
      <https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf>`_, 2012
    """
    kinds = ("ScaleByRmsState", "ScaleByRStdDevState")
    counted = ("ScaleByRmsWithCountState", "ScaleByRStdDevWithCountState")

    def metric(state: Any) -> Any:
        found = _find(state, "RMSProp", kinds + counted)
        count = found.count if "count" in found._fields else None

        def diagonal(second: jax.Array, first: jax.Array | None = None) -> jax.Array | None:
            if not is_floating(second):
                return None
            v = _correct_bias(second, decay, count).real
            if first is not None:
                v = jnp.maximum(v - square(_correct_bias(first, decay, count)), 0)
            d = jnp.sqrt(v + as_strength(eps, v)) + as_strength(eps_outside, v)
            return _from_first_step(d, count)

        first = (found.mu,) if "mu" in found._fields else ()
        return jax.tree.map(diagonal, found.nu, *first)

    return metric


def adagrad_metric(*, eps: ArrayLike = 1e-7) -> Metric:
    r"""Returns Adagrad's metric, a function of its state, for :func:`preconditioned_proximal`.

    .. math::

      d = \sqrt{\textstyle\sum_t g_t^2 + \epsilon}

    It reads the state of ``optax.adagrad`` and ``scale_by_rss``, whose sums start at
    ``initial_accumulator_value``. Optax does not move a weight of sum 0, so its :math:`d` is
    infinite.

    Args:
      eps: Term :math:`\epsilon` inside the root, as in the optimizer.

    Returns:
      Function from the state of an optimizer to the tree of the diagonals, in float32 or wider.

    Raises:
      ValueError: The returned function finds no state of Adagrad, or several.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from jaxreg import transforms
      >>> tx, w = optax.adagrad(0.1, initial_accumulator_value=0.0), jnp.zeros(3)
      >>> _, state = tx.update(jnp.array([3.0, -4.0, 0.0]), tx.init(w), w)
      >>> print(transforms.adagrad_metric()(state).round(5))
      [ 3.  4. inf]

    References:
      Duchi, Hazan and Singer, `Adaptive Subgradient Methods for Online Learning and Stochastic
      Optimization <https://jmlr.org/papers/v12/duchi11a.html>`_, 2011
    """

    def diagonal(total: jax.Array) -> jax.Array | None:
        if not is_floating(total):
            return None
        total = widen(total).real
        root = jnp.sqrt(total + as_strength(eps, total))
        return jnp.where(total > 0, root, jnp.full_like(root, jnp.inf))

    def metric(state: Any) -> Any:
        return jax.tree.map(diagonal, _find(state, "Adagrad", ("ScaleByRssState",)).sum_of_squares)

    return metric


def _find(state: Any, optimizer: str, names: tuple[str, ...]) -> Any:
    """Returns the only optimizer state with one of these names, at any depth of ``state``."""
    found = [s for name in names for _, s in optax.tree.get_all_with_path(state, name)]
    if len(found) != 1:
        raise ValueError(
            f"`metric` is for {optimizer}, so the state of `inner` must contain one state of "
            f"{optimizer}, got {len(found)}; pass the metric that matches `inner`, and wrap each "
            "optimizer of optax.partition separately."
        )
    return found[0]


def _correct_bias(moment: jax.Array, decay: ArrayLike, count: jax.Array | None) -> jax.Array:
    """Corrects the bias of a moment that was initialized to 0, exactly as Optax does."""
    wide = widen(moment)
    if count is None:
        return wide
    return optax.tree.bias_correction(wide, decay, jnp.maximum(count, 1))


def _from_first_step(d: jax.Array, count: jax.Array | None) -> jax.Array:
    """Replaces ``d`` by infinity before the optimizer's first step, so that weights stay fixed."""
    return d if count is None else jnp.where(count == 0, jnp.full_like(d, jnp.inf), d)


def _mask_out(diagonals: Any, chosen: Any) -> Any:
    """Replaces the diagonals of leaves whose mask is False by None."""
    if all(flag is True for flag in jax.tree.leaves(chosen)):
        return diagonals

    def choose(keep: Any, below: Any) -> Any:
        return jax.tree.map(lambda _: None, below) if keep is False else below

    return jax.tree.map(choose, chosen, diagonals)


def _proximal(
    prox: ProximalOperator,
    w: jax.Array,
    steps: jax.Array,
    in_stack: bool,  # noqa: FBT001
) -> jax.Array:
    """Applies the proximal operator to a leaf, layer by layer if the leaf is a stack."""
    if not in_stack:
        return prox(w, step=steps)
    if steps.ndim == w.ndim:
        steps = jnp.broadcast_to(steps, w.shape[:1] + steps.shape[1:])
    axes = 0, 0 if steps.ndim == w.ndim else None
    return jax.vmap(lambda v, t: prox(v, step=t), in_axes=axes)(w, steps)


def _quotient(factor: jax.Array, d: jax.Array) -> jax.Array:
    """Returns ``factor / d``, or 0 where ``factor`` is 0, even if ``d`` is 0 there."""
    quotient = factor / jnp.asarray(d, factor.dtype)
    return jnp.where(factor == 0, jnp.zeros_like(quotient), quotient)


def _check_structure(diagonals: Any, updates: Any) -> Any:
    """Returns ``diagonals``; raises unless they have a leaf, or None, for every update."""
    try:
        jax.tree.map(lambda *_: None, updates, diagonals, is_leaf=lambda u: u is None)
    except ValueError:
        raise ValueError(
            "`metric` must return a tree with the structure of the parameters, got "
            f"{jax.tree.structure(diagonals)}; to omit a parameter, return optax.MaskedNode()."
        ) from None
    return diagonals
