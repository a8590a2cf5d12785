"""Early stopping as a value: a pytree that works in ``jit``, ``scan`` and ``vmap``.

One rule: training stops at the ``patience``-th value in a row that is no improvement (a patience
of 0 counts as 1). An improvement lies below the best value by more than ``min_delta``; the first
number always is one, NaN never is. From then on the state is frozen, so that one of many runs in a
``vmap`` can stop while its neighbors go on. ``state.best_params`` can be taken at any time.

Values before ``start`` are passed over: none is the best, none counts, none stops. From ``start``
on a value that is good enough (``stopping_threshold``) or bad enough (``divergence_threshold``)
stops at once; NaN is neither, it counts against the patience.

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

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_between, check_nonnegative
from jaxreg.training._metrics import is_improvement, scalar_metric, with_dtypes_of

__all__ = ["EarlyStopping", "init", "update", "update_maximizing"]


class EarlyStopping(NamedTuple):
    """What early stopping remembers."""

    best_params: Any  # structure, shapes and dtypes of the parameters
    best_metric: jax.Array  # shape=(), float32; infinity before the first number
    has_best: jax.Array  # shape=(), bool; whether best_params belong to a metric
    stale: jax.Array  # shape=(), int32; values in a row without improvement
    should_stop: jax.Array  # shape=(), bool; true from the value on that ended training
    seen: jax.Array  # shape=(), int32; values so far, those before the start included


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
    r"""Records one value of a metric to be minimized.

    .. math::

      \text{improved} = m < m_{\text{best}} - \delta, \qquad
      s' = \text{improved} \; ? \; 0 : s + 1, \qquad
      \text{stop} = (\text{not improved and } s' \geq N) \text{ or } m < a \text{ or } m > b

    Args:
      state: State from :func:`init` or the previous update.
      metric: Value :math:`m` of the metric, a scalar; negative ones are as good as any.
      params: Parameters that it was measured with, shaped like those in the state, whose dtypes
        they are kept in.
      patience: Number :math:`N` of values without improvement to stop at, zero or positive;
        infinity never stops.
      min_delta: How much better :math:`\delta` an improvement has to be, zero or positive.
      start: Number of values to pass over first, zero or positive (Keras' ``start_from_epoch``).
      stopping_threshold: Value :math:`a` that ends training where the metric is below it; one that
        is an improvement is the best still.
      divergence_threshold: Value :math:`b` that ends training where the metric is above it.

    Returns:
      The new state; the given one if that had stopped.

    Raises:
      TypeError: ``params`` are not of the kind of those in the state, as floats are no integers.
      ValueError: ``metric`` or a threshold is not a scalar, a number is negative or NaN, or the
        tree or a shape of ``params`` is not that of the state.

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
    good, bad = (jnp.asarray(t, jnp.float32) for t in (stopping_threshold, divergence_threshold))
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
    """Records one value of a metric to be maximized, such as accuracy.

    The same as :func:`update` of the negated metric, and ``best_metric`` is the negated best value.

    Args:
      state: State from :func:`init` or the previous update.
      metric: Value of the metric, a scalar.
      params: Parameters that it was measured with, shaped like those in the state.
      patience: Number of values without improvement to stop at, zero or positive.
      min_delta: How much better an improvement has to be, zero or positive.
      start: Number of values to pass over first, zero or positive.
      stopping_threshold: Value that ends training where the metric is above it.
      divergence_threshold: Value that ends training where the metric is below it.

    Returns:
      The new state; the given one if that had stopped.

    Raises:
      TypeError: ``params`` are not of the kind of those in the state.
      ValueError: ``metric`` or a threshold is not a scalar, a number is negative or NaN, or the
        tree or a shape of ``params`` is not that of the state.

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
    """The parameters where they are an improvement, in the dtypes of the best ones so far."""
    tree = jax.tree.structure(best)
    if jax.tree.structure(params) != tree:
        raise ValueError(
            f"`params` must have the tree of those in the state, {tree}, got "
            f"{jax.tree.structure(params)}; make the state by init(params)."
        )
    return jax.tree.map(lambda new, old: jnp.where(improved, _like(new, old), old), params, best)


def _like(new: Any, old: jax.Array) -> Any:
    """One leaf in the dtype of another."""
    if jnp.shape(new) != old.shape:
        raise ValueError(
            f"`params` must have the shapes of those in the state, {old.shape}, got "
            f"{jnp.shape(new)}; make the state by init(params)."
        )
    dtype = jnp.result_type(new)
    if dtype == old.dtype:
        return new
    if jnp.issubdtype(old.dtype, jax.dtypes.extended) or not jnp.can_cast(
        dtype, old.dtype, "same_kind"
    ):
        raise TypeError(
            f"`params` must hold numbers of the kind of those in the state, {old.dtype}, got "
            f"{dtype}; make the state by init(params)."
        )
    return jnp.asarray(new).astype(old.dtype)
