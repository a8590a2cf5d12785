"""Layer and RMS norm of sharded arrays."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxreg import normalization
from tests.exhaustive.normalization.helpers import MODES, place
from tests.normalization.helpers import draw

SCALE = np.linspace(0.5, 1.5, 16, dtype="f4")


@pytest.mark.parametrize("spec", [P("d"), P(None, "d"), P("d", "e")])
@pytest.mark.parametrize("norm", [normalization.layer_norm, normalization.rms_norm])
@pytest.mark.parametrize("mode", MODES)
def test_layer_norm_of_a_sharded_array(mode, norm, spec):
    mesh = jax.make_mesh((4, 2), ("d", "e"), (mode,) * 2)
    x = draw(8, 16, mean=1)
    expected = norm(x, scale=SCALE)
    with jax.set_mesh(mesh):
        y = jax.jit(norm)(place(mesh, spec, x), scale=SCALE)
    np.testing.assert_allclose(y, expected, rtol=2e-6, atol=2e-6)
