"""Checks on a mesh of all devices."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxreg.testing.subject import Subject, assert_close, is_key

_AXIS = "device"


def shard_map(subject: Subject) -> None:
    """Inside ``shard_map`` every device computes the function of its shard."""
    mesh = _mesh(AxisType.Auto)
    specs = _specs(subject)

    def on_shard(*inputs: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[None], subject(*inputs))

    mapped = jax.shard_map(on_shard, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(_AXIS))
    shards = [
        subject(*jax.tree.map(lambda a, s: _shard(a, s, i, mesh.size), subject.inputs, specs))  # noqa: B023
        for i in range(mesh.size)
    ]
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *shards)
    assert_close(jax.jit(mapped)(*subject.inputs), expected, dtype=subject.data.dtype.name)


def auto_mesh(subject: Subject) -> None:
    """Sharded data gives the result and the gradient of one device, in Auto mode."""
    _compare_sharded(subject, AxisType.Auto, _specs(subject))


def explicit_mesh(subject: Subject) -> None:
    """Sharded data gives the result and the gradient of one device, in Explicit mode."""
    _compare_sharded(subject, AxisType.Explicit, _specs(subject))


def explicit_mesh_last_axis(subject: Subject) -> None:
    """The same with the data sharded along its last axis, alone among the inputs."""
    data = subject.data
    specs = list(jax.tree.map(lambda _: PartitionSpec(), subject.inputs))
    if data.ndim > 1 and data.shape[-1] % jax.device_count() == 0:
        specs[subject.data_position] = PartitionSpec(*[None] * (data.ndim - 1), _AXIS)
    _compare_sharded(subject, AxisType.Explicit, tuple(specs))


def _compare_sharded(subject: Subject, axis_type: AxisType, specs: tuple[Any, ...]) -> None:
    mesh = _mesh(axis_type)
    expected = jax.jit(_value_and_gradient(subject))(*subject.inputs)
    with jax.set_mesh(mesh):
        inputs = jax.tree.map(
            lambda a, spec: jax.device_put(a, NamedSharding(mesh, spec)),
            subject.inputs,
            specs,
        )
        actual = jax.jit(_value_and_gradient(subject))(*inputs)
    assert_close(actual, expected, dtype=subject.data.dtype.name)


def _value_and_gradient(subject: Subject) -> Callable[..., Any]:
    """The function with the gradient of the sum of its outputs by its data."""

    def call(*inputs: Any) -> Any:
        def of_data(data: jax.Array) -> Any:
            return subject(*inputs[:position], data, *inputs[position + 1 :])

        position = subject.data_position
        result, pullback = jax.vjp(of_data, inputs[position])
        return result, pullback(jax.tree.map(jnp.ones_like, result))[0]

    return call


def _mesh(axis_type: AxisType) -> Mesh:
    return jax.make_mesh((jax.device_count(),), (_AXIS,), axis_types=(axis_type,))


def _specs(subject: Subject) -> tuple[Any, ...]:
    """Shards the data, and arrays that share its first axis, along that axis."""
    length = subject.data.shape[0]
    divides = length % jax.device_count() == 0

    def spec(leaf: Any) -> PartitionSpec:
        along = divides and not is_key(leaf) and leaf.ndim > 0 and leaf.shape[0] == length
        return PartitionSpec(_AXIS) if along else PartitionSpec()

    return jax.tree.map(spec, subject.inputs)


def _shard(a: jax.Array, spec: PartitionSpec, index: int, number: int) -> jax.Array:
    return jnp.split(a, number)[index] if len(spec) else a


PER_DTYPE = (shard_map, auto_mesh, explicit_mesh, explicit_mesh_last_axis)
