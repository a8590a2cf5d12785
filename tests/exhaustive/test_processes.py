"""Several processes draw the masks and compute the batch statistics that one process does."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.exhaustive import processes


def free_port():
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def start(*arguments):
    """Starts the module as a process."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    environment.pop("XLA_FLAGS", None)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.exhaustive.processes", *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_together(folder, count, seconds=600):
    """Runs the module as several processes and returns the exit codes and what they wrote."""
    port = free_port()
    members = [start(folder, port, count, number) for number in range(count)]
    output = []
    try:
        for member in members:
            output.append(member.communicate(timeout=seconds)[0])
            if member.returncode != 0:  # The others would wait for it.
                for other in members:
                    other.kill()
    finally:
        for member in members:
            member.kill()
            member.wait()
    return [member.returncode for member in members], "\n".join(output)


@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_compute_what_one_does(tmp_path, count):
    """Each process compares its shards with what one process computed."""
    alone = start(tmp_path)
    output = alone.communicate(timeout=240)[0]
    assert alone.returncode == 0, output
    for _ in range(3):  # Another program may take the port between its choice and its use.
        codes, output = run_together(tmp_path, count)
        if "Failed to start RPC server" not in output:
            break
    assert codes == [0] * count, output
    for name in processes.CASES:
        assert output.count(f"compared {name}") == count * len(processes.SPECS) * 2, output
