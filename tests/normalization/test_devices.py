"""Devices that share statistics."""

import jax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxreg.normalization import _devices
from tests.normalization.helpers import draw, refuses


@pytest.mark.parametrize("axis_name", [(), "d"])
def test_shard_map_requires_the_axes_of_devices(axis_name):
    _devices.check_synchronized(draw(3), None)
    mesh = jax.make_mesh((2,), ("d",), (AxisType.Auto,), devices=jax.devices()[:2])

    def check(name):
        def one(x):
            _devices.check_synchronized(x, name)
            return x

        return jax.shard_map(one, mesh=mesh, in_specs=P("d"), out_specs=P("d"))

    jax.eval_shape(check(axis_name), draw(2))
    refuses(ValueError, r"`axis_name` must be given .* along \['d'\]", check(None), draw(2))
