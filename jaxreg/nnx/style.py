"""NNX modules that normalize each channel of each example."""

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
from jaxreg._checks import check_floating, check_mask
from jaxreg._numerics import widen
from jaxreg.nnx._strengths import Module


@nnx.dataclass(eq=False)
class AdaptiveInstanceNorm(Module):
    """NNX module for :func:`jaxreg.normalization.adaptive_instance_norm`; it has no variables.

    Attributes:
      epsilon: Added to the variance.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import nnx
      >>> x, mean, std = jnp.array([[[1.0], [3.0]]]), jnp.array([[10.0]]), jnp.array([[4.0]])
      >>> print(nnx.AdaptiveInstanceNorm(epsilon=0.0)(x, mean, std).ravel())
      [ 6. 14.]
    """

    _: dataclasses.KW_ONLY
    epsilon: ArrayLike = 1e-5

    def __call__(
        self,
        x: jax.Array,
        style_mean: jax.Array,
        style_stddev: jax.Array,
        *,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Normalizes ``x`` to the mean and standard deviation of a style.

        Args:
          x: Content, ``[batch, *spatial, channels]``.
          style_mean: Mean of the style, ``[batch, channels]``.
          style_stddev: Standard deviation of the style, ``[batch, channels]``.
          mask: Mask of the elements that enter the statistics; see :mod:`jaxreg.normalization`.
        """
        check_floating(x, "x")
        check_mask(mask, x, "mask")
        return normalization.adaptive_instance_norm(
            x, style_mean, style_stddev, eps=self.epsilon, where=mask
        )


@nnx.dataclass(eq=False)
class FilterResponseNorm(Module):
    """NNX module for :func:`jaxreg.normalization.filter_response_norm`.

    Parameters are ``scale``, ``bias`` and ``threshold``. The threshold takes the place of an
    activation function.

    Attributes:
      num_features: Number of channels.
      epsilon: Its absolute value is added to the mean square.
      dtype: Dtype of the result; by default the promoted dtype of input and parameters.
      param_dtype: Dtype of the parameters.
      use_threshold: Whether a threshold is learned and applied.
      bias_init: Initializer of the offset.
      scale_init: Initializer of the factor.
      threshold_init: Initializer of the threshold.
      rngs: PRNG streams for the initializers.
      bias_metadata: Metadata of the offset's variable, such as its sharding.
      scale_metadata: Metadata of the factor's variable.
      threshold_metadata: Metadata of the threshold's variable.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.FilterResponseNorm(1, epsilon=0.0, rngs=flax_nnx.Rngs(0))
      >>> print(layer(jnp.array([[[3.0], [-3.0]]])).ravel())
      [1. 0.]
    """

    num_features: int
    _: dataclasses.KW_ONLY
    epsilon: ArrayLike = 1e-6
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    use_threshold: bool = True
    bias_init: dataclasses.InitVar[Initializer] = nnx.initializers.zeros_init()
    scale_init: dataclasses.InitVar[Initializer] = nnx.initializers.ones_init()
    threshold_init: dataclasses.InitVar[Initializer] = nnx.initializers.zeros_init()
    rngs: dataclasses.InitVar[nnx.Rngs]
    bias_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})
    scale_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})
    threshold_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})

    def __post_init__(
        self,
        bias_init: Initializer,
        scale_init: Initializer,
        threshold_init: Initializer,
        rngs: nnx.Rngs,
        bias_metadata: Mapping[str, Any],
        scale_metadata: Mapping[str, Any],
        threshold_metadata: Mapping[str, Any],
    ) -> None:
        shape, dtype = (self.num_features,), self.param_dtype
        scale = scale_init(rngs.params(), shape, dtype)
        self.scale = nnx.Param(scale, **scale_metadata)
        bias = bias_init(rngs.params(), shape, dtype)
        self.bias = nnx.Param(bias, **bias_metadata)
        self.threshold = nnx.data(None)
        if self.use_threshold:
            threshold = threshold_init(rngs.params(), shape, dtype)
            self.threshold = nnx.Param(threshold, **threshold_metadata)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalizes ``x``.

        Args:
          x: Input array, ``[batch, *spatial, channels]``.
        """
        check_floating(x, "x")
        scale, bias = self.scale[...], self.bias[...]
        threshold = None if self.threshold is None else self.threshold[...]
        y = normalization.filter_response_norm(
            widen(x), scale=scale, bias=bias, threshold=threshold, eps=self.epsilon
        )
        return y.astype(canonicalize_dtype(x, scale, bias, threshold, dtype=self.dtype))
