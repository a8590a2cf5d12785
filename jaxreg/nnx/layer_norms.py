"""NNX modules that normalize each example separately, with the variables of Flax."""

import dataclasses
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
from jaxreg._checks import canonical_groups, check_floating, check_mask, group_count
from jaxreg._numerics import offset_scale, widen_for
from jaxreg.nnx.normalization import Norm


class ExampleNorm(Norm):
    """Base class of the norms that normalize each example separately.

    It is not a dataclass, so its annotations are not fields: the order of the fields is Flax's.
    """

    def __post_init__(
        self,
        bias_init: Initializer,
        scale_init: Initializer,
        promote_dtype: PromoteDtypeFn | None,
        rngs: nnx.Rngs,
        bias_metadata: Mapping[str, Any],
        scale_metadata: Mapping[str, Any],
    ) -> None:
        del promote_dtype
        self.axis_index_groups = canonical_groups(self.axis_index_groups)
        self._set_params(rngs, scale=(scale_init, scale_metadata), bias=(bias_init, bias_metadata))

    def _function(self) -> Callable[..., jax.Array]:
        """Returns the function of ``jaxreg.normalization`` with the options of this norm bound."""
        raise NotImplementedError

    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """Normalizes ``x``.

        Args:
          x: Input array.
          mask: Mask of the elements that enter the statistics; see :mod:`jaxreg.normalization`.
        """
        check_floating(x, "x")
        check_mask(mask, x, "mask")
        params = self._params()
        dtype = canonicalize_dtype(x, *params.values(), dtype=self.dtype)
        y = self._function()(
            widen_for(x, dtype),
            eps=self.epsilon,
            where=mask,
            axis_name=self.axis_name,
            axis_index_groups=self.axis_index_groups,
            **offset_scale(params, self.scale_offset),
        )
        return y.astype(dtype)


@nnx.dataclass(eq=False)
class LayerNorm(ExampleNorm):
    """NNX module for :func:`jaxreg.normalization.layer_norm`.

    It has the arguments, defaults and variables of ``flax.nnx.LayerNorm``. Its results agree with
    Flax's wherever those are correct, and are also correct for large means and with a ``mask``,
    including for rows in which it selects no element.

    Attributes:
      num_features: Size of the feature axis, or sizes of the feature axes.
      epsilon: Added to the variance.
      dtype: Dtype of the result; by default the promoted dtype of input and parameters.
      param_dtype: Dtype of the parameters.
      use_bias: Whether an offset is learned.
      use_scale: Whether a factor is learned.
      bias_init: Initializer of the offset.
      scale_init: Initializer of the factor.
      reduction_axes: Axes that are normalized together.
      feature_axes: Axes along which the parameters vary.
      axis_name: Mesh axis over which the normalized axes are sharded, inside ``shard_map`` or
        ``pmap``; not needed under plain ``jit``.
      axis_index_groups: Groups of indices along ``axis_name``, each with its own statistics.
      use_fast_variance: Has no effect: the variance is always accurate.
      promote_dtype: Has no effect: the input is not rounded before it is normalized.
      rngs: PRNG streams for the initializers.
      bias_metadata: Metadata of the offset's variable, such as its sharding.
      scale_metadata: Metadata of the factor's variable.
      scale_offset: Added to the factor. With 1 and ``scale_init=jax.nn.initializers.zeros`` the
        factor is learned around one, as in Gemma and Megatron, and weight decay pulls it to one.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.LayerNorm(2, epsilon=0.0, rngs=flax_nnx.Rngs(0))
      >>> print(layer(jnp.array([[1.0, 3.0], [2.0, 6.0]])))
      [[-1.  1.]
       [-1.  1.]]
    """

    num_features: int | tuple[int, ...]
    _: dataclasses.KW_ONLY
    epsilon: ArrayLike = 1e-6
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    use_bias: bool = True
    use_scale: bool = True
    bias_init: dataclasses.InitVar[Initializer] = nnx.initializers.zeros_init()
    scale_init: dataclasses.InitVar[Initializer] = nnx.initializers.ones_init()
    reduction_axes: int | tuple[int, ...] = -1
    feature_axes: int | tuple[int, ...] = -1
    axis_name: str | tuple[str, ...] | None = None
    axis_index_groups: Sequence[Sequence[int]] | None = None
    use_fast_variance: bool = True
    promote_dtype: dataclasses.InitVar[PromoteDtypeFn | None] = None
    rngs: dataclasses.InitVar[nnx.Rngs]
    bias_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})
    scale_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})
    scale_offset: ArrayLike = 0.0

    def _function(self) -> Callable[..., jax.Array]:
        return partial(
            normalization.layer_norm,
            reduction_axes=self.reduction_axes,
            feature_axes=self.feature_axes,
        )


