"""NNX modules that wrap a layer and reparametrize its kernels, with the variables of Flax."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
from flax import nnx
from flax.typing import Dtype, Initializer, PromoteDtypeFn
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
from jaxreg.nnx._strengths import Module
from jaxreg.nnx.stochastic import check_streams
from jaxreg.nnx.weights import with_params

NO_METADATA: Mapping[str, Any] = MappingProxyType({})


@nnx.dataclass(eq=False)
class Reparametrized(Module):
    """Base class of modules that call a layer with changed kernels; its parameters are unchanged.

    The constructor selects the kernels. It does not store the filters and functions that select
    them, so modules with equal arguments have equal graph definitions.

    Attributes:
      layer_instance: NNX module to call.
    """

    layer_instance: nnx.Module

    def _find(
        self,
        selects: Callable[[tuple[Any, ...], Any], bool],
        variable_filter: nnx.filterlib.Filter,
        feature_axes: FeatureAxes,
        stacked: Mask,
    ) -> dict[Kernel, jax.Array]:
        """Stores the selected kernels in ``self.kernels``, and returns their values."""
        params = nnx.state(self.layer_instance, nnx.Param)
        variables = dict(nnx.to_flat_state(params))
        passes = nnx.filterlib.to_predicate(variable_filter)
        self.kernels = find_kernels(
            _values(params),
            selects=lambda path, w: passes(path, variables[path]) and selects(path, w),
            feature_axes=feature_axes,
            stacked=stacked,
        )
        pairs = zip(self.kernels, jax.tree.leaves(_values(params)), strict=True)
        return {kernel: w for kernel, w in pairs if kernel is not None}

    def _apply(
        self,
        change: Callable[[Kernel, jax.Array], jax.Array],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Calls the layer with ``change(kernel, w)`` in place of each selected kernel."""
        changed = partial(change_kernels, change, kernels=self.kernels)
        return with_params(self.layer_instance, changed)(*args, **kwargs)


