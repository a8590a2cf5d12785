"""Linen modules that wrap a layer and reparametrize its kernels, with the variables of Flax."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import jax
from flax import linen as nn
from flax.typing import Dtype, Initializer
from jax.typing import ArrayLike

from jaxreg import reparam
from jaxreg._selection import Mask
from jaxreg._spectral_state import (
    as_rows,
    as_vectors,
    is_matrix,
    stop_at_zeros,
    zero_for_bias,
)
from jaxreg._trees import (
    FeatureAxes,
    Kernel,
    change_kernels,
    find_kernels,
    is_kernel,
    per_layer,
)

Find = Callable[..., tuple[Kernel | None, ...]]
Change = Callable[[Kernel, jax.Array], jax.Array]


class Reparametrized(nn.Module):
    """Base class of modules that call a layer with changed kernels; its parameters are unchanged.

    Attributes:
      layer_instance: Linen module to call.
    """

    layer_instance: nn.Module

    @nn.nowrap
    def _apply(
        self, find: Find, change: Change, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Calls the layer with ``change(kernel, w)`` in place of kernels that ``find`` selects."""
        layer: Any = self.layer_instance
        if self.is_initializing():
            layer(*args, **kwargs)  # Makes the parameters that the wrapper starts from.
        params = layer.variables.get("params", {})
        kernels = find(params, prefix=(str(layer.name),))
        call = nn.map_variables(
            type(layer).__call__,
            "params",
            lambda _: {"params": change_kernels(change, params, kernels)},
            lambda _: {"params": params},
            mutable=self.is_initializing(),  # nn.tabulate counts the operations of this call.
        )
        return call(layer, *args, **kwargs)

    @nn.nowrap
    def _name(self, kernel: Kernel, *end: str) -> str:
        """Returns the name of a variable of the wrapper, such as ``Dense_0/kernel/scale``."""
        return "/".join(map(str, (self.layer_instance.name, *kernel.path, *end)))


