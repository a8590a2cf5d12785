"""NNX modules that normalize each example by itself, with the variables of Flax."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
from flax import nnx
from flax.nnx.nn.dtypes import canonicalize_dtype
from flax.typing import Dtype, Initializer
from jax.typing import ArrayLike

from jaxreg import normalization
from jaxreg._checks import check_floating, group_count
from jaxreg._numerics import widen
from jaxreg.nnx.normalization import affine_values, set_affine_params


@nnx.dataclass(eq=False)
class LayerNorm(nnx.Module):
    """NNX form of :func:`jaxreg.normalization.layer_norm`.

    Defaults and variables are those of ``flax.nnx.LayerNorm``, and so are the numbers where
    Flax's are right; large means, masks and rows without a selected element are right too.

    Attributes:
      num_features: Size of the feature axis, or sizes of the feature axes.
      epsilon: Added to the variance.
      dtype: Dtype of the result; by default that of the input and the parameters together.
      param_dtype: Dtype of the parameters.
      use_bias: Whether an offset is learned.
      use_scale: Whether a factor is learned.
      bias_init: Initializer of the offset.
      scale_init: Initializer of the factor.
      reduction_axes: Axes that are normalized together.
      feature_axes: Axes along which the parameters differ.
      axis_name: Mesh axis over which the normalized axes are sharded, inside ``shard_map`` or
        ``pmap``; plain ``jit`` needs none.
      rngs: Streams of keys for the initializers.
      bias_metadata: Metadata of the offset's variable, such as its sharding.
      scale_metadata: Metadata of the factor's variable.

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
    bias_init: Initializer = nnx.initializers.zeros_init()
    scale_init: Initializer = nnx.initializers.ones_init()
    reduction_axes: int | tuple[int, ...] = -1
    feature_axes: int | tuple[int, ...] = -1
    axis_name: str | tuple[str, ...] | None = None
    rngs: dataclasses.InitVar[nnx.Rngs]
    bias_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})
    scale_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})

    def __post_init__(
        self, rngs: nnx.Rngs, bias_metadata: Mapping[str, Any], scale_metadata: Mapping[str, Any]
    ) -> None:
        set_affine_params(self, rngs, {"scale": scale_metadata, "bias": bias_metadata})

    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """Normalizes ``x``.

        Args:
          x: Input array.
          mask: Elements that enter the statistics, ``where`` of :mod:`jaxreg.normalization`.
        """
        check_floating(x, "x")
        parameters = affine_values(self)
        y = normalization.layer_norm(
            widen(x),
            eps=self.epsilon,
            reduction_axes=self.reduction_axes,
            feature_axes=self.feature_axes,
            where=mask,
            axis_name=self.axis_name,
            **parameters,
        )
        return y.astype(canonicalize_dtype(x, *parameters.values(), dtype=self.dtype))


