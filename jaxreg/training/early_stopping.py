"""Early stopping as a value: a pytree that works in ``jit``, ``scan`` and ``vmap``.

One rule: training stops at the ``patience``-th value in a row that is no improvement (a patience
of 0 counts as 1). An improvement lies below the best value by more than ``min_delta``; the first
number always is one, NaN never is. From then on the state is frozen, so that one of many runs in a
``vmap`` can stop while its neighbours go on. ``state.best_params`` can be taken at any time.

The decision belongs to the caller: ``if state.should_stop: break`` in Python, a ``jnp.where`` on
``state.should_stop`` in a scan. Where each device or host sees its own examples, pass the metric of
all, such as ``jax.lax.pmean(metric, axis_name)`` inside ``shard_map``: with metrics of their own
some would stop and the others wait for them for ever. A scan inside ``shard_map`` refuses a metric
that varies over devices; between processes ``multihost_utils.assert_equal`` checks a decision.

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

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_nonnegative
from jaxreg.training._metrics import is_improvement, scalar_metric

__all__ = ["EarlyStopping", "init", "update", "update_maximizing"]


class EarlyStopping(NamedTuple):
    """What early stopping remembers."""

    best_params: Any  # structure, shapes and dtypes of the parameters
    best_metric: jax.Array  # shape=(), float32; infinity before the first number
    has_best: jax.Array  # shape=(), bool; whether best_params belong to a metric
    stale: jax.Array  # shape=(), int32; values in a row without improvement
    should_stop: jax.Array  # shape=(), bool; true from the patience-th such value on


def init(params: Any) -> EarlyStopping:
    """Returns the state before the first metric, with a copy of the parameters as the best ones.

    Args:
      params: Any pytree of arrays. It is copied: its buffers may be donated afterwards.

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
    )


def update(
    state: EarlyStopping,
    metric: ArrayLike,
    params: Any,
    *,
    patience: ArrayLike,
    min_delta: ArrayLike = 0.0,
) -> EarlyStopping:
    r"""Records one value of a metric to be minimized.

    .. math::

      \text{improved} = m < m_{\text{best}} - \delta, \qquad
      s' = \text{improved} \; ? \; 0 : s + 1, \qquad
      \text{stop} = \text{not improved and } s' \geq N

    Args:
      state: State from :func:`init` or the previous update.
      metric: Value :math:`m` of the metric, a scalar; negative ones are as good as any.
      params: Parameters that it was measured with, shaped like those in the state.
      patience: Number :math:`N` of values without improvement to stop at, zero or positive;
        infinity never stops.
      min_delta: How much better :math:`\delta` an improvement has to be, zero or positive.

    Returns:
      The new state; the given one if that had stopped.

    Raises:
      ValueError: ``metric`` is not a scalar, or a number is negative or NaN.

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
    check_nonnegative(patience, "patience")
    check_nonnegative(min_delta, "min_delta")
    metric = scalar_metric(metric)
    better = is_improvement(metric, state.best_metric, state.has_best, min_delta)
    improved = better & ~state.should_stop
    stale = jnp.where(improved, 0, state.stale + jnp.where(state.should_stop, 0, 1))
    return EarlyStopping(
        best_params=jax.tree.map(
            lambda new, old: jnp.where(improved, new, old), params, state.best_params
        ),
        best_metric=jnp.where(improved, metric, state.best_metric),
        has_best=state.has_best | improved,
        stale=stale.astype(jnp.int32),
        should_stop=state.should_stop | (~improved & (stale >= patience)),
    )


def update_maximizing(
    state: EarlyStopping,
    metric: ArrayLike,
    params: Any,
    *,
    patience: ArrayLike,
    min_delta: ArrayLike = 0.0,
) -> EarlyStopping:
    """Records one value of a metric to be maximized, such as accuracy.

    The same as :func:`update` of the negated metric, and ``best_metric`` is the negated best value.

    Args:
      state: State from :func:`init` or the previous update.
      metric: Value of the metric, a scalar.
      params: Parameters that it was measured with, shaped like those in the state.
      patience: Number of values without improvement to stop at, zero or positive.
      min_delta: How much better an improvement has to be, zero or positive.

    Returns:
      The new state; the given one if that had stopped.

    Raises:
      ValueError: ``metric`` is not a scalar, or a number is negative or NaN.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.training import early_stopping
      >>> state = early_stopping.init(jnp.zeros(2))
      >>> state = early_stopping.update_maximizing(state, 0.9, jnp.ones(2), patience=3)
      >>> print(-state.best_metric, state.best_params)
      0.9 [1. 1.]
    """
    negated = -jnp.asarray(metric, jnp.float32)
    return update(state, negated, params, patience=patience, min_delta=min_delta)
