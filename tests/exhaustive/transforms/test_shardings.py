"""States of every transformation on meshes: where they are made, and where they are restored."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.transforms.optimizers import OPTIMIZERS, take

every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
SPECS = {"kernel": P("data", "model"), "bias": P("model")}
FLAT_SPECS = {"kernel": P("data"), "bias": P()}


def on(mesh, specs):
    return {name: NamedSharding(mesh, spec) for name, spec in specs.items()}


def of_state(tx, params, shardings, mesh):
    """The sharding of every leaf of a state: a parameter's, or on every device."""
    return optax.tree_utils.tree_map_params(
        tx,
        lambda _, sharding: sharding,
        jax.eval_shape(tx.init, params),
        shardings,
        transform_non_params=lambda _: NamedSharding(mesh, P()),
    )


def assert_placed(state, shardings):
    for leaf, sharding in zip(jax.tree.leaves(state), jax.tree.leaves(shardings), strict=True):
        assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)


@every_optimizer
def test_a_state_is_made_where_its_parameters_are_and_restored_elsewhere(make, tmp_path):
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    placed = on(mesh, SPECS)
    params = {"kernel": jnp.sin(jnp.arange(128.0)).reshape(16, 8), "bias": jnp.arange(8.0)}
    params = jax.device_put(params, placed)
    tx = make()
    shardings = of_state(tx, params, placed, mesh)
    state = jax.jit(tx.init, out_shardings=shardings)(params)
    assert_placed(state, shardings)

    step = jax.jit(lambda params, state: take(tx, params, state), out_shardings=(placed, shardings))
    _, state = step(params, state)
    assert_placed(state, shardings)

    flat = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    others = of_state(tx, params, on(flat, FLAT_SPECS), flat)
    wanted = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        state,
        others,
    )
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", wanted)
    assert_placed(restored, others)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), jax.device_get(state))
