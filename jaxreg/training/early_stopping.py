"""Early stopping whose state is a pytree that works in ``jit``, ``scan`` and ``vmap``.

Training stops after ``patience`` values in a row without improvement (a patience of 0 counts as 1).
A value is an improvement if it is below the best value by more than ``min_delta``. The first number
is always an improvement, and NaN never is. A stopped state no longer changes, so one of many runs
in a ``vmap`` can stop while the others continue. ``state.best_params`` can be read at any time.

Values before ``start`` are ignored. From ``start`` on, a value that is good enough
(``stopping_threshold``) or bad enough (``divergence_threshold``) stops at once; NaN is neither, and
counts against the patience.

The caller ends the loop: ``if state.should_stop: break`` in Python, a ``jnp.where`` on
``state.should_stop`` in a scan. If each device or host sees its own examples, pass the metric over
all of them, such as ``jax.lax.pmean(metric, axis_name)`` inside ``shard_map``. Otherwise some
devices would stop while the others wait for them forever. A scan inside ``shard_map`` rejects a
metric that varies over devices; ``multihost_utils.assert_equal`` checks that all processes decide
the same.

Example:
  >>> import jax.numpy as jnp
  >>> from jaxreg.training import early_stopping
  >>> params = jnp.zeros(2)
  >>> state = early_stopping.init(params)
  >>> for step, loss in enumerate([3.0, 2.0, 2.5, 2.2, 1.0]):
  ...     params = params + 1
  ...     state = early_stopping.update(state, loss, params, patience=2)
  ...     if state.should_stop:
  ...         break
  >>> print(step, state.best_metric, state.best_params)
  3 2.0 [2. 2.]

References:
  Prechelt, `Early Stopping, But When? <https://doi.org/10.1007/3-540-49430-8_3>`_, 1998
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _signatures
from jaxreg._checks import check_between, check_nonnegative
from jaxreg.training._metrics import is_improvement, scalar_metric, with_dtypes_of

__all__ = ["EarlyStopping", "init", "update", "update_maximizing"]


class EarlyStopping(NamedTuple):
    """State of early stopping.

    Attributes:
      best_params: Parameters at the best metric, with the structure, shapes and dtypes of the
        parameters.
      best_metric: Best metric so far, float32; infinity before the first number.
      has_best: Boolean: whether ``best_params`` belong to a metric.
      stale: Number of values in a row without improvement, int32.
      should_stop: Boolean: True from the value that ended training.
      seen: Number of values so far, int32, including those before the start.
    """

    best_params: Any
    best_metric: jax.Array
    has_best: jax.Array
    stale: jax.Array
    should_stop: jax.Array
    seen: jax.Array


def init(params: Any) -> EarlyStopping:
    """Returns the initial state, with a copy of ``params`` as the best parameters.

    Args:
      params: Any pytree of arrays. It is copied, so that its buffers may be donated afterwards.

    Returns:
      The state that :func:`update` advances.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.training import early_stopping
      >>> print(early_stopping.init(jnp.zeros(2)).should_stop)
      False
    """
    return EarlyStopping(
        best_params=jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), params),
        best_metric=jnp.array(jnp.inf, jnp.float32),
        has_best=jnp.array(False),
        stale=jnp.array(0, jnp.int32),
        should_stop=jnp.array(False),
        seen=jnp.array(0, jnp.int32),
    )


def update(
    state: EarlyStopping,
    metric: ArrayLike,
    params: Any,
    *,
    patience: ArrayLike,
    min_delta: ArrayLike = 0.0,
    start: ArrayLike = 0,
    stopping_threshold: ArrayLike = -math.inf,
    divergence_threshold: ArrayLike = math.inf,
) -> EarlyStopping:
    r"""Updates the state with one value of a metric to be minimized.

    .. math::

      \text{improved} = m < m_{\text{best}} - \delta, \qquad
      s' = \text{improved} \; ? \; 0 : s + 1, \qquad
      \text{stop} = (\text{not improved and } s' \geq N) \text{ or } m < a \text{ or } m > b

    Args:
      state: State from :func:`init` or the previous update.
      metric: Value :math:`m` of the metric, a scalar; negative values are allowed.
      params: Parameters that the metric was measured with. They must have the shapes in the state,
        and are stored with the dtypes of the state.
      patience: Number :math:`N` of values without improvement that stop training, zero or positive;
        infinity never stops.
      min_delta: Minimum size :math:`\delta` of an improvement, zero or positive.
      start: Number of initial values to ignore, zero or positive (Keras' ``start_from_epoch``).
      stopping_threshold: Value :math:`a` below which the metric ends training; it still becomes the
        best value if it is an improvement.
      divergence_threshold: Value :math:`b` above which the metric ends training.

    Returns:
      The new state; the given one if it had already stopped.

    Raises:
      TypeError: A dtype of ``params`` does not cast to the state's, such as floats to integers.
      ValueError: ``metric`` or a threshold is not a scalar, a number is negative or NaN, or the
        tree or a shape of ``params`` differs from the state.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.training import early_stopping
      >>> def step(state, metric):
      ...     return early_stopping.update(state, metric, metric, patience=2), state.should_stop
      >>> state, _ = jax.lax.scan(
      ...     step, early_stopping.init(jnp.zeros(())), jnp.array([2.0, 1.0, jnp.nan, 3.0, 0.5])
      ... )
      >>> print(state.should_stop, state.best_params)
      True 1.0
    """
    numbers = {"patience": patience, "min_delta": min_delta, "start": start}
    for name, value in numbers.items():
        check_nonnegative(value, name)
    check_between(stopping_threshold, "stopping_threshold", -math.inf, math.inf)
    check_between(divergence_threshold, "divergence_threshold", -math.inf, math.inf)
    metric = scalar_metric(metric)
    counts = ~state.should_stop & (state.seen >= start)
    improved = counts & is_improvement(metric, state.best_metric, state.has_best, min_delta)
    stale = jnp.where(improved, 0, state.stale + jnp.where(counts, 1, 0))
    good = jnp.asarray(stopping_threshold, jnp.float32)
    bad = jnp.asarray(divergence_threshold, jnp.float32)
    ends = (metric < good) | (metric > bad) | (~improved & (stale >= patience))
    new = EarlyStopping(
        best_params=_either(improved, params, state.best_params),
        best_metric=jnp.where(improved, metric, state.best_metric.astype(metric.dtype)),
        has_best=state.has_best | improved,
        stale=stale,
        should_stop=state.should_stop | (counts & ends),
        seen=state.seen + jnp.where(state.should_stop, 0, 1),
    )
    return with_dtypes_of(state, new)


def update_maximizing(
    state: EarlyStopping,
    metric: ArrayLike,
    params: Any,
    *,
    patience: ArrayLike,
    min_delta: ArrayLike = 0.0,
    start: ArrayLike = 0,
    stopping_threshold: ArrayLike = math.inf,
    divergence_threshold: ArrayLike = -math.inf,
) -> EarlyStopping:
    """Updates the state with one value of a metric to be maximized, such as accuracy.

    Equals :func:`update` with the negated metric; ``best_metric`` is the negated best value.

    Args:
      state: State from :func:`init` or the previous update.
      metric: Value of the metric, a scalar.
      params: Parameters that the metric was measured with, with the shapes in the state.
      patience: Number of values without improvement that stop training, zero or positive.
      min_delta: Minimum size of an improvement, zero or positive.
      start: Number of initial values to ignore, zero or positive.
      stopping_threshold: Value above which the metric ends training.
      divergence_threshold: Value below which the metric ends training.

    Returns:
      The new state; the given one if it had already stopped.

    Raises:
      TypeError: A dtype of ``params`` does not cast to the state's.
      ValueError: ``metric`` or a threshold is not a scalar, a number is negative or NaN, or the
        tree or a shape of ``params`` differs from the state.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.training import early_stopping
      >>> state = early_stopping.init(jnp.zeros(2))
      >>> state = early_stopping.update_maximizing(
      ...     state, 0.9, jnp.ones(2), patience=3, stopping_threshold=0.85
      ... )
      >>> print(-state.best_metric, state.best_params, state.should_stop)
      0.9 [1. 1.] True
    """
    check_between(stopping_threshold, "stopping_threshold", -math.inf, math.inf)
    check_between(divergence_threshold, "divergence_threshold", -math.inf, math.inf)
    return update(
        state,
        -jnp.asarray(metric, jnp.float32),
        params,
        patience=patience,
        min_delta=min_delta,
        start=start,
        stopping_threshold=-jnp.asarray(stopping_threshold, jnp.float32),
        divergence_threshold=-jnp.asarray(divergence_threshold, jnp.float32),
    )


def _either(improved: jax.Array, params: Any, best: Any) -> Any:
    """Returns ``params`` if ``improved``, else ``best``, in the dtypes of ``best``."""
    tree = jax.tree.structure(best)
    if jax.tree.structure(params) != tree:
        raise ValueError(
            f"`params` must have the tree structure of the state, {tree}, got "
            f"{jax.tree.structure(params)}; make the state with init(params)."
        )
    return jax.tree.map(lambda new, old: jnp.where(improved, _like(new, old), old), params, best)


def _like(new: Any, old: jax.Array) -> Any:
    """Casts ``new`` to the dtype of ``old``; raises if the shapes or the kinds of dtype differ."""
    if jnp.shape(new) != old.shape:
        raise ValueError(
            f"`params` must have the shapes of the state, {old.shape}, got "
            f"{jnp.shape(new)}; make the state with init(params)."
        )
    dtype = jnp.result_type(new)
    if dtype == old.dtype:
        return new
    if jnp.issubdtype(old.dtype, jax.dtypes.extended) or not jnp.can_cast(
        dtype, old.dtype, "same_kind"
    ):
        raise TypeError(
            f"`params` must have dtypes that cast to the state's, {old.dtype}, got {dtype}; make "
            "the state with init(params)."
        )
    return jnp.asarray(new).astype(old.dtype)


_signatures.show(__name__)
