"""The table of collectives is that of the compiled programs."""

import csv

import jax
import pytest

from tests import cases
from tests.exhaustive import collectives


def table():
    with collectives.TABLE.open(newline="") as stream:
        header, *rows = csv.reader(stream)
    assert tuple(header) == collectives.HEADER
    found = {}
    for row in rows:
        found.setdefault(row[0], []).append(tuple(row))
    return found


ROWS = table()
# The table is of jax 0.10. Here 0.12 gathers the radii, 8 numbers, which 0.10 does not.
SINCE_0_12 = {
    ("projections.simplices.l1_ball", "4x2", "Explicit", "forward"): (
        "5 all-reduce, 1 all-gather", "48", "3 all-reduce",
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def program_of_an_accelerator(monkeypatch):
    jax.clear_caches()  # Functions that were traced before would keep the branch of a CPU.
    monkeypatch.setattr(jax.lax, "platform_dependent", collectives.of_accelerator)
    yield
    jax.clear_caches()


def test_every_technique_has_rows():
    assert list(ROWS) == collectives.names()


@pytest.mark.parametrize("name", collectives.names())
def test_a_technique_sends_what_the_table_says(name):
    known = ROWS[name]
    if jax.__version_info__ >= (0, 12):
        known = [(*row[:4], *SINCE_0_12.get(row[:4], row[4:])) for row in known]
    assert collectives.rows_of(name) == known


def test_operations_that_a_tpu_does_badly_are_those_of_the_table():
    with collectives.SLOW_TABLE.open(newline="") as stream:
        header, *rows = csv.reader(stream)
    found = [[case.name, collectives.slow_on_tpu(case)] for case in cases.FUNCTIONS]
    assert header == ["technique", "operations"]
    assert rows == found


def test_collectives_of_a_branch_are_counted_apart():
    text = """HloModule a

%branch (p: f32[8]) -> f32[8] {
  ROOT %a = f32[8]{0} all-reduce(%p), to_apply=%add
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %r = (f32[8,2]{1,0}, f32[]) all-reduce(%x, %y), to_apply=%add
  %g = f32[3]{0} all-gather(%x), dimensions={0}
}
"""
    assert collectives.count(text) == ("1 all-reduce, 1 all-gather", 20, "1 all-reduce")
