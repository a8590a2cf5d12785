"""Running averages of the parameters during training."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxreg._checks import check_between, check_nonnegative, is_floating, is_static
from jaxreg._numerics import wide_dtype
from jaxreg._paths import path_names
from jaxreg.transforms._steps import (
    Schedule,
    StepState,
    at_rest_of,
    check_params,
    newest,
    strength_at,
)


class AverageState(NamedTuple):
    """State of the transformations that average the parameters.

    Attributes:
      count: Number of updates so far, int32.
      total: Weight of all parameters in the average, a scalar.
      average: Average of the parameters, float32 or wider, which :func:`read_average` reads. Leaves
        that are not floating-point are the newest ones.
    """

    # Updates so far, int32. The name is Optax's; it hides the method of tuples.
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    total: jax.Array
    average: Any


class LookaheadState(NamedTuple):
    """State of :func:`lookahead`.

    Attributes:
      count: Number of updates so far, int32.
      average: Slow weights, float32 or wider, which :func:`read_average` reads.
      inner_state: State of the inner optimizer.
    """

    # Updates so far, int32. The name is Optax's; it hides the method of tuples.
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    average: Any
    inner_state: Any


def exponential_average(
    decay: Schedule, *, initial_weight: ArrayLike = 0.0
) -> optax.GradientTransformationExtraArgs:
    r"""Keeps the exponential moving average (EMA) of the parameters in its state.

    .. math::

      z_t = d_t z_{t-1} + 1 - d_t, \qquad
      \bar w \leftarrow \bar w + \frac{1 - d_t}{z_t} (w + u - \bar w)

    Updates pass through. The average is of the parameters after the update, so chain it last, and
    inside ``optax.MultiSteps``. :func:`read_average` reads it. Dividing by the sum of weights
    :math:`z_t` is Adam's bias correction. With ``initial_weight=1`` the sum is always 1 and the
    average starts at the initial parameters, as with ``optax.incremental_update``, whose step size
    is :math:`1 - d`. Keras, torch, and timm with its ``step`` take the parameters of the first
    update whole, as the schedule ``lambda t: jnp.where(t == 0, 0.0, d)`` does. The warm-up of timm
    is ``lambda t: jnp.minimum(0.9999, 1 - (1 + t / gamma) ** (-2 / 3))``.

    After training, run :func:`jaxreg.training.statistics.recalibrate` on the averaged parameters of
    a model with batch norms. The average of sparse parameters is zero only where all of them were.
    A last proximal step, with the size used during training, restores the zeros:
    ``jax.tree.map(partial(proximal.l1, step=learning_rate * weight), average)``.

    Args:
      decay: Decay :math:`d_t` in [0, 1], or a schedule; arrays are clipped.
      initial_weight: Weight :math:`z_0` of the initial parameters, in [0, 1].

    Returns:
      A transformation; its update needs ``params``.

    Raises:
      ValueError: An argument lies outside its range, or the update is called without ``params``.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from jaxreg import transforms
      >>> tx = optax.chain(optax.sgd(1.0), transforms.exponential_average(0.5))
      >>> w = jnp.zeros(1)
      >>> state = tx.init(w)
      >>> for _ in range(2):
      ...     updates, state = tx.update(-jnp.ones(1), state, w)
      ...     w = optax.apply_updates(w, updates)
      >>> print(transforms.read_average(state, w).round(4))  # (0.5 * 2 + 0.25 * 1) / 0.75
      [1.6667]

    References:
      Polyak and Juditsky, `Acceleration of Stochastic Approximation by Averaging
      <https://doi.org/10.1137/0330046>`_, 1992;
      Kingma and Ba, `Adam <https://arxiv.org/abs/1412.6980>`_, 2015, sections 3 and 7.2
    """
    if not callable(decay):
        _check_share(decay, "decay")
    _check_share(initial_weight, "initial_weight")

    def share(count: jax.Array, total: jax.Array) -> tuple[jax.Array, jax.Array]:
        past = jnp.clip(strength_at(decay, StepState(count)), 0, 1)
        total = past * total + (1 - past)
        return _divide(1 - past, total), total

    return _average(share, initial_weight, "exponential_average")


def stochastic_weight_average(
    *, start: ArrayLike, period: ArrayLike
) -> optax.GradientTransformationExtraArgs:
    r"""Keeps the equally weighted average of the parameters in its state (SWA).

    .. math::

      \bar w = \frac{1}{n} \sum_{i=0}^{n-1} w_{s + i c}

    It averages the parameters :math:`w_t` after every ``period`` updates, beginning with update
    ``start``; before ``start`` it equals the newest parameters. A start of 0 includes the initial
    parameters. Updates pass through: chain it last, and inside ``optax.MultiSteps``, with a
    learning rate that is constant or cyclic from ``start`` on. :func:`read_average` reads the
    average. For batch norms and sparse parameters see :func:`exponential_average`.

    Args:
      start: Number of updates :math:`s` before the first parameters in the average.
      period: Number of updates :math:`c` between averaged parameters, at least 1.

    Returns:
      A transformation; its update needs ``params``.

    Raises:
      ValueError: ``start`` is negative, ``period`` below 1, or the update is called without
        ``params``.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from jaxreg import transforms
      >>> average = transforms.stochastic_weight_average(start=2, period=3)
      >>> tx = optax.chain(optax.sgd(1.0), average)
      >>> w = jnp.zeros(1)
      >>> state = tx.init(w)
      >>> for _ in range(9):
      ...     updates, state = tx.update(-jnp.ones(1), state, w)
      ...     w = optax.apply_updates(w, updates)
      >>> print(transforms.read_average(state, w))  # (2 + 5 + 8) / 3
      [5.]

    References:
      Izmailov et al., `Averaging Weights Leads to Wider Optima and Better Generalization
      <https://arxiv.org/abs/1803.05407>`_, 2018
    """
    check_nonnegative(start, "start")
    _check_period(period)

    def share(count: jax.Array, total: jax.Array) -> tuple[jax.Array, jax.Array]:
        since = count + 1 - _integer(start)
        counted = (since >= 0) & (since % _integer(period, least=1) == 0)
        counted = counted.astype(total.dtype)
        total = total + counted
        return jnp.where(since < 0, 1, counted / jnp.maximum(total, 1)), total

    return _average(share, jnp.where(_integer(start) == 0, 1.0, 0.0), "stochastic_weight_average")


def lookahead(
    inner: optax.GradientTransformation,
    *,
    period: ArrayLike,
    step_size: Schedule,
    reset: Callable[[Any], Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Pulls the parameters back toward slow weights after every ``period`` steps (Lookahead).

    .. math::

      \phi \leftarrow \phi + \alpha (w - \phi), \qquad w \leftarrow \phi
      \qquad \text{after every } k \text{ steps}

    The parameters are the fast weights :math:`w`. The slow weights :math:`\phi` start with them and
    are kept in the state; :func:`read_average` reads them for evaluation. The optimizer keeps its
    state, as in the experiments of Zhang et al., or gets a new one from ``reset``.

    Decay, proximal steps and projections belong inside ``inner``. If the fast weights are projected
    onto a convex set, the slow weights remain in it. The slow weights are zero only where the fast
    weights were zero each time.

    Args:
      inner: The optimizer, with everything that moves the parameters.
      period: Number of steps :math:`k`, at least 1.
      step_size: Step size :math:`\alpha` of the slow weights, in [0, 1], or a schedule; arrays are
        clipped. With 1 the steps equal the steps of ``inner`` exactly.
      reset: Function from the slow weights to a new state of the optimizer, called after each
        return to them. ``inner.init`` restarts its momentum and schedules, as ``reset_state`` of
        ``optax.lookahead`` does. None keeps the state.

    Returns:
      A transformation; its update needs ``params``. Nothing that changes updates may follow it.

    Raises:
      ValueError: An argument lies outside its range, or the update is called without ``params``.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from jaxreg import transforms
      >>> tx = transforms.lookahead(optax.sgd(1.0), period=4, step_size=0.5)
      >>> w = jnp.zeros(1)
      >>> state = tx.init(w)
      >>> for _ in range(6):
      ...     updates, state = tx.update(-jnp.ones(1), state, w)
      ...     w = optax.apply_updates(w, updates)
      >>> print(w, transforms.read_average(state, w))
      [4.] [2.]

    References:
      Zhang et al., `Lookahead Optimizer: k steps forward, 1 step back
      <https://arxiv.org/abs/1907.08610>`_, 2019
    """
    _check_period(period)
    if not callable(step_size):
        _check_share(step_size, "step_size")
    inner = optax.with_extra_args_support(inner)

    def init(params: Any) -> LookaheadState:
        slow = jax.tree.map(_wide_copy, params)
        return LookaheadState(jnp.zeros((), jnp.int32), slow, inner.init(params))

    def update(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, LookaheadState]:
        check_params(params, "lookahead")
        updates = at_rest_of(updates, params)
        steps, inner_state = inner.update(updates, state.inner_state, params, **extra_args)
        count = jnp.asarray(optax.safe_increment(state.count))
        back = count % _integer(period, least=1) == 0
        size = jnp.clip(strength_at(step_size, StepState(state.count)), 0, 1)
        share = jnp.where(back, size, 0)
        slow = _map_leaves(partial(_blend, share), steps, params, state.average)
        rejoin = partial(_rejoin, back & (size != 1))
        if reset is not None:
            fresh = reset(_map_leaves(_in_dtype, params, slow))
            inner_state = jax.tree.map(partial(jnp.where, back), fresh, inner_state)
        return _map_leaves(rejoin, steps, params, slow), LookaheadState(count, slow, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def read_average(state: Any, params: Any) -> Any:
    """Reads the average of the parameters from the state of an optimizer.

    Args:
      state: State of a chain, wrapped or not, that contains :func:`exponential_average`,
        :func:`stochastic_weight_average` or :func:`lookahead`, at most once for each parameter.
      params: Newest parameters, for the dtypes and for the leaves that were masked out.

    Returns:
      New parameters, with the structure and the dtypes of ``params``.

    Raises:
      ValueError: ``state`` contains no average, several averages of a parameter, or an average of a
        parameter that ``params`` lacks.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from jaxreg import transforms
      >>> tx = optax.chain(optax.adam(0.1), transforms.exponential_average(0.999))
      >>> w = jnp.ones(2, jnp.bfloat16)
      >>> print(transforms.read_average(tx.init(w), w))
      [1 1]
    """
    averages = _averages(state)
    unknown = averages.keys() - _by_name(params).keys()
    if unknown:
        raise ValueError(
            "`params` must have the structure that the optimizer was initialized with, but has no "
            f"leaf at {'/'.join(min(unknown)) or 'the root'}."
        )

    def leaf(path: tuple[Any, ...], w: Any) -> jax.Array:
        return jnp.array(averages.get(path_names(path), w), jnp.result_type(w), copy=True)

    return jax.tree_util.tree_map_with_path(leaf, params)


def _average(
    share: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
    initial_weight: ArrayLike,
    name: str,
) -> optax.GradientTransformationExtraArgs:
    """Makes a transformation that averages parameters with step sizes from ``share``."""

    def init(params: Any) -> AverageState:
        total = jnp.clip(jnp.asarray(initial_weight, jnp.result_type(float)), 0, 1)
        return AverageState(jnp.zeros((), jnp.int32), total, jax.tree.map(_wide_copy, params))

    def update(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, AverageState]:
        del extra_args
        check_params(params, name)
        updates = at_rest_of(updates, params)
        part, total = share(state.count, state.total)
        average = _map_leaves(partial(_blend, part), updates, params, state.average)
        count = jnp.asarray(optax.safe_increment(state.count))
        return updates, AverageState(count, total, average)

    return optax.GradientTransformationExtraArgs(init, update)


def _map_leaves(function: Callable[..., Any], updates: Any, *trees: Any) -> Any:
    """Maps ``function`` over all leaves, including leaves where ``updates`` is None."""
    return jax.tree.map(function, updates, *trees, is_leaf=lambda u: u is None)


def _blend(share: jax.Array, u: Any, w: Any, average: Any) -> Any:
    """Moves the average of one leaf toward the updated leaf by the fraction ``share``."""
    last = newest(w, u)
    if last is None or not is_floating(last):
        return _wide_copy(last)
    return _toward(jnp.asarray(last, average.dtype), share, average)


@jax.jit  # Leaves of one shape share what is traced.
def _toward(last: jax.Array, share: jax.Array, average: jax.Array) -> jax.Array:
    """Returns ``average``, moved toward ``last`` by the fraction ``share``."""
    moved = average + share.astype(average.real.dtype) * (last - average)
    # The ends are exact, and an average that does not move ignores infinite and NaN parameters.
    return jnp.where(share == 1, last, jnp.where(share == 0, average, moved))


def _rejoin(back: jax.Array, u: Any, w: Any, slow: Any) -> Any:
    """Returns the update from ``w`` to the slow weights where ``back`` is True, else ``u``."""
    if u is None or not is_floating(w):
        return u
    return jnp.where(back, (slow - jnp.asarray(w, slow.dtype)).astype(jnp.result_type(u)), u)


def _in_dtype(w: Any, slow: Any) -> Any:
    """Casts one leaf of the slow weights to the dtype of the parameter ``w``."""
    return slow if w is None else jnp.asarray(slow, jnp.result_type(w))


def _wide_copy(w: Any) -> Any:
    """Copies a leaf, so that its buffer can be donated; floats become float32 or wider."""
    if w is None:
        return None
    return jnp.array(w, wide_dtype(jnp.result_type(w)) if is_floating(w) else None, copy=True)


def _averages(state: Any) -> dict[tuple[str, ...], Any]:
    """Returns the averages in an optimizer's state, keyed by the path of the parameter.

    Raises:
      ValueError: There is no average, or there are several averages of a parameter.
    """
    states = [s for s in jax.tree.leaves(state, is_leaf=_holds_average) if _holds_average(s)]
    if not states:
        raise ValueError(
            "`state` must contain an average of the parameters, but contains none; add "
            "transforms.exponential_average or transforms.stochastic_weight_average to the chain."
        )
    found: dict[tuple[str, ...], Any] = {}
    for average in (_by_name(s.average) for s in states):
        if found.keys() & average.keys():
            raise ValueError(
                "`state` must contain one average of each parameter, but contains several; pass "
                "the state of a single transformation."
            )
        found |= average
    return found


def _by_name(tree: Any) -> dict[tuple[str, ...], Any]:
    """Returns the leaves of a tree keyed by path; paths omit the boxes of NNX variables."""
    return {path_names(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _holds_average(state: Any) -> bool:
    return isinstance(state, AverageState | LookaheadState)


def _divide(part: jax.Array, total: jax.Array) -> jax.Array:
    """Returns ``part / total``, or 0 if the total is 0."""
    return jnp.where(total > 0, part / jnp.where(total > 0, total, jnp.ones_like(total)), 0)


def _integer(value: ArrayLike, least: int = 0) -> jax.Array:
    """Casts a number of steps of any dtype to int32, and clips it to at least ``least``."""
    return jnp.maximum(jnp.asarray(value).astype(jnp.int32), least)


def _check_share(value: ArrayLike, name: str) -> None:
    check_between(value, name, 0, 1)


def _check_period(period: ArrayLike) -> None:
    """Raises if ``period`` is a Python or NumPy number below 1."""
    if is_static(period) and not float(period) >= 1:  # pyright: ignore[reportArgumentType]
        raise ValueError(f"`period` must be a number of steps, at least 1, got {period}.")
