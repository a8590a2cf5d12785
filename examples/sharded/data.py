"""Data that are a pure function of an example's number, so that a position is one integer.

Each example counts up from a random number in steps of 1, 2 or 3, and a model that sees some of its
tokens can tell the others. Replace ``Batches`` by your own source: anything that returns the batch
of a step. Every process reads the rows of its own devices only.

``grain`` reads ahead in threads, if it is installed. Its datasets can be read at any position, so
the number of the step is its whole state as well, and batches are the same with and without it.
"""

from collections.abc import Iterator

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from sharded.settings import Settings

HELD_OUT = 2**40  # Number of the first example that training does not reach.


def make_example(settings: Settings, number: int) -> np.ndarray:
    """Returns the tokens of an example."""
    rng = np.random.default_rng((settings.seed, number))
    first = rng.integers(settings.vocabulary - 1)
    stride = rng.integers(1, 4)
    tokens = first + stride * np.arange(settings.length)
    return (tokens % (settings.vocabulary - 1)).astype(np.int32)


class Batches:
    """The rows of this process: ``[micro-batches, rows, length]`` for the number of a step."""

    def __init__(self, settings: Settings, mesh: jax.sharding.Mesh, first: int = 0):
        self.settings = settings
        self.first = first
        self.sharding = NamedSharding(mesh, PartitionSpec(None, "data"))
        parts = self.sharding.addressable_devices_indices_map(settings.batch_shape).values()
        ranges = [part[1].indices(settings.batch_shape[1]) for part in parts]
        # The devices of a process are neighbors on the mesh, and so are their rows.
        self.rows = range(min(start for start, *_ in ranges), max(stop for _, stop, _ in ranges))

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, step: int) -> np.ndarray:
        count, micro_batch, _ = self.settings.batch_shape
        start = self.first + step * self.settings.batch
        numbers = [[start + i * micro_batch + row for row in self.rows] for i in range(count)]
        return np.stack(
            [[make_example(self.settings, number) for number in row] for row in numbers]
        )

    def place(self, rows: np.ndarray) -> jax.Array:
        """Returns the batch of all processes on the mesh."""
        shape = self.settings.batch_shape
        return jax.make_array_from_process_local_data(self.sharding, rows, shape)


def read(batches: Batches, start: int, stop: int, *, threads: int = 0) -> Iterator[jax.Array]:
    """Yields the batches of the steps from ``start`` to ``stop``, read ahead by grain's threads."""
    if threads:
        import grain

        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
        rows = grain.MapDataset.source(batches)[start:stop].to_iter_dataset(options)
    else:
        rows = (batches[step] for step in range(start, stop))
    yield from map(batches.place, rows)
