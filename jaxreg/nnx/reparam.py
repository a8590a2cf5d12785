"""NNX modules around a layer whose kernels they reparametrize."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
from flax import nnx
from jax.typing import ArrayLike

from jaxreg import reparam
from jaxreg._trees import Axes, FeatureAxes, map_named_kernels
from jaxreg.nnx.stochastic import check_streams
from jaxreg.nnx.weights import with_params


@nnx.dataclass(eq=False)
class Reparametrized(nnx.Module):
    """What the wrappers share: the layer sees other kernels than its parameters, which stay.

    What is a kernel, :func:`jaxreg.masks.kernels` tells.

    Attributes:
      layer_instance: Module, called with the positional arguments of the call.
      feature_axes: Output axes of all kernels, or a function of a kernel's names and the kernel.
    """

    layer_instance: nnx.Module
    _: dataclasses.KW_ONLY
    feature_axes: FeatureAxes = reparam.output_axes

    def _for_kernels(
        self, make: Callable[[str, jax.Array, Axes], dict[str, nnx.Variable]]
    ) -> dict[str, nnx.Variable]:
        """Joins the variables that ``make(name, w, axis)`` gives for every kernel."""
        made: dict[str, nnx.Variable] = {}

        def visit(name: str, w: jax.Array, axis: Axes) -> jax.Array:
            made.update(make(name, w, axis))
            return w

        map_named_kernels(visit, nnx.state(self.layer_instance, nnx.Param), self.feature_axes)
        return nnx.data(made)

    def _apply(
        self, change: Callable[[str, jax.Array, Axes], jax.Array], inputs: tuple[Any, ...]
    ) -> Any:
        """Calls the layer with ``change(name, w, axis)`` in place of its kernels."""

        def changed(params: nnx.State) -> nnx.State:
            return map_named_kernels(change, params, self.feature_axes)

        return with_params(self.layer_instance, changed)(*inputs)


@nnx.dataclass(eq=False)
class WeightNorm(Reparametrized):
    """Calls a layer with :func:`jaxreg.reparam.weight_norm` of its kernels, whose scale it learns.

    The scales are parameters by the names of their kernels, ``scales["kernel/scale"]``. Each starts
    at the norms of its kernel, so that wrapping changes nothing but what is learned.

    Attributes:
      layer_instance: Module, called with the positional arguments of the call.
      feature_axes: Output axes of all kernels, or a function of a kernel's names and the kernel.
      scale_metadata: Metadata of the variables of the scales, such as their sharding.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.WeightNorm(flax_nnx.Linear(2, 3, rngs=flax_nnx.Rngs(0)))
      >>> params = flax_nnx.to_pure_dict(flax_nnx.state(layer, flax_nnx.Param))
      >>> print(jax.tree.map(jnp.shape, params["scales"]))
      {'kernel/scale': (3,)}
    """

    _: dataclasses.KW_ONLY
    scale_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})

    def __post_init__(self, scale_metadata: Mapping[str, Any]) -> None:
        def start(name: str, w: jax.Array, axis: Axes) -> dict[str, nnx.Variable]:
            scale = reparam.weight_norm_scale(w, axis=axis)
            return {f"{name}/scale": nnx.Param(scale, **scale_metadata)}

        self.scales = self._for_kernels(start)

    def __call__(self, *inputs: Any) -> Any:
        """Calls the layer.

        Args:
          *inputs: Arguments of the layer.
        """
        return self._apply(self._change, inputs)

    def _change(self, name: str, w: jax.Array, axis: Axes) -> jax.Array:
        return reparam.weight_norm(w, scale=self.scales[f"{name}/scale"][...], axis=axis)


@nnx.dataclass(eq=False)
class SpectralNorm(Reparametrized):
    """Calls a layer with :func:`jaxreg.reparam.spectral_norm` of its kernels.

    The vector ``u`` and the singular value ``sigma`` of each kernel are ``nnx.BatchStat`` by its
    names, ``batch_stats["kernel/u"]``. Block Lanczos finds them in the constructor; training
    updates both; evaluation reads ``u`` alone and uses the weights that training used last.

    Attributes:
      layer_instance: Module, called with the positional arguments of the call.
      feature_axes: Output axes of all kernels, or a function of a kernel's names and the kernel.
      n_steps: Power iterations of a training step.
      use_running_average: True in evaluation. Also set by ``model.eval()`` and ``nnx.view``, and
        overridden by ``update_stats`` at the call.
      rngs: Streams of keys for the first vectors.
      stats_metadata: Metadata of the variables of the vectors.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> rngs = flax_nnx.Rngs(0)
      >>> linear = flax_nnx.Linear(2, 3, use_bias=False, rngs=rngs)
      >>> layer = nnx.SpectralNorm(linear, rngs=rngs)
      >>> print(np.linalg.norm(layer(jnp.eye(2)), ord=2).round(3))
      1.0
    """

    _: dataclasses.KW_ONLY
    n_steps: int = 1
    use_running_average: bool = False
    rngs: dataclasses.InitVar[nnx.Rngs]
    stats_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})

    def __post_init__(self, rngs: nnx.Rngs, stats_metadata: Mapping[str, Any]) -> None:
        streams = check_streams(self, rngs)

        def start(name: str, w: jax.Array, axis: Axes) -> dict[str, nnx.Variable]:
            u = reparam.spectral_norm_vector(streams.params(), w, axis=axis)
            sigma = reparam.spectral_norm_sigma(w, u, axis=axis)
            return {
                f"{name}/u": nnx.BatchStat(u, **stats_metadata),
                f"{name}/sigma": nnx.BatchStat(sigma),
            }

        self.batch_stats = self._for_kernels(start)

    def __call__(self, *inputs: Any, update_stats: bool | None = None) -> Any:
        """Calls the layer, and updates the statistics in training.

        Args:
          *inputs: Arguments of the layer.
          update_stats: True in training; overrides the attribute.
        """
        update = not self.use_running_average if update_stats is None else update_stats
        return self._apply(partial(self._change, steps=self.n_steps if update else 0), inputs)

    def _change(self, name: str, w: jax.Array, axis: Axes, *, steps: int) -> jax.Array:
        stored, sigma = self.batch_stats[f"{name}/u"], self.batch_stats[f"{name}/sigma"]
        normalized, u = reparam.spectral_norm(w, stored[...], steps=steps, axis=axis)
        if steps:
            stored[...], sigma[...] = u, reparam.spectral_norm_sigma(w, u, axis=axis)
        return normalized

    def set_view(self, use_running_average: bool | None = None) -> None:  # noqa: FBT001
        """Sets the mode; called by ``nnx.view``.

        Args:
          use_running_average: True in evaluation.
        """
        if use_running_average is not None:
            self.use_running_average = use_running_average


@nnx.dataclass(eq=False)
class WeightStandardization(Reparametrized):
    """Calls a layer with :func:`jaxreg.reparam.weight_standardization` of its kernels.

    Attributes:
      layer_instance: Module, called with the positional arguments of the call.
      feature_axes: Output axes of all kernels, or a function of a kernel's names and the kernel.
      epsilon: Added to the variance.
      use_scale: Whether a factor of each output is learned, from
        :func:`jaxreg.reparam.weight_standardization_scale`, as where no norm follows the layer.
      scale_metadata: Metadata of the variables of the factors, such as their sharding.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> linear = flax_nnx.Linear(5, 3, use_bias=False, rngs=flax_nnx.Rngs(0))
      >>> print(np.std(nnx.WeightStandardization(linear)(jnp.eye(5)), axis=0).round(4))
      [1. 1. 1.]
    """

    _: dataclasses.KW_ONLY
    epsilon: ArrayLike = 1e-8
    use_scale: bool = False
    scale_metadata: dataclasses.InitVar[Mapping[str, Any]] = MappingProxyType({})

    def __post_init__(self, scale_metadata: Mapping[str, Any]) -> None:
        def start(name: str, w: jax.Array, axis: Axes) -> dict[str, nnx.Variable]:
            scale = reparam.weight_standardization_scale(w, axis=axis)
            return {f"{name}/scale": nnx.Param(scale, **scale_metadata)}

        self.scales = self._for_kernels(start) if self.use_scale else nnx.data({})

    def __call__(self, *inputs: Any) -> Any:
        """Calls the layer.

        Args:
          *inputs: Arguments of the layer.
        """
        return self._apply(self._change, inputs)

    def _change(self, name: str, w: jax.Array, axis: Axes) -> jax.Array:
        scale: ArrayLike = self.scales[f"{name}/scale"][...] if self.use_scale else 1.0
        return reparam.weight_standardization(w, scale=scale, eps=self.epsilon, axis=axis)
