"""Entry point of the command line; reports every error as a one-line message."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

from jaxreg import __version__
from jaxreg.cli import advise, diagnose, explain, study
from jaxreg.cli.ending import Ending

_USAGE_ERROR = 2
_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """Argument parser that raises ValueError on invalid input, where argparse would exit."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None, *, ending: Ending | None = None) -> int:
    """Runs the ``jaxreg`` command line and returns its exit status.

    Args:
      argv: Command-line arguments; by default ``sys.argv[1:]``.
      ending: State for an interrupt, which the command updates.

    Returns:
      The exit status: 0 for success, 2 for an error, 130 for an interrupt.

    Example:
      >>> from jaxreg.cli.main import main
      >>> main(["study", "--data", "digits", "--arms", "baseline", "--seeds", "1"])
      2
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    ending = Ending() if ending is None else ending
    try:
        status = _run(argv, ending)
        # Here, a closed pipe can still be distinguished from other errors.
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_pipe()
        return 0
    except SystemExit:
        # Rich ends this way if the pipe of the table or of the progress closes.
        return 0 if ending.writing else _USAGE_ERROR
    except KeyboardInterrupt:
        print(f"jaxreg: interrupted{ending.remark}.", file=sys.stderr)
        return _INTERRUPTED
    except (ValueError, ImportError, OSError) as error:
        return _fail(error)
    return status


def _run(argv: Sequence[str], ending: Ending) -> int:
    try:
        args = _parser().parse_args(argv)
    except SystemExit as ended:
        # argparse ends `--help` and `--version` this way, with 0.
        return int(ended.code or 0)
    if args.command == "study":
        return study.run(args, shlex.join(["jaxreg", *argv]), ending)
    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        "advise": advise.run,
        "diagnose": diagnose.run,
        "explain": explain.run,
        "list": study.run_list,
    }
    return commands[args.command](args)


def _leave_pipe() -> None:
    """Redirects stdout to the null device, so that the flush at exit does not fail."""
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
        description="Measures which regularizer helps, at which strength, and whether it is real.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"jaxreg {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    study.add_list(commands)
    for module in (diagnose, explain, advise, study):
        module.add_command(commands)
    return parser
