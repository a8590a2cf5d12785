"""Checks that sharding over a mesh of all devices does not change results."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxreg.testing.subject import Subject, assert_close, is_key, stacked_trees

_AXIS = "device"


def shard_map(subject: Subject) -> None:
    """Checks that each device inside ``shard_map`` gets the result for its own shard."""
    mesh = _mesh(AxisType.Auto)
    specs = _specs(subject)

    def on_shard(*inputs: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[None], subject(*inputs))

    mapped = jax.shard_map(on_shard, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(_AXIS))
    shards = [
        jax.tree.map(lambda a, s: _shard(a, s, i, mesh.size), subject.inputs, specs)  # noqa: B023
        for i in range(mesh.size)
    ]
    expected = stacked_trees([subject.program(*inputs) for inputs in shards])
    assert_close(jax.jit(mapped)(*subject.inputs), expected, dtype=subject.data.dtype.name)


def auto_mesh(subject: Subject) -> None:
    """Checks that sharding on an Auto mesh does not change the result and gradient."""
    _compare_sharded(subject, AxisType.Auto, _specs(subject))


def explicit_mesh(subject: Subject) -> None:
    """Checks that sharding on an Explicit mesh does not change the result and gradient."""
    _compare_sharded(subject, AxisType.Explicit, _specs(subject))


def explicit_mesh_last_axis(subject: Subject) -> None:
    """Checks the result and gradient when only the data is sharded, along its last axis."""
    data = subject.data
    specs = list(jax.tree.map(lambda _: PartitionSpec(), subject.inputs))
    if data.ndim > 1 and data.shape[-1] % jax.device_count() == 0:
        specs[subject.data_position] = PartitionSpec(*[None] * (data.ndim - 1), _AXIS)
    _compare_sharded(subject, AxisType.Explicit, tuple(specs))


def _compare_sharded(subject: Subject, axis_type: AxisType, specs: tuple[Any, ...]) -> None:
    mesh = _mesh(axis_type)
    expected = subject.with_pullback(*subject.inputs)
    with jax.set_mesh(mesh):
        inputs = jax.tree.map(
            lambda a, spec: jax.device_put(a, NamedSharding(mesh, spec)),
            subject.inputs,
            specs,
        )
        actual = jax.jit(lambda *inputs: subject.value_and_pullback(*inputs))(*inputs)
    assert_close(actual, expected, dtype=subject.data.dtype.name)


def _mesh(axis_type: AxisType) -> Mesh:
    return jax.make_mesh((jax.device_count(),), (_AXIS,), axis_types=(axis_type,))


def _specs(subject: Subject) -> tuple[Any, ...]:
    """Returns specs that shard the first axis of the data and of inputs of the same length."""
    length = subject.data.shape[0]
    divides = length % jax.device_count() == 0

    def spec(leaf: Any) -> PartitionSpec:
        along = divides and not is_key(leaf) and leaf.ndim > 0 and leaf.shape[0] == length
        return PartitionSpec(_AXIS) if along else PartitionSpec()

    return jax.tree.map(spec, subject.inputs)


def _shard(a: jax.Array, spec: PartitionSpec, index: int, number: int) -> jax.Array:
    return jnp.split(a, number)[index] if len(spec) else a


PER_DTYPE = (shard_map, auto_mesh, explicit_mesh, explicit_mesh_last_axis)
