"""The tiers, the shards and the ratchet in runs of pytest of their own."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
MACHINERY = ("__init__.py", "conftest.py", "helpers.py", "ratchet.py", "exhaustive/__init__.py")
SUITE = """
import jax
import pytest
from tests.helpers import few, first_of

def compiled(number):
    for n in range(1, number + 1):
        jax.jit(lambda x: x + n)(1.0)

@few("a", range(5))
@pytest.mark.parametrize("each", "xy")
@few("b", range(5))
def test_few(a, b, each):
    pass

@first_of("a", range(3))
def test_first(a):
    pass

@pytest.mark.exhaustive
def test_by_night():
    pass

def test_programs():
    compiled(17)

@pytest.mark.programs(17)
def test_more_programs():
    compiled(17)
"""


@pytest.fixture
def project(tmp_path):
    """A project with the machinery of ours, and tests of its own."""
    folder = tmp_path / "tests"
    (folder / "exhaustive").mkdir(parents=True)
    for name in MACHINERY:
        shutil.copy(TESTS / name, folder / name)
    shutil.copy(TESTS.parent / "pyproject.toml", tmp_path)
    (folder / "ceiling.txt").write_text("100")
    (folder / "test_suite.py").write_text(SUITE)
    (folder / "exhaustive" / "test_more.py").write_text(SUITE)
    return tmp_path


def run(project, *options):
    """The exit status of pytest, and what it prints."""
    command = [sys.executable, "-m", "pytest", "-n0", "-v", *options]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def names(output):
    return re.findall(r"^(\S+::\S+) (?:PASSED|FAILED)", output, re.M)


def test_a_limit_and_a_ceiling_fail_the_suite(project):
    status, output = run(project)
    assert status == 1
    assert "test_programs compiled 17 programs, the limit is 16" in output
    assert output.count("FAILED") == 2  # where it runs, and in the summary
    (project / "tests" / "test_suite.py").write_text(SUITE.replace("compiled(17)", "compiled(16)"))
    assert run(project)[0] == 0
    (project / "tests" / "ceiling.txt").write_text("31")
    status, output = run(project)
    assert status == 1
    assert "compiled 32 programs, the ceiling in tests/ceiling.txt is 31" in output


def test_the_two_tiers_are_all_and_the_shards_of_a_tier_are_it(project):
    default = names(run(project)[1])
    exhaustive = names(run(project, "--exhaustive")[1])
    assert len(default) == 7
    assert len(exhaustive) == 49 + 56
    assert not set(default) & set(exhaustive)
    shards = []
    for part in ("1/3", "2/3", "3/3"):
        shards += names(run(project, "--exhaustive", "--shard", part)[1])
    assert sorted(shards) == sorted(exhaustive)
    assert len(names(run(project, "tests/exhaustive")[1])) == 56
