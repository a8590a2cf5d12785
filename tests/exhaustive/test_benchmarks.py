"""The command that measures, at tiny sizes and without peers that are not installed."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command

ROOT = Path(command.__file__).parents[1]


@pytest.fixture(scope="module")
def table():
    written = command.RESULTS.read_bytes()
    call = [sys.executable, "-m", "benchmarks", "--quick"]
    result = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert command.RESULTS.read_bytes() == written
    lines = [line.strip("|").split("|") for line in result.stdout.splitlines() if line[:1] == "|"]
    header, _, *rows = [[cell.strip() for cell in line] for line in lines]
    assert tuple(header) == command.HEADINGS
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_every_row_has_a_floor(table):
    assert len(table) > 60
    for row in table:
        assert float(row["floor"]) > 0
        ratio = float(row["jaxreg"]) / float(row["floor"])
        assert float(row["jaxreg / floor"]) == pytest.approx(ratio, rel=2e-2, abs=1e-2)


def test_probes_of_jacobians_cost_two_steps(table):
    steps = {
        row["work"]: float(row["jaxreg / floor"]) for row in table if "operations" in row["work"]
    }
    assert len(steps) == 4
    assert max(steps.values()) < 1.1
