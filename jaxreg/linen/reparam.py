"""Linen modules around a layer whose kernels they reparametrize, with the variables of Flax."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from flax import linen as nn
from jax.typing import ArrayLike

from jaxreg import reparam
from jaxreg._trees import Axes, FeatureAxes, map_named_kernels


class Reparametrized(nn.Module):
    """What the wrappers share: the layer sees other kernels than its parameters, which stay.

    What is a kernel, :func:`jaxreg.masks.kernels` tells.

    Attributes:
      layer_instance: Linen module, called with the positional arguments of the call.
      feature_axes: Output axes of all kernels, or a function of a kernel's names and the kernel.
    """

    layer_instance: nn.Module
    feature_axes: FeatureAxes = reparam.output_axes

    def _apply(
        self, change: Callable[[str, jax.Array, Axes], jax.Array], inputs: tuple[Any, ...]
    ) -> Any:
        """Calls the layer with ``change(name, w, axis)`` in place of its kernels."""
        layer: Any = self.layer_instance
        if self.is_initializing():
            layer(*inputs)  # Makes the parameters that those of the wrapper start from.
        # With the name of the layer in front, as Flax names the variables of its wrappers.
        params = {layer.name: layer.variables.get("params", {})}
        changed = map_named_kernels(change, params, self.feature_axes)[layer.name]
        return nn.map_variables(_call, "params", lambda _: {"params": changed})(layer, *inputs)


class WeightNorm(Reparametrized):
    """Calls a layer with :func:`jaxreg.reparam.weight_norm` of its kernels, whose scale it learns.

    Every scale starts at the norms of its kernel, so that wrapping changes nothing but what is
    learned. The variables are those of ``flax.linen.WeightNorm``, and checkpoints load both ways
    (for attention with ``feature_axes=-1``). Flax's scales start at 1; its ``use_scale``,
    ``scale_init``, ``epsilon``, ``dtype``, ``param_dtype`` and ``variable_filter`` have no
    counterpart.

    Attributes:
      layer_instance: Linen module, called with the positional arguments of the call.
      feature_axes: Output axes of all kernels, or a function of a kernel's names and the kernel.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import linen as nn
      >>> from jaxreg import linen
      >>> layer = linen.WeightNorm(nn.Dense(3))
      >>> params = layer.init(jax.random.key(0), jnp.ones((1, 2)))["params"]
      >>> print(jax.tree.map(jnp.shape, params))
      {'layer_instance': {'bias': (3,), 'kernel': (2, 3)}, 'layer_instance/kernel/scale': (3,)}
    """

    @nn.compact
    def __call__(self, *inputs: Any) -> Any:
        """Applies the layer.

        Args:
          *inputs: Inputs of the layer.
        """
        return self._apply(self._change, inputs)

    def _change(self, name: str, w: jax.Array, axis: Axes) -> jax.Array:
        scale = self.param(f"{name}/scale", lambda _: reparam.weight_norm_scale(w, axis=axis))
        return reparam.weight_norm(w, scale=scale, axis=axis)


class SpectralNorm(Reparametrized):
    """Calls a layer with :func:`jaxreg.reparam.spectral_norm` of its kernels.

    The vector ``u`` and the singular value ``sigma`` of each kernel stand in ``batch_stats`` as
    those of ``flax.linen.SpectralNorm``, and checkpoints load both ways. Block Lanczos finds
    them at initialization; training updates both and needs ``mutable=["batch_stats"]``;
    evaluation reads ``u`` alone and uses the weights that training used last. (Flax iterates on
    from ``u`` in evaluation, and does not store where it got.) Flax's ``epsilon``, ``dtype``,
    ``param_dtype`` and ``error_on_non_matrix`` have no counterpart.

    Attributes:
      layer_instance: Linen module, called with the positional arguments of the call.
      feature_axes: Output axes of all kernels, or a function of a kernel's names and the kernel.
      n_steps: Power iterations of a training step.
      update_stats: True in training. Set here or at the call.
      collection_name: Collection of ``u`` and ``sigma``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import numpy as np
      >>> from flax import linen as nn
      >>> from jaxreg import linen
      >>> layer = linen.SpectralNorm(nn.Dense(3, use_bias=False), update_stats=True)
      >>> variables = layer.init(jax.random.key(0), jnp.eye(2))
      >>> y, updated = layer.apply(variables, jnp.eye(2), mutable=["batch_stats"])
      >>> print(np.linalg.norm(y, ord=2).round(3))
      1.0
    """

    n_steps: int = 1
    update_stats: bool | None = None
    collection_name: str = "batch_stats"

    @nn.compact
    def __call__(self, *inputs: Any, update_stats: bool | None = None) -> Any:
        """Applies the layer, and updates the statistics in training.

        Args:
          *inputs: Inputs of the layer.
          update_stats: True in training; needed here or in the constructor.
        """
        update = nn.merge_param("update_stats", self.update_stats, update_stats)
        steps = self.n_steps if update and not self.is_initializing() else 0
        return self._apply(partial(self._change, steps=steps), inputs)

    def _change(self, name: str, w: jax.Array, axis: Axes, *, steps: int) -> jax.Array:
        def draw() -> jax.Array:
            return reparam.spectral_norm_vector(self.make_rng("params"), w, axis=axis)

        def estimate(u: jax.Array) -> jax.Array:
            return reparam.spectral_norm_sigma(w, u, axis=axis)

        # Flax's vector is a matrix of one row.
        stored = self.variable(self.collection_name, f"{name}/u", lambda: draw()[None])
        u = stored.value[0]
        sigma = self.variable(self.collection_name, f"{name}/sigma", estimate, u)
        normalized, u = reparam.spectral_norm(w, u, steps=steps, axis=axis)
        if steps:
            stored.value, sigma.value = u[None], estimate(u)
        return normalized


class WeightStandardization(Reparametrized):
    """Calls a layer with :func:`jaxreg.reparam.weight_standardization` of its kernels.

    Attributes:
      layer_instance: Linen module, called with the positional arguments of the call.
      feature_axes: Output axes of all kernels, or a function of a kernel's names and the kernel.
      epsilon: Added to the variance.
      use_scale: Whether a factor of each output is learned, from
        :func:`jaxreg.reparam.weight_standardization_scale`, as where no norm follows the layer.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import numpy as np
      >>> from flax import linen as nn
      >>> from jaxreg import linen
      >>> layer = linen.WeightStandardization(nn.Dense(3, use_bias=False))
      >>> w, _ = layer.init_with_output(jax.random.key(0), jnp.eye(5))
      >>> print(np.std(w, axis=0).round(4))
      [1. 1. 1.]
    """

    epsilon: ArrayLike = 1e-8
    use_scale: bool = False

    @nn.compact
    def __call__(self, *inputs: Any) -> Any:
        """Applies the layer.

        Args:
          *inputs: Inputs of the layer.
        """
        return self._apply(self._change, inputs)

    def _change(self, name: str, w: jax.Array, axis: Axes) -> jax.Array:
        scale: ArrayLike = 1.0
        if self.use_scale:
            start = partial(reparam.weight_standardization_scale, w, axis=axis)
            scale = self.param(f"{name}/scale", lambda _: start())
        return reparam.weight_standardization(w, scale=scale, eps=self.epsilon, axis=axis)


def _call(layer: Callable[..., Any], *inputs: Any) -> Any:
    return layer(*inputs)
