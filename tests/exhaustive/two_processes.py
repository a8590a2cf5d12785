"""One of two processes with two devices each.

``python -m tests.exhaustive.two_processes FOLDER`` draws in a single process and writes the results
to files in the folder. With the further arguments ``PORT NUMBER``, the process joins another one,
draws the masks of global arrays and compares its own shards with the files.
"""

import pathlib
import sys
from functools import partial

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxreg import dropout
from tests.exhaustive.counting import KINDS

KEY = np.array([3, 4], np.uint32)
X = np.cos(np.arange(8 * 4 * 12, dtype=np.float32)).reshape(8, 4, 12)
CASES = {
    "dropout": (partial(dropout.dropout, rate=0.3), X),
    "spatial": (partial(dropout.spatial_dropout, rate=0.3), X),
    "gaussian": (partial(dropout.gaussian_dropout, rate=0.3), X),
}
SPECS = (
    PartitionSpec("process", None, "device"),
    PartitionSpec(None, "device", "process"),
    PartitionSpec(None, ("process", "device"), None),
)


def collectives(compiled):
    """Names of the communication in a compiled program."""
    return [name for name in KINDS if name in compiled.as_text()]


def write(folder):
    """Draws on one device, compiled as in the two processes: optimization changes last bits."""
    for name, (function, x) in CASES.items():
        np.save(pathlib.Path(folder) / f"{name}.npy", jax.jit(function)(KEY, x))


def join(folder, port, number):
    """Joins the other process and compares."""
    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize(f"localhost:{port}", 2, int(number), initialization_timeout=120)
    assert (jax.process_count(), jax.device_count()) == (2, 4)
    for name, (function, x) in CASES.items():
        expected = np.load(pathlib.Path(folder) / f"{name}.npy")
        for kind in (AxisType.Auto, AxisType.Explicit):
            mesh = jax.make_mesh((2, 2), ("process", "device"), axis_types=(kind,) * 2)
            for spec in SPECS:
                compare(function, x, expected, NamedSharding(mesh, spec))
    jax.distributed.shutdown()


def compare(function, x, expected, sharding):
    """Draws on the mesh of both processes; each process compares its own shards."""
    with jax.set_mesh(sharding.mesh):
        spread = jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])
        compiled = jax.jit(function).lower(KEY, spread).compile()
        result = compiled(KEY, spread)
    assert not collectives(compiled)
    assert not result.is_fully_addressable
    for shard in result.addressable_shards:
        np.testing.assert_array_equal(shard.data, expected[shard.index])
    print(f"compared {len(result.addressable_shards)} shards", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        write(sys.argv[1])
    else:
        join(*sys.argv[1:])
