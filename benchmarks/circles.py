"""The circle study: 64 runs of ours against 16 runs of a PyTorch program.

Both train a network with two hidden layers of 50 on the same 1000 points, with Adam at 0.01, in
batches of 32 and without the incomplete last one. Ours also evaluates 1000 validation points after
every epoch and 1000 test points at the end.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import torch

from benchmarks import circles_torch
from benchmarks.measuring import Row, seconds
from jaxreg.study import Recipe, Runs, mlp, run
from jaxreg.study.data import DATA_SETS

TASK = DATA_SETS["circles"]
RECIPES = (Recipe(), Recipe({"l1": 0.01}), Recipe({"l2": 0.01}), Recipe({"dropout": 0.5}))
SEEDS = 16
TORCH_SEEDS = 4


def measure(*, small: bool) -> list[Row]:
    """Measures the time of all runs and of one run, with and without compilation."""
    # As on the command line, every core is a device, and the devices share the runs.
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    epochs, turns = (2, 1) if small else (TASK.epochs, 2)
    torch.set_num_threads(_better_threads())
    every_turn = [_turn(epochs) for _ in range(turns)]
    cold = min(turn.cold for turn in every_turn)
    warm = min(turn.warm for turn in every_turn)
    slices = min(turn.torch for turn in every_turn)
    # The loader is slower, so it runs once and with one seed.
    loader = seconds(partial(circles_torch.study, 1, circles_torch.by_loader, epochs=epochs))
    count = torch.get_num_threads()
    threads = "torch, one thread" if count == 1 else f"torch, {count} threads"
    per_run = {
        threads: slices / (len(RECIPES) * TORCH_SEEDS),
        f"{threads}, DataLoader": loader / len(RECIPES),
    }
    return [*_in_all(cold, warm, {threads: slices}), *_per_run(cold, warm, per_run)]


def _better_threads() -> int:
    """Returns torch's default number of threads or one, whichever is faster here."""
    trial = partial(circles_torch.study, 1, circles_torch.by_slices, epochs=2)
    # This call is not timed, because torch loads parts of itself at the first step.
    trial()
    times = {}
    for count in (torch.get_num_threads(), 1):
        torch.set_num_threads(count)
        times[count] = min(seconds(trial) for _ in range(2))
    return min(times, key=times.__getitem__)


class _Turn(NamedTuple):
    """Times of all runs: ours with compilation, ours compiled before, and torch's."""

    cold: float
    warm: float
    torch: float


def _turn(epochs: int) -> _Turn:
    # Otherwise the second turn would find the programs of the first.
    jax.clear_caches()
    ours = partial(_ours, mlp(TASK.hidden, TASK.num_classes), epochs)
    theirs = partial(circles_torch.study, TORCH_SEEDS, circles_torch.by_slices, epochs=epochs)
    return _Turn(seconds(ours), seconds(ours), seconds(theirs))


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
        Row(f"{work}, {kind}", peer, ours, theirs, "s")
        for kind, ours in (("with compilation", cold), ("compiled before", warm))
        for peer, theirs in peers.items()
    ]


def _per_run(cold: float, warm: float, peers: dict[str, float]) -> list[Row]:
    rows = []
    for kind, time in (("with compilation", cold), ("compiled before", warm)):
        work = f"circle study, time per run, {kind}"
        ours = 1e3 * time / (len(RECIPES) * SEEDS)
        rows += [Row(work, peer, ours, 1e3 * theirs, "ms") for peer, theirs in peers.items()]
    return rows