@nnx.dataclass(eq=False)
class RMSNorm(ExampleNorm):
    """NNX module for :func:`jaxreg.normalization.rms_norm`.

    It has the arguments, defaults and variables of ``flax.nnx.RMSNorm``. Its results agree with
    Flax's wherever those are correct, and are also correct with a ``mask``, including for rows in
    which it selects no element.

    Attributes:
      num_features: Size of the feature axis, or sizes of the feature axes.
      epsilon: Added to the mean square.
      dtype: Dtype of the result; by default the promoted dtype of input and parameters.
      param_dtype: Dtype of the parameters.
      use_scale: Whether a factor is learned.
      scale_init: Initializer of the factor.
      reduction_axes: Axes that are normalized together.
      feature_axes: Axes along which the factor varies.
      axis_name: Mesh axis over which the normalized axes are sharded, inside ``shard_map`` or
        ``pmap``; not needed under plain ``jit``.
      axis_index_groups: Groups of indices along ``axis_name``, each with its own statistics.
      use_fast_variance: Has no effect: the variance is always accurate.
      promote_dtype: Has no effect: the input is not rounded before it is normalized.
      rngs: PRNG streams for the initializers.
      scale_metadata: Metadata of the factor's variable, such as its sharding.
      scale_offset: Added to the factor. With 1 and ``scale_init=jax.nn.initializers.zeros`` the
        factor is learned around one, as in Gemma and Megatron, and weight decay pulls it to one.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.RMSNorm(3, epsilon=0.0, rngs=flax_nnx.Rngs(0))
      >>> print(layer(jnp.array([[3.0, 3.0, -3.0]])))
      [[ 1.  1. -1.]]
    """

    num_features: int | tuple[int, ...]
    _: dataclasses.KW_ONLY
    epsilon: ArrayLike = 1e-6
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    use_scale: bool = True
    scale_init: dataclasses.InitVar[Initializer] = nnx.initializers.ones_init()
    reduction_axes: int | tuple[int, ...] = -1
    feature_axes: int | tuple[int, ...] = -1
    axis_name: str | tuple[str, ...] | None = None
    axis_index_groups: Sequence[Sequence[int]] | None = None
    use_fast_variance: bool = True
    promote_dtype: dataclasses.InitVar[PromoteDtypeFn | None] = None
    rngs: dataclasses.InitVar[nnx.Rngs]
    scale_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})
    scale_offset: ArrayLike = 0.0

    def __post_init__(
        self,
        scale_init: Initializer,
        promote_dtype: PromoteDtypeFn | None,
        rngs: nnx.Rngs,
        scale_metadata: Mapping[str, Any],
    ) -> None:
        del promote_dtype
        self.axis_index_groups = canonical_groups(self.axis_index_groups)
        self._set_params(rngs, scale=(scale_init, scale_metadata))

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: jax.Array, mask: jax.Array | None = None
    ) -> jax.Array:
        """Normalizes ``x``.

        Args:
          x: Input array.
          mask: Mask of the elements that enter the statistics; see :mod:`jaxreg.normalization`.
            Positional as in Flax, unlike in the other norms.
        """
        return super().__call__(x, mask=mask)

    def _function(self) -> Callable[..., jax.Array]:
        return partial(
            normalization.rms_norm,
            reduction_axes=self.reduction_axes,
            feature_axes=self.feature_axes,
        )