@nnx.dataclass(eq=False)
class RMSNorm(nnx.Module):
    """NNX form of :func:`jaxreg.normalization.rms_norm`.

    Defaults and variables are those of ``flax.nnx.RMSNorm``, and so are the numbers where
    Flax's are right; masks and rows without a selected element are right too.

    Attributes:
      num_features: Size of the feature axis, or sizes of the feature axes.
      epsilon: Added to the mean square.
      dtype: Dtype of the result; by default that of the input and the parameters together.
      param_dtype: Dtype of the parameters.
      use_scale: Whether a factor is learned.
      scale_init: Initializer of the factor.
      reduction_axes: Axes that are normalized together.
      feature_axes: Axes along which the factor differs.
      axis_name: Mesh axis over which the normalized axes are sharded, inside ``shard_map`` or
        ``pmap``; plain ``jit`` needs none.
      rngs: Streams of keys for the initializers.
      scale_metadata: Metadata of the factor's variable, such as its sharding.

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
    scale_init: Initializer = nnx.initializers.ones_init()
    reduction_axes: int | tuple[int, ...] = -1
    feature_axes: int | tuple[int, ...] = -1
    axis_name: str | tuple[str, ...] | None = None
    rngs: dataclasses.InitVar[nnx.Rngs]
    scale_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})

    def __post_init__(self, rngs: nnx.Rngs, scale_metadata: Mapping[str, Any]) -> None:
        set_affine_params(self, rngs, {"scale": scale_metadata})

    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """Normalizes ``x``.

        Args:
          x: Input array.
          mask: Elements that enter the statistics, ``where`` of :mod:`jaxreg.normalization`.
        """
        check_floating(x, "x")
        parameters = affine_values(self)
        y = normalization.rms_norm(
            widen(x),
            eps=self.epsilon,
            reduction_axes=self.reduction_axes,
            feature_axes=self.feature_axes,
            where=mask,
            axis_name=self.axis_name,
            **parameters,
        )
        return y.astype(canonicalize_dtype(x, *parameters.values(), dtype=self.dtype))


@nnx.dataclass(eq=False)
class GroupNorm(nnx.Module):
    """NNX form of :func:`jaxreg.normalization.group_norm`.

    Defaults and variables are those of ``flax.nnx.GroupNorm``, and so are the numbers where
    Flax's are right; large means, any number of batch axes and masks without the channels are too.

    Attributes:
      num_features: Number of channels.
      num_groups: Number of groups; None where ``group_size`` is given.
      group_size: Number of channels in a group, in place of ``num_groups``.
      epsilon: Added to the variance.
      dtype: Dtype of the result; by default that of the input and the parameters together.
      param_dtype: Dtype of the parameters.
      use_bias: Whether an offset is learned.
      use_scale: Whether a factor is learned.
      bias_init: Initializer of the offset.
      scale_init: Initializer of the factor.
      reduction_axes: Axes that are normalized together, among them the last; all but the first
        by default.
      axis_name: Mesh axis over which the normalized axes are sharded, inside ``shard_map`` or
        ``pmap``; plain ``jit`` needs none.
      rngs: Streams of keys for the initializers.
      bias_metadata: Metadata of the offset's variable, such as its sharding.
      scale_metadata: Metadata of the factor's variable.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.GroupNorm(4, num_groups=2, epsilon=0.0, rngs=flax_nnx.Rngs(0))
      >>> print(layer(jnp.array([[1.0, 3.0, 10.0, 30.0]])))
      [[-1.  1. -1.  1.]]
    """

    num_features: int
    num_groups: int | None = 32
    group_size: int | None = None
    _: dataclasses.KW_ONLY
    epsilon: ArrayLike = 1e-6
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    use_bias: bool = True
    use_scale: bool = True
    bias_init: Initializer = nnx.initializers.zeros_init()
    scale_init: Initializer = nnx.initializers.ones_init()
    reduction_axes: int | tuple[int, ...] | None = None
    axis_name: str | tuple[str, ...] | None = None
    rngs: dataclasses.InitVar[nnx.Rngs]
    bias_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})
    scale_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})

    def __post_init__(
        self, rngs: nnx.Rngs, bias_metadata: Mapping[str, Any], scale_metadata: Mapping[str, Any]
    ) -> None:
        set_affine_params(self, rngs, {"scale": scale_metadata, "bias": bias_metadata})

    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """Normalizes ``x``.

        Args:
          x: Input array.
          mask: Elements that enter the statistics, ``where`` of :mod:`jaxreg.normalization`.
        """
        check_floating(x, "x")
        parameters = affine_values(self)
        y = normalization.group_norm(
            widen(x),
            groups=group_count(self.num_groups, self.group_size, x.shape[-1]),
            eps=self.epsilon,
            reduction_axes=self.reduction_axes,
            where=mask,
            axis_name=self.axis_name,
            **parameters,
        )
        return y.astype(canonicalize_dtype(x, *parameters.values(), dtype=self.dtype))


@nnx.dataclass(eq=False)
class InstanceNorm(nnx.Module):
    """NNX form of :func:`jaxreg.normalization.instance_norm`.

    Defaults and variables are those of ``flax.nnx.InstanceNorm``, and so are the numbers where
    Flax's are right; large means, masks and rows without a selected element are right too.

    Attributes:
      num_features: Size of the feature axis, or sizes of the feature axes.
      epsilon: Added to the variance.
      dtype: Dtype of the result; by default that of the input and the parameters together.
      param_dtype: Dtype of the parameters.
      use_bias: Whether an offset is learned.
      use_scale: Whether a factor is learned.
      bias_init: Initializer of the offset.
      scale_init: Initializer of the factor.
      feature_axes: Axes of the channels.
      axis_name: Mesh axis over which the normalized axes are sharded, inside ``shard_map`` or
        ``pmap``; plain ``jit`` needs none.
      rngs: Streams of keys for the initializers.
      bias_metadata: Metadata of the offset's variable, such as its sharding.
      scale_metadata: Metadata of the factor's variable.

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
    bias_init: Initializer = nnx.initializers.zeros_init()
    scale_init: Initializer = nnx.initializers.ones_init()
    feature_axes: int | tuple[int, ...] = -1
    axis_name: str | tuple[str, ...] | None = None
    rngs: dataclasses.InitVar[nnx.Rngs]
    bias_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})
    scale_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})

    def __post_init__(
        self, rngs: nnx.Rngs, bias_metadata: Mapping[str, Any], scale_metadata: Mapping[str, Any]
    ) -> None:
        set_affine_params(self, rngs, {"scale": scale_metadata, "bias": bias_metadata})

    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """Normalizes ``x``.

        Args:
          x: Input array.
          mask: Elements that enter the statistics, ``where`` of :mod:`jaxreg.normalization`.
        """
        check_floating(x, "x")
        parameters = affine_values(self)
        y = normalization.instance_norm(
            widen(x),
            eps=self.epsilon,
            feature_axes=self.feature_axes,
            where=mask,
            axis_name=self.axis_name,
            **parameters,
        )
        return y.astype(canonicalize_dtype(x, *parameters.values(), dtype=self.dtype))
