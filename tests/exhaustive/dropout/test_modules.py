"""Dropout modules of Flax: streams of keys and Explicit meshes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as fnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxreg import dropout, linen, nnx

KEY = jax.random.key(14)


def test_nnx_needs_nnx_jit_or_keys():
    """``jax.jit`` loses the count of a stream and repeats the mask; a key at the call does not."""
    layer = nnx.Dropout(0.5, rngs=fnx.Rngs(0))
    ones = jnp.ones(64)

    def masks(call):
        return len({np.asarray(call(step)).tobytes() for step in range(3)})

    pure = jax.jit(lambda layer, x: layer(x))
    keyed = jax.jit(lambda layer, x, key: layer(x, rngs=key))
    lifted = fnx.jit(lambda layer, x: layer(x))
    assert masks(lambda step: pure(layer, ones)) == 1
    assert masks(lambda step: keyed(layer, ones, jax.random.fold_in(KEY, step))) == 3
    assert masks(lambda step: lifted(layer, ones)) == 3


@pytest.mark.parametrize("axes", [(), (0,), (1,)], ids=str)
def test_modules_on_an_explicit_mesh(axes):
    """Flax's Linen layer raises on sharded inputs, its NNX layer where a shared axis is sharded."""
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
    x = jnp.arange(1.0, 129).reshape(16, 8)
    expected = dropout.dropout(KEY, x, rate=0.5, broadcast_axes=axes)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data", "model")))
        modules = (
            lambda x: linen.Dropout(0.5, broadcast_dims=axes, deterministic=False).apply(
                {}, x, rng=KEY
            ),
            lambda x: nnx.Dropout(0.5, broadcast_dims=axes)(x, rngs=KEY),
        )
        for module in modules:
            np.testing.assert_array_equal(jax.jit(module)(sharded), expected)
