"""A strength that changes when a metric stalls; works in ``jit``, ``scan`` and ``vmap``.

After ``patience`` values in a row without improvement (a patience of 0 counts as 1), the strength
is multiplied by ``factor``, and the count starts over. A value is an improvement if it is below the
best value by more than ``min_delta``. The first number is always an improvement, and NaN never is.
A ``factor`` above 1 regularizes more when training stalls.

The strength is an array, as every strength of this library may be: pass ``state.strength`` to a
penalty, as a rate, or to a transformation. A decay's state is a count for any strength, so the
transformation can be built again at every step. On several devices or hosts, pass the metric over
all of them, as in :mod:`jaxreg.training.early_stopping`.

Example:
  >>> import jax, jax.numpy as jnp, optax
  >>> from jaxreg import transforms
  >>> from jaxreg.training import plateau
  >>> def optimizer(weight):
  ...     return optax.chain(optax.sgd(0.1), transforms.independent_decay(weight, mask=None))
  >>> def step(carry, metric):
  ...     params, state, adaptive = carry
  ...     updates, state = optimizer(adaptive.strength).update(-jnp.ones(2), state, params)
  ...     adaptive = plateau.update(adaptive, metric, patience=2, factor=2.0)
  ...     return (optax.apply_updates(params, updates), state, adaptive), adaptive.strength
  >>> params = jnp.zeros(2)
  >>> start = params, optimizer(0.0).init(params), plateau.init(0.25)
  >>> _, strengths = jax.lax.scan(step, start, jnp.array([3.0, 2.0, 2.5, 2.2, 1.0]))
  >>> print(strengths)
  [0.25 0.25 0.25 0.5  0.5 ]
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _signatures
from jaxreg._checks import check_nonnegative, check_scalar, is_static
from jaxreg.training._metrics import is_improvement, scalar_metric, with_dtypes_of

__all__ = ["Plateau", "init", "update", "update_maximizing"]


class Plateau(NamedTuple):
    """State of a strength that changes when a metric stalls.

    Attributes:
      strength: Current strength, float32.
      best_metric: Best metric so far, float32; infinity before the first number.
      has_best: Boolean: whether ``best_metric`` is a metric.
      stale: Number of values without improvement since the strength changed, int32.
    """

    strength: jax.Array
    best_metric: jax.Array
    has_best: jax.Array
    stale: jax.Array


def init(strength: ArrayLike) -> Plateau:
    """Returns the initial state.

    Args:
      strength: Initial strength, zero or positive. Zero remains zero under any factor.

    Returns:
      The state that :func:`update` advances.

    Raises:
      ValueError: ``strength`` is negative, NaN, or more than one number.

    Example:
      >>> from jaxreg.training import plateau
      >>> print(plateau.init(0.5).strength)
      0.5
    """
    check_scalar(strength, "strength")
    check_nonnegative(strength, "strength")
    return Plateau(
        strength=jnp.array(strength, jnp.float32),
        best_metric=jnp.array(jnp.inf, jnp.float32),
        has_best=jnp.array(False),
        stale=jnp.array(0, jnp.int32),
    )


def update(
    state: Plateau,
    metric: ArrayLike,
    *,
    patience: ArrayLike,
    factor: ArrayLike,
    relief: ArrayLike = 1.0,
    min_delta: ArrayLike = 0.0,
    minimum: ArrayLike = 0.0,
    maximum: ArrayLike = jnp.inf,
) -> Plateau:
    r"""Updates the strength with one value of a metric to be minimized.

    .. math::

      \text{improved} = m < m_{\text{best}} - \delta, \qquad
      s' = \text{improved} \; ? \; 0 : s + 1, \qquad
      \lambda' = \mathrm{clip}(\lambda \cdot
      (\text{improved} \; ? \; r : s' \geq N \; ? \; f : 1), \; \lambda_{\min}, \lambda_{\max})

    and :math:`s'` starts over at 0 where it reaches :math:`N`.

    Args:
      state: State from :func:`init` or the previous update.
      metric: Value :math:`m` of the metric, a scalar; negative values are allowed.
      patience: Number :math:`N` of values without improvement, zero or positive; infinity never
        changes the strength.
      factor: Factor :math:`f` at a plateau, zero or positive.
      relief: Factor :math:`r` at an improvement, zero or positive; below 1 the strength falls while
        training improves.
      min_delta: Minimum size :math:`\delta` of an improvement, zero or positive.
      minimum: Least strength :math:`\lambda_{\min}` after an update, zero or positive.
      maximum: Largest strength :math:`\lambda_{\max}` after an update, not below ``minimum``.

    Returns:
      The new state.

    Raises:
      ValueError: ``metric`` is not a scalar, a number is negative or NaN, or ``minimum`` exceeds
        ``maximum``.

    Example:
      >>> from jaxreg.training import plateau
      >>> state = plateau.init(1.0)
      >>> for loss in [-1.0, -2.0, -1.5, float("nan"), -1.9]:
      ...     state = plateau.update(state, loss, patience=2, factor=2.0, maximum=8.0)
      >>> print(state.strength, state.best_metric, state.stale)
      2.0 -2.0 1

    References:
      Prechelt, `Early Stopping, But When? <https://doi.org/10.1007/3-540-49430-8_3>`_, 1998, on
      when a metric has stopped improving
    """
    numbers = {"patience": patience, "factor": factor, "relief": relief, "min_delta": min_delta}
    for name, value in (numbers | {"minimum": minimum, "maximum": maximum}).items():
        check_nonnegative(value, name)
    if is_static(minimum) and is_static(maximum) and float(minimum) > float(maximum):  # pyright: ignore
        raise ValueError(f"`minimum` must be at most `maximum`, got {minimum} and {maximum}.")
    metric = scalar_metric(metric)
    improved = is_improvement(metric, state.best_metric, state.has_best, min_delta)
    stale = jnp.where(improved, 0, state.stale + 1)
    reached = stale >= patience
    change = jnp.where(improved, relief, jnp.where(reached, factor, 1.0))
    new = Plateau(
        strength=jnp.clip(state.strength.astype(metric.dtype) * change, minimum, maximum),
        best_metric=jnp.where(improved, metric, state.best_metric.astype(metric.dtype)),
        has_best=state.has_best | improved,
        stale=jnp.where(reached, 0, stale),
    )
    return with_dtypes_of(state, new)


def update_maximizing(
    state: Plateau,
    metric: ArrayLike,
    *,
    patience: ArrayLike,
    factor: ArrayLike,
    relief: ArrayLike = 1.0,
    min_delta: ArrayLike = 0.0,
    minimum: ArrayLike = 0.0,
    maximum: ArrayLike = jnp.inf,
) -> Plateau:
    """Updates the strength with one value of a metric to be maximized, such as accuracy.

    Equals :func:`update` with the negated metric; ``best_metric`` is the negated best value.

    Args:
      state: State from :func:`init` or the previous update.
      metric: Value of the metric, a scalar.
      patience: Number of values without improvement, zero or positive.
      factor: Factor of the strength at a plateau, zero or positive.
      relief: Factor of the strength at an improvement, zero or positive.
      min_delta: Minimum size of an improvement, zero or positive.
      minimum: Least strength after an update, zero or positive.
      maximum: Largest strength after an update, not below ``minimum``.

    Returns:
      The new state.

    Raises:
      ValueError: ``metric`` is not a scalar, a number is negative or NaN, or ``minimum`` exceeds
        ``maximum``.

    Example:
      >>> from jaxreg.training import plateau
      >>> state = plateau.init(1.0)
      >>> for accuracy in [0.5, 0.75, 0.7]:
      ...     state = plateau.update_maximizing(state, accuracy, patience=1, factor=2.0)
      >>> print(state.strength, -state.best_metric)
      2.0 0.75
    """
    return update(
        state,
        -jnp.asarray(metric, jnp.float32),
        patience=patience,
        factor=factor,
        relief=relief,
        min_delta=min_delta,
        minimum=minimum,
        maximum=maximum,
    )


_signatures.show(__name__)
