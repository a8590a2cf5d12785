"""One mask for an array, however it is spread over devices."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxreg import dropout
from tests.exhaustive import processes

KEY = jax.random.key(12)
FUNCTIONS = (dropout.dropout, dropout.spatial_dropout, dropout.gaussian_dropout)
SHAPES = ((16, 24), (8, 16, 24))
MESHES = ({"device": 8}, {"data": 4, "model": 2})


def partitions(names, ndim):
    """All ways to assign axes of a mesh, or some of them, to axes of an array."""
    found = set()
    for order in itertools.permutations(names):
        for axes in itertools.product([None, *range(ndim)], repeat=len(names)):
            owner = dict(zip(order, axes, strict=True))
            found.add(tuple(tuple(n for n in order if owner[n] == axis) for axis in range(ndim)))
    return [PartitionSpec(*(names or None for names in spec)) for spec in sorted(found)]


def test_all_partitions_are_there():
    assert [len(partitions(("a",), ndim)) for ndim in (2, 3)] == [3, 4]
    assert [len(partitions(("a", "b"), ndim)) for ndim in (2, 3)] == [9 + 2, 16 + 3]


def forward_and_backward(function):
    """The function, and the gradient along an array, of a key, the input and the array."""

    def call(key, x, cotangent):
        y, pull = jax.vjp(lambda x: function(key, x, rate=0.3), x)
        return y, pull(cotangent)[0]

    return jax.jit(call)


@pytest.mark.parametrize("sizes", MESHES, ids=lambda sizes: "x".join(map(str, sizes.values())))
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda kind: kind.name)
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_the_result_is_that_of_one_device_without_a_collective(function, kind, sizes):
    mesh = jax.make_mesh((*sizes.values(),), (*sizes,), axis_types=(kind,) * len(sizes))
    call = forward_and_backward(function)
    for shape in SHAPES:
        x = jax.random.normal(jax.random.key(1), shape)
        expected = call(KEY, x, jnp.cos(x))
        for spec in partitions(tuple(sizes), len(shape)):
            with jax.set_mesh(mesh):
                sharding = NamedSharding(mesh, spec)
                inputs = KEY, *jax.device_put((x, jnp.cos(x)), sharding)
                compiled = call.lower(*inputs).compile()
                results = compiled(*inputs)
            for result, value in zip(results, expected, strict=True):
                np.testing.assert_array_equal(result, value, err_msg=f"{shape} {spec}")
                assert result.sharding.is_equivalent_to(sharding, len(shape))
            assert not processes.collectives(compiled), f"{shape} {spec}"


@pytest.mark.parametrize("spec", processes.SPECS, ids=str)
def test_other_bits_are_those_of_one_device(spec):
    mesh = jax.make_mesh((4, 2), ("process", "device"), axis_types=(AxisType.Explicit,) * 2)
    call = jax.jit(lambda x: dropout.dropout(KEY, x, rate=0.3, bits=jax.random.bits))
    x = jax.random.normal(jax.random.key(1), SHAPES[1])
    with jax.set_mesh(mesh):
        result = call(jax.device_put(x, NamedSharding(mesh, spec)))
    np.testing.assert_array_equal(result, call(x))


def test_a_collective_would_be_seen():
    """JAX's own bits need some where ``jax_threefry_partitionable`` is off."""
    mesh = jax.make_mesh((8,), ("device",), axis_types=(AxisType.Auto,))
    x = jax.device_put(jnp.ones((16, 24)), NamedSharding(mesh, PartitionSpec("device")))
    with jax.threefry_partitionable(False):
        call = jax.jit(lambda key, x: dropout.dropout(key, x, rate=0.3, bits=jax.random.bits))
        assert processes.collectives(call.lower(KEY, x).compile())
