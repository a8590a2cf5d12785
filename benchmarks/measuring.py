"""Timing in turns, and the rows of the table."""

import importlib
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeVar

import jax

Work = Callable[[], Any]
T = TypeVar("T")


class Row(NamedTuple):
    """One comparison.

    Attributes:
      work: Name of the work.
      peer: Name of the peer that did the same work.
      ours: Our measure; smaller is better.
      theirs: The peer's measure.
      floor: The measure of what the work cannot do without, such as reading and writing its arrays.
      unit: Unit of the measures.
    """

    work: str
    peer: str
    ours: float
    theirs: float
    floor: float
    unit: str

    @property
    def ratio(self) -> float:
        """The peer's measure divided by ours; above 1 ours is better."""
        return self.theirs / self.ours

    @property
    def distance(self) -> float:
        """Our measure divided by the floor; 1 is the least possible."""
        return self.ours / self.floor


def rows_of(topic: str, *, small: bool) -> list[Row]:
    """Measures one topic in this process."""
    return importlib.import_module(f"benchmarks.{topic}").measure(small=small)


def accelerator() -> str | None:
    """Returns the kind of the accelerator that JAX uses, or None on a CPU."""
    device = jax.devices()[0]
    return None if device.platform == "cpu" else device.device_kind


def if_installed(package: str, peers: Callable[[], dict[str, T]]) -> dict[str, T]:
    """Returns peers by name, or none of them if their package is not installed."""
    return {} if find_spec(package) is None else peers()


def rows_against(
    work: str, times: Mapping[str, float], *, floor: str, unit: str = "ms"
) -> list[Row]:
    """Compares the measure named ``jaxreg`` with the others, beside the one named ``floor``."""
    peers = {name: time for name, time in times.items() if name not in ("jaxreg", floor)}
    return [
        Row(work, peer, times["jaxreg"], theirs, times[floor], unit)
        for peer, theirs in peers.items()
    ]


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
