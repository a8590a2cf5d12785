"""Kills the examples that resume, at random moments, and checks that they lose nothing.

``python -m tests.exhaustive.training.kills 50`` kills each example 25 times and prints the figures.
A third of the kills happens at any moment after the start of a process, a third while it trains,
and a third while it saves.
"""

import dataclasses
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

EXAMPLES = [
    Path(__file__).parents[3] / "examples" / f"resume_{framework}.py"
    for framework in ("linen", "nnx")
]
TEMPORARY = "*.orbax-checkpoint-tmp*"
PATIENCE = 600.0  # seconds until a process must make progress


class Moment(NamedTuple):
    """The moment to kill a process."""

    checkpoints: int  # after it saved this number of checkpoints
    seconds: float  # and this time later
    saving: bool  # and then in the middle of the next save


@dataclasses.dataclass
class Figures:
    """Counts of the events in one example."""

    kills: int = 0
    saving: int = 0  # kills with a checkpoint half-written
    deleting: int = 0  # kills with an old checkpoint half-deleted
    resumes: int = 0
    lost: int = 0  # resumes that did not start at the newest complete checkpoint
    unusable: int = 0  # checkpoints that a resume could not use
    leftovers: int = 0  # temporary folders at the end
    runs: int = 0  # trained to the end
    identical: int = 0  # runs with the final state of the uninterrupted run


def start(example, folder, steps):
    """Starts an example that saves after every step."""
    command = [sys.executable, "-W", "error", str(example), "--directory", str(folder)]
    command += ["--steps", str(steps), "--save-every", "1"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder.parent
    )


def final_state(output):
    return re.search(r"sha256 of the final state: (\w{64})", output).group(1)


def uninterrupted(example, steps):
    """The digest of the final state of a run without kills and without checkpoints."""
    command = [sys.executable, str(example), "--steps", str(steps), "--save-every", "1000000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return final_state(done.stdout)


def complete(folder):
    """Steps of the checkpoints with final names."""
    return {int(path.name) for path in folder.glob("*") if path.name.isdecimal()}


def wait_until(process, condition):
    """Waits until a condition holds or the process ends; tells whether it is still alive."""
    limit = time.monotonic() + PATIENCE
    while process.poll() is None and not condition():
        assert time.monotonic() < limit, "a process made no progress"
        time.sleep(0.0005)
    return process.poll() is None


def kill(process, folder, moment):
    """Kills a process at a moment; tells whether it was alive until then."""
    if moment.checkpoints:
        goal = max(complete(folder), default=0) + moment.checkpoints
        wait_until(process, lambda: max(complete(folder), default=0) >= goal)
    limit = time.monotonic() + moment.seconds
    wait_until(process, lambda: time.monotonic() > limit)
    while moment.saving and wait_until(process, lambda: any(folder.glob(TEMPORARY))):
        # Stopped first, so that the checkpoint is not complete before the signal arrives.
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if any(folder.glob(TEMPORARY)):
            break
        process.send_signal(signal.SIGCONT)
    alive = process.poll() is None
    process.kill()
    return alive


def half_deleted(folder):
    """Returns whether a checkpoint lacks files that every complete one has."""
    return any(
        not (folder / str(step) / name).exists()
        for step in complete(folder)
        for name in ("_CHECKPOINT_METADATA", "state/_METADATA", "digests/metadata")
    )


def run_through(example, folder, steps, moments, expected, figures):
    """Trains from start to end, and kills the process at each of the moments."""
    newest = None
    while True:
        moment = next(moments, None)
        process = start(example, folder, steps)
        if moment and kill(process, folder, moment):
            figures.kills += 1
            figures.saving += any(folder.glob(TEMPORARY))
        output, errors = process.communicate()
        resumed = re.search(r"resumed after step (\d+)", output)
        if resumed:
            figures.resumes += 1
            figures.lost += int(resumed.group(1)) != newest
        figures.unusable += output.count("cannot be used")
        figures.deleting += half_deleted(folder)
        newest = max(complete(folder), default=None)
        if process.returncode == 0:
            figures.runs += 1
            figures.identical += final_state(output) == expected
            figures.leftovers += len(list(folder.glob(TEMPORARY)))
            return
        assert process.returncode == -9, errors


def kill_often(example, kills, *, steps, seed, log=lambda figures: None):
    """Trains again and again until there were enough kills, and then to the end."""
    figures = Figures()
    generator = random.Random(seed)
    begin = time.monotonic()
    expected = uninterrupted(example, steps)
    duration = time.monotonic() - begin
    numbers = itertools.count()

    def moments():
        while figures.kills < kills:
            kind = next(numbers) % 3
            if kind == 2:
                yield Moment(0, generator.uniform(0, duration), saving=False)
            else:
                checkpoints = generator.randint(1, min(steps // 4, 20))
                yield Moment(checkpoints, generator.uniform(0, 0.1), saving=kind == 0)

    while figures.kills < kills:
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "checkpoints"
            folder.mkdir()
            run_through(example, folder, steps, moments(), expected, figures)
        log(figures)
    return figures


def main(kills):
    """Prints the figures of each example."""
    for seed, example in enumerate(EXAMPLES):
        figures = kill_often(example, int(kills) // len(EXAMPLES), steps=300, seed=seed, log=print)
        print(f"{example.stem}: {figures}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
