"""NNX modules that randomize weights in training mode."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from flax import nnx
from flax.typing import Dtype, Initializer
from jax.typing import ArrayLike

from jaxreg import dropout, noise
from jaxreg._checks import check_given, check_nonnegative, check_scalar, is_static_zero
from jaxreg._trees import map_kernels
from jaxreg.nnx.stochastic import (
    RatedWrapper,
    Source,
    Stochastic,
    Wrapper,
    check_streams,
)


class DropConnect(RatedWrapper):
    """Applies :func:`jaxreg.dropout.drop_connect` to the kernels of a layer in training mode.

    Kernels are selected by :func:`jaxreg.masks.kernels`; each has its own key. The stored kernels
    are unchanged. Each call draws new masks, so around ``flax.nnx.RNN`` all time steps share them.

    Attributes:
      layer: NNX module to call.
      rate: Probability of dropping a weight; None if every call passes it.
      deterministic: True in evaluation mode; ``model.eval()`` and ``flax.nnx.view`` set it too.
        None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.
      rngs: PRNG streams, from which this module forks its own; None if every training call passes
        them.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> rngs, ones = flax_nnx.Rngs(0), flax_nnx.initializers.ones
      >>> linear = flax_nnx.Linear(1, 100, kernel_init=ones, rngs=rngs)
      >>> layer = nnx.DropConnect(linear, 0.5, rngs=rngs)
      >>> print(jnp.unique(layer(jnp.ones((1, 1)))), jnp.unique(linear.kernel[...]))
      [0. 2.] [1.]
      >>> convolution = flax_nnx.Conv(2, 3, (5, 5), rngs=rngs)
      >>> print(nnx.DropConnect(convolution, 0.5, rngs=rngs)(jnp.ones((1, 8, 8, 2))).shape)
      (1, 8, 8, 3)
    """

    def transform(self, key: jax.Array, x: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
        inputs, options = x
        function = partial(dropout.drop_connect, rate=self.given_rate, bits=self.bits)
        layer = with_params(self.layer, partial(map_kernels, function, key))
        return layer(*inputs, **options)


@nnx.dataclass(eq=False)
class Perturb(Wrapper):
    """Applies :func:`jaxreg.noise.perturb` to the parameters of a layer in training mode.

    The stored parameters are unchanged. Each call draws the noise once, so around ``flax.nnx.RNN``
    all time steps share it.

    Attributes:
      layer: NNX module to call.
      stddev: Standard deviation of the noise; None if every call passes it.
      deterministic: True in evaluation mode; ``model.eval()`` and ``flax.nnx.view`` set it too.
        None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.
      rngs: PRNG streams, from which this module forks its own; None if every training call passes
        them.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> rngs = flax_nnx.Rngs(0)
      >>> linear = flax_nnx.Linear(1, 100_000, use_bias=False, rngs=rngs)
      >>> layer = nnx.Perturb(linear, 0.5, rngs=rngs)
      >>> print(jnp.round(jnp.std(layer(jnp.ones((1, 1))) - linear(jnp.ones((1, 1)))), 2))
      0.5
    """

    stddev: ArrayLike | None = None

    def __post_init__(self, rngs: nnx.Rngs | nnx.RngStream | None) -> None:
        if self.stddev is not None:
            check_scalar(self.stddev, "stddev")
            check_nonnegative(self.stddev, "stddev")
        super().__post_init__(rngs)

    def is_off(self) -> bool:
        return is_static_zero(self.stddev)

    def __call__(
        self,
        *inputs: Any,
        deterministic: bool | None = None,
        rngs: Source | None = None,
        stddev: ArrayLike | None = None,
        **options: Any,
    ) -> Any:
        """Calls the layer.

        Args:
          *inputs: Arguments of the layer.
          deterministic: Overrides the attribute; it is not passed to the layer.
          rngs: Key, stream or streams to use in place of the module's own.
          stddev: Overrides the attribute.
          **options: Keyword arguments of the layer.
        """
        return self._apply((inputs, options), deterministic=deterministic, rngs=rngs, stddev=stddev)

    def transform(self, key: jax.Array, x: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
        inputs, options = x
        stddev = check_given(self.stddev, "stddev", self)
        function = partial(noise.perturb, key, stddev=stddev, bits=self.bits)
        return with_params(self.layer, function)(*inputs, **options)


@nnx.dataclass(eq=False)
class VariationalDense(Stochastic):
    """NNX module for :func:`jaxreg.dropout.variational_dense`; evaluation prunes the weights.

    Parameters are ``kernel``, ``bias`` and ``log_var``. The log ratio of a weight's variance to its
    squared mean is ``log_alpha = variational_log_alpha(kernel, log_var)``. Sum
    ``variational_dropout_kl(log_alpha)`` over all layers, divide by the number of examples, and add
    the result to the mean loss. Both functions are in :mod:`jaxreg.dropout`.

    Attributes:
      in_features: Number of inputs.
      out_features: Number of outputs.
      use_bias: Whether an offset is learned.
      param_dtype: Dtype of the parameters. The result has the dtype of the input.
      kernel_init: Initializer of the means of the weights.
      bias_init: Initializer of the offset.
      log_var_init: Initializer of the logarithms of the variances of the weights.
      threshold: Weights with a larger ``log_alpha`` count as zero in evaluation mode.
      deterministic: True in evaluation mode; ``model.eval()`` and ``flax.nnx.view`` set it too.
        None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.
      rngs: PRNG streams for the initializers, from which this module also forks its own for the
        noise.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.VariationalDense(3, 4, rngs=flax_nnx.Rngs(0))
      >>> params = flax_nnx.to_pure_dict(flax_nnx.state(layer, flax_nnx.Param))
      >>> print(jax.tree.map(jnp.shape, params))
      {'bias': (4,), 'kernel': (3, 4), 'log_var': (3, 4)}
    """

    in_features: int
    out_features: int
    _: dataclasses.KW_ONLY
    use_bias: bool = True
    param_dtype: Dtype = "float32"
    kernel_init: dataclasses.InitVar[Initializer] = nnx.initializers.lecun_normal()
    bias_init: dataclasses.InitVar[Initializer] = nnx.initializers.zeros_init()
    log_var_init: dataclasses.InitVar[Initializer] = nnx.initializers.constant(-10.0)
    threshold: ArrayLike = 3.0

    def __post_init__(
        self,
        rngs: nnx.Rngs | nnx.RngStream | None,
        kernel_init: Initializer,
        bias_init: Initializer,
        log_var_init: Initializer,
    ) -> None:
        streams = check_streams(self, rngs)
        shape = (self.in_features, self.out_features)
        self.kernel = nnx.Param(kernel_init(streams.params(), shape, self.param_dtype))
        self.bias = nnx.data(None)
        if self.use_bias:
            self.bias = nnx.Param(bias_init(streams.params(), shape[1:], self.param_dtype))
        variances = log_var_init(streams.params(), shape, self.param_dtype)
        self.log_var = nnx.Param(variances)
        super().__post_init__(rngs)

    def __call__(
        self,
        inputs: Any,
        *,
        deterministic: bool | None = None,
        rngs: Source | None = None,
        threshold: ArrayLike | None = None,
    ) -> Any:
        """Returns ``transform(key, inputs)`` in training mode, otherwise ``evaluate(inputs)``.

        Args:
          inputs: Inputs ``[..., in]``.
          deterministic: Overrides the attribute.
          rngs: Key, stream or streams to use in place of the module's own.
          threshold: Overrides the attribute.
        """
        return self._apply(inputs, deterministic=deterministic, rngs=rngs, threshold=threshold)

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        kernel, log_var, bias = self._params()
        return dropout.variational_dense(key, x, kernel, log_var, bias=bias, bits=self.bits)

    def evaluate(self, x: jax.Array) -> jax.Array:
        kernel, log_var, bias = self._params()
        return dropout.variational_dense_inference(
            x, kernel, log_var, bias=bias, threshold=self.threshold
        )

    def _params(self) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        bias = None if self.bias is None else self.bias[...]
        return self.kernel[...], self.log_var[...], bias


def with_params(layer: nnx.Module, change: Callable[[nnx.State], nnx.State]) -> Any:
    """Returns a copy of a layer with changed parameters that shares all other variables.

    Updates of its statistics and streams therefore update ``layer``.
    """
    graph, params, others = nnx.split(layer, nnx.Param, ...)
    # Read the values, because hijax types and references are not leaves of the state.
    values = jax.tree.map(lambda param: param[...], params, is_leaf=_is_variable)
    put = lambda param, value: param.replace(value)  # noqa: E731
    changed = jax.tree.map(put, params, change(values), is_leaf=_is_variable)
    return nnx.merge(graph, changed, others)


def _is_variable(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)
