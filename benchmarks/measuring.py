"""Timing in turns, and the rows of the table."""

import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

Work = Callable[[], Any]


class Row(NamedTuple):
    """One comparison.

    Attributes:
      work: Name of the work.
      peer: Name of the peer that did the same work.
      ours: Our measure; smaller is better.
      theirs: The peer's measure.
      unit: Unit of both measures.
    """

    work: str
    peer: str
    ours: float
    theirs: float
    unit: str

    @property
    def ratio(self) -> float:
        """The peer's measure divided by ours; above 1 ours is better."""
        return self.theirs / self.ours


def rows_of(topic: str, *, small: bool) -> list[Row]:
    """Measures one topic in this process."""
    return importlib.import_module(f"benchmarks.{topic}").measure(small=small)


def seconds(work: Work) -> float:
    """Measures the wall time of one call, including the wait for its result."""
    start = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - start


def shortest(works: Mapping[str, Work], *, turns: int) -> dict[str, float]:
    """Measures works in turns and returns the shortest time of each, in milliseconds.

    Before every timed call comes an untimed one. It compiles the first time; later it fills the
    caches and lets the threads of the work before it go to sleep.
    """
    best = dict.fromkeys(works, float("inf"))
    for _ in range(turns):
        for name, work in works.items():
            seconds(work)
            best[name] = min(best[name], seconds(work))
    return {name: 1e3 * time for name, time in best.items()}