@nnx.dataclass(eq=False)
class WeightNorm(Reparametrized):
    """Calls a layer with :func:`jaxreg.reparam.weight_norm` of its kernels, with learned scales.

    The scales start at the norms of the kernels, so wrapping does not change the output; in Flax
    they start at 1. It has the arguments and variables of ``flax.nnx.WeightNorm``, and each loads
    the other's checkpoints: the scales are parameters in a dict keyed by the path of the kernel,
    such as ``scales[("kernel",)]``. (In Flax 0.12.8 they are arrays, which are not trained.) The
    weights keep the dtype of their parameters; Flax promotes them to the dtype of the scale. The
    layer's own parameters are unchanged; Flax overwrites them.

    Attributes:
      layer_instance: NNX module to call.
      feature_axes: Output axes of all kernels, with one norm per output; None for a single norm per
        kernel; or a function of a kernel's path and the kernel, such as
        :func:`jaxreg.reparam.output_axes` for one norm per output of attention projections.
      use_scale: Whether scales are learned; otherwise all norms are 1.
      scale_init: Initializer of the scales. None uses the kernels' norms; Flax's default is ones.
      epsilon: Accepted as in Flax, but has no effect: zero weights remain zero without it.
      dtype: Dtype that weights are cast to; by default the dtype of their parameter.
      param_dtype: Dtype of the scales.
      variable_filter: Filter of Flax that selects the parameters that are kernels.
      promote_dtype: Accepted as in Flax, which does not use it either.
      rngs: PRNG streams for ``scale_init``; required with it.
      scale_metadata: Metadata of the variables of the scales, such as their sharding.
      stacked: Mask of the parameters that hold one kernel per layer along their first axis, as
        under ``flax.nnx.vmap``. ``feature_axes`` then describes the kernel of one layer.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.WeightNorm(flax_nnx.Linear(2, 3, rngs=flax_nnx.Rngs(0)))
      >>> params = flax_nnx.to_pure_dict(flax_nnx.state(layer, flax_nnx.Param))
      >>> print(jax.tree.map(jnp.shape, params["scales"]))
      {('kernel',): (3,)}
    """

    _: dataclasses.KW_ONLY
    feature_axes: dataclasses.InitVar[FeatureAxes] = -1
    use_scale: bool = True
    scale_init: dataclasses.InitVar[Initializer | None] = None
    epsilon: dataclasses.InitVar[float] = 1e-12
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    variable_filter: dataclasses.InitVar[nnx.filterlib.Filter] = nnx.PathContains("kernel")
    promote_dtype: dataclasses.InitVar[PromoteDtypeFn | None] = None
    rngs: dataclasses.InitVar[nnx.Rngs | None] = None
    scale_metadata: dataclasses.InitVar[Mapping[str, Any]] = NO_METADATA
    stacked: dataclasses.InitVar[Mask] = None

    def __post_init__(
        self,
        feature_axes: FeatureAxes,
        scale_init: Initializer | None,
        epsilon: float,
        variable_filter: nnx.filterlib.Filter,
        promote_dtype: PromoteDtypeFn | None,
        rngs: nnx.Rngs | None,
        scale_metadata: Mapping[str, Any],
        stacked: Mask,
    ) -> None:
        del epsilon, promote_dtype
        streams = None if scale_init is None else check_streams(self, rngs)

        def start(kernel: Kernel, w: jax.Array) -> jax.Array:
            function = partial(reparam.weight_norm_scale, axis=kernel.axis)
            norms = per_layer(function, kernel.stacked)
            if scale_init is None or streams is None:
                return norms(w).astype(self.param_dtype)
            return scale_init(streams.params(), jax.eval_shape(norms, w).shape, self.param_dtype)

        found = self._find(lambda *_: True, variable_filter, feature_axes, stacked)
        self.scales = nnx.data(None)
        if self.use_scale:
            scales = {k.path: nnx.Param(start(k, w), **scale_metadata) for k, w in found.items()}
            self.scales = nnx.data(scales)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the layer.

        Args:
          *args: Arguments of the layer.
          **kwargs: Keyword arguments of the layer.
        """
        return self._apply(self._change, args, kwargs)

    def _change(self, kernel: Kernel, w: jax.Array) -> jax.Array:
        function = partial(reparam.weight_norm, axis=kernel.axis)
        if self.scales is None:
            result = per_layer(partial(function, scale=1.0), kernel.stacked)(w)
        else:
            result = per_layer(function, kernel.stacked)(w, scale=self.scales[kernel.path][...])
        return result if self.dtype is None else result.astype(self.dtype)


@nnx.dataclass(eq=False)
class SpectralNorm(Reparametrized):
    """Calls a layer with :func:`jaxreg.reparam.spectral_norm` applied to its kernels.

    It has the arguments and variables of ``flax.nnx.SpectralNorm``, and each loads the other's
    checkpoints: the vector ``u`` and the singular value ``sigma`` of each kernel are
    ``flax.nnx.BatchStat`` in a dict keyed by its path, such as ``batch_stats[("kernel", "u")]``.
    They are initialized by block Lanczos; Flax draws ``u`` at random and sets ``sigma`` to 1.
    Training mode updates both; evaluation mode also iterates from ``u``, but does not store the
    result. The layer's own parameters are unchanged; Flax overwrites them.

    As in Flax, all parameters with two or more axes have statistics. They are flattened to matrices
    whose columns belong to the last axis, which in attention projections is the depth of one head.
    With ``feature_axes=jaxreg.reparam.output_axes``, each projection is a single linear map, and
    Flax cannot load its vectors. The biases of attention projections have two axes too. Their ``u``
    starts at zeros and stays there, so they are not divided, as in Flax; only a checkpoint with
    another ``u`` divides them.

    Attributes:
      layer_instance: NNX module to call.
      n_steps: Number of power iterations per call; with 0 the kernels are not normalized.
      epsilon: Accepted as in Flax, but has no effect: zero weights remain zero without it.
      dtype: Dtype that weights are cast to; by default the dtype of their parameter.
      param_dtype: Dtype of ``u`` and ``sigma``.
      error_on_non_matrix: Whether parameters with more than two axes are an error.
      update_stats: True in training mode. Set it here, at the call, or with ``model.eval()`` or
        ``flax.nnx.view``, which set its opposite, ``use_running_average``.
      rngs: PRNG streams for the initial vectors.
      feature_axes: Output axes of all kernels, or a function of a kernel's path and the kernel.
      variable_filter: Filter of Flax that selects the parameters that are kernels; by default all
        with two axes or more.
      stats_metadata: Metadata of the variables of the vectors.
      stacked: Mask of the parameters that hold one kernel per layer along their first axis, as
        under ``flax.nnx.vmap``. ``feature_axes`` then describes the kernel of one layer.

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
    epsilon: dataclasses.InitVar[float] = 1e-12
    dtype: Dtype | None = None
    param_dtype: Dtype = "float32"
    error_on_non_matrix: bool = False
    update_stats: dataclasses.InitVar[bool] = True
    rngs: dataclasses.InitVar[nnx.Rngs]
    feature_axes: dataclasses.InitVar[FeatureAxes] = -1
    variable_filter: dataclasses.InitVar[nnx.filterlib.Filter] = True
    stats_metadata: dataclasses.InitVar[Mapping[str, Any]] = NO_METADATA
    stacked: dataclasses.InitVar[Mask] = None

    def __post_init__(
        self,
        epsilon: float,
        update_stats: bool,
        rngs: nnx.Rngs,
        feature_axes: FeatureAxes,
        variable_filter: nnx.filterlib.Filter,
        stats_metadata: Mapping[str, Any],
        stacked: Mask,
    ) -> None:
        del epsilon
        streams = check_streams(self, rngs)
        self.use_running_average = not update_stats
        chosen = variable_filter if self.n_steps > 0 else False
        selects = partial(is_matrix, strict=self.error_on_non_matrix)
        stats: dict[tuple[Any, ...], nnx.BatchStat] = {}
        for kernel, w in self._find(selects, chosen, feature_axes, stacked).items():
            first = partial(reparam.spectral_norm_vector, streams.params(), axis=kernel.axis)
            u = per_layer(first, kernel.stacked)(w).astype(self.param_dtype)
            function = partial(reparam.spectral_norm_sigma, axis=kernel.axis)
            sigma = per_layer(function, kernel.stacked)(w, u).astype(self.param_dtype)
            rows = zero_for_bias(kernel, w, as_rows(u, kernel))
            stats[*kernel.path, "u"] = nnx.BatchStat(rows, **stats_metadata)
            stats[*kernel.path, "sigma"] = nnx.BatchStat(zero_for_bias(kernel, w, sigma))
        self.batch_stats = nnx.data(stats)

    def __call__(
        self,
        x: Any,
        update_stats: bool | None = None,  # noqa: FBT001
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Calls the layer, and updates ``u`` and ``sigma`` in training mode.

        Args:
          x: First argument of the layer.
          update_stats: Overrides the attribute. It is the second positional argument, as in Flax.
          *args: Further arguments of the layer, which may also be given by name.
          **kwargs: Keyword arguments of the layer.

        Raises:
          TypeError: ``update_stats`` is not a boolean, for example a second input of the layer.
        """
        if not isinstance(update_stats, bool | None):
            raise TypeError(
                f"`update_stats` must be a boolean, got {type(update_stats).__name__}; pass the "
                "layer's second argument by name."
            )
        update = not self.use_running_average if update_stats is None else update_stats
        return self._apply(partial(self._change, update=update), (x, *args), kwargs)

    def _change(self, kernel: Kernel, w: jax.Array, *, update: bool) -> jax.Array:
        rows = self.batch_stats[*kernel.path, "u"]
        sigma = self.batch_stats[*kernel.path, "sigma"]
        options = {"steps": self.n_steps, "axis": kernel.axis}
        estimate = per_layer(partial(reparam.spectral_norm_sigma, **options), kernel.stacked)
        function = per_layer(partial(reparam.spectral_norm, **options), kernel.stacked)
        old = as_vectors(rows[...], kernel)
        result, u = function(w, old)
        step = (result, u, estimate(w, old))
        result, u, value = stop_at_zeros(kernel, w, old, step)
        if update:
            rows[...] = as_rows(u, kernel)
            sigma[...] = value.astype(sigma[...].dtype)
        return result if self.dtype is None else result.astype(self.dtype)

    def set_view(self, use_running_average: bool | None = None) -> None:  # noqa: FBT001
        """Switches between training and evaluation mode; called by ``flax.nnx.view``.

        Args:
          use_running_average: True in evaluation mode.
        """
        if use_running_average is not None:
            self.use_running_average = use_running_average


@nnx.dataclass(eq=False)
class WeightStandardization(Reparametrized):
    """Calls a layer with :func:`jaxreg.reparam.weight_standardization` applied to its kernels.

    Kernels are selected by :func:`jaxreg.masks.kernels`.

    Attributes:
      layer_instance: NNX module to call.
      epsilon: Added to the variance.
      use_scale: Whether to learn a factor per output, which starts at
        :func:`jaxreg.reparam.weight_standardization_scale`; set it to True if no norm follows the
        layer.
      feature_axes: Output axes of all kernels, or a function of a kernel's path and the kernel.
      scale_metadata: Metadata of the variables of the factors, such as their sharding.
      stacked: Mask of the parameters that hold one kernel per layer along their first axis, as
        under ``flax.nnx.vmap``. ``feature_axes`` then describes the kernel of one layer.

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
    feature_axes: dataclasses.InitVar[FeatureAxes] = reparam.output_axes
    scale_metadata: dataclasses.InitVar[Mapping[str, Any]] = NO_METADATA
    stacked: dataclasses.InitVar[Mask] = None

    def __post_init__(
        self, feature_axes: FeatureAxes, scale_metadata: Mapping[str, Any], stacked: Mask
    ) -> None:
        def start(kernel: Kernel, w: jax.Array) -> nnx.Param:
            function = partial(reparam.weight_standardization_scale, axis=kernel.axis)
            return nnx.Param(per_layer(function, kernel.stacked)(w), **scale_metadata)

        found = self._find(is_kernel, True, feature_axes, stacked)
        scales = {kernel.path: start(kernel, w) for kernel, w in found.items()}
        self.scales = nnx.data(scales if self.use_scale else {})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the layer.

        Args:
          *args: Arguments of the layer.
          **kwargs: Keyword arguments of the layer.
        """
        return self._apply(self._change, args, kwargs)

    def _change(self, kernel: Kernel, w: jax.Array) -> jax.Array:
        options = {"eps": self.epsilon, "axis": kernel.axis}
        function = per_layer(partial(reparam.weight_standardization, **options), kernel.stacked)
        return function(w, scale=self.scales[kernel.path][...]) if self.use_scale else function(w)


def _values(params: nnx.State) -> nnx.State:
    """Returns the state with each variable replaced by its array, also for references and hijax."""
    return jax.tree.map(lambda v: v.get_value(), params, is_leaf=lambda v: hasattr(v, "get_value"))
