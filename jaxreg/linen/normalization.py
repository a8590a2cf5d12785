"""Linen module for batch norm, with the variable tree of Flax, and helpers for other norms."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from flax import linen as nn
from flax.linen.dtypes import canonicalize_dtype
from flax.typing import Dtype, Initializer
from jax.typing import ArrayLike

from jaxreg import normalization
from jaxreg._checks import canonical_axes, check_floating, check_mask
from jaxreg._numerics import mean_dtype, offset_scale, widen_for


class RunningNorm(nn.Module):
    """Base class of the norms with running statistics.

    Only its subclasses annotate fields, so that the order of the fields is Flax's.
    """

    axis = -1

    @nn.nowrap
    def _in_training(self) -> Callable[..., tuple[jax.Array, normalization.BatchStats]]:
        """Returns the training-mode function of the input and the running statistics."""
        raise NotImplementedError

    @nn.compact
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
          use_running_average: True in evaluation mode; required here or in the constructor.
          mask: Mask of the elements that enter the statistics; see :mod:`jaxreg.normalization`.

        Raises:
          ValueError: ``use_running_average`` is given in neither place or in both, or ``mask`` does
            not broadcast to ``x``.
        """
        evaluate = nn.merge_param(
            "use_running_average", self.use_running_average, use_running_average
        )
        shape = feature_shape(x, self.axis)
        check_mask(mask, x, "mask")
        mean = self.variable("batch_stats", "mean", self.mean_init, None, shape, mean_dtype(x))
        var = self.variable("batch_stats", "var", self.var_init, None, shape, "float32")
        params = affine_params(self, shape)
        stats = normalization.BatchStats(mean.value, var.value)
        given = {**offset_scale(params, self.scale_offset), "where": mask}
        dtype = canonicalize_dtype(x, *params.values(), dtype=self.dtype)
        read = widen_for(x, dtype)
        in_training = self._in_training()
        if evaluate:
            fields = {"eps": self.epsilon, "axis": self.axis}
            y = normalization.batch_norm_inference(read, stats, **given, **fields)
        else:
            y, stats = in_training(read, stats, **given)
            if not self.is_initializing():
                mean.value, var.value = stats
        return y.astype(dtype)


class BatchNorm(RunningNorm):
    """Linen module for :func:`jaxreg.normalization.batch_norm`.

    It has the arguments, defaults, parameters (``scale``, ``bias``) and statistics
    (``batch_stats/mean`` and ``var``) of ``flax.linen.BatchNorm``, so each loads the other's
    checkpoints. Its results agree with Flax's wherever those are correct, and are also correct for
    large means, with a ``mask``, and for devices with unequal numbers of elements. Statistics
    narrower than float32 become float32 at the first step.

    Attributes:
      use_running_average: True in evaluation mode, False in training mode; None if every call
        passes it.
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
      force_float32_reductions: Has no effect: statistics are always float32 or wider.
      scale_offset: Added to the factor. With 1 and ``scale_init=jax.nn.initializers.zeros`` the
        factor is learned around one, as in Gemma and Megatron, and weight decay pulls it to one.
      ddof: 1 gives an unbiased running variance, see :func:`jaxreg.normalization.batch_norm`.
      mean_init: Initializer of the running mean, called without a key.
      var_init: Initializer of the running variance, called without a key.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> layer = linen.BatchNorm(use_running_average=False, momentum=0.5)
      >>> x = jnp.array([[1.0], [3.0]])
      >>> variables = layer.init(jax.random.key(0), x)
      >>> y, updated = layer.apply(variables, x, mutable=["batch_stats"])
      >>> print(updated["batch_stats"]["mean"])
      [1.]
    """

    use_running_average: bool | None = None
    axis: int | tuple[int, ...] = -1
    momentum: ArrayLike = 0.99
    epsilon: ArrayLike = 1e-5
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    use_bias: bool = True
    use_scale: bool = True
    bias_init: Initializer = nn.initializers.zeros
    scale_init: Initializer = nn.initializers.ones
    axis_name: str | tuple[str, ...] | None = None
    axis_index_groups: Sequence[Sequence[int]] | None = None
    use_fast_variance: bool = True
    force_float32_reductions: bool = True
    scale_offset: ArrayLike = 0.0
    ddof: ArrayLike = 0
    mean_init: Initializer = nn.initializers.zeros
    var_init: Initializer = nn.initializers.ones

    @nn.nowrap
    def _in_training(self) -> Callable[..., tuple[jax.Array, normalization.BatchStats]]:
        return partial(
            normalization.batch_norm,
            momentum=self.momentum,
            eps=self.epsilon,
            axis=self.axis,
            ddof=self.ddof,
            axis_name=() if self.is_initializing() else self.axis_name,
            axis_index_groups=self.axis_index_groups,
        )


def affine_params(module: Any, shape: tuple[int, ...]) -> dict[str, jax.Array]:
    """Creates or reads ``scale`` and ``bias``, and returns a dict of those that the norm uses."""
    params = {}
    if module.use_scale:
        params["scale"] = module.param("scale", module.scale_init, shape, module.param_dtype)
    if getattr(module, "use_bias", False):
        params["bias"] = module.param("bias", module.bias_init, shape, module.param_dtype)
    return params


def feature_shape(x: jax.Array, axes: int | tuple[int, ...]) -> tuple[int, ...]:
    """Returns the sizes of the feature axes of an input."""
    check_floating(x, "x")
    return tuple(x.shape[a] for a in canonical_axes(axes, x.ndim))
