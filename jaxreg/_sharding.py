"""Shardings of arrays on an Explicit mesh; on other meshes the compiler chooses them."""

from collections.abc import Collection
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def explicit_sharding(x: jax.Array) -> NamedSharding | None:
    """Returns the sharding of ``x`` on an Explicit mesh, or None if the compiler chooses it."""
    sharding = jax.typeof(x).sharding
    return sharding if AxisType.Explicit in sharding.mesh.axis_types else None


def is_spread(x: jax.Array) -> bool:
    """Returns whether the type of ``x`` allows sharding across devices outside ``shard_map``.

    It does on an Explicit mesh, and on an Auto mesh of several devices. The type does not contain
    shardings that only ``in_shardings`` of ``jax.jit`` gives.
    """
    mesh = jax.typeof(x).sharding.mesh
    axes = zip(mesh.axis_sizes, mesh.axis_types, strict=True)
    return any(
        kind == AxisType.Explicit or (kind == AxisType.Auto and size > 1) for size, kind in axes
    )


def for_shape(sharding: NamedSharding, shape: tuple[int, ...]) -> NamedSharding:
    """Returns ``sharding`` with axes replicated where ``shape`` has size 1."""
    spec = (None if size == 1 else name for size, name in zip(shape, sharding.spec, strict=True))
    return NamedSharding(sharding.mesh, PartitionSpec(*spec))


def for_axis(sharding: NamedSharding, axis: int) -> NamedSharding:
    """Returns ``sharding`` with all axes except ``axis`` replicated."""
    spec = (name if a == axis else None for a, name in enumerate(sharding.spec))
    return NamedSharding(sharding.mesh, PartitionSpec(*spec))


def whole_sharding(x: jax.Array) -> NamedSharding | None:
    """Returns the sharding of an array that every device of the Explicit mesh of ``x`` holds."""
    sharding = explicit_sharding(x)
    return None if sharding is None else NamedSharding(sharding.mesh, PartitionSpec())


def split_sharding(x: jax.Array, parts: int) -> NamedSharding | None:
    """Returns the sharding of ``x`` with its last axis split into ``[parts, rest]``.

    It is None without an explicit sharding, and where a part would lie on several devices.
    """
    sharding = explicit_sharding(x)
    if sharding is None:
        return None
    devices = x.shape[-1] // sharding.shard_shape(x.shape)[-1]
    spec = PartitionSpec(*sharding.spec, None)
    return NamedSharding(sharding.mesh, spec) if parts % devices == 0 else None


def place_like(x: jax.Array, like: jax.Array) -> jax.Array:
    """Gives ``x`` the explicit sharding of ``like``, as ``jax.lax.select`` requires."""
    sharding = explicit_sharding(like)
    return x if sharding is None else jax.sharding.reshard(x, sharding)


def place_first(value: jax.Array, like: jax.Array) -> jax.Array:
    """Shards the first axis of ``value`` like the first axis of ``like``; replicates the others."""
    sharding = explicit_sharding(like)
    if sharding is None:
        return value
    spec = PartitionSpec(sharding.spec[0], *[None] * (value.ndim - 1))
    return jax.sharding.reshard(value, NamedSharding(sharding.mesh, spec))


def whole_along(x: jax.Array, axes: Collection[int]) -> jax.Array:
    """Reshards ``x`` so that ``axes`` are not split across devices."""
    sharding = explicit_sharding(x)
    if sharding is None or all(sharding.spec[axis] is None for axis in axes):
        return x
    spec = (None if axis in axes else name for axis, name in enumerate(sharding.spec))
    return jax.sharding.reshard(x, NamedSharding(sharding.mesh, PartitionSpec(*spec)))


def examples_of_device(x: jax.Array) -> int:
    """Returns the batch size per device, or in total if ``x`` has no explicit sharding."""
    sharding = explicit_sharding(x)
    return x.shape[0] if sharding is None else sharding.shard_shape(x.shape)[0]


def varying_axes(x: jax.Array) -> list[str]:
    """Returns the mesh axes of ``shard_map`` along which ``x`` may vary."""
    # Without this attribute, whose name has changed before, checks are skipped.
    kind = getattr(jax.typeof(x), "manual_axis_type", None)
    return sorted(getattr(kind, "varying", ()))


def vary_with(x: jax.Array, others: Any) -> jax.Array:
    """Marks ``x`` as varying along all mesh axes of ``shard_map`` along which ``others`` vary."""
    axes = {axis for other in jax.tree.leaves(others) for axis in varying_axes(other)}
    missing = axes.difference(varying_axes(x))
    return jax.lax.pcast(x, tuple(sorted(missing)), to="varying") if missing else x
