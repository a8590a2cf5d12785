"""Linen modules that normalize each channel of each example."""

import jax
from flax import linen as nn
from flax.linen.dtypes import canonicalize_dtype
from flax.typing import Dtype, Initializer
from jax.typing import ArrayLike

from jaxreg import normalization
from jaxreg._checks import check_floating, check_mask
from jaxreg._numerics import widen


class AdaptiveInstanceNorm(nn.Module):
    """Linen module for :func:`jaxreg.normalization.adaptive_instance_norm`; it has no variables.

    Attributes:
      epsilon: Added to the variance.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import linen
      >>> x, mean, std = jnp.array([[[1.0], [3.0]]]), jnp.array([[10.0]]), jnp.array([[4.0]])
      >>> print(linen.AdaptiveInstanceNorm(epsilon=0.0).apply({}, x, mean, std).ravel())
      [ 6. 14.]
    """

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


class FilterResponseNorm(nn.Module):
    """Linen module for :func:`jaxreg.normalization.filter_response_norm`.

    Parameters are ``scale``, ``bias`` and ``threshold``. The threshold takes the place of an
    activation function.

    Attributes:
      epsilon: Its absolute value is added to the mean square.
      dtype: Dtype of the result; by default the promoted dtype of input and parameters.
      param_dtype: Dtype of the parameters.
      use_threshold: Whether a threshold is learned and applied.
      bias_init: Initializer of the offset.
      scale_init: Initializer of the factor.
      threshold_init: Initializer of the threshold.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> x = jnp.array([[[3.0], [-3.0]]])
      >>> layer = linen.FilterResponseNorm(epsilon=0.0)
      >>> print(layer.apply(layer.init(jax.random.key(0), x), x).ravel())
      [1. 0.]
    """

    epsilon: ArrayLike = 1e-6
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    use_threshold: bool = True
    bias_init: Initializer = nn.initializers.zeros
    scale_init: Initializer = nn.initializers.ones
    threshold_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalizes ``x``.

        Args:
          x: Input array, ``[batch, *spatial, channels]``.
        """
        check_floating(x, "x")
        shape = x.shape[-1:]
        scale = self.param("scale", self.scale_init, shape, self.param_dtype)
        bias = self.param("bias", self.bias_init, shape, self.param_dtype)
        threshold = None
        if self.use_threshold:
            threshold = self.param("threshold", self.threshold_init, shape, self.param_dtype)
        y = normalization.filter_response_norm(
            widen(x), scale=scale, bias=bias, threshold=threshold, eps=self.epsilon
        )
        return y.astype(canonicalize_dtype(x, scale, bias, threshold, dtype=self.dtype))
