"""The circle study: 64 runs of ours beside 16 runs, a quarter as many, of a PyTorch program.

Both train a network with two hidden layers of 50 on the same 1000 points, with Adam at 0.01, in
batches of 32 and without the incomplete last one. Ours does more besides: it evaluates 1000
validation points after every epoch and 1000 test points at the end.
"""

import os
from collections.abc import Callable
from functools import partial

import jax
import torch

from benchmarks import circles_torch
from benchmarks.measuring import Row, seconds
from jaxreg.study import Recipe, Runs, mlp, run
from jaxreg.study.data import TASKS

TASK = TASKS["circles"]
RECIPES = (Recipe(), Recipe(l1=0.01), Recipe(l2=0.01), Recipe(dropout=0.5))
SEEDS, TORCH_SEEDS = 16, 4


def measure(*, small: bool) -> list[Row]:
    """Wall time of all runs, with compilation and without, and the time of one run."""
    # As the command line does: a device for every core, and the cores share the runs.
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    epochs, turns = (2, 1) if small else (TASK.epochs, 2)
    torch.set_num_threads(_better_threads())
    every_turn = [_turn(epochs) for _ in range(turns)]
    cold, warm, sliced = map(min, zip(*every_turn, strict=True))
    # The slower form once and with one seed.
    loaded = seconds(partial(circles_torch.study, 1, circles_torch.loaded, epochs=epochs))
    count = torch.get_num_threads()
    threads = "torch, one thread" if count == 1 else f"torch, {count} threads"
    per_run = {
        threads: sliced / (len(RECIPES) * TORCH_SEEDS),
        f"{threads}, DataLoader": loaded / len(RECIPES),
    }
    return [*_in_all(cold, warm, {threads: sliced}), *_per_run(cold, warm, per_run)]


def _better_threads() -> int:
    """Torch's own number of threads or one, which suits so small a network better at times."""
    trial = partial(circles_torch.study, 1, circles_torch.sliced, epochs=2)
    # Torch loads parts of itself at the first step, which is not to count.
    trial()
    times = {}
    for count in (torch.get_num_threads(), 1):
        torch.set_num_threads(count)
        times[count] = min(seconds(trial) for _ in range(2))
    return min(times, key=times.__getitem__)


def _turn(epochs: int) -> tuple[float, float, float]:
    """Times of all runs: ours with compilation, ours compiled before, and torch's."""
    # Neither a program of the turn before nor a trace of it is left.
    jax.clear_caches()
    ours = partial(_ours, mlp(TASK.hidden, TASK.num_classes), epochs)
    theirs = partial(circles_torch.study, TORCH_SEEDS, circles_torch.sliced, epochs=epochs)
    return seconds(ours), seconds(ours), seconds(theirs)


def _ours(make_model: Callable, epochs: int) -> Runs:
    data = TASK.load(train_size=TASK.train_size)
    return run(
        make_model,
        data,
        RECIPES,
        seeds=SEEDS,
        epochs=epochs,
        batch_size=TASK.batch_size,
        learning_rate=TASK.learning_rate,
    )


def _in_all(cold: float, warm: float, peers: dict[str, float]) -> list[Row]:
    work = f"circle study, {len(RECIPES) * SEEDS} runs against {len(RECIPES) * TORCH_SEEDS}"
    return [
        Row(f"{work}, {kind}", peer, ours, theirs, "s", 1.0)
        for kind, ours in (("with compilation", cold), ("compiled before", warm))
        for peer, theirs in peers.items()
    ]


def _per_run(cold: float, warm: float, peers: dict[str, float]) -> list[Row]:
    count, rows = len(RECIPES) * SEEDS, []
    for kind, time, target in (("with compilation", cold, 25.0), ("compiled before", warm, 60.0)):
        work, ours = f"circle study, time per run, {kind}", 1e3 * time / count
        rows += [
            Row(work, peer, ours, 1e3 * theirs, "ms", target) for peer, theirs in peers.items()
        ]
    return rows
