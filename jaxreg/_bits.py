"""Random decisions from keys."""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def bernoulli(
    key: jax.Array, rate: jax.Array, shape: tuple[int, ...], *, like: jax.Array
) -> jax.Array:
    """Returns booleans that are true with probability ``rate``, in ``[0, 1]``.

    Compares 32 random bits with an integer threshold: the probability is met to 2**-32, where
    comparing with a float32 uniform would round a small rate to multiples of 2**-23. A rate of 0
    is never and a rate of 1 is always true.

    Args:
      key: PRNG key.
      rate: Probability of true, an array of shape ``()``.
      shape: Shape of the result, that of ``like`` or 1 along some of its axes.
      like: Array on whose devices the bits are drawn.
    """
    threshold = (rate.astype(jnp.float32) * 2.0**32).astype(jnp.uint32)
    bits = jax.random.bits(key, shape, jnp.uint32, out_sharding=_sharding(like, shape))
    return (bits < threshold) | (rate >= 1)


def _sharding(like: jax.Array, shape: tuple[int, ...]) -> NamedSharding | None:
    """Sharding of ``like`` for ``shape``, or nothing where the compiler decides on it."""
    sharding = jax.typeof(like).sharding
    if AxisType.Explicit not in sharding.mesh.axis_types:
        return None
    spec = (None if size == 1 else name for size, name in zip(shape, sharding.spec, strict=True))
    return NamedSharding(sharding.mesh, PartitionSpec(*spec))
