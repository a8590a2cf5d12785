"""NNX module for batch norm, with the variables of Flax, and base classes of other norms."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
from flax import nnx
from flax.nnx.nn.dtypes import canonicalize_dtype
from flax.typing import Dtype, Initializer, PromoteDtypeFn
from jax.typing import ArrayLike

from jaxreg import normalization
from jaxreg._checks import canonical_groups, check_floating, check_mask
from jaxreg._numerics import offset_scale, stop_derivatives, widen_for
from jaxreg.nnx._strengths import Module


class Norm(Module):
    """Base class of the norms, which does not store the initializers.

    Norms with equal arguments therefore have equal graph definitions.
    """

    num_features: int | tuple[int, ...]
    epsilon: ArrayLike
    dtype: Dtype | None
    param_dtype: Dtype
    use_bias: bool
    use_scale: bool
    axis_name: str | tuple[str, ...] | None
    axis_index_groups: Sequence[Sequence[int]] | None
    scale_offset: ArrayLike

    def _set_params(self, rngs: nnx.Rngs, **given: tuple[Initializer, Mapping[str, Any]]) -> None:
        """Initializes each given parameter, or sets it to None if the norm does not use it."""
        features = self.num_features
        shape = (features,) if isinstance(features, int) else tuple(features)
        for name, (init, metadata) in given.items():
            setattr(self, name, nnx.data(None))
            if getattr(self, f"use_{name}"):
                value = init(rngs.params(), shape, self.param_dtype)
                setattr(self, name, nnx.Param(value, **metadata))

    def _params(self) -> dict[str, jax.Array]:
        """Returns a dict with the arrays ``scale`` and ``bias``, if the norm has them."""
        params = {name: getattr(self, name, None) for name in ("scale", "bias")}
        return {name: param[...] for name, param in params.items() if param is not None}


class RunningNorm(Norm):
    """Base class of the norms with running statistics.

    It is not a dataclass, so its annotations are not fields: the order of the fields is Flax's.
    """

    use_running_average: bool | None
    axis: int | tuple[int, ...] = -1

    def _set_stats(self, metadata: Mapping[str, Any]) -> None:
        """Initializes the running mean and variance."""
        stats = normalization.init_stats(self.num_features)
        self.mean = nnx.BatchStat(stats.mean, **metadata)
        self.var = nnx.BatchStat(stats.var, **metadata)

    def _in_training(self) -> Callable[..., tuple[jax.Array, normalization.BatchStats]]:
        """Returns the training-mode function of the input and the running statistics."""
        raise NotImplementedError

    def __call__(
        self,
        x: jax.Array,
        use_running_average: bool | None = None,  # noqa: FBT001
        *,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Normalizes ``x``, and updates the running statistics in training mode.

        Args:
          x: Input array.
          use_running_average: Overrides the attribute.
          mask: Mask of the elements that enter the statistics; see :mod:`jaxreg.normalization`.

        Raises:
          ValueError: ``use_running_average`` is None in both places, or ``mask`` does not broadcast
            to ``x``.
        """
        check_floating(x, "x")
        check_mask(mask, x, "mask")
        params = self._params()
        stats = normalization.BatchStats(self.mean[...], self.var[...])
        given = {**offset_scale(params, self.scale_offset), "where": mask}
        dtype = canonicalize_dtype(x, *params.values(), dtype=self.dtype)
        read = widen_for(x, dtype)
        if evaluates(self, use_running_average):
            fields = {"eps": self.epsilon, "axis": self.axis}
            y = normalization.batch_norm_inference(read, stats, **given, **fields)
        else:
            y, stats = self._in_training()(read, stats, **given)
            store(self.mean, stats.mean)
            store(self.var, stats.var)
        return y.astype(dtype)

    def set_view(self, use_running_average: bool | None = None) -> None:  # noqa: FBT001
        """Switches between training and evaluation mode; called by ``flax.nnx.view``.

        Args:
          use_running_average: True in evaluation mode.
        """
        if use_running_average is not None:
            self.use_running_average = use_running_average


@nnx.dataclass(eq=False)
class BatchNorm(RunningNorm):
    """NNX module for :func:`jaxreg.normalization.batch_norm`.

    It has the arguments, defaults and variables (``scale``, ``bias``, ``mean``, ``var``) of
    ``flax.nnx.BatchNorm``, so each loads the other's checkpoints. Its results agree with Flax's
    wherever those are correct, and are also correct for large means, with a ``mask``, and for
    devices with unequal numbers of elements. Statistics narrower than float32, as in a model that
    was cast to bfloat16, become float32 at the first step. Statistics that are a ``jax.Ref`` cannot
    change their dtype; they keep it, and a warning says so.

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
      ddof: 1 gives an unbiased running variance, see :func:`jaxreg.normalization.batch_norm`.

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
    use_running_average: bool | None = False
    axis: int | tuple[int, ...] = -1
    momentum: ArrayLike = 0.99
    epsilon: ArrayLike = 1e-5
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    use_bias: bool = True
    use_scale: bool = True
    bias_init: dataclasses.InitVar[Initializer] = nnx.initializers.zeros_init()
    scale_init: dataclasses.InitVar[Initializer] = nnx.initializers.ones_init()
    axis_name: str | tuple[str, ...] | None = None
    axis_index_groups: Sequence[Sequence[int]] | None = None
    use_fast_variance: bool = True
    promote_dtype: dataclasses.InitVar[PromoteDtypeFn | None] = None
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
        promote_dtype: PromoteDtypeFn | None,
        rngs: nnx.Rngs,
        bias_metadata: Mapping[str, Any],
        scale_metadata: Mapping[str, Any],
        stats_metadata: Mapping[str, Any],
    ) -> None:
        del promote_dtype
        self.axis_index_groups = canonical_groups(self.axis_index_groups)
        self._set_stats(stats_metadata)
        self._set_params(rngs, scale=(scale_init, scale_metadata), bias=(bias_init, bias_metadata))

    def _in_training(self) -> Callable[..., tuple[jax.Array, normalization.BatchStats]]:
        return partial(
            normalization.batch_norm,
            momentum=self.momentum,
            eps=self.epsilon,
            axis=self.axis,
            ddof=self.ddof,
            axis_name=self.axis_name,
            axis_index_groups=self.axis_index_groups,
        )


def evaluates(norm: Any, use_running_average: bool | None) -> bool:  # noqa: FBT001
    """Returns whether a batch norm with this ``use_running_average`` uses running statistics.

    Raises:
      ValueError: ``use_running_average`` is None both at the call and in the norm.
    """
    given = norm.use_running_average if use_running_average is None else use_running_average
    if given is None:
        raise ValueError(
            "`use_running_average` must be True or False, got None; pass it at the call or to the "
            "constructor, or call model.train() or model.eval()."
        )
    return bool(given)


def store(variable: nnx.Variable[Any], value: jax.Array) -> None:
    """Stores a value in a variable, which takes the dtype of ``value`` unless it is a reference."""
    value = stop_derivatives(value)
    old = variable[...].dtype
    if value.dtype == old:
        variable[...] = value
    elif variable.ref:
        warnings.warn(
            f"Running statistics stored as references in {old} stop moving and cannot be widened; "
            f"create them in {value.dtype}.",
            stacklevel=2,
        )
        variable[...] = value.astype(old)
    else:
        variable.set_value(value)
