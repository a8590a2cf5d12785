"""The command that measures, at tiny sizes and without peers that are not installed."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from benchmarks import __main__ as command
from benchmarks import optimizer, programs

ROOT = Path(command.__file__).parents[1]
PEAKS_IN_ORDER = """
import json
from benchmarks import optimizer, optimizer_in_order
optimizer_in_order.in_order()
print(json.dumps(optimizer.peaks(optimizer.programs(optimizer.parameters(447)))))
"""


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


def test_layers_of_accelerators_are_compared_with_peers_and_a_matrix_product(table):
    peers = {row["peer"] for row in table if row["work"].startswith("LayerNorm, ViT-B")}
    assert {"flax.linen", "matrix product"} <= peers


def test_accelerators_are_not_measured_on_a_cpu():
    call = [sys.executable, "-m", "benchmarks", "accelerators"]
    result = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "no accelerator found" in result.stderr or "a peer is missing" in result.stderr


@pytest.fixture(scope="module")
def peaks():
    """Peak memory of the optimizer's steps, by the order in which XLA works on the leaves."""
    # XLA reads the flag when it starts, so that the second order needs a process of its own.
    call = [sys.executable, "-c", PEAKS_IN_ORDER]
    result = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    all_at_once = optimizer.peaks(optimizer.programs(optimizer.parameters(447)))
    return {"all at once": all_at_once, "leaf after leaf": json.loads(result.stdout)}


def test_a_proximal_step_and_a_projection_after_the_step_need_no_memory(peaks):
    for held in peaks.values():
        assert held["adam, decay, L1"] < 1.01 * held["optax.adamw"]
        assert held[optimizer.AFTER] < 1.01 * held["optax.adamw"]


def test_max_norm_in_a_chain_needs_the_memory_of_the_same_by_hand(peaks):
    chain = {order: held["adam, decay, L1, max-norm"] for order, held in peaks.items()}
    by_hand = {order: held["the same by hand"] for order, held in peaks.items()}
    assert chain["leaf after leaf"] < 1.01 * by_hand["leaf after leaf"]
    assert chain["all at once"] < 1.25 * by_hand["all at once"]


def test_a_transformer_has_fewer_lines_and_bytes_than_with_the_parts_of_flax():
    ours = lowered("jaxreg")
    theirs = lowered("flax")
    assert lines(ours) < 0.9 * lines(theirs)
    assert bytes_accessed(ours) < 0.8 * bytes_accessed(theirs)


def lowered(name):
    function, arguments = programs.step(name, 12)
    return jax.jit(function).lower(*arguments)


def lines(program):
    return len(program.as_text().splitlines())


def bytes_accessed(program):
    return program.compile().cost_analysis()["bytes accessed"]
