"""Studies that are killed, interrupted, or spread over devices and processes."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
STUDY = [
    "study", "--data", "circles", "--arms", "l2,dropout,batch_norm,combined", "--strengths", "2",
    "--seeds", "6", "--epochs", "3", "--train-size", "200",
]  # fmt: skip
FILES = ("results.csv", "history.csv")


def start(*arguments, cwd, **environment):
    """Starts the command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "jaxreg", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def written(out):
    """The lines of the command, without blank ones and without those of the runtime of JAX."""
    return [line for line in out.splitlines() if line and not line.startswith("[Gloo]")]


def finish(process):
    """The printed table, without the line that names the folder and the time."""
    out, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    *table, last = written(out)
    assert re.match(r"Wrote ", last)
    return table


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The table and the numbers of a study that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    began = time.monotonic()
    table = finish(start(*STUDY, "--out", "a", cwd=folder))
    return table, numbers(folder / "a"), time.monotonic() - began


def numbers(folder):
    return [(folder / name).read_bytes() for name in FILES]


@pytest.mark.parametrize("turn", range(20))
def test_a_killed_study_goes_on_to_the_same_table(turn, whole, tmp_path):
    table, files, seconds = whole
    moment = random.Random(turn).uniform(0.2, 0.95) * seconds
    process = start(*STUDY, "--out", "a", cwd=tmp_path)
    try:
        process.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    shown = {path.name for path in (tmp_path / "a").glob("*")} - {".runs", ".best"}
    assert not shown or shown >= set(FILES)
    assert finish(start(*STUDY, "--out", "a", "--resume", cwd=tmp_path)) == table
    assert numbers(tmp_path / "a") == files


@pytest.mark.parametrize("moment", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14])
def test_the_first_interrupt_ends_the_run_with_one_line(moment, tmp_path):
    process = start(*STUDY, "--seeds", 200, "--epochs", 500, "--out", "a", cwd=tmp_path)
    time.sleep(moment)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert errors.count("jaxreg: interrupted") == 1
    assert errors.splitlines()[-1].startswith("jaxreg: interrupted")
    assert "Traceback" not in errors


def test_eight_devices_give_the_same_numbers(whole, tmp_path):
    flags = "--xla_force_host_platform_device_count=8"
    table = finish(start(*STUDY, "--out", "a", cwd=tmp_path, XLA_FLAGS=flags))
    assert table == whole[0]
    assert numbers(tmp_path / "a") == whole[1]


def test_two_processes_give_the_same_numbers(whole, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    flags = "--xla_force_host_platform_device_count=4"
    processes = [
        start(
            *STUDY, "--out", "a", "--coordinator", address, "--num-processes", 2,
            "--process-id", index, cwd=tmp_path, XLA_FLAGS=flags,
        )
        for index in range(2)
    ]  # fmt: skip
    table = finish(processes[0])
    out, errors = processes[1].communicate(timeout=600)
    assert processes[1].returncode == 0, errors
    assert not written(out)
    assert table == whole[0]
    assert numbers(tmp_path / "a") == whole[1]


IN_A_CALLBACK = """
import gc, os, signal, sys, traceback

def press(phase, info):
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_stack(None)]
    if not pressed and any(f"jaxreg{os.sep}study{os.sep}loop" in name for name in files):
        pressed.append(True)
        os.kill(os.getpid(), signal.SIGINT)

pressed = []
gc.callbacks.append(press)
from jaxreg.__main__ import entry
sys.argv = ["jaxreg", *sys.argv[1:]]
sys.exit(entry())
"""


def test_an_interrupt_in_a_callback_of_the_garbage_collector_ends_the_run(tmp_path):
    """Exceptions that callbacks raise are ignored."""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_CALLBACK, *STUDY, "--out", "a"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1].startswith("jaxreg: interrupted; ")
