"""Turns, the shortest of which counts, and the rows made of them."""

import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

Work = Callable[[], Any]


class Row(NamedTuple):
    """One comparison.

    Attributes:
      work: What was done.
      peer: Who did the same.
      ours: Our measure; the smaller, the better.
      theirs: The peer's, in the same unit.
      unit: Unit of both.
      target: Ratio ``theirs / ours`` to reach; None where there is no target.
    """

    work: str
    peer: str
    ours: float
    theirs: float
    unit: str
    target: float | None = None

    @property
    def ratio(self) -> float:
        """How many times smaller our measure is."""
        return self.theirs / self.ours

    @property
    def verdict(self) -> str:
        """Whether the target was reached, judged by the ratio as printed."""
        if self.target is None:
            return ""
        return "met" if round(self.ratio, 2) >= self.target else "missed"


def rows_of(topic: str, *, small: bool) -> list[Row]:
    """Measures one topic, in the process that calls it."""
    return importlib.import_module(f"benchmarks.{topic}").measure(small=small)


def seconds(work: Work) -> float:
    """Wall time of one call, until its result is there."""
    start = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - start


def shortest(works: Mapping[str, Work], *, turns: int) -> dict[str, float]:
    """Shortest time of every work, in milliseconds, the works taking turns.

    Before every timed call comes one that is not: it compiles the first time, and later it lets the
    threads of whoever came before go to sleep and the caches fill.
    """
    best = dict.fromkeys(works, float("inf"))
    for _ in range(turns):
        for name, work in works.items():
            seconds(work)
            best[name] = min(best[name], seconds(work))
    return {name: 1e3 * time for name, time in best.items()}
