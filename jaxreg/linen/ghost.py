"""Linen modules for variants of batch norm, with the variables of ``BatchNorm``."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from flax import linen as nn
from flax.typing import Dtype, Initializer
from jax.typing import ArrayLike

from jaxreg import normalization
from jaxreg._numerics import widen
from jaxreg.linen.normalization import BatchNorm, RunningNorm

Limit = ArrayLike | Callable[[jax.Array], ArrayLike]


class GhostBatchNorm(RunningNorm):
    """Linen module for :func:`jaxreg.normalization.ghost_batch_norm`.

    It has the parameters and statistics of :class:`BatchNorm`, so checkpoints of a ``BatchNorm``
    with the same name load. If the name was automatic, pass ``name="BatchNorm_0"``, or replace all
    norms of a model with ``class BatchNorm(linen.GhostBatchNorm): pass``. The features are on the
    last axis. The input of ``init`` may have any number of examples.

    Attributes:
      ghost_batch_size: Number of examples in a ghost batch; must divide the training batch size.
      use_running_average: True in evaluation mode, False in training mode; None if every call
        passes it.
      momentum: Weight of the old value in the running statistics, at each ghost batch.
      epsilon: Added to the variance.
      dtype: Dtype of the result; by default the promoted dtype of input and parameters.
      param_dtype: Dtype of the parameters.
      use_bias: Whether an offset is learned.
      use_scale: Whether a factor is learned.
      bias_init: Initializer of the offset.
      scale_init: Initializer of the factor.
      scale_offset: Added to the factor. With 1 and ``scale_init=jax.nn.initializers.zeros`` the
        factor is learned around one, as in Gemma and Megatron, and weight decay pulls it to one.
      ddof: 1 gives an unbiased running variance, see :func:`jaxreg.normalization.ghost_batch_norm`.
      mean_init: Initializer of the running mean, called without a key.
      var_init: Initializer of the running variance, called without a key.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> layer = linen.GhostBatchNorm(2, use_running_average=False, epsilon=0.0)
      >>> x = jnp.array([[1.0], [3.0], [10.0], [30.0]])
      >>> variables = layer.init(jax.random.key(0), x[:1])
      >>> y, updated = layer.apply(variables, x, mutable=["batch_stats"])
      >>> print(y.ravel())
      [-1.  1. -1.  1.]
    """

    ghost_batch_size: int
    use_running_average: bool | None = None
    momentum: ArrayLike = 0.99
    epsilon: ArrayLike = 1e-5
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    use_bias: bool = True
    use_scale: bool = True
    bias_init: Initializer = nn.initializers.zeros
    scale_init: Initializer = nn.initializers.ones
    scale_offset: ArrayLike = 0.0
    ddof: ArrayLike = 0
    mean_init: Initializer = nn.initializers.zeros
    var_init: Initializer = nn.initializers.ones

    @nn.nowrap
    def _in_training(self) -> Callable[..., tuple[jax.Array, normalization.BatchStats]]:
        shared = {"momentum": self.momentum, "eps": self.epsilon, "ddof": self.ddof}
        if self.is_initializing():
            return partial(normalization.batch_norm, **shared)
        return partial(
            normalization.ghost_batch_norm, ghost_batch_size=self.ghost_batch_size, **shared
        )


class BatchRenorm(BatchNorm, kw_only=True):
    """Linen module for :func:`jaxreg.normalization.batch_renorm`.

    It has the parameters and statistics of :class:`BatchNorm`, so checkpoints of a ``BatchNorm``
    load; see :class:`GhostBatchNorm` about automatic names.

    A limit may be a schedule, a function of the number of training steps that this layer has seen.
    The layer then counts them in ``batch_stats/count``. CrossQ, which is batch norm for its first
    100,000 steps, uses ``r_max=lambda n: jnp.where(n < 100_000, 1.0, 3.0)`` and ``d_max=lambda n:
    jnp.where(n < 100_000, 0.0, 5.0)``.

    Attributes:
      use_running_average: True in evaluation mode, False in training mode; None if every call
        passes it.
      axis: Feature axes.
      momentum: Weight of the old value in the running statistics.
      epsilon: Added to the variance.
      dtype: Dtype of the result; by default the promoted dtype of input and parameters.
      param_dtype: Dtype of the parameters.
      use_bias: Whether an offset is learned.
      use_scale: Whether a factor is learned.
      bias_init: Initializer of the offset.
      scale_init: Initializer of the factor.
      axis_name: Mesh axis to synchronize over, inside ``shard_map`` or ``pmap``; not needed under
        plain ``jit``. Training inside ``shard_map`` requires it; with an empty tuple, each device
        has its own statistics.
      axis_index_groups: Groups of indices along ``axis_name``, each with its own statistics.
      use_fast_variance: Has no effect: the variance is always accurate.
      force_float32_reductions: Has no effect: statistics are always float32 or wider.
      scale_offset: Added to the factor. With 1 and ``scale_init=jax.nn.initializers.zeros`` the
        factor is learned around one, as in Gemma and Megatron, and weight decay pulls it to one.
      ddof: 1 gives an unbiased running variance, see :func:`jaxreg.normalization.batch_renorm`.
      mean_init: Initializer of the running mean, called without a key.
      var_init: Initializer of the running variance, called without a key.
      r_max: Upper bound on the correction of the standard deviation, 1 or more, or a schedule.
      d_max: Upper bound on the correction of the mean, zero or positive, or a schedule.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> layer = linen.BatchRenorm(use_running_average=False, r_max=3.0, d_max=5.0, epsilon=0.0)
      >>> x = jnp.array([[1.0], [3.0]])
      >>> variables = layer.init(jax.random.key(0), x)
      >>> y, updated = layer.apply(variables, x, mutable=["batch_stats"])
      >>> print(y.ravel())
      [1. 3.]
    """

    r_max: Limit
    d_max: Limit

    @nn.nowrap
    def _in_training(self) -> Callable[..., tuple[jax.Array, normalization.BatchStats]]:
        limits = {"r_max": self.r_max, "d_max": self.d_max}
        if not any(map(callable, limits.values())):
            return partial(self._renormalize, limits)
        start = normalization.init_stats(()).mean
        count = self.variable("batch_stats", "count", lambda: start)

        def with_count(*args: Any, **given: Any) -> Any:
            now = {k: v(count.value) if callable(v) else v for k, v in limits.items()}
            if not self.is_initializing():
                count.value = widen(count.value) + 1
            return self._renormalize(now, *args, **given)

        return with_count

    @nn.nowrap
    def _renormalize(self, limits: dict[str, Any], *args: Any, **given: Any) -> Any:
        return normalization.batch_renorm(
            *args,
            **given,
            **limits,
            momentum=self.momentum,
            eps=self.epsilon,
            axis=self.axis,
            ddof=self.ddof,
            axis_name=() if self.is_initializing() else self.axis_name,
            axis_index_groups=self.axis_index_groups,
        )