class WeightNorm(Reparametrized):
    """Calls a layer with :func:`jaxreg.reparam.weight_norm` of its kernels, with learned scales.

    The scales start at the norms of the kernels, so wrapping does not change the output; in Flax
    they start at 1. It has the arguments and variables of ``flax.linen.WeightNorm``, and each loads
    the other's checkpoints, even with partition metadata, for which Flax names the scales
    ``kernel/value/scale``. The weights keep the dtype of their parameters; Flax promotes them to
    the dtype of the scale.

    Attributes:
      layer_instance: Linen module to call.
      epsilon: Accepted as in Flax, but has no effect: zero weights remain zero without it.
      dtype: Dtype that weights are cast to; by default the dtype of their parameter.
      param_dtype: Dtype of the scales.
      use_scale: Whether scales are learned; otherwise all norms are 1.
      scale_init: Initializer of the scales. None uses the kernels' norms; Flax's default is ones.
      feature_axes: Output axes of all kernels, with one norm per output; None for a single norm per
        kernel; or a function of a kernel's path and the kernel, such as
        :func:`jaxreg.reparam.output_axes` for one norm per output of attention projections.
      variable_filter: Strings; the path of a parameter, such as ``Dense_0/kernel``, must contain
        one of them. None or an empty collection selects all parameters.
      stacked: Mask of the parameters that hold one kernel per layer along their first axis, as
        under ``nn.scan``. ``feature_axes`` then describes the kernel of one layer.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import linen as nn
      >>> from jaxreg import linen
      >>> layer = linen.WeightNorm(nn.Dense(3))
      >>> params = layer.init(jax.random.key(0), jnp.ones((1, 2)))["params"]
      >>> print(jax.tree.map(jnp.shape, params))
      {'layer_instance': {'bias': (3,), 'kernel': (2, 3)}, 'layer_instance/kernel/scale': (3,)}
    """

    epsilon: float = 1e-12
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    use_scale: bool = True
    scale_init: Initializer | None = None
    feature_axes: FeatureAxes = -1
    variable_filter: Collection[str] | None = frozenset({"kernel"})
    stacked: Mask = None

    @nn.compact
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the layer.

        Args:
          *args: Arguments of the layer.
          **kwargs: Keyword arguments of the layer.
        """
        find = partial(
            find_kernels,
            selects=lambda path, _: _passes(self.variable_filter, path),
            feature_axes=self.feature_axes,
            stacked=self.stacked,
        )
        return self._apply(find, self._change, args, kwargs)

    @nn.nowrap
    def _change(self, kernel: Kernel, w: jax.Array) -> jax.Array:
        function = partial(reparam.weight_norm, axis=kernel.axis)
        if self.use_scale:
            result = per_layer(function, kernel.stacked)(w, scale=self._scale(kernel, w))
        else:
            result = per_layer(partial(function, scale=1.0), kernel.stacked)(w)
        return result if self.dtype is None else result.astype(self.dtype)

    @nn.nowrap
    def _scale(self, kernel: Kernel, w: jax.Array) -> jax.Array:
        norms = per_layer(partial(reparam.weight_norm_scale, axis=kernel.axis), kernel.stacked)

        def start(key: jax.Array) -> jax.Array:
            if self.scale_init is None:
                return norms(w).astype(self.param_dtype)
            return self.scale_init(key, jax.eval_shape(norms, w).shape, self.param_dtype)

        # Names with and without the box of partition metadata that the kernel was initialized in.
        boxes = (kernel.box, (), ("value",))
        names = [self._name(kernel, *box, "scale") for box in boxes]
        name = next((n for n in names if self.has_variable("params", n)), names[0])
        return self.param(name, start)


class SpectralNorm(Reparametrized):
    """Calls a layer with :func:`jaxreg.reparam.spectral_norm` applied to its kernels.

    It has the arguments and variables of ``flax.linen.SpectralNorm``, and each loads the other's
    checkpoints: the vector ``u`` and the singular value ``sigma`` of each kernel are in
    ``batch_stats``. They are initialized by block Lanczos; Flax draws ``u`` at random and sets
    ``sigma`` to 1. Training mode updates both and needs ``mutable=["batch_stats"]``; evaluation
    mode also iterates from ``u``, but does not store the result.

    As in Flax, all parameters with two or more axes have statistics. They are flattened to matrices
    whose columns belong to the last axis, which in attention projections is the depth of one head.
    With ``feature_axes=jaxreg.reparam.output_axes``, each projection is a single linear map, and
    Flax cannot load its vectors. The biases of attention projections have two axes too. Their ``u``
    starts at zeros and stays there, so they are not divided, as in Flax; only a checkpoint with
    another ``u`` divides them.

    Attributes:
      layer_instance: Linen module to call.
      n_steps: Number of power iterations per call; with 0 the kernels are not normalized.
      epsilon: Accepted as in Flax, but has no effect: zero weights remain zero without it.
      dtype: Dtype that weights are cast to; by default the dtype of their parameter.
      param_dtype: Dtype of ``u`` and ``sigma``.
      error_on_non_matrix: Whether parameters with more than two axes are an error.
      collection_name: Collection of ``u`` and ``sigma``.
      update_stats: True in training mode; set it here or at the call.
      feature_axes: Output axes of all kernels, or a function of a kernel's path and the kernel.
      variable_filter: Strings; the path of a parameter, such as ``Dense_0/kernel``, must contain
        one of them. None or an empty collection selects all parameters with two axes or more.
      stacked: Mask of the parameters that hold one kernel per layer along their first axis, as
        under ``nn.scan``. ``feature_axes`` then describes the kernel of one layer.

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
    epsilon: float = 1e-12
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    error_on_non_matrix: bool = False
    collection_name: str = "batch_stats"
    update_stats: bool | None = None
    feature_axes: FeatureAxes = -1
    variable_filter: Collection[str] | None = None
    stacked: Mask = None

    @nn.compact
    def __call__(self, *args: Any, update_stats: bool | None = None, **kwargs: Any) -> Any:
        """Calls the layer, and updates ``u`` and ``sigma`` in training mode.

        Args:
          *args: Arguments of the layer.
          update_stats: True in training mode; required here or in the constructor.
          **kwargs: Keyword arguments of the layer.

        Raises:
          ValueError: A parameter has more than two axes and ``error_on_non_matrix`` is set.
        """
        update = nn.merge_param("update_stats", self.update_stats, update_stats)
        if self.n_steps < 1:
            return self.layer_instance(*args, **kwargs)
        find = partial(
            find_kernels,
            selects=self._selects,
            feature_axes=self.feature_axes,
            stacked=self.stacked,
        )
        change = partial(self._change, update=update and not self.is_initializing())
        return self._apply(find, change, args, kwargs)

    @nn.nowrap
    def _selects(self, path: tuple[Any, ...], w: Any) -> bool:
        passes = _passes(self.variable_filter, path)
        return passes and is_matrix(path, w, strict=self.error_on_non_matrix)

    @nn.nowrap
    def _change(self, kernel: Kernel, w: jax.Array, *, update: bool) -> jax.Array:
        options = {"steps": 0 if self.is_initializing() else self.n_steps, "axis": kernel.axis}
        estimate = per_layer(partial(reparam.spectral_norm_sigma, **options), kernel.stacked)
        function = per_layer(partial(reparam.spectral_norm, **options), kernel.stacked)

        def draw() -> jax.Array:
            first = partial(reparam.spectral_norm_vector, self.make_rng("params"), axis=kernel.axis)
            u = per_layer(first, kernel.stacked)(w)
            return zero_for_bias(kernel, w, as_rows(u.astype(self.param_dtype), kernel))

        def start() -> jax.Array:
            first = estimate(w, as_vectors(rows.value, kernel))
            return zero_for_bias(kernel, w, first.astype(self.param_dtype))

        rows = self.variable(self.collection_name, self._name(kernel, "u"), draw)
        sigma = self.variable(self.collection_name, self._name(kernel, "sigma"), start)
        old = as_vectors(rows.value, kernel)
        result, u = function(w, old)
        step = (result, u, estimate(w, old))
        result, u, value = stop_at_zeros(kernel, w, old, step)
        if update:
            rows.value = as_rows(u, kernel)
            sigma.value = value.astype(sigma.value.dtype)
        return result if self.dtype is None else result.astype(self.dtype)


