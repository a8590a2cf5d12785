"""The circle study: 64 runs of ours against 16 runs of a PyTorch program.

Both train a network with two hidden layers of 50 on the same 1000 points, with Adam at 0.01, in
batches of 32 and without the incomplete last one. Ours also evaluates 1000 validation points after
every epoch and 1000 test points at the end.

The floor trains as many networks side by side in one compiled loop, with ``optax.adam`` and without
penalties, shuffling and evaluation.
"""

import importlib
import itertools
import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from benchmarks.measuring import Row, if_installed, seconds
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
    peers = if_installed("torch", lambda: {"torch": _torch_parts()})
    turn_of = partial(_turn, epochs, peers.get("torch"))
    every_turn = [turn_of() for _ in range(turns)]
    best = _Turn(*map(min, zip(*every_turn, strict=True)))
    if not peers:
        return []
    circles_torch, threads = peers["torch"]
    # The loader is slower, so it runs once and with one seed.
    loader = seconds(partial(circles_torch.study, 1, circles_torch.by_loader, epochs=epochs))
    per_run = {
        threads: best.torch / (len(RECIPES) * TORCH_SEEDS),
        f"{threads}, DataLoader": loader / len(RECIPES),
    }
    return [*_in_all(best, threads), *_per_run(best, per_run)]


def _torch_parts() -> tuple[Any, str]:
    """Returns the module of the peer, and the name of the number of threads that it now uses."""
    torch = importlib.import_module("torch")
    circles_torch = importlib.import_module("benchmarks.circles_torch")
    trial = partial(circles_torch.study, 1, circles_torch.by_slices, epochs=2)
    # This call is not timed, because torch loads parts of itself at the first step.
    trial()
    times = {}
    # Torch's default number of threads or one, whichever is faster here.
    for count in (torch.get_num_threads(), 1):
        torch.set_num_threads(count)
        times[count] = min(seconds(trial) for _ in range(2))
    count = min(times, key=times.__getitem__)
    torch.set_num_threads(count)
    return circles_torch, "torch, one thread" if count == 1 else f"torch, {count} threads"


class _Turn(NamedTuple):
    """Times of all runs: ours with compilation and compiled before, torch's, and the floor's."""

    cold: float
    warm: float
    torch: float
    floor: float


def _turn(epochs: int, peer: tuple[Any, str] | None) -> _Turn:
    # Otherwise the second turn would find the programs of the first.
    jax.clear_caches()
    ours = partial(_ours, mlp(TASK.hidden, TASK.num_classes), epochs)
    cold = seconds(ours)
    warm = seconds(ours)
    bare = _bare(epochs)
    jax.block_until_ready(bare())
    floor = seconds(bare)
    if peer is None:
        return _Turn(cold, warm, float("inf"), floor)
    study = partial(peer[0].study, TORCH_SEEDS, peer[0].by_slices, epochs=epochs)
    return _Turn(cold, warm, seconds(study), floor)


def _bare(epochs: int) -> Callable[[], Any]:
    """Returns a call that trains all networks side by side, spread over the cores."""
    split = TASK.load(train_size=TASK.train_size)(0)
    steps = TASK.train_size // TASK.batch_size
    kept = steps * TASK.batch_size
    x = jnp.asarray(split.train_x[:kept]).reshape(steps, TASK.batch_size, -1)
    labels = jnp.asarray(split.train_y[:kept]).reshape(steps, TASK.batch_size)
    tx = optax.adam(TASK.learning_rate)
    widths = (x.shape[-1], *TASK.hidden, TASK.num_classes)

    def loss(params: Any, x: jax.Array, labels: jax.Array) -> jax.Array:
        *hidden, (kernel, bias) = params
        for k, b in hidden:
            x = jax.nn.relu(x @ k + b)
        logits = x @ kernel + bias
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(state: Any, batch: Any) -> Any:
        params, moments = state
        updates, moments = tx.update(jax.grad(loss)(params, *batch), moments)
        return (optax.apply_updates(params, updates), moments), None

    def train(key: jax.Array) -> Any:
        keys = jax.random.split(key, len(widths))
        shapes = itertools.pairwise(widths)
        draw = jax.nn.initializers.lecun_normal()
        params = [(draw(k, s), jnp.zeros(s[1])) for k, s in zip(keys[1:], shapes, strict=True)]

        def epoch(state: Any, _: Any) -> Any:
            return jax.lax.scan(step, state, (x, labels))

        return jax.lax.scan(epoch, (params, tx.init(params)), length=epochs)[0][0]

    mesh = jax.make_mesh((jax.device_count(),), ("runs",), axis_types=(AxisType.Auto,))
    keys = jax.random.split(jax.random.key(0), len(RECIPES) * SEEDS)
    spread = jax.shard_map(
        jax.vmap(train), mesh=mesh, in_specs=P("runs"), out_specs=P("runs"), check_vma=False
    )
    return partial(jax.jit(spread), keys)


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


def _in_all(best: _Turn, threads: str) -> list[Row]:
    work = f"circle study, {len(RECIPES) * SEEDS} runs against {len(RECIPES) * TORCH_SEEDS}"
    return [
        Row(f"{work}, {kind}", threads, ours, best.torch, best.floor, "s")
        for kind, ours in (("with compilation", best.cold), ("compiled before", best.warm))
    ]


def _per_run(best: _Turn, peers: dict[str, float]) -> list[Row]:
    runs = len(RECIPES) * SEEDS
    rows = []
    for kind, time in (("with compilation", best.cold), ("compiled before", best.warm)):
        work = f"circle study, time per run, {kind}"
        ours = 1e3 * time / runs
        least = 1e3 * best.floor / runs
        rows += [Row(work, peer, ours, 1e3 * own, least, "ms") for peer, own in peers.items()]
    return rows
