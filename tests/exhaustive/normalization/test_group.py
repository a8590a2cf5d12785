"""Group norm of sharded arrays: its numbers, and how much it sends."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxreg import normalization
from tests.exhaustive.normalization.helpers import MODES, collectives, numbers_sent, place
from tests.normalization.helpers import draw

SCALE = np.linspace(0.5, 1.5, 16, dtype="f4")
BIAS = np.linspace(-1, 1, 16, dtype="f4")


@pytest.mark.parametrize("spec", [P("d"), P(None, None, "d"), P(None, "d")])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_group_norm_of_a_sharded_array(mode, masked, spec):
    """Channels too: groups of 4 channels over devices that hold 2 each."""
    mesh = jax.make_mesh((8,), ("d",), (mode,))
    x = draw(8, 8, 16, mean=1)
    where = draw(8, 8, 1, seed=1) > 0 if masked else None

    def call(x, where):
        return normalization.group_norm(x, groups=4, scale=SCALE, bias=BIAS, where=where)

    expected = call(x, where)
    with jax.set_mesh(mesh):
        placed = place(mesh, spec, x)
        y = jax.jit(call)(placed, place(mesh, P(*spec[:2]), where))
        assert mode == AxisType.Auto or y.sharding.is_equivalent_to(placed.sharding, 3)
        found, _ = collectives(call, placed, place(mesh, P(*spec[:2]), where))
        assert numbers_sent(found) <= 4 * 8 * 16
    np.testing.assert_allclose(y, expected, rtol=2e-6, atol=2e-6)
