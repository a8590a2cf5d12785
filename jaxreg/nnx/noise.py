"""NNX modules that add noise to activations; for noise on weights, use ``Perturb``."""

from typing import Any

import jax
from flax import nnx
from jax.typing import ArrayLike

from jaxreg import noise
from jaxreg._checks import check_given, check_nonnegative, is_static_zero
from jaxreg.nnx.stochastic import Rated, Source, Stochastic


@nnx.dataclass(eq=False)
class GaussianNoise(Stochastic):
    """NNX module for :func:`jaxreg.noise.gaussian_noise`.

    Attributes:
      stddev: Standard deviation: a number, or an array that broadcasts to the input; None if every
        call passes it.
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
      >>> layer = nnx.GaussianNoise(0.5, rngs=flax_nnx.Rngs(0))
      >>> print(jnp.round(jnp.std(layer(jnp.ones(100_000))), 2))
      0.5
    """

    stddev: ArrayLike | None = None

    def __post_init__(self, rngs: nnx.Rngs | nnx.RngStream | None) -> None:
        if self.stddev is not None:
            check_nonnegative(self.stddev, "stddev")
        super().__post_init__(rngs)

    def is_off(self) -> bool:
        return is_static_zero(self.stddev)

    def __call__(
        self,
        inputs: Any,
        *,
        deterministic: bool | None = None,
        rngs: Source | None = None,
        stddev: ArrayLike | None = None,
    ) -> Any:
        """Returns ``transform(key, inputs)`` in training mode, otherwise ``evaluate(inputs)``.

        Args:
          inputs: Input.
          deterministic: Overrides the attribute.
          rngs: Key, stream or streams to use in place of the module's own.
          stddev: Overrides the attribute.
        """
        return self._apply(inputs, deterministic=deterministic, rngs=rngs, stddev=stddev)

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        stddev = check_given(self.stddev, "stddev", self)
        return noise.gaussian_noise(key, x, stddev=stddev, bits=self.bits)


@nnx.dataclass(eq=False)
class UniformNoise(Stochastic):
    """NNX module for :func:`jaxreg.noise.uniform_noise`.

    Attributes:
      limit: Largest magnitude: a number, or an array that broadcasts to the input; None if every
        call passes it.
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
      >>> layer = nnx.UniformNoise(0.5, rngs=flax_nnx.Rngs(0))
      >>> print(jnp.all(abs(layer(jnp.zeros(1000))) <= 0.5))
      True
    """

    limit: ArrayLike | None = None

    def __post_init__(self, rngs: nnx.Rngs | nnx.RngStream | None) -> None:
        if self.limit is not None:
            check_nonnegative(self.limit, "limit")
        super().__post_init__(rngs)

    def is_off(self) -> bool:
        return is_static_zero(self.limit)

    def __call__(
        self,
        inputs: Any,
        *,
        deterministic: bool | None = None,
        rngs: Source | None = None,
        limit: ArrayLike | None = None,
    ) -> Any:
        """Returns ``transform(key, inputs)`` in training mode, otherwise ``evaluate(inputs)``.

        Args:
          inputs: Input.
          deterministic: Overrides the attribute.
          rngs: Key, stream or streams to use in place of the module's own.
          limit: Overrides the attribute.
        """
        return self._apply(inputs, deterministic=deterministic, rngs=rngs, limit=limit)

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        limit = check_given(self.limit, "limit", self)
        return noise.uniform_noise(key, x, limit=limit, bits=self.bits)


@nnx.dataclass(eq=False)
class SaltAndPepper(Rated):
    """NNX module for :func:`jaxreg.noise.salt_and_pepper`.

    Attributes:
      rate: Probability of replacing an element; None if every call passes it.
      low: Value of pepper.
      high: Value of salt.
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
      >>> layer = nnx.SaltAndPepper(0.1, rngs=flax_nnx.Rngs(0))
      >>> print(jnp.unique(layer(jnp.full((40, 40), 0.5))))
      [0.  0.5 1. ]
    """

    low: ArrayLike = 0.0
    high: ArrayLike = 1.0

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return noise.salt_and_pepper(
            key, x, rate=self.given_rate, low=self.low, high=self.high, bits=self.bits
        )
