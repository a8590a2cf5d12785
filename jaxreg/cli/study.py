"""``jaxreg study`` compares regularizers by training; ``jaxreg list`` lists them."""

from __future__ import annotations

import argparse
import math
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jaxreg import __version__
from jaxreg.study.data import TASKS, Array, Splitter, Task, extra, kind
from jaxreg.study.files import check_folder
from jaxreg.study.records import Study
from jaxreg.study.techniques import (
    ARM_NAMES,
    DEFAULT_ARMS,
    KINDS,
    TECHNIQUES,
    Grid,
    Technique,
    grid,
)


@dataclass
class Progress:
    """Holds ``writing``: until it is True, an interrupt reports that nothing was written."""

    writing: bool = False


class _Order(NamedTuple):
    """Validated arguments of ``jaxreg study``, with the data and the grids to train."""

    data: str
    task: Task
    split: Splitter
    grids: tuple[Grid, ...]
    combined: bool
    left_out: tuple[str, ...]
    seeds: int
    epochs: int
    out: Path
    command: str


def add_list(commands: Any) -> None:
    """Adds the ``list`` subcommand to the argument parser of ``jaxreg``."""
    commands.add_parser("list", help="list the arms of a study and the code behind each")


def add_command(commands: Any) -> None:
    """Adds the ``study`` subcommand to the argument parser of ``jaxreg``."""
    parser = commands.add_parser(
        "study",
        help="train every arm over strengths and seeds, and name the recipe to use",
        description="Trains every arm over strengths and seeds. Strengths are chosen on "
        "validation and reported on test, with differences to the baseline paired by seed.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--data", default="digits", metavar="NAME", help=f"{', '.join(TASKS)} (default: digits)")
    add(
        "--arms",
        default="default",
        metavar="NAME,NAME",
        help="all, default, or arms of `jaxreg list` (default: default)",
    )
    add(
        "--strengths",
        type=int,
        metavar="N",
        help="at most N strengths of every arm (default: by data set)",
    )
    add("--seeds", type=int, default=16, metavar="N", help="seeds of every arm (default: 16)")
    add("--epochs", type=int, metavar="N", help="epochs (default: by data set)")
    add("--train-size", type=int, metavar="N", help="training rows (default: by data set)")
    add(
        "--out",
        default="jaxreg-study",
        metavar="DIR",
        help="folder of the report (default: ./jaxreg-study)",
    )


