"""Command line: ``python -m benchmarks [--quick] [topic ...]``."""

import argparse
import datetime
import os
import platform
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.measuring import Row, accelerator, rows_of

TOPICS = (
    "starting",
    "circles",
    "dropout",
    "noise",
    "dropout_family",
    "stochastic_depth",
    "hashes",
    "norms",
    "smoothness",
    "optimizer",
    "optimizer_in_order",
    "programs",
    "augment",
)
ACCELERATORS = "accelerators"
PEERS = ("torch", "keras", "augmax", "dm_pix", "kornia")
RESULTS = Path(__file__).parent / "RESULTS.md"
OF_ACCELERATORS = RESULTS.with_name("ACCELERATORS.md")
HEADINGS = ("work", "peer", "jaxreg", "peer's", "floor", "unit", "peer / jaxreg", "jaxreg / floor")
INTRODUCTION = """\
Written by `python -m benchmarks`. The implementations of a row take turns in one process, and the
shortest turn of each counts. Times depend on the machine, so compare ratios. `peer / jaxreg` above
1 means that ours is faster. `jaxreg / floor` of 1 is the least possible: the floor is what the work
cannot do without, measured in the same run, such as reading and writing its arrays once. The file
of each topic says what its floor is, and why a peer is faster where one is.

Some peers do less than ours: `plain` is the step without the penalty, `optax.adamw` the step
without the L1 step and the norm bound, and `all blocks` the step without stochastic depth, against
which at most 1.33 is possible, because three quarters of the blocks are computed.
"""


def main() -> None:
    """Measures topics and prints the table; writes it if a whole table was measured."""
    known = (*TOPICS, ACCELERATORS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("topics", nargs="*", metavar="topic", help=f"one of {', '.join(known)}")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, against the peers that are installed"
    )
    options = parser.parse_args()
    unknown = [topic for topic in options.topics if topic not in known]
    if unknown:
        parser.error(f"unknown topic {unknown[0]!r}; use one of {', '.join(known)}")
    if not options.quick and any(find_spec(peer) is None for peer in PEERS):
        parser.error("a peer is missing; run `pip install -r benchmarks/requirements.txt`")
    machine = f"{cpu_name()}, {os.cpu_count()} cores, {platform.system()}"
    if ACCELERATORS in options.topics:
        device = _alone(accelerator)
        if device is None and not options.quick:
            parser.error("no accelerator found; measure on one, or pass `--quick` to try it here")
        machine = f"{device or 'CPU'}, {machine}"
    topics = options.topics or (known if options.quick else TOPICS)
    text = report(_measure(topics, small=options.quick), machine)
    print(text)
    if options.quick:
        return
    if not options.topics:
        RESULTS.write_text(text, encoding="utf-8")
    if options.topics == [ACCELERATORS]:
        OF_ACCELERATORS.write_text(text, encoding="utf-8")


def _measure(topics: Iterable[str], *, small: bool) -> list[Row]:
    rows = []
    for topic in topics:
        print(f"measuring {topic} ...", file=sys.stderr, flush=True)
        rows += _alone(rows_of, topic, small=small)
    return rows


def _alone(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Calls a function in its own process, because threads and devices are set once in each."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **options).result()


def report(rows: Iterable[Row], machine: str) -> str:
    """Writes the machine, the versions, the date and the table in Markdown."""
    peers = [name for name in PEERS if find_spec(name) is not None]
    packages = ("jaxreg", "jax", "jaxlib", "flax", "optax", *peers)
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    lines = [
        "# Benchmarks",
        "",
        f"- Date: {datetime.datetime.now(datetime.UTC).date()}",
        f"- Machine: {machine}",
        f"- Versions: Python {platform.python_version()}, {versions}",
        "",
        INTRODUCTION,
        *table([HEADINGS, *map(cells, rows)]),
    ]
    return "\n".join(lines) + "\n"


def cells(row: Row) -> tuple[str, ...]:
    """Writes the cells of one row."""
    measures = (f"{each:.4g}" for each in (row.ours, row.theirs, row.floor))
    ratios = (f"{each:.2f}" for each in (row.ratio, row.distance))
    return (row.work, row.peer, *measures, row.unit, *ratios)


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Writes the lines of a Markdown table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines


def cpu_name() -> str:
    """Returns the name of the CPU, as exactly as the system knows it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
