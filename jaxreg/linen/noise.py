"""Linen modules that add noise to activations; for noise on weights, use ``Perturb``."""

from typing import Any

import jax
from jax.typing import ArrayLike

from jaxreg import noise
from jaxreg._checks import check_given, check_nonnegative, is_static_zero
from jaxreg.linen.stochastic import Rated, Stochastic


class GaussianNoise(Stochastic):
    """Linen module for :func:`jaxreg.noise.gaussian_noise`.

    Attributes:
      stddev: Standard deviation: a number, or an array that broadcasts to the input; None if every
        call passes it.
      deterministic: True in evaluation mode, False in training mode; None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> layer = linen.GaussianNoise(0.5)
      >>> keys = {"dropout": jax.random.key(0)}
      >>> y = layer.apply({}, jnp.ones(100_000), deterministic=False, rngs=keys)
      >>> print(jnp.round(jnp.std(y), 2))
      0.5
    """

    stddev: ArrayLike | None = None

    def __post_init__(self) -> None:
        if self.stddev is not None:
            check_nonnegative(self.stddev, "stddev")
        super().__post_init__()

    def is_off(self) -> bool:
        return is_static_zero(self.stddev)

    def __call__(
        self,
        inputs: Any,
        deterministic: bool | None = None,  # noqa: FBT001
        rng: jax.Array | None = None,
        *,
        stddev: ArrayLike | None = None,
    ) -> Any:
        """Returns ``transform(key, inputs)`` in training mode, otherwise ``evaluate(inputs)``.

        Args:
          inputs: Input.
          deterministic: True in evaluation mode; required here or in the constructor.
          rng: PRNG key to use in place of one from the stream.
          stddev: Overrides the attribute.
        """
        return self._apply(inputs, deterministic=deterministic, rng=rng, stddev=stddev)

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        stddev = check_given(self.stddev, "stddev", self)
        return noise.gaussian_noise(key, x, stddev=stddev, bits=self.bits)


class UniformNoise(Stochastic):
    """Linen module for :func:`jaxreg.noise.uniform_noise`.

    Attributes:
      limit: Largest magnitude: a number, or an array that broadcasts to the input; None if every
        call passes it.
      deterministic: True in evaluation mode, False in training mode; None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> layer = linen.UniformNoise(0.5)
      >>> keys = {"dropout": jax.random.key(0)}
      >>> y = layer.apply({}, jnp.zeros(100), deterministic=False, rngs=keys)
      >>> print(jnp.all(abs(y) <= 0.5))
      True
    """

    limit: ArrayLike | None = None

    def __post_init__(self) -> None:
        if self.limit is not None:
            check_nonnegative(self.limit, "limit")
        super().__post_init__()

    def is_off(self) -> bool:
        return is_static_zero(self.limit)

    def __call__(
        self,
        inputs: Any,
        deterministic: bool | None = None,  # noqa: FBT001
        rng: jax.Array | None = None,
        *,
        limit: ArrayLike | None = None,
    ) -> Any:
        """Returns ``transform(key, inputs)`` in training mode, otherwise ``evaluate(inputs)``.

        Args:
          inputs: Input.
          deterministic: True in evaluation mode; required here or in the constructor.
          rng: PRNG key to use in place of one from the stream.
          limit: Overrides the attribute.
        """
        return self._apply(inputs, deterministic=deterministic, rng=rng, limit=limit)

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        limit = check_given(self.limit, "limit", self)
        return noise.uniform_noise(key, x, limit=limit, bits=self.bits)


class SaltAndPepper(Rated):
    """Linen module for :func:`jaxreg.noise.salt_and_pepper`.

    Attributes:
      rate: Probability of replacing an element; None if every call passes it.
      low: Value of pepper.
      high: Value of salt.
      deterministic: True in evaluation mode, False in training mode; None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> layer = linen.SaltAndPepper(0.1)
      >>> keys = {"dropout": jax.random.key(0)}
      >>> y = layer.apply({}, jnp.full((40, 40), 0.5), deterministic=False, rngs=keys)
      >>> print(jnp.unique(y))
      [0.  0.5 1. ]
    """

    low: ArrayLike = 0.0
    high: ArrayLike = 1.0

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return noise.salt_and_pepper(
            key, x, rate=self.given_rate, low=self.low, high=self.high, bits=self.bits
        )
