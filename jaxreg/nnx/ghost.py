"""NNX modules of variants of batch norm, with its variables."""

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
from jaxreg.nnx.normalization import BatchNorm, RunningNorm


@nnx.dataclass(eq=False)
class GhostBatchNorm(RunningNorm):
    """NNX form of :func:`jaxreg.normalization.ghost_batch_norm`.

    Variables are those of :class:`BatchNorm`, so that its states load. The last axis holds the
    features.

    Attributes:
      num_features: Size of the feature axis.
      ghost_batch_size: Examples in a ghost batch, a divisor of the batch in training.
      use_running_average: True in evaluation. Also set by ``model.eval()``, ``nnx.view`` or at the
        call.
      momentum: Weight of the past in the running statistics, for each ghost batch.
      epsilon: Added to the variance.
      dtype: Dtype of the result; by default that of the input and the parameters together.
      param_dtype: Dtype of the parameters.
      use_bias: Whether an offset is learned.
      use_scale: Whether a factor is learned.
      bias_init: Initializer of the offset.
      scale_init: Initializer of the factor.
      rngs: Streams of keys for the initializers.
      bias_metadata: Metadata of the offset's variable, such as its sharding.
      scale_metadata: Metadata of the factor's variable.
      stats_metadata: Metadata of the variables of the running statistics.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.GhostBatchNorm(1, 2, epsilon=0.0, rngs=flax_nnx.Rngs(0))
      >>> print(layer(jnp.array([[1.0], [3.0], [10.0], [30.0]])).ravel())
      [-1.  1. -1.  1.]
    """

    num_features: int
    ghost_batch_size: int
    _: dataclasses.KW_ONLY
    use_running_average: bool = False
    momentum: ArrayLike = 0.99
    epsilon: ArrayLike = 1e-5
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    use_bias: bool = True
    use_scale: bool = True
    bias_init: Initializer = nnx.initializers.zeros_init()
    scale_init: Initializer = nnx.initializers.ones_init()
    rngs: dataclasses.InitVar[nnx.Rngs]
    bias_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})
    scale_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})
    stats_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})

    def in_training(self) -> Callable[..., tuple[jax.Array, normalization.BatchStats]]:
        return partial(
            normalization.ghost_batch_norm,
            ghost_batch_size=self.ghost_batch_size,
            momentum=self.momentum,
            eps=self.epsilon,
        )


@nnx.dataclass(eq=False)
class BatchRenorm(BatchNorm):
    """NNX form of :func:`jaxreg.normalization.batch_renorm`.

    Variables are those of :class:`BatchNorm`, so that its states load; so are all other attributes.

    Attributes:
      r_max: Bound of the change of the deviation, 1 or more. Start with an array, and replace it by
        others, to follow a schedule without recompilation.
      d_max: Bound of the change of the mean, zero or positive; the same holds.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.BatchRenorm(1, r_max=3.0, d_max=5.0, epsilon=0.0, rngs=flax_nnx.Rngs(0))
      >>> print(layer(jnp.array([[1.0], [3.0]])).ravel())
      [1. 3.]
    """

    _: dataclasses.KW_ONLY
    r_max: ArrayLike
    d_max: ArrayLike

    def in_training(self) -> Callable[..., tuple[jax.Array, normalization.BatchStats]]:
        return partial(
            normalization.batch_renorm,
            r_max=self.r_max,
            d_max=self.d_max,
            momentum=self.momentum,
            eps=self.epsilon,
            axis=self.axis,
            axis_name=self.axis_name,
        )