@nnx.dataclass(eq=False)
class GroupNorm(ExampleNorm):
    """NNX module for :func:`jaxreg.normalization.group_norm`.

    It has the arguments, defaults and variables of ``flax.nnx.GroupNorm``. Its results agree with
    Flax's wherever those are correct, and are also correct for large means, for any number of batch
    axes, and with a ``mask`` whose channel axis has size 1.

    Attributes:
      num_features: Number of channels.
      num_groups: Number of groups; None if ``group_size`` is given.
      group_size: Number of channels in a group, in place of ``num_groups``.
      epsilon: Added to the variance.
      dtype: Dtype of the result; by default the promoted dtype of input and parameters.
      param_dtype: Dtype of the parameters.
      use_bias: Whether an offset is learned.
      use_scale: Whether a factor is learned.
      bias_init: Initializer of the offset.
      scale_init: Initializer of the factor.
      reduction_axes: Axes that are normalized together, including the last; all but the first
        by default.
      axis_name: Mesh axis over which the normalized axes are sharded, inside ``shard_map`` or
        ``pmap``; not needed under plain ``jit``.
      axis_index_groups: Groups of indices along ``axis_name``, each with its own statistics.
      use_fast_variance: Has no effect: the variance is always accurate.
      promote_dtype: Has no effect: the input is not rounded before it is normalized.
      rngs: PRNG streams for the initializers.
      bias_metadata: Metadata of the offset's variable, such as its sharding.
      scale_metadata: Metadata of the factor's variable.
      scale_offset: Added to the factor. With 1 and ``scale_init=jax.nn.initializers.zeros`` the
        factor is learned around one, as in Gemma and Megatron, and weight decay pulls it to one.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.GroupNorm(4, num_groups=2, epsilon=0.0, rngs=flax_nnx.Rngs(0))
      >>> print(layer(jnp.array([[1.0, 3.0, 10.0, 30.0]])))
      [[-1.  1. -1.  1.]]
    """

    num_features: int  # pyright: ignore[reportIncompatibleVariableOverride]
    num_groups: int | None = 32
    group_size: int | None = None
    _: dataclasses.KW_ONLY
    epsilon: ArrayLike = 1e-6
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    use_bias: bool = True
    use_scale: bool = True
    bias_init: dataclasses.InitVar[Initializer] = nnx.initializers.zeros_init()
    scale_init: dataclasses.InitVar[Initializer] = nnx.initializers.ones_init()
    reduction_axes: int | tuple[int, ...] | None = None
    axis_name: str | tuple[str, ...] | None = None
    axis_index_groups: Sequence[Sequence[int]] | None = None
    use_fast_variance: bool = True
    promote_dtype: dataclasses.InitVar[PromoteDtypeFn | None] = None
    rngs: dataclasses.InitVar[nnx.Rngs]
    bias_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})
    scale_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})
    scale_offset: ArrayLike = 0.0

    def __post_init__(self, *arguments: Any) -> None:
        self.num_groups = group_count(self.num_groups, self.group_size, self.num_features)
        self.group_size = self.num_features // self.num_groups
        super().__post_init__(*arguments)

    def _function(self) -> Callable[..., jax.Array]:
        groups: Any = self.num_groups  # The constructor has made it a number.
        return partial(normalization.group_norm, groups=groups, reduction_axes=self.reduction_axes)


@nnx.dataclass(eq=False)
class InstanceNorm(ExampleNorm):
    """NNX module for :func:`jaxreg.normalization.instance_norm`.

    It has the arguments, defaults and variables of ``flax.nnx.InstanceNorm``. Its results agree
    with Flax's wherever those are correct, and are also correct for large means and with a
    ``mask``, including for rows in which it selects no element.

    Attributes:
      num_features: Size of the feature axis, or sizes of the feature axes.
      epsilon: Added to the variance.
      dtype: Dtype of the result; by default the promoted dtype of input and parameters.
      param_dtype: Dtype of the parameters.
      use_bias: Whether an offset is learned.
      use_scale: Whether a factor is learned.
      bias_init: Initializer of the offset.
      scale_init: Initializer of the factor.
      feature_axes: Axes of the channels.
      axis_name: Mesh axis over which the normalized axes are sharded, inside ``shard_map`` or
        ``pmap``; not needed under plain ``jit``.
      axis_index_groups: Groups of indices along ``axis_name``, each with its own statistics.
      use_fast_variance: Has no effect: the variance is always accurate.
      promote_dtype: Has no effect: the input is not rounded before it is normalized.
      rngs: PRNG streams for the initializers.
      bias_metadata: Metadata of the offset's variable, such as its sharding.
      scale_metadata: Metadata of the factor's variable.
      scale_offset: Added to the factor. With 1 and ``scale_init=jax.nn.initializers.zeros`` the
        factor is learned around one, as in Gemma and Megatron, and weight decay pulls it to one.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.InstanceNorm(1, epsilon=0.0, rngs=flax_nnx.Rngs(0))
      >>> print(layer(jnp.array([[[1.0], [3.0]]])))
      [[[-1.]
        [ 1.]]]
    """

    num_features: int | tuple[int, ...]
    _: dataclasses.KW_ONLY
    epsilon: ArrayLike = 1e-6
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    use_bias: bool = True
    use_scale: bool = True
    bias_init: dataclasses.InitVar[Initializer] = nnx.initializers.zeros_init()
    scale_init: dataclasses.InitVar[Initializer] = nnx.initializers.ones_init()
    feature_axes: int | tuple[int, ...] = -1
    axis_name: str | tuple[str, ...] | None = None
    axis_index_groups: Sequence[Sequence[int]] | None = None
    use_fast_variance: bool = True
    promote_dtype: dataclasses.InitVar[PromoteDtypeFn | None] = None
    rngs: dataclasses.InitVar[nnx.Rngs]
    bias_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})
    scale_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})
    scale_offset: ArrayLike = 0.0

    def _function(self) -> Callable[..., jax.Array]:
        return partial(normalization.instance_norm, feature_axes=self.feature_axes)
