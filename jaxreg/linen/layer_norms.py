"""Linen modules that normalize each example separately, with the variable trees of Flax."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
from flax import linen as nn
from flax.linen.dtypes import canonicalize_dtype
from flax.typing import Dtype, Initializer
from jax.typing import ArrayLike

from jaxreg import normalization
from jaxreg._checks import check_mask, group_count
from jaxreg._numerics import offset_scale, widen_for
from jaxreg.linen.normalization import affine_params, feature_shape


class ExampleNorm(nn.Module):
    """Base class of the norms that normalize each example separately.

    Only its subclasses annotate fields, so that the order of the fields is Flax's.
    """

    feature_axes = -1

    @nn.nowrap
    def _function(self, features: int) -> Callable[..., jax.Array]:
        """Returns the function of ``jaxreg.normalization`` with the options of this norm bound.

        Args:
          features: Size of the last axis.
        """
        raise NotImplementedError

    @nn.compact
    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """Normalizes ``x``.

        Args:
          x: Input array.
          mask: Mask of the elements that enter the statistics; see :mod:`jaxreg.normalization`.
        """
        shape = feature_shape(x, self.feature_axes)
        function = self._function(x.shape[-1])
        params = affine_params(self, shape)
        check_mask(mask, x, "mask")
        dtype = canonicalize_dtype(x, *params.values(), dtype=self.dtype)
        y = function(
            widen_for(x, dtype),
            eps=self.epsilon,
            where=mask,
            axis_name=None if self.is_initializing() else self.axis_name,
            axis_index_groups=self.axis_index_groups,
            **offset_scale(params, self.scale_offset),
        )
        return y.astype(dtype)


class LayerNorm(ExampleNorm):
    """Linen module for :func:`jaxreg.normalization.layer_norm`.

    It has the arguments, defaults and parameters of ``flax.linen.LayerNorm``. Its results agree
    with Flax's wherever those are correct, and are also correct for large means and with a
    ``mask``, including for rows in which it selects no element.

    Attributes:
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
      force_float32_reductions: Has no effect: statistics are always float32 or wider.
      scale_offset: Added to the factor. With 1 and ``scale_init=jax.nn.initializers.zeros`` the
        factor is learned around one, as in Gemma and Megatron, and weight decay pulls it to one.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> x = jnp.array([[1.0, 3.0], [2.0, 6.0]])
      >>> layer = linen.LayerNorm(epsilon=0.0)
      >>> print(layer.apply(layer.init(jax.random.key(0), x), x))
      [[-1.  1.]
       [-1.  1.]]
    """

    epsilon: ArrayLike = 1e-6
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    use_bias: bool = True
    use_scale: bool = True
    bias_init: Initializer = nn.initializers.zeros
    scale_init: Initializer = nn.initializers.ones
    reduction_axes: int | tuple[int, ...] = -1
    feature_axes: int | tuple[int, ...] = -1
    axis_name: str | tuple[str, ...] | None = None
    axis_index_groups: Sequence[Sequence[int]] | None = None
    use_fast_variance: bool = True
    force_float32_reductions: bool = True
    scale_offset: ArrayLike = 0.0

    @nn.nowrap
    def _function(self, features: int) -> Callable[..., jax.Array]:
        return partial(
            normalization.layer_norm,
            reduction_axes=self.reduction_axes,
            feature_axes=self.feature_axes,
        )


class RMSNorm(ExampleNorm):
    """Linen module for :func:`jaxreg.normalization.rms_norm`.

    It has the arguments, defaults and parameters of ``flax.linen.RMSNorm``. Its results agree with
    Flax's wherever those are correct, and are also correct with a ``mask``, including for rows in
    which it selects no element.

    Attributes:
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
      force_float32_reductions: Has no effect: statistics are always float32 or wider.
      scale_offset: Added to the factor. With 1 and ``scale_init=jax.nn.initializers.zeros`` the
        factor is learned around one, as in Gemma and Megatron, and weight decay pulls it to one.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> x = jnp.array([[3.0, 3.0, -3.0]])
      >>> layer = linen.RMSNorm(epsilon=0.0)
      >>> print(layer.apply(layer.init(jax.random.key(0), x), x))
      [[ 1.  1. -1.]]
    """

    epsilon: ArrayLike = 1e-6
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    use_scale: bool = True
    scale_init: Initializer = nn.initializers.ones
    reduction_axes: int | tuple[int, ...] = -1
    feature_axes: int | tuple[int, ...] = -1
    axis_name: str | tuple[str, ...] | None = None
    axis_index_groups: Sequence[Sequence[int]] | None = None
    use_fast_variance: bool = True
    force_float32_reductions: bool = True
    scale_offset: ArrayLike = 0.0

    @nn.nowrap
    def _function(self, features: int) -> Callable[..., jax.Array]:
        return partial(
            normalization.rms_norm,
            reduction_axes=self.reduction_axes,
            feature_axes=self.feature_axes,
        )


class GroupNorm(ExampleNorm):
    """Linen module for :func:`jaxreg.normalization.group_norm`.

    It has the arguments, defaults and parameters of ``flax.linen.GroupNorm``. Its results agree
    with Flax's wherever those are correct, and are also correct for large means, for any number of
    batch axes, and with a ``mask`` whose channel axis has size 1.

    Attributes:
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
      force_float32_reductions: Has no effect: statistics are always float32 or wider.
      scale_offset: Added to the factor. With 1 and ``scale_init=jax.nn.initializers.zeros`` the
        factor is learned around one, as in Gemma and Megatron, and weight decay pulls it to one.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> x = jnp.array([[1.0, 3.0, 10.0, 30.0]])
      >>> layer = linen.GroupNorm(num_groups=2, epsilon=0.0)
      >>> print(layer.apply(layer.init(jax.random.key(0), x), x))
      [[-1.  1. -1.  1.]]
    """

    num_groups: int | None = 32
    group_size: int | None = None
    epsilon: ArrayLike = 1e-6
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    use_bias: bool = True
    use_scale: bool = True
    bias_init: Initializer = nn.initializers.zeros
    scale_init: Initializer = nn.initializers.ones
    reduction_axes: int | tuple[int, ...] | None = None
    axis_name: str | tuple[str, ...] | None = None
    axis_index_groups: Sequence[Sequence[int]] | None = None
    use_fast_variance: bool = True
    force_float32_reductions: bool = True
    scale_offset: ArrayLike = 0.0

    @nn.nowrap
    def _function(self, features: int) -> Callable[..., jax.Array]:
        groups = group_count(self.num_groups, self.group_size, features)
        return partial(normalization.group_norm, groups=groups, reduction_axes=self.reduction_axes)


class InstanceNorm(ExampleNorm):
    """Linen module for :func:`jaxreg.normalization.instance_norm`.

    It has the arguments, defaults and parameters of ``flax.linen.InstanceNorm``. Its results agree
    with Flax's wherever those are correct, and are also correct for large means and with a
    ``mask``, including for rows in which it selects no element.

    Attributes:
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
      force_float32_reductions: Has no effect: statistics are always float32 or wider.
      scale_offset: Added to the factor. With 1 and ``scale_init=jax.nn.initializers.zeros`` the
        factor is learned around one, as in Gemma and Megatron, and weight decay pulls it to one.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> x = jnp.array([[[1.0], [3.0]]])
      >>> layer = linen.InstanceNorm(epsilon=0.0)
      >>> print(layer.apply(layer.init(jax.random.key(0), x), x))
      [[[-1.]
        [ 1.]]]
    """

    epsilon: ArrayLike = 1e-6
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    use_bias: bool = True
    use_scale: bool = True
    bias_init: Initializer = nn.initializers.zeros
    scale_init: Initializer = nn.initializers.ones
    feature_axes: int | tuple[int, ...] = -1
    axis_name: str | tuple[str, ...] | None = None
    axis_index_groups: Sequence[Sequence[int]] | None = None
    use_fast_variance: bool = True
    force_float32_reductions: bool = True
    scale_offset: ArrayLike = 0.0

    @nn.nowrap
    def _function(self, features: int) -> Callable[..., jax.Array]:
        return partial(normalization.instance_norm, feature_axes=self.feature_axes)
