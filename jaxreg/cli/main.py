"""The command line of ``jaxreg``, a thin layer over the package."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

from jaxreg._version import __version__
from jaxreg.study import advice_cli
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

_USAGE_ERROR = 2
_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """Reports wrong input as an exception, so that it ends in one line like any other."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help")


@dataclass
class _Progress:
    """How far a command came, which decides what an interrupt says."""

    writing: bool = False


class _Order(NamedTuple):
    """A checked command: everything that training needs."""

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


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      argv: Arguments; those of the process by default.

    Returns:
      The exit status: 0, 2 for wrong input, 130 when interrupted.

    Example:
      >>> from jaxreg.cli.main import main
      >>> main(["study", "--data", "digits", "--arms", "baseline", "--seeds", "1"])
      2
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    progress = _Progress()
    try:
        status = _run(argv, progress)
        # Here, where a closed pipe can still be told from an error.
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_pipe()
        return 0
    except SystemExit:
        # Rich ends this way where a pipe closes: that of the table, or before it that of progress.
        return 0 if progress.writing else _USAGE_ERROR
    except KeyboardInterrupt:
        remark = "" if progress.writing else "; nothing was written"
        print(f"jaxreg: interrupted{remark}.", file=sys.stderr)
        return _INTERRUPTED
    except (ValueError, ImportError, OSError) as error:
        return _fail(error)
    return status


def _run(argv: Sequence[str], progress: _Progress) -> int:
    try:
        args = _parser().parse_args(argv)
    except SystemExit as ended:
        # argparse ends `--help` and `--version` this way, with 0.
        return int(ended.code or 0)
    if args.command == "list":
        return _list()
    if args.command != "study":
        return advice_cli.run(args)
    return _study(_order(args, shlex.join(["jaxreg", *argv])), progress)


def _leave_pipe() -> None:
    """Sends the rest to nowhere, so that the end of the process does not fail on it again."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _fail(error: Exception) -> int:
    print(f"jaxreg: {' '.join(str(error).split())}", file=sys.stderr)
    return _USAGE_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="jaxreg",
        description="Measures which regularizer helps, how strong, and whether that is real.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"jaxreg {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="the arms of a study and the code behind each")
    advice_cli.add_commands(commands)
    study = commands.add_parser(
        "study",
        help="train every arm over strengths and seeds, and name the recipe to use",
        description="Trains every arm over strengths and seeds. Strengths are chosen on "
        "validation and reported on test, with differences to the baseline paired by seed.",
        allow_abbrev=False,
    )
    add = study.add_argument
    add("--data", default="digits", metavar="NAME", help=f"{', '.join(TASKS)} (default: digits)")
    add("--arms", default="default", metavar="NAME,NAME", help="all, default, or arms of "
        "`jaxreg list` (default: default)")  # fmt: skip
    add("--strengths", type=int, metavar="N", help="at most N strengths of every "
        "arm (default: by data set)")  # fmt: skip
    add("--seeds", type=int, default=16, metavar="N", help="seeds of every arm (default: 16)")
    add("--epochs", type=int, metavar="N", help="epochs (default: by data set)")
    add("--train-size", type=int, metavar="N", help="training rows (default: by data set)")
    add("--out", default="jaxreg-study", metavar="DIR", help="folder of the "
        "report (default: ./jaxreg-study)")  # fmt: skip
    return parser


def _list() -> int:
    """Prints the arms, the code behind each and what it does."""
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
    """Checks the arguments; raises ValueError, ImportError or OSError with one line to print."""
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
    # The report needs them at the very end, which is too late to find them missing.
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
    """Reads the arms: in the order of the table, once each, the baseline always among them."""
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
            f"`--arms` must name at least two techniques for `combined` to join, got {text}."
        )
    return names


def _suited_arms(
    names: tuple[str, ...], x: Array, *, everything: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the arms that are for rows of this kind, and a remark where others were left out."""
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
    kept = tuple(name for name in names if name not in left_out)
    return kept, (f"Left out, because the rows are a {own}: {listed}.",)


def _check_range(option: str, value: int | None, least: int, most: float = math.inf) -> None:
    if value is not None and not least <= value <= most:
        rule = f"at least {least}" if value < least else f"at most {most}"
        raise ValueError(f"`{option}` must be {rule}, got {value}.")


def _check_devices() -> None:
    """Starts the backend, which fails where JAX is asked for a device that is not there."""
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


def _study(order: _Order, progress: _Progress) -> int:
    """Trains, writes the report and prints the table."""
    from rich.console import Console

    from jaxreg.study import report

    start = time.monotonic()
    console = Console()
    study = _train(order)
    # The files first: a pipe that closes while the table is printed must not cost the report.
    progress.writing = True
    order.out.mkdir(parents=True, exist_ok=True)
    report.write(study, order.out)
    seconds = time.monotonic() - start
    report.print_table(study, console)
    done = f"Wrote {order.out}: open report.html, paste recipe.py ({seconds:.0f} s)."
    console.print(done, markup=False, highlight=False, soft_wrap=True)
    return 0


def _use_all_cores(most: int) -> None:
    """Gives every core a device, so that the cores share the runs."""
    import jax

    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    # A number that somebody chose, or a backend that already runs, stays as it is.
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
