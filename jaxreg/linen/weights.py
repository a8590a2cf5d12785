"""Linen modules that randomize weights in training mode."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from flax import linen as nn
from flax.typing import Dtype, Initializer
from jax.typing import ArrayLike

from jaxreg import dropout, noise
from jaxreg._checks import (
    check_floating,
    check_given,
    check_nonnegative,
    check_scalar,
    is_static_zero,
)
from jaxreg._trees import map_kernels
from jaxreg.linen.stochastic import Parametric, RatedWrapper, Wrapper


class DropConnect(RatedWrapper):
    """Applies :func:`jaxreg.dropout.drop_connect` to the kernels of a layer in training mode.

    Kernels are selected by :func:`jaxreg.masks.kernels`; each has its own key. Each call draws new
    masks, so around ``nn.RNN`` all time steps share them. The layer's variables keep their paths.

    Attributes:
      layer: Linen module to call.
      rate: Probability of dropping a weight; None if every call passes it.
      deterministic: True in evaluation mode, False in training mode; None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import linen as nn
      >>> from jaxreg import linen
      >>> layer = linen.DropConnect(nn.Dense(100, kernel_init=nn.initializers.ones), 0.5)
      >>> x, keys = jnp.ones((1, 1)), {"dropout": jax.random.key(0)}
      >>> variables = layer.init(jax.random.key(1), x, deterministic=True)
      >>> print(jnp.unique(layer.apply(variables, x, deterministic=False, rngs=keys)))
      [0. 2.]
      >>> print(jax.tree.map(jnp.shape, variables))  # As in Flax, so its checkpoints load.
      {'params': {'bias': (100,), 'kernel': (1, 100)}}
      >>> layer = linen.DropConnect(nn.Conv(3, (5, 5)), 0.5, deterministic=False)
      >>> image = jnp.ones((1, 8, 8, 2))
      >>> print(jnp.shape(layer.init_with_output({"params": jax.random.key(1)}, image)[0]))
      (1, 8, 8, 3)

    References:
      Merity et al., `Regularizing and Optimizing LSTM Language Models
      <https://arxiv.org/abs/1708.02182>`_, 2018
    """

    def transform(self, key: jax.Array, x: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
        function = partial(dropout.drop_connect, rate=self.given_rate, bits=self.bits)
        return _with_params(_call, partial(map_kernels, function, key), self.layer, x)


class Perturb(Wrapper):
    """Applies :func:`jaxreg.noise.perturb` to the parameters of a layer in training mode.

    Each call draws the noise once, so around ``nn.RNN`` all time steps share it. The layer's
    variables keep their paths.

    Attributes:
      layer: Linen module to call.
      stddev: Standard deviation of the noise; None if every call passes it.
      deterministic: True in evaluation mode, False in training mode; None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import linen as nn
      >>> from jaxreg import linen
      >>> layer = linen.Perturb(nn.Embed(1, 100_000, embedding_init=nn.initializers.ones), 0.5)
      >>> x, keys = jnp.zeros(1, jnp.int32), {"dropout": jax.random.key(0)}
      >>> variables = layer.init(jax.random.key(1), x, deterministic=True)
      >>> y = layer.apply(variables, x, deterministic=False, rngs=keys)
      >>> print(jnp.round(jnp.std(y), 2))
      0.5
    """

    stddev: ArrayLike | None = None

    def __post_init__(self) -> None:
        if self.stddev is not None:
            check_scalar(self.stddev, "stddev")
            check_nonnegative(self.stddev, "stddev")
        super().__post_init__()

    def is_off(self) -> bool:
        return is_static_zero(self.stddev) or super().is_off()

    def __call__(
        self,
        *inputs: Any,
        deterministic: bool | None = None,
        rng: jax.Array | None = None,
        stddev: ArrayLike | None = None,
        **options: Any,
    ) -> Any:
        """Calls the layer.

        Args:
          *inputs: Arguments of the layer.
          deterministic: True in evaluation mode; required here or in the constructor. It is not
            passed to the layer.
          rng: PRNG key to use in place of one from the stream.
          stddev: Overrides the attribute.
          **options: Keyword arguments of the layer.
        """
        call = (inputs, options)
        return self._apply(call, deterministic=deterministic, rng=rng, stddev=stddev)

    def transform(self, key: jax.Array, x: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
        stddev = check_given(self.stddev, "stddev", self)
        function = partial(noise.perturb, key, stddev=stddev, bits=self.bits)
        return _with_params(_call, function, self.layer, x)


class VariationalDense(Parametric):
    """Linen module for :func:`jaxreg.dropout.variational_dense`; evaluation prunes the weights.

    Parameters are ``kernel``, ``bias`` and ``log_var``. The log ratio of a weight's variance to its
    squared mean is ``log_alpha = variational_log_alpha(kernel, log_var)``. Sum
    ``variational_dropout_kl(log_alpha)`` over all layers, divide by the number of examples, and add
    the result to the mean loss. Both functions are in :mod:`jaxreg.dropout`.

    Attributes:
      features: Number of outputs.
      use_bias: Whether an offset is learned.
      param_dtype: Dtype of the parameters. The result has the dtype of the input.
      kernel_init: Initializer of the means of the weights.
      bias_init: Initializer of the offset.
      log_var_init: Initializer of the logarithms of the variances of the weights.
      threshold: Weights with a larger ``log_alpha`` count as zero in evaluation mode.
      deterministic: True in evaluation mode, False in training mode; None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> layer = linen.VariationalDense(4, deterministic=True)
      >>> variables = layer.init(jax.random.key(0), jnp.ones((2, 3)))
      >>> print(jax.tree.map(jnp.shape, variables["params"]))
      {'bias': (4,), 'kernel': (3, 4), 'log_var': (3, 4)}
    """

    features: int
    use_bias: bool = True
    param_dtype: Dtype = "float32"
    kernel_init: Initializer = nn.linear.default_kernel_init
    bias_init: Initializer = nn.initializers.zeros
    log_var_init: Initializer = nn.initializers.constant(-10.0)
    threshold: ArrayLike = 3.0

    def transform(self, key: jax.Array, x: Any) -> jax.Array:
        *arguments, bias = x
        return dropout.variational_dense(key, *arguments, bias=bias, bits=self.bits)

    def evaluate(self, x: Any) -> jax.Array:
        *arguments, bias = x
        return dropout.variational_dense_inference(*arguments, bias=bias, threshold=self.threshold)

    @nn.compact
    def __call__(
        self,
        inputs: jax.Array,
        deterministic: bool | None = None,  # noqa: FBT001
        rng: jax.Array | None = None,
        *,
        threshold: ArrayLike | None = None,
    ) -> jax.Array:
        """Calls the layer.

        Args:
          inputs: Inputs ``[..., in]``.
          deterministic: True in evaluation mode; required here or in the constructor.
          rng: PRNG key to use in place of one from the stream.
          threshold: Overrides the attribute.
        """
        check_floating(inputs, "inputs")
        shape = (inputs.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        log_var = self.param("log_var", self.log_var_init, shape, self.param_dtype)
        bias = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init, shape[1:], self.param_dtype)
        x = (inputs, kernel, log_var, bias)
        return self._apply(x, deterministic=deterministic, rng=rng, threshold=threshold)


def _with_params(
    call: Callable[..., Any], change: Callable[[Any], Any], layer: nn.Module, *inputs: Any
) -> Any:
    """Calls a layer with ``change(params)`` in place of its parameters."""
    return nn.map_variables(call, "params", change)(layer, *inputs)


def _call(layer: Callable[..., Any], x: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
    inputs, options = x
    return layer(*inputs, **options)
