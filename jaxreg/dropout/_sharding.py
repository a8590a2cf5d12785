"""What a function does to an array that is sharded along an axis it works across."""

from collections.abc import Collection

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def whole_along(x: jax.Array, axes: Collection[int]) -> jax.Array:
    """Gathers ``x`` along ``axes`` on an Explicit mesh; elsewhere the compiler sees to it."""
    sharding = jax.typeof(x).sharding
    if AxisType.Explicit not in sharding.mesh.axis_types:
        return x
    if all(sharding.spec[axis] is None for axis in axes):
        return x
    spec = (None if axis in axes else name for axis, name in enumerate(sharding.spec))
    return jax.sharding.reshard(x, NamedSharding(sharding.mesh, PartitionSpec(*spec)))
