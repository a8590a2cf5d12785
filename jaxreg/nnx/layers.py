"""NNX layers of Flax that drop elements of their kernels."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import jax
from flax import nnx
from flax.nnx.nn import dtypes
from flax.typing import Dtype, Initializer, PaddingLike, PrecisionLike, PromoteDtypeFn
from jax.typing import ArrayLike

from jaxreg import dropout
from jaxreg.nnx._strengths import shallow_copy
from jaxreg.nnx.stochastic import Rated, Source, check_streams

Layer = TypeVar("Layer", "DropConnectDense", "DropConnectConv")

_KERNEL_INIT = nnx.initializers.lecun_normal()
_BIAS_INIT = nnx.initializers.zeros_init()
_METADATA: Mapping[str, Any] = MappingProxyType({})
_DOT = inspect.signature(nnx.Linear.__init__).parameters["dot_general"].default
_CONV = inspect.signature(nnx.Conv.__init__).parameters["conv_general_dilated"].default


@nnx.dataclass(eq=False)
class DropConnectDense(Rated, nnx.Linear):
    """``flax.nnx.Linear`` with :func:`jaxreg.dropout.drop_connect` on its kernel.

    It takes all arguments of ``flax.nnx.Linear``, and checkpoints load both ways.

    Attributes:
      in_features: Number of inputs.
      out_features: Number of outputs.
      rate: Probability of dropping a weight.
      use_bias: Whether an offset is learned.
      dtype: Dtype of the computation; by default that of the input and the parameters together.
      param_dtype: Dtype of the parameters.
      precision: Precision of the product.
      kernel_init: Initializer of the kernel.
      bias_init: Initializer of the offset.
      dot_general: Function that computes the product.
      promote_dtype: Function that brings input and parameters to one dtype.
      preferred_element_type: Dtype that the product is accumulated in.
      kernel_metadata: Metadata of the kernel's variable, such as its sharding.
      bias_metadata: Metadata of the offset's variable.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> ones = flax_nnx.initializers.ones
      >>> layer = nnx.DropConnectDense(1, 100, rate=0.5, kernel_init=ones, rngs=flax_nnx.Rngs(0))
      >>> print(jnp.unique(layer(jnp.ones((1, 1)))))
      [0. 2.]
    """

    in_features: int
    out_features: int
    _: dataclasses.KW_ONLY
    rate: ArrayLike | None = None
    use_bias: bool = True
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    precision: PrecisionLike = None
    kernel_init: dataclasses.InitVar[Initializer] = _KERNEL_INIT
    bias_init: dataclasses.InitVar[Initializer] = _BIAS_INIT
    dot_general: Callable[..., jax.Array] = _DOT
    promote_dtype: PromoteDtypeFn = dtypes.promote_dtype
    preferred_element_type: Dtype | None = None
    kernel_metadata: dataclasses.InitVar[Mapping[str, Any]] = _METADATA
    bias_metadata: dataclasses.InitVar[Mapping[str, Any]] = _METADATA

    def __post_init__(
        self,
        rngs: nnx.Rngs | nnx.RngStream | None,
        kernel_init: Initializer,
        bias_init: Initializer,
        kernel_metadata: Mapping[str, Any],
        bias_metadata: Mapping[str, Any],
    ) -> None:
        nnx.Linear.__init__(
            self,
            self.in_features,
            self.out_features,
            use_bias=self.use_bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            precision=self.precision,
            kernel_init=kernel_init,
            bias_init=bias_init,
            dot_general=self.dot_general,
            promote_dtype=self.promote_dtype,
            preferred_element_type=self.preferred_element_type,
            rngs=check_streams(self, rngs),
            kernel_metadata=kernel_metadata,
            bias_metadata=bias_metadata,
        )
        super().__post_init__(rngs)

    def __call__(
        self,
        inputs: jax.Array,
        out_sharding: Any = None,
        *,
        deterministic: bool | None = None,
        rngs: Source | None = None,
        rate: ArrayLike | None = None,
    ) -> jax.Array:
        """Applies the layer.

        Args:
          inputs: Inputs.
          out_sharding: Sharding of the result, as in Flax.
          deterministic: Overrides the attribute.
          rngs: Key, stream or streams to use in place of the module's own.
          rate: Overrides the attribute.
        """
        return self._apply(
            (inputs, out_sharding), deterministic=deterministic, rngs=rngs, rate=rate
        )

    def transform(self, key: jax.Array, x: tuple[jax.Array, Any]) -> jax.Array:
        return nnx.Linear.__call__(_dropped(self, key), *x)

    def evaluate(self, x: tuple[jax.Array, Any]) -> jax.Array:
        return nnx.Linear.__call__(self, *x)


@nnx.dataclass(eq=False)
class DropConnectConv(Rated, nnx.Conv):
    """``flax.nnx.Conv`` with :func:`jaxreg.dropout.drop_connect` on its kernel.

    It takes all arguments of ``flax.nnx.Conv``, and checkpoints load both ways.

    Attributes:
      in_features: Number of input channels.
      out_features: Number of output channels.
      kernel_size: Lengths of the kernel along the spatial axes.
      strides: Strides of the window.
      rate: Probability of dropping a weight.
      padding: Name of a kind of padding, or its lengths.
      input_dilation: Dilation of the input.
      kernel_dilation: Dilation of the kernel.
      feature_group_count: Number of groups of channels.
      use_bias: Whether an offset is learned.
      mask: Factor of the kernel, applied after dropping.
      dtype: Dtype of the computation; by default that of the input and the parameters together.
      param_dtype: Dtype of the parameters.
      precision: Precision of the products.
      kernel_init: Initializer of the kernel.
      bias_init: Initializer of the offset.
      conv_general_dilated: Function that computes the convolution.
      promote_dtype: Function that brings input and parameters to one dtype.
      preferred_element_type: Dtype that products are accumulated in.
      kernel_metadata: Metadata of the kernel's variable, such as its sharding.
      bias_metadata: Metadata of the offset's variable.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> ones = flax_nnx.initializers.ones
      >>> layer = nnx.DropConnectConv(
      ...     1, 100, (1, 1), rate=0.5, kernel_init=ones, rngs=flax_nnx.Rngs(0)
      ... )
      >>> print(jnp.unique(layer(jnp.ones((1, 4, 4, 1)))))
      [0. 2.]
    """

    in_features: int
    out_features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] | None = 1
    _: dataclasses.KW_ONLY
    rate: ArrayLike | None = None
    padding: PaddingLike = "SAME"
    input_dilation: int | Sequence[int] | None = 1
    kernel_dilation: int | Sequence[int] | None = 1
    feature_group_count: int = 1
    use_bias: bool = True
    mask: jax.Array | None = None
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    precision: PrecisionLike = None
    kernel_init: dataclasses.InitVar[Initializer] = _KERNEL_INIT
    bias_init: dataclasses.InitVar[Initializer] = _BIAS_INIT
    conv_general_dilated: Callable[..., jax.Array] = _CONV
    promote_dtype: PromoteDtypeFn = dtypes.promote_dtype
    preferred_element_type: Dtype | None = None
    kernel_metadata: dataclasses.InitVar[Mapping[str, Any]] = _METADATA
    bias_metadata: dataclasses.InitVar[Mapping[str, Any]] = _METADATA

    def __post_init__(
        self,
        rngs: nnx.Rngs | nnx.RngStream | None,
        kernel_init: Initializer,
        bias_init: Initializer,
        kernel_metadata: Mapping[str, Any],
        bias_metadata: Mapping[str, Any],
    ) -> None:
        nnx.Conv.__init__(
            self,
            self.in_features,
            self.out_features,
            self.kernel_size,
            self.strides,
            padding=self.padding,
            input_dilation=self.input_dilation,
            kernel_dilation=self.kernel_dilation,
            feature_group_count=self.feature_group_count,
            use_bias=self.use_bias,
            mask=self.mask,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            precision=self.precision,
            kernel_init=kernel_init,
            bias_init=bias_init,
            conv_general_dilated=self.conv_general_dilated,
            promote_dtype=self.promote_dtype,
            preferred_element_type=self.preferred_element_type,
            rngs=check_streams(self, rngs),
            kernel_metadata=kernel_metadata,
            bias_metadata=bias_metadata,
        )
        super().__post_init__(rngs)

    def __call__(
        self,
        inputs: jax.Array,
        out_sharding: Any = None,
        *,
        deterministic: bool | None = None,
        rngs: Source | None = None,
        rate: ArrayLike | None = None,
    ) -> jax.Array:
        """Applies the layer.

        Args:
          inputs: Inputs.
          out_sharding: Sharding of the result, as in Flax.
          deterministic: Overrides the attribute.
          rngs: Key, stream or streams to use in place of the module's own.
          rate: Overrides the attribute.
        """
        return self._apply(
            (inputs, out_sharding), deterministic=deterministic, rngs=rngs, rate=rate
        )

    def transform(self, key: jax.Array, x: tuple[jax.Array, Any]) -> jax.Array:
        return nnx.Conv.__call__(_dropped(self, key), *x)

    def evaluate(self, x: tuple[jax.Array, Any]) -> jax.Array:
        return nnx.Conv.__call__(self, *x)


def _dropped(layer: Layer, key: jax.Array) -> Layer:
    """Returns the layer with another kernel, which shares all other variables."""
    kernel = dropout.drop_connect(key, layer.kernel[...], rate=layer.given_rate, bits=layer.bits)
    return shallow_copy(layer, kernel=layer.kernel.replace(kernel))
