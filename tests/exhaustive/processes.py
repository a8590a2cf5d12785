"""One of several processes that share eight devices.

``python -m tests.exhaustive.processes FOLDER`` computes the cases on one device and writes the
results to files in the folder. With the further arguments ``PORT COUNT NUMBER``, the process joins
the others, computes the cases of global arrays and compares its own shards with the files.
"""

import pathlib
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxreg import dropout, normalization
from tests.exhaustive.counting import KINDS

DEVICES = 8
KEY = np.array([3, 4], np.uint32)
X = np.cos(np.arange(8 * 8 * 16, dtype=np.float32)).reshape(8, 8, 16)
SPECS = (
    PartitionSpec("process", None, "device"),
    PartitionSpec(None, "device", "process"),
    PartitionSpec(None, ("process", "device"), None),
)


def normalize(key, x):
    """Batch norm over all examples, its new statistics, and a gradient through it."""
    del key
    stats = normalization.init_stats(x.shape[-1])

    def loss(x):
        y, new = normalization.batch_norm(x, stats, momentum=0.9)
        return jnp.sum(y**3), (y, new)

    gradient, (y, new) = jax.grad(loss, has_aux=True)(x)
    return y, gradient, *new


# Masks have the same bits and need no communication. Sums over devices are all-reduces, and have
# another order.
CASES = {
    "dropout": partial(dropout.dropout, rate=0.3),
    "spatial": partial(dropout.spatial_dropout, rate=0.3),
    "gaussian": partial(dropout.gaussian_dropout, rate=0.3),
    "batch_norm": normalize,
}
ROUNDING = {"batch_norm": 2e-6}


def collectives(compiled):
    """Names of the communication in a compiled program."""
    return [name for name in KINDS if name in compiled.as_text()]


def write(folder):
    """Computes on one device, compiled as in several: optimization changes last bits."""
    for name, function in CASES.items():
        results = jax.tree.leaves(jax.jit(function)(KEY, X))
        np.savez(pathlib.Path(folder) / f"{name}.npz", *results)


def join(folder, port, count, number):
    """Joins the other processes and compares."""
    own = DEVICES // count
    jax.config.update("jax_num_cpu_devices", own)
    jax.distributed.initialize(f"localhost:{port}", count, number, initialization_timeout=120)
    assert jax.process_count() == count
    assert jax.device_count() == DEVICES
    for name, function in CASES.items():
        with np.load(pathlib.Path(folder) / f"{name}.npz") as arrays:
            expected = list(arrays.values())
        for kind in (AxisType.Auto, AxisType.Explicit):
            mesh = jax.make_mesh((count, own), ("process", "device"), axis_types=(kind,) * 2)
            for spec in SPECS:
                compare(name, function, expected, NamedSharding(mesh, spec))
    jax.distributed.shutdown()


def compare(name, function, expected, sharding):
    """Computes on the mesh of all processes; each process compares its own shards."""
    with jax.set_mesh(sharding.mesh):
        spread = jax.make_array_from_callback(X.shape, sharding, lambda index: X[index])
        compiled = jax.jit(function).lower(KEY, spread).compile()
        results = jax.tree.leaves(compiled(KEY, spread))
    rounding = ROUNDING.get(name, 0)
    assert set(collectives(compiled)) <= ({"all-reduce"} if rounding else set())
    assert not results[0].is_fully_addressable
    for result, value in zip(results, expected, strict=True):
        for shard in result.addressable_shards:
            np.testing.assert_allclose(
                shard.data, value[shard.index], rtol=rounding, atol=rounding, err_msg=name
            )
    print(f"compared {name}", flush=True)


if __name__ == "__main__":
    folder, *place = sys.argv[1:]
    if place:
        join(folder, *map(int, place))
    else:
        write(folder)