def run_list(args: argparse.Namespace) -> int:
    """Prints each arm with the function that implements it and a short summary."""
    del args
    rows = [
        ("baseline", "optax.adam", "no regularization"),
        *((each.name, each.function, each.summary + _only_for(each)) for each in TECHNIQUES),
        ("combined", "jaxreg.study.compare", "the best of the arms together"),
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, function, summary in rows:
        print(f"{name:{widths[0]}}  {function:{widths[1]}}  {summary}")
    return 0


def _only_for(technique: Technique) -> str:
    every = len(technique.kinds) == len(KINDS)
    return "" if every else f" ({', '.join(technique.kinds)})"


def _order(args: argparse.Namespace, command: str) -> _Order:
    """Validates the arguments and loads the data; raises ValueError, ImportError or OSError."""
    if args.data not in TASKS:
        raise ValueError(f"`--data` must be one of {', '.join(TASKS)}, got {args.data}.")
    task = TASKS[args.data]
    names = _arm_names(args.arms)
    epochs = task.epochs if args.epochs is None else args.epochs
    _check_range("--seeds", args.seeds, 2, 1000)
    _check_range("--epochs", epochs, 1, 100_000)
    _check_range("--strengths", args.strengths, 1, 100)
    _check_range("--train-size", args.train_size, task.batch_size)
    check_folder(args.out)
    # The report needs them only at the end, which is too late to find them missing.
    for module in ("sklearn", "matplotlib", "rich"):
        extra(module)
    try:
        split = task.load(train_size=args.train_size or task.train_size)
    except ValueError as error:
        raise ValueError(str(error).replace("`train_size`", "`--train-size`")) from error
    names, left_out = _suited_arms(names, split(0).train_x, everything=args.arms == "all")
    _use_all_cores(args.seeds)
    _check_devices()
    return _Order(
        data=args.data,
        task=task,
        split=split,
        grids=tuple(_grid(name, task, args.strengths) for name in names if name != "combined"),
        combined="combined" in names,
        left_out=left_out,
        seeds=args.seeds,
        epochs=epochs,
        out=Path(args.out),
        command=command,
    )


def _arm_names(text: str) -> tuple[str, ...]:
    """Parses ``--arms`` to unique names in table order, with the baseline added."""
    if text in ("all", "default"):
        return ARM_NAMES if text == "all" else DEFAULT_ARMS
    asked = {name.strip() for name in text.split(",")}
    unknown = sorted(asked - set(ARM_NAMES))
    if unknown:
        raise ValueError(
            f"`--arms` must be all, default or some of {','.join(ARM_NAMES)}, "
            f"got {','.join(unknown)!r}."
        )
    names = tuple(name for name in ARM_NAMES if name in asked | {"baseline"})
    if "combined" in names and len(names) < 4:
        raise ValueError(
            f"`--arms` must name at least two other techniques with `combined`, got {text}."
        )
    return names


def _suited_arms(
    names: tuple[str, ...], x: Array, *, everything: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the arms that suit the rows ``x``, and a remark that lists the arms left out."""
    own = kind(x)
    others = [each for each in TECHNIQUES if each.name in names and own not in each.kinds]
    if not others:
        return names, ()
    listed = ", ".join(f"{each.name} ({', '.join(each.kinds)})" for each in others)
    if not everything:
        raise ValueError(
            f"`--arms` must suit the data, whose rows are a {own}; leave out {listed}."
        )
    left_out = {each.name for each in others}
    suited = tuple(name for name in names if name not in left_out)
    return suited, (f"Left out, because the rows are a {own}: {listed}.",)


def _check_range(option: str, value: int | None, least: int, most: float = math.inf) -> None:
    if value is not None and not least <= value <= most:
        rule = f"at least {least}" if value < least else f"at most {most}"
        raise ValueError(f"`{option}` must be {rule}, got {value}.")


def _check_devices() -> None:
    """Starts the JAX backend; raises ValueError if the requested device does not exist."""
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"JAX finds no device to train on: {str(error) or type(error).__name__}; "
            "see the environment variable JAX_PLATFORMS."
        ) from error


def _grid(name: str, task: Task, count: int | None) -> Grid:
    if count is None:
        return grid(name, strengths=task.strengths.get(name))
    return grid(name, count=count)


def run(args: argparse.Namespace, command: str, progress: Progress) -> int:
    """Runs ``jaxreg study``: trains all arms, writes the report and prints the table.

    Args:
      args: The parsed arguments.
      command: The full command line, to quote in the report.
      progress: Object whose ``writing`` is set to True before the report is written.

    Returns:
      The exit status.
    """
    order = _order(args, command)
    from rich.console import Console

    from jaxreg.study import report

    start = time.monotonic()
    console = Console()
    study = _train(order)
    # The files come first: a pipe that closes while the table is printed must not cost the report.
    progress.writing = True
    order.out.mkdir(parents=True, exist_ok=True)
    report.write(study, order.out)
    seconds = time.monotonic() - start
    report.print_table(study, console)
    done = f"Wrote {order.out}: open report.html, paste recipe.py ({seconds:.0f} s)."
    console.print(done, markup=False, highlight=False, soft_wrap=True)
    return 0


def _use_all_cores(most: int) -> None:
    """Makes each CPU core a JAX device, up to ``most``, so that runs train in parallel."""
    import jax

    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    # A number chosen by the user, or a backend that already runs, is left alone.
    current = jax.config.jax_num_cpu_devices  # pyright: ignore[reportAttributeAccessIssue]
    if not chosen and current == -1:
        with suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", min(os.cpu_count() or 1, most))


def _train(order: _Order) -> Study:
    from rich.console import Console

    from jaxreg.study import models, progress, runner, selection

    run = partial(
        runner.run,
        models.mlp(order.task.hidden, order.task.num_classes, vocabulary=order.task.vocabulary),
        order.split,
        seeds=order.seeds,
        epochs=order.epochs,
        batch_size=order.task.batch_size,
        learning_rate=order.task.learning_rate,
    )
    with progress.Bar(Console(stderr=True)) as bar:
        found = selection.compare(bar.watch(run), order.grids, combined=order.combined)
    return Study(
        data=order.data,
        arms=found.arms,
        chosen=found.chosen,
        seeds=order.seeds,
        epochs=order.epochs,
        sizes=order.split(0).sizes,
        command=order.command,
        environment=_environment(),
        notes=(*found.notes, *order.left_out),
    )


def _environment() -> dict[str, str]:
    import platform
    from importlib.metadata import version

    import jax

    versions = {name: version(name) for name in ("jax", "flax", "optax")}
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        **versions,
        "jaxreg": __version__,
        "device": f"{len(devices)} x {devices[0].device_kind}",
    }
