"""A transformer on a mesh: regularized, spread over devices, and able to survive a preemption.

It predicts masked tokens of sequences that count up. Dropout, DropPath with a rate for each layer,
RMS norms, label smoothing, weight decay, a moving average of the weights, and optionally SAM and a
bound of norms act together. The weights are spread over both axes of the mesh by rules for logical
axes, layers run in a scan, and gradients are accumulated over micro-batches. Numbers do not depend
on the mesh. The parts are in ``examples/sharded``.

Try it on eight virtual devices with ``--devices 8 --mesh 4,2 --checkpoint FOLDER``. Kill it at any
time and start it again, also with another mesh; it goes on from the newest checkpoint. SIGTERM,
which announces a preemption, makes it save and exit with status 0. On several machines, start it on
each, with ``--coordinator``, ``--num-processes`` and ``--process-id``.
"""

import argparse
import contextlib
import dataclasses
import time
from pathlib import Path

import jax
from sharded import checkpoints, data, steps
from sharded.settings import Settings


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    run = parser.add_argument_group("run")
    run.add_argument("--steps", type=int, default=400, help="number of the last step")
    run.add_argument("--mesh", type=sizes, help="DATA,MODEL; by default all devices and 1")
    run.add_argument("--checkpoint", type=Path, help="folder to save to and to resume from")
    run.add_argument("--save-every", type=int, default=100, help="steps between checkpoints")
    run.add_argument("--log-every", type=int, default=50, help="steps between lines of progress")
    run.add_argument("--threads", type=int, default=0, help="threads of grain that read ahead")
    run.add_argument("--export", type=Path, help="file for the final state, .npz")
    devices = parser.add_argument_group("devices and processes")
    devices.add_argument("--devices", type=int, help="virtual CPU devices of this process")
    devices.add_argument("--coordinator", help="HOST:PORT, or auto on TPU pods and with Slurm")
    devices.add_argument("--num-processes", type=int, help="number of processes")
    devices.add_argument("--process-id", type=int, help="number of this process, from 0")
    model = parser.add_argument_group("settings")
    for field in dataclasses.fields(Settings):
        flag = "--" + field.name.replace("_", "-")
        text = f"{field.metadata['help']} (%(default)s)"
        if field.type is bool:
            action = argparse.BooleanOptionalAction
            model.add_argument(flag, action=action, default=field.default, help=text)
            continue
        choices = field.metadata["choices"]
        model.add_argument(flag, type=field.type, default=field.default, choices=choices, help=text)
    return parser.parse_args(arguments)


def sizes(text: str) -> tuple[int, int]:
    """Reads ``4,2``, or ``8`` for ``8,1``."""
    data, _, model = text.partition(",")
    return int(data), int(model or 1)


def connect(given: argparse.Namespace) -> None:
    """Makes the virtual devices and joins the other processes, before JAX looks for devices."""
    if given.devices:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", given.devices)
    if given.coordinator == "auto":
        jax.distributed.initialize()
    elif given.coordinator:
        jax.distributed.initialize(given.coordinator, given.num_processes, given.process_id)


def say(text: str) -> None:
    """Prints in the first process."""
    if jax.process_index() == 0:
        print(text, flush=True)


class Progress:
    """Prints losses and the throughput since the last line."""

    def __init__(self, given: argparse.Namespace, settings: Settings):
        self.given = given
        self.tokens = settings.batch * settings.length
        self.steps = 0
        self.began = 0.0

    def after(self, step: int, loss: jax.Array) -> None:
        """Prints after every few steps; only then it waits for the devices."""
        self.steps += 1
        if step % self.given.log_every and step != self.given.steps:
            return
        value = float(loss)
        now = time.perf_counter()
        line = f"step {step} of {self.given.steps}: loss {value:.4f}"
        if self.began:  # The first steps include the compilation.
            line += f", {self.steps * self.tokens / (now - self.began):.0f} tokens a second"
        say(line)
        self.began = now
        self.steps = 0


def train(
    given: argparse.Namespace, settings: Settings, manager: checkpoints.ocp.CheckpointManager | None
) -> steps.State | None:
    """Trains to the last step; returns None after a preemption."""
    mesh = steps.make_mesh(*(given.mesh or (jax.device_count(), 1)))
    program = steps.compile_for(settings, mesh)
    preemption = checkpoints.Preemption() if manager else None
    state = checkpoints.restore(manager, settings, program) if manager else program.init()
    begin = int(state.step)
    say(f"{settings.framework} on a mesh of {dict(mesh.shape)}, from step {begin}")
    batches = data.Batches(settings, mesh)
    progress = Progress(given, settings)
    stream = data.read(batches, begin, given.steps, threads=given.threads)
    for step, batch in enumerate(stream, begin + 1):
        state, loss = program.train(state, batch)
        progress.after(step, loss)
        asked = preemption is not None and preemption.stops_after(step)
        if manager and (asked or step % given.save_every == 0 or step == given.steps):
            checkpoints.save(manager, settings, state)
        if asked:
            say(f"asked to stop: saved after step {step}; start again to go on")
            return None
    held_out = data.Batches(settings, mesh, first=data.HELD_OUT)
    right, count = program.evaluate(state, held_out.place(held_out[0]))
    say(f"averaged weights predict {right} of {count} masked tokens of a new batch")
    return state


def main() -> None:
    """Trains, and exports the final state if asked."""
    given = parse()
    names = [field.name for field in dataclasses.fields(Settings)]
    settings = Settings(**{name: getattr(given, name) for name in names})
    connect(given)
    folder = given.checkpoint
    opened = checkpoints.open_folder(folder) if folder else contextlib.nullcontext()
    with opened as manager:  # Leaving it waits for the last checkpoint.
        state = train(given, settings, manager)
    if state is not None and given.export:
        checkpoints.export(state, given.export)


if __name__ == "__main__":
    main()
