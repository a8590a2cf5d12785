"""``jaxreg advise``: ranks the techniques to try first for a task, a model and data."""

from __future__ import annotations

import argparse
from typing import Any

from jaxreg.advice import ARCHITECTURES, NEEDS, TASKS, advise
from jaxreg.cli.printing import print_json, print_text


def add_command(commands: Any) -> None:
    """Adds the ``advise`` subcommand to the argument parser of ``jaxreg``."""
    parser = commands.add_parser(
        "advise",
        help="rank the techniques to begin with",
        description="Ranks the techniques for a task, a model and data, with reasons and sources.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--task", metavar="NAME", help=", ".join(TASKS))
    add("--architecture", metavar="NAME", help=", ".join(ARCHITECTURES))
    add("--rows", type=int, metavar="N", help="training examples")
    add("--batch-size", type=int, metavar="N", help="examples per batch and device")
    add("--variable-batch", action="store_true", help="batches differ in size")
    add("--needs", default="", metavar="NAME,NAME", help=", ".join(NEEDS))
    add("--study", metavar="FOLDER", help="folder of a study of your data, to combine with")
    add("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Runs ``jaxreg advise``; raises ValueError with a one-line message on invalid input."""
    try:
        found = advise(
            task=args.task,
            architecture=args.architecture,
            rows=args.rows,
            batch_size=args.batch_size,
            variable_batch=args.variable_batch,
            needs=[need.strip() for need in args.needs.split(",") if need.strip()],
            study=args.study,
        )
    except ValueError as error:
        # The options are named like the arguments, but spelled with dashes.
        _, name, rest = str(error).split("`", 2)
        raise ValueError(f"`--{name.replace('_', '-')}`{rest}") from error
    if args.json:
        print_json(found)
    else:
        print_text("\n\n".join(map(str, found)))
    return 0
