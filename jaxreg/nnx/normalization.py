"""NNX modules that normalize, with the variables of Flax."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
from flax import nnx
from flax.nnx.nn.dtypes import canonicalize_dtype
from flax.typing import Dtype, Initializer
from jax.typing import ArrayLike

from jaxreg import normalization
from jaxreg._checks import check_floating
from jaxreg._numerics import widen


class RunningNorm(nnx.Module):
    """Base of the norms with running statistics.

    It is no dataclass, and so its annotations no fields: the order of these is that of Flax.
    """

    num_features: int | tuple[int, ...]
    use_running_average: bool
    axis: int | tuple[int, ...] = -1
    epsilon: ArrayLike
    dtype: Dtype | None
    param_dtype: Dtype
    use_bias: bool
    use_scale: bool
    bias_init: Initializer
    scale_init: Initializer

    def __post_init__(
        self,
        rngs: nnx.Rngs,
        bias_metadata: Mapping[str, Any],
        scale_metadata: Mapping[str, Any],
        stats_metadata: Mapping[str, Any],
    ) -> None:
        stats = normalization.init_stats(self.num_features)
        self.mean = nnx.BatchStat(stats.mean, **stats_metadata)
        self.var = nnx.BatchStat(stats.var, **stats_metadata)
        set_affine_params(self, rngs, {"scale": scale_metadata, "bias": bias_metadata})

    def in_training(self) -> Callable[..., tuple[jax.Array, normalization.BatchStats]]:
        """Returns the function of input and statistics, the one thing in which they differ."""
        raise NotImplementedError

    def __call__(
        self,
        x: jax.Array,
        use_running_average: bool | None = None,  # noqa: FBT001
        *,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Normalizes ``x``, and updates the statistics in training.

        Args:
          x: Input array.
          use_running_average: Overrides the attribute.
          mask: Elements that enter the statistics, ``where`` of :mod:`jaxreg.normalization`.
        """
        check_floating(x, "x")
        evaluate = self.use_running_average if use_running_average is None else use_running_average
        params = affine_values(self)
        stats = normalization.BatchStats(self.mean[...], self.var[...])
        given = {**params, "where": mask}
        if evaluate:
            fields = {"eps": self.epsilon, "axis": self.axis}
            y = normalization.batch_norm_inference(widen(x), stats, **given, **fields)
        else:
            y, stats = self.in_training()(widen(x), stats, **given)
            self.mean[...], self.var[...] = stats
        return y.astype(canonicalize_dtype(x, *params.values(), dtype=self.dtype))

    def set_view(self, use_running_average: bool | None = None) -> None:  # noqa: FBT001
        """Sets the mode; called by ``nnx.view``.

        Args:
          use_running_average: True in evaluation.
        """
        if use_running_average is not None:
            self.use_running_average = use_running_average


@nnx.dataclass(eq=False)
class BatchNorm(RunningNorm):
    """NNX form of :func:`jaxreg.normalization.batch_norm`.

    Defaults and variables (``scale``, ``bias``, ``mean``, ``var``) are those of
    ``flax.nnx.BatchNorm``, so that checkpoints load both ways. The numbers agree where Flax's are
    right; large means, masks and unequal counts across devices are right too. Flax's
    ``use_fast_variance`` and ``promote_dtype`` have no counterpart, since statistics are always
    accurate ones in float32; nor has ``axis_index_groups``: name a mesh axis per group.

    Attributes:
      num_features: Size of the feature axis, or sizes of the feature axes.
      use_running_average: True in evaluation. Also set by ``model.eval()``, ``nnx.view`` or at the
        call.
      axis: Feature axes.
      momentum: Weight of the past in the running statistics.
      epsilon: Added to the variance.
      dtype: Dtype of the result; by default that of the input and the parameters together.
      param_dtype: Dtype of the parameters.
      use_bias: Whether an offset is learned.
      use_scale: Whether a factor is learned.
      bias_init: Initializer of the offset.
      scale_init: Initializer of the factor.
      axis_name: Mesh axis to synchronize over, inside ``shard_map`` or ``pmap``; plain ``jit``
        needs none. Training inside ``shard_map`` asks for it; an empty tuple gives each device
        statistics of its own.
      rngs: Streams of keys for the initializers.
      bias_metadata: Metadata of the offset's variable, such as its sharding.
      scale_metadata: Metadata of the factor's variable.
      stats_metadata: Metadata of the variables of the running statistics.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.BatchNorm(1, momentum=0.5, rngs=flax_nnx.Rngs(0))
      >>> y = layer(jnp.array([[1.0], [3.0]]))
      >>> print(layer.mean[...])
      [1.]
    """

    num_features: int | tuple[int, ...]
    _: dataclasses.KW_ONLY
    use_running_average: bool = False
    axis: int | tuple[int, ...] = -1
    momentum: ArrayLike = 0.99
    epsilon: ArrayLike = 1e-5
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    use_bias: bool = True
    use_scale: bool = True
    bias_init: Initializer = nnx.initializers.zeros_init()
    scale_init: Initializer = nnx.initializers.ones_init()
    axis_name: str | tuple[str, ...] | None = None
    rngs: dataclasses.InitVar[nnx.Rngs]
    bias_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})
    scale_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})
    stats_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})

    def in_training(self) -> Callable[..., tuple[jax.Array, normalization.BatchStats]]:
        return partial(
            normalization.batch_norm,
            momentum=self.momentum,
            eps=self.epsilon,
            axis=self.axis,
            axis_name=self.axis_name,
        )


def set_affine_params(module: Any, rngs: nnx.Rngs, metadata: dict[str, Mapping[str, Any]]) -> None:
    """Gives a norm the parameters, of those in ``metadata``, that it has; the others are None."""
    features = module.num_features
    shape = (features,) if isinstance(features, int) else tuple(features)
    for name, given in metadata.items():
        setattr(module, name, nnx.data(None))
        if getattr(module, f"use_{name}"):
            init = getattr(module, f"{name}_init")
            value = init(rngs.params(), shape, module.param_dtype)
            setattr(module, name, nnx.Param(value, **given))


def affine_values(module: Any) -> dict[str, jax.Array]:
    """The parameters of a norm as arrays, those of ``scale`` and ``bias`` that it has."""
    params = {name: getattr(module, name, None) for name in ("scale", "bias")}
    return {name: param[...] for name, param in params.items() if param is not None}
