"""The example for meshes has the same numbers on every mesh, and loses none to a preemption."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.exhaustive.test_processes import free_port
from tests.exhaustive.training import kills

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_sharded.py"
# SGD, because Adam amplifies roundings: it divides gradients that are almost zero by their size.
SMALL = {
    "layers": 2,
    "width": 32,
    "batch": 16,
    "accumulate": 2,
    "optimizer": "sgd",
    "learning-rate": 0.05,
    "max-norm": 1,
    "steps": 10,
    "log-every": 1,
}
PATIENCE = 1800.0  # seconds; on an idle machine each process takes 10 to 30
# SAM takes two gradients a step, which doubles the program to compile: one framework is enough.
every_framework = pytest.mark.parametrize(
    "options", [{"framework": "linen", "sam": 0.05}, {"framework": "nnx"}], ids=["linen", "nnx"]
)


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """Makes the processes of this file share their programs."""
    changed = {
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR")
        or str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in changed.items():
            patch.setenv(name, value)
        patch.delenv("XLA_FLAGS", raising=False)
        yield


def start(*flags, **options):
    """Starts the example as a process, on eight devices unless the options say otherwise."""
    command = [sys.executable, "-W", "error", str(EXAMPLE), *flags]
    for name, value in (SMALL | {"devices": 8} | options).items():
        command += [f"--{name}", str(value)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    """The rest of the output of a process that ends well."""
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    return output


def run(file, *flags, **options):
    """The arrays of the final state by name."""
    output = finish(start(*flags, export=file, **options))
    with np.load(file) as arrays:
        state = dict(arrays)
    assert ".params['blocks']" in "".join(state), output
    return state


def run_in_processes(*flags, count=2, send=None, **options):
    """The exit codes and outputs of processes that share eight devices; the first may get a signal.

    They try again if another program took the port between its choice and its use, or if one
    compiled half a minute longer than another, which Gloo does not wait for. The second time all
    find their program compiled.
    """
    for _ in range(3):
        place = {"coordinator": f"localhost:{free_port()}", "num-processes": count}
        place["devices"] = 8 // count
        members = [start(*flags, **(options | place | {"process-id": i})) for i in range(count)]
        try:
            said = ""
            if send:
                said = wait_for(members[0], "from step")
                members[0].send_signal(send)
            outputs = [said + members[0].communicate(timeout=PATIENCE)[0]]
            if members[0].returncode:  # The others would wait for it.
                for member in members[1:]:
                    member.kill()
            outputs += [member.communicate(timeout=PATIENCE)[0] for member in members[1:]]
        finally:
            for member in members:
                member.kill()
                member.wait()
                member.stdout.close()
        if not re.search("Failed to start RPC server|Connect timeout", "".join(outputs)):
            break
    return [member.returncode for member in members], outputs


def wait_for(process, text):
    """Reads the output of a process up to a line with a text."""
    read = ""
    for line in process.stdout:
        read += line
        if text in line:
            return read
    raise AssertionError(read)


def assert_equal(state, expected):
    """Checks that two states have the same bits."""
    assert state.keys() == expected.keys()
    different = [name for name in state if state[name].tobytes() != expected[name].tobytes()]
    assert not different


def difference(state, expected):
    """The largest difference of the parameters of two states."""
    assert state.keys() == expected.keys()
    names = [name for name in state if name.startswith(".params")]
    return max(np.abs(np.float64(state[name]) - expected[name]).max() for name in names)


@every_framework
def test_ten_steps_are_equal_on_every_mesh(options, tmp_path):
    alone = run(tmp_path / "1.npz", devices=1, **options)
    assert alone[".step"] == 10
    for mesh in ("8", "4,2"):
        found = difference(run(tmp_path / f"{mesh}.npz", mesh=mesh, **options), alone)
        print(f"{mesh}: {found}")
        assert found <= 1e-6
    for count in (2, 4):
        file = tmp_path / f"{count}_processes.npz"
        codes, outputs = run_in_processes(count=count, mesh="4,2", export=file, **options)
        assert codes == [0] * count, outputs
        with np.load(file) as arrays:
            found = difference(dict(arrays), alone)
        print(f"{count} processes: {found}")
        assert found <= 1e-6


@every_framework
def test_a_run_that_is_stopped_and_killed_has_the_same_bits_on_any_mesh(options, tmp_path):
    folder = tmp_path / "checkpoints"
    options = options | {"mesh": "4,2"}
    saved = options | {"checkpoint": folder, "save-every": 1}
    whole = run(tmp_path / "whole.npz", **options)
    for step in (0, 1):  # SIGTERM before the end of a step: it saves after this step.
        process = start(**saved)
        said = wait_for(process, f"from step {step}")
        process.send_signal(signal.SIGTERM)
        said += finish(process)
        assert f"asked to stop: saved after step {step + 1}" in said
        assert max(kills.complete(folder)) == step + 1
    process = start(**saved)
    kills.wait_until(process, lambda: max(kills.complete(folder)) >= 4)
    process.kill()
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output
    assert_equal(run(tmp_path / "resumed.npz", **saved), whole)
    assert max(kills.complete(folder)) == 10
    # There is nothing left to do but to restore, onto other meshes.
    assert_equal(run(tmp_path / "8.npz", **(saved | {"mesh": "8"})), whole)
    assert_equal(run(tmp_path / "1.npz", **(saved | {"mesh": "1", "devices": 1})), whole)
    wrong = start(**(saved | {"dropout": 0.2}))
    output, _ = wrong.communicate(timeout=PATIENCE)
    assert wrong.returncode == 1
    assert "`dropout` must be 0.1, as in the checkpoint, got 0.2" in output


def test_a_signal_to_one_of_two_processes_stops_both(tmp_path):
    folder = tmp_path / "checkpoints"
    saved = {"checkpoint": folder, "mesh": "4,2", "steps": 200}
    codes, outputs = run_in_processes(send=signal.SIGTERM, **saved)
    assert codes == [0, 0], outputs
    stopped = int(re.search(r"saved after step (\d+)", outputs[0]).group(1))
    assert kills.complete(folder) == {stopped}
    state = run(tmp_path / "alone.npz", **(saved | {"mesh": "8", "steps": stopped}))
    assert state[".step"] == stopped


@pytest.mark.parametrize(
    ("framework", "flags"),
    [("linen", ["--bfloat16", "--no-remat"]), ("nnx", ["--bfloat16"])],
)
def test_other_settings_learn(framework, flags):
    options = {"optimizer": "adam", "learning-rate": 0.01, "max-norm": "inf"}
    more = {"mesh": "4,2", "steps": 60}
    output = finish(start(*flags, framework=framework, **options, **more))
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", output)]
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.1, output


def test_grain_reads_the_same_batches(tmp_path):
    pytest.importorskip("grain")
    plain = run(tmp_path / "plain.npz", mesh="4,2")
    assert_equal(run(tmp_path / "grain.npz", mesh="4,2", threads=2), plain)
