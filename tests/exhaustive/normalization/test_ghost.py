"""Ghost batch norm of sharded arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxreg import normalization
from tests.normalization.helpers import draw


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("spec", [P("d"), P(None, "d"), P(("d", "e"))])
def test_ghost_batches_across_devices_of_an_explicit_mesh(size, spec):
    """Some lie on one device, some on several; the result lies where the input does."""
    x = jnp.asarray(draw(16, 8, mean=2))
    mask = jnp.arange(16)[:, None] % 5 > 0
    stats = normalization.init_stats(8)

    def norm(x, mask):
        return normalization.ghost_batch_norm(x, stats, ghost_batch_size=size, where=mask)

    @jax.jit
    def run(x, mask):
        dx = jax.grad(lambda x: jnp.sum(jnp.sin(norm(x, mask)[0])))(x)
        return *norm(x, mask), dx

    expected = run(x, mask)
    mesh = jax.make_mesh((4, 2), ("d", "e"), (AxisType.Explicit,) * 2)
    with jax.set_mesh(mesh):
        sharding = NamedSharding(mesh, spec)
        rows = NamedSharding(mesh, P(spec[0]))
        actual = run(jax.device_put(x, sharding), jax.device_put(mask, rows))
    assert actual[0].sharding.spec == P(*spec, *[None] * (2 - len(spec)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), actual, expected)
