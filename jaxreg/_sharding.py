"""Where arrays lie on an Explicit mesh; on other meshes the compiler sees to it."""

from collections.abc import Collection
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def explicit_sharding(x: jax.Array) -> NamedSharding | None:
    """Sharding of ``x`` on an Explicit mesh, or nothing where the compiler decides on it."""
    sharding = jax.typeof(x).sharding
    return sharding if AxisType.Explicit in sharding.mesh.axis_types else None


def is_spread(x: jax.Array) -> bool:
    """Whether the type of ``x`` says that it may be spread over devices, by other than `shard_map`.

    It does on an Explicit mesh, and on an Auto one of several devices. What ``jax.jit`` is told by
    ``in_shardings`` alone is not in the type.
    """
    mesh = jax.typeof(x).sharding.mesh
    axes = zip(mesh.axis_sizes, mesh.axis_types, strict=True)
    return any(
        kind == AxisType.Explicit or (kind == AxisType.Auto and size > 1) for size, kind in axes
    )


def sharding_like(like: jax.Array, shape: tuple[int, ...]) -> NamedSharding | None:
    """That of ``like`` for a ``shape`` which is that of ``like`` or 1 along some of its axes."""
    sharding = explicit_sharding(like)
    if sharding is None:
        return None
    spec = (None if size == 1 else name for size, name in zip(shape, sharding.spec, strict=True))
    return NamedSharding(sharding.mesh, PartitionSpec(*spec))


def place_like(x: jax.Array, like: jax.Array) -> jax.Array:
    """Gives ``x`` the sharding of ``like``, as a select asks for."""
    sharding = explicit_sharding(like)
    return x if sharding is None else jax.sharding.reshard(x, sharding)


def place_first(value: jax.Array, like: jax.Array) -> jax.Array:
    """Gives ``value`` the sharding of ``like`` along the first axis, which they share."""
    sharding = explicit_sharding(like)
    if sharding is None:
        return value
    spec = PartitionSpec(sharding.spec[0], *[None] * (value.ndim - 1))
    return jax.sharding.reshard(value, NamedSharding(sharding.mesh, spec))


def whole_along(x: jax.Array, axes: Collection[int]) -> jax.Array:
    """Gathers ``x`` along ``axes``, for a function that works across them."""
    sharding = explicit_sharding(x)
    if sharding is None or all(sharding.spec[axis] is None for axis in axes):
        return x
    spec = (None if axis in axes else name for axis, name in enumerate(sharding.spec))
    return jax.sharding.reshard(x, NamedSharding(sharding.mesh, PartitionSpec(*spec)))


def examples_of_device(x: jax.Array) -> int:
    """Counts the examples that a device holds by the type of ``x``, or all if it does not tell."""
    sharding = explicit_sharding(x)
    return x.shape[0] if sharding is None else sharding.shard_shape(x.shape)[0]


def varying_axes(x: jax.Array) -> list[str]:
    """The mesh axes of ``shard_map`` along which ``x`` is not known to be the same."""
    # The attribute has had other names, and a check is not worth failing without it.
    kind = getattr(jax.typeof(x), "manual_axis_type", None)
    return sorted(getattr(kind, "varying", ()))


def vary_with(x: jax.Array, others: Any) -> jax.Array:
    """``x`` marked in ``shard_map`` as different where any array of the tree ``others`` is."""
    axes = {axis for other in jax.tree.leaves(others) for axis in varying_axes(other)}
    missing = axes.difference(varying_axes(x))
    return jax.lax.pcast(x, tuple(sorted(missing)), to="varying") if missing else x
