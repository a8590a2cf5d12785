"""Population statistics of batch norms in scans, on many devices, and of many batches."""

import jax
import numpy as np
import pytest
from flax import linen as flax_linen
from jax.sharding import PartitionSpec as P

from jaxreg import linen
from jaxreg.training import statistics
from tests.training.helpers import assert_moments, normal, some_batches, trains, variables_of_norm

KEY = jax.random.key(4)
SIZES = (7, 32, 1, 20)


def test_many_batches_lose_nothing():
    batches = list(normal(1000, 4, 2, mean=30))
    data = np.concatenate(batches).astype(np.float64)
    module = linen.BatchNorm(use_running_average=False)
    stats = statistics.recalibrate(trains(module), variables_of_norm(2), batches)["batch_stats"]
    assert_moments(stats, data.mean(0), data.var(0), rtol=2e-5)


class Body(flax_linen.Module):
    @flax_linen.compact
    def __call__(self, x, _):
        x = flax_linen.Dense(3)(x)
        return linen.BatchNorm(use_running_average=False, name="norm")(x), x


@pytest.mark.parametrize(
    "lift", [flax_linen.remat, flax_linen.jit, lambda body: body], ids=["remat", "jit", "plain"]
)
def test_inside_of_a_scan(lift):
    class Scanned(flax_linen.Module):
        @flax_linen.compact
        def __call__(self, x):
            body = flax_linen.scan(
                lift(Body),
                variable_axes={"params": 0, "batch_stats": 0},
                split_rngs={"params": True},
                length=2,
            )
            return body(name="body")(x, None)[1]

    batches = some_batches(SIZES, 3)
    variables = Scanned().init(KEY, batches[0])
    new = statistics.recalibrate(trains(Scanned()), variables, batches)
    seen = [Scanned().apply(variables, x, mutable=["batch_stats"])[0] for x in batches]
    data = np.concatenate(seen, axis=1).astype(np.float64)
    assert_moments(new["batch_stats"]["body"]["norm"], data.mean(1), data.var(1), rtol=1e-4)


def test_across_devices():
    """Global batches under plain ``jit``, and ``axis_name`` inside of ``shard_map``."""
    batches = [normal(size, 3, seed=size, mean=size) for size in (8, 32)]
    data = np.concatenate(batches).astype(np.float64)
    mesh = jax.make_mesh((8,), ("d",), (jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, P("d"))
    for axis_name in (None, "d"):
        module = linen.BatchNorm(use_running_average=False, axis_name=axis_name)
        variables = module.init(KEY, batches[0])
        apply = trains(module)
        if axis_name:
            specs = {"in_specs": (P(), P("d")), "out_specs": (P("d"), P())}
            apply = jax.shard_map(apply, mesh=mesh, **specs)
        placed = [jax.device_put(x, sharding) for x in batches]
        new = statistics.recalibrate(apply, variables, placed)["batch_stats"]
        assert_moments(new, data.mean(0), data.var(0))