class WeightStandardization(Reparametrized):
    """Calls a layer with :func:`jaxreg.reparam.weight_standardization` applied to its kernels.

    Kernels are selected by :func:`jaxreg.masks.kernels`.

    Attributes:
      layer_instance: Linen module to call.
      epsilon: Added to the variance.
      use_scale: Whether to learn a factor per output, which starts at
        :func:`jaxreg.reparam.weight_standardization_scale`; set it to True if no norm follows the
        layer.
      feature_axes: Output axes of all kernels, or a function of a kernel's path and the kernel.
      stacked: Mask of the parameters that hold one kernel per layer along their first axis, as
        under ``nn.scan``. ``feature_axes`` then describes the kernel of one layer.

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
    feature_axes: FeatureAxes = reparam.output_axes
    stacked: Mask = None

    @nn.compact
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the layer.

        Args:
          *args: Arguments of the layer.
          **kwargs: Keyword arguments of the layer.
        """
        find = partial(
            find_kernels,
            selects=is_kernel,
            feature_axes=self.feature_axes,
            stacked=self.stacked,
        )
        return self._apply(find, self._change, args, kwargs)

    @nn.nowrap
    def _change(self, kernel: Kernel, w: jax.Array) -> jax.Array:
        options = {"eps": self.epsilon, "axis": kernel.axis}
        function = per_layer(partial(reparam.weight_standardization, **options), kernel.stacked)
        if not self.use_scale:
            return function(w)
        start = partial(reparam.weight_standardization_scale, axis=kernel.axis)
        start = per_layer(start, kernel.stacked)
        scale = self.param(self._name(kernel, "scale"), lambda _: start(w))
        return function(w, scale=scale)


def _passes(variable_filter: Collection[str] | None, path: tuple[Any, ...]) -> bool:
    """Returns whether ``variable_filter`` selects the parameter at ``path``."""
    if isinstance(variable_filter, str):
        raise TypeError(
            "`variable_filter` must be a collection of strings, got the string "
            f"{variable_filter!r}; pass {{{variable_filter!r}}}."
        )
    name = "/".join(map(str, path))
    return not variable_filter or any(part in name for part in variable_filter)
