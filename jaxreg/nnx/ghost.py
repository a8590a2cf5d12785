"""NNX modules for variants of batch norm, with the variables of ``BatchNorm``."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
from flax import nnx
from flax.typing import Dtype, Initializer
from jax.typing import ArrayLike

from jaxreg import normalization
from jaxreg._numerics import widen
from jaxreg.nnx.normalization import BatchNorm, RunningNorm, store

Limit = ArrayLike | Callable[[jax.Array], ArrayLike]


@nnx.dataclass(eq=False)
class GhostBatchNorm(RunningNorm):
    """NNX module for :func:`jaxreg.normalization.ghost_batch_norm`.

    It has the variables of :class:`BatchNorm`, so states of a ``BatchNorm`` load. The features are
    on the last axis.

    Attributes:
      num_features: Size of the feature axis.
      ghost_batch_size: Number of examples in a ghost batch; must divide the training batch size.
      use_running_average: True in evaluation mode; ``model.eval()`` and ``flax.nnx.view`` set it
        too. None if every call passes it.
      momentum: Weight of the old value in the running statistics, at each ghost batch.
      epsilon: Added to the variance.
      dtype: Dtype of the result; by default the promoted dtype of input and parameters.
      param_dtype: Dtype of the parameters.
      use_bias: Whether an offset is learned.
      use_scale: Whether a factor is learned.
      bias_init: Initializer of the offset.
      scale_init: Initializer of the factor.
      rngs: PRNG streams for the initializers.
      bias_metadata: Metadata of the offset's variable, such as its sharding.
      scale_metadata: Metadata of the factor's variable.
      stats_metadata: Metadata of the variables of the running statistics.
      scale_offset: Added to the factor. With 1 and ``scale_init=jax.nn.initializers.zeros`` the
        factor is learned around one, as in Gemma and Megatron, and weight decay pulls it to one.
      ddof: 1 gives an unbiased running variance, see :func:`jaxreg.normalization.ghost_batch_norm`.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.GhostBatchNorm(1, 2, epsilon=0.0, rngs=flax_nnx.Rngs(0))
      >>> print(layer(jnp.array([[1.0], [3.0], [10.0], [30.0]])).ravel())
      [-1.  1. -1.  1.]
    """

    num_features: int  # pyright: ignore[reportIncompatibleVariableOverride]
    ghost_batch_size: int
    _: dataclasses.KW_ONLY
    use_running_average: bool | None = False
    momentum: ArrayLike = 0.99
    epsilon: ArrayLike = 1e-5
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    use_bias: bool = True
    use_scale: bool = True
    bias_init: dataclasses.InitVar[Initializer] = nnx.initializers.zeros_init()
    scale_init: dataclasses.InitVar[Initializer] = nnx.initializers.ones_init()
    rngs: dataclasses.InitVar[nnx.Rngs]
    bias_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})
    scale_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})
    stats_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})
    scale_offset: ArrayLike = 0.0
    ddof: ArrayLike = 0

    def __post_init__(
        self,
        bias_init: Initializer,
        scale_init: Initializer,
        rngs: nnx.Rngs,
        bias_metadata: Mapping[str, Any],
        scale_metadata: Mapping[str, Any],
        stats_metadata: Mapping[str, Any],
    ) -> None:
        self._set_stats(stats_metadata)
        self._set_params(rngs, scale=(scale_init, scale_metadata), bias=(bias_init, bias_metadata))

    def _in_training(self) -> Callable[..., tuple[jax.Array, normalization.BatchStats]]:
        return partial(
            normalization.ghost_batch_norm,
            ghost_batch_size=self.ghost_batch_size,
            momentum=self.momentum,
            eps=self.epsilon,
            ddof=self.ddof,
        )


@nnx.dataclass(eq=False)
class BatchRenorm(BatchNorm):
    """NNX module for :func:`jaxreg.normalization.batch_renorm`.

    It has the variables of :class:`BatchNorm`, so states of a ``BatchNorm`` load if no limit is a
    schedule.

    A limit may be a schedule, a function of the number of training steps that this layer has seen.
    The layer then counts them in a variable ``count``. CrossQ, which is batch norm for its first
    100,000 steps, uses ``r_max=lambda n: jnp.where(n < 100_000, 1.0, 3.0)`` and ``d_max=lambda n:
    jnp.where(n < 100_000, 0.0, 5.0)``. Layers that are given one function object share a compiled
    program.
    Limits that are arrays can be changed without recompilation.

    Attributes:
      num_features: Size of the feature axis, or sizes of the feature axes.
      use_running_average: True in evaluation mode; ``model.eval()`` and ``flax.nnx.view`` set it
        too. None if every call passes it.
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
      promote_dtype: Has no effect: the input is not rounded before it is normalized.
      rngs: PRNG streams for the initializers.
      bias_metadata: Metadata of the offset's variable, such as its sharding.
      scale_metadata: Metadata of the factor's variable.
      stats_metadata: Metadata of the variables of the running statistics.
      scale_offset: Added to the factor. With 1 and ``scale_init=jax.nn.initializers.zeros`` the
        factor is learned around one, as in Gemma and Megatron, and weight decay pulls it to one.
      ddof: 1 gives an unbiased running variance, see :func:`jaxreg.normalization.batch_renorm`.
      r_max: Upper bound on the correction of the standard deviation, 1 or more, or a schedule.
      d_max: Upper bound on the correction of the mean, zero or positive, or a schedule.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.BatchRenorm(1, r_max=3.0, d_max=5.0, epsilon=0.0, rngs=flax_nnx.Rngs(0))
      >>> print(layer(jnp.array([[1.0], [3.0]])).ravel())
      [1. 3.]
    """

    _: dataclasses.KW_ONLY
    r_max: Limit
    d_max: Limit

    def _set_stats(self, metadata: Mapping[str, Any]) -> None:
        super()._set_stats(metadata)
        if callable(self.r_max) or callable(self.d_max):
            self.count = nnx.BatchStat(normalization.init_stats(()).mean)

    def _limits(self) -> dict[str, Any]:
        """Returns ``r_max`` and ``d_max`` at this step, and increments the step count."""
        limits = {"r_max": self.r_max, "d_max": self.d_max}
        if any(map(callable, limits.values())):
            count = self.count[...]
            limits = {k: v(count) if callable(v) else v for k, v in limits.items()}
            store(self.count, widen(count) + 1)
        return limits

    def _in_training(self) -> Callable[..., tuple[jax.Array, normalization.BatchStats]]:
        return partial(
            normalization.batch_renorm,
            **self._limits(),
            momentum=self.momentum,
            eps=self.epsilon,
            axis=self.axis,
            ddof=self.ddof,
            axis_name=self.axis_name,
            axis_index_groups=self.axis_index_groups,
        )
