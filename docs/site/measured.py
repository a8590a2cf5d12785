"""Reads what the benchmarks and the study measured, for the pages of the techniques."""

from __future__ import annotations

import csv
import functools
from pathlib import Path
from typing import NamedTuple

from benchmarks.measuring import Row

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
# Written by ``jaxreg study --data digits --arms all --search halving``.
DIGITS = ROOT / "docs" / "measured" / "digits.csv"
# Written by ``tests/exhaustive/collectives.py``.
COLLECTIVES = ROOT / "docs" / "measured" / "collectives.csv"
TPU = COLLECTIVES.with_name("tpu.csv")
CELLS = 8
# Work that leaves the technique out.
BOUNDS = ("plain", "optax.adamw", "all blocks")


class Measured(NamedTuple):
    """One arm of the study on digits; accuracies are shares."""

    arm: str
    strength: str
    test: float
    difference: float | None
    low: float | None
    high: float | None
    verdict: str


class Sent(NamedTuple):
    """Communication of one program of a technique on a mesh of eight devices."""

    mesh: str
    mode: str
    program: str
    collectives: str
    elements: int
    sometimes: str


@functools.cache
def costs(path: Path = RESULTS) -> tuple[Row, ...]:
    """Reads the rows of the benchmarks."""
    found = []
    for line in path.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == CELLS and _is_number(cells[2]):
            work, peer, ours, theirs, floor, unit, *_ = cells
            found.append(Row(work, peer, float(ours), float(theirs), float(floor), unit))
    return tuple(found)


def is_bound(row: Row) -> bool:
    """Returns whether the peer of a row does less work, such as the step without a penalty."""
    return row.peer.startswith(BOUNDS)


def costs_of(works: tuple[str, ...]) -> list[Row]:
    """Returns the rows whose work begins with one of ``works``, peers that do less first."""
    rows = [row for row in costs() if works and row.work.startswith(works)]
    return sorted(rows, key=lambda row: not is_bound(row))


@functools.cache
def digits(path: Path = DIGITS) -> dict[str, Measured]:
    """Reads the arms of the study on digits."""
    with path.open(newline="") as stream:
        return {row["arm"]: _measured(row) for row in csv.DictReader(stream)}


@functools.cache
def communication(path: Path = COLLECTIVES) -> dict[str, list[Sent]]:
    """Reads the collectives of every function and transformation, by its address.

    A function with several rows has those of its first one.
    """
    firsts: dict[str, str] = {}
    found: dict[str, list[Sent]] = {}
    with path.open(newline="") as stream:
        for row in csv.DictReader(stream):
            address = _address(row["technique"])
            if firsts.setdefault(address, row["technique"]) == row["technique"]:
                cells = (row["mesh"], row["mode"], row["program"], row["collectives"])
                sent = Sent(*cells, int(row["elements"]), row["sometimes"])
                found.setdefault(address, []).append(sent)
    return found


@functools.cache
def slow_on_tpu(path: Path = TPU) -> dict[str, str]:
    """Reads the operations of every function that a TPU does badly, by its address."""
    found: dict[str, str] = {}
    with path.open(newline="") as stream:
        for row in csv.DictReader(stream):
            found.setdefault(_address(row["technique"]), row["operations"])
    return found


def _address(technique: str) -> str:
    """Returns the public address of a row, such as ``penalties.l1``."""
    if technique.startswith("optimizer with "):
        return f"transforms.{technique.removeprefix('optimizer with ')}"
    package, *_, name = technique.partition("-")[0].split(".")
    return f"{package}.{name}"


def _measured(row: dict[str, str]) -> Measured:
    return Measured(
        row["arm"],
        row["strength"],
        float(row["test"]),
        _number(row["difference"]),
        _number(row["difference_low"]),
        _number(row["difference_high"]),
        row["verdict"],
    )


def _number(text: str) -> float | None:
    return float(text) if _is_number(text) else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
