"""Functions that do otherwise where their data is sharded fail on meshes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.testing import devices
from jaxreg.testing.subject import Subject

X = np.linspace(1.0, 2.0, 16, dtype=np.float32)


def of_shards(x):
    return x * (2 if jax.sharding.get_abstract_mesh().axis_names else 1)


@pytest.mark.parametrize("check", [devices.auto_mesh, devices.explicit_mesh, devices.shard_map])
def test_other_results_on_a_mesh_are_seen(check):
    check(Subject(jnp.sin, (jax.device_put(X),), {}, {}))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check(Subject(of_shards, (jax.device_put(X),), {}, {}))
