"""Command line: ``python -m benchmarks [--quick] [topic ...]``."""

import argparse
import datetime
import os
import platform
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

from benchmarks.measuring import Row, rows_of

TOPICS = (
    "circles",
    "dropout",
    "noise",
    "dropout_family",
    "stochastic_depth",
    "hashes",
    "norms",
    "smoothness",
    "optimizer",
    "programs",
    "bandwidth",
    "augment",
)
PEERS = ("torch", "keras", "augmax", "dm_pix", "kornia")
RESULTS = Path(__file__).parent / "RESULTS.md"
HEADINGS = ("work", "peer", "jaxreg", "peer's", "floor", "unit", "peer / jaxreg", "jaxreg / floor")
INTRODUCTION = """\
Written by `python -m benchmarks`. The implementations of a row take turns in one process, and the
shortest turn of each counts. Times depend on the machine, so compare ratios. `peer / jaxreg` above
1 means that ours is faster. `jaxreg / floor` of 1 is the least possible: the floor is what the work
cannot do without, measured in the same run, such as reading and writing its arrays once. The file
of each topic says what its floor is.

Some peers do less than ours: `plain` is the step without the penalty, `optax.adamw` the step
without the L1 step and the norm bound, and `all blocks` the step without stochastic depth, against
which at most 1.33 is possible, because three quarters of the blocks are computed.
"""


def main() -> None:
    """Measures topics and prints the table; writes it if all topics were measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("topics", nargs="*", metavar="topic", help=f"one of {', '.join(TOPICS)}")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, against the peers that are installed"
    )
    options = parser.parse_args()
    unknown = [topic for topic in options.topics if topic not in TOPICS]
    if unknown:
        parser.error(f"unknown topic {unknown[0]!r}; use one of {', '.join(TOPICS)}")
    if not options.quick and any(find_spec(peer) is None for peer in PEERS):
        parser.error("a peer is missing; run `pip install -r benchmarks/requirements.txt`")
    rows = []
    for topic in options.topics or TOPICS:
        print(f"measuring {topic} ...", file=sys.stderr, flush=True)
        # Each topic has its own process, because threads and devices are set once per process.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            rows += pool.submit(rows_of, topic, small=options.quick).result()
    text = report(rows)
    print(text)
    if not options.topics and not options.quick:
        RESULTS.write_text(text, encoding="utf-8")


def report(rows: Iterable[Row]) -> str:
    """Writes the machine, the versions, the date and the table in Markdown."""
    peers = [name for name in PEERS if find_spec(name) is not None]
    packages = ("jaxreg", "jax", "jaxlib", "flax", "optax", *peers)
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    lines = [
        "# Benchmarks",
        "",
        f"- Date: {datetime.datetime.now(datetime.UTC).date()}",
        f"- Machine: {cpu_name()}, {os.cpu_count()} cores, {platform.system()}",
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
