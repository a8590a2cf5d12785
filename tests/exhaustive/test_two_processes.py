"""Two processes draw the mask that one process draws."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.exhaustive import two_processes


def free_port():
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def start(*arguments):
    """Starts the module as a process."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    environment.pop("XLA_FLAGS", None)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.exhaustive.two_processes", *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_two_processes(folder, seconds=240):
    """Runs the module as two processes and returns the exit codes and what they wrote."""
    port = free_port()
    processes = [start(folder, port, number) for number in range(2)]
    output = []
    try:
        for process in processes:
            output.append(process.communicate(timeout=seconds)[0])
            if process.returncode != 0:  # The other would wait for it.
                processes[1].kill()
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [process.returncode for process in processes], "\n".join(output)


def test_two_processes_draw_the_mask_of_one(tmp_path):
    """Each of two processes with two devices compares its shards with what one process drew."""
    alone = start(tmp_path)
    output = alone.communicate(timeout=240)[0]
    assert alone.returncode == 0, output
    for _ in range(3):  # Another program may take the port between its choice and its use.
        codes, output = run_two_processes(tmp_path)
        if "Failed to start RPC server" not in output:
            break
    assert codes == [0, 0], output
    number = len(two_processes.CASES) * len(two_processes.SPECS) * 2
    assert output.count("compared 2 shards") == 2 * number, output
