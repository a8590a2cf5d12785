"""The steps of ``optimizer`` on a CPU, where each leaf is finished before the next is begun.

By default XLA's scheduler for CPUs works on all leaves at once, and the temporary arrays of a chain
with a norm bound wait for each other in memory. Accelerators finish leaf after leaf, and so does a
CPU with this flag, which XLA reads only when it starts.
"""

import os

import jax

from benchmarks import optimizer
from benchmarks.measuring import Row

FLAG = "--xla_cpu_enable_concurrency_optimized_scheduler=false"


def measure(*, small: bool) -> list[Row]:
    """Measures time and peak memory; nothing on accelerators, where ``optimizer`` does."""
    in_order()
    if jax.default_backend() != "cpu":
        return []
    return optimizer.measure(small=small, suffix=", leaf after leaf")


def in_order() -> None:
    """Sets the flag for this process, which has not compiled anything yet."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAG}".strip()
