"""``jaxreg diagnose``: tells overfitting from underfitting by the loss curves of a run."""

from __future__ import annotations

import argparse
import math
from typing import Any

from jaxreg.cli import histories
from jaxreg.cli.printing import print_json, print_text


def add_command(commands: Any) -> None:
    """Adds the ``diagnose`` subcommand to the argument parser of ``jaxreg``."""
    parser = commands.add_parser(
        "diagnose",
        help="diagnose a run from its loss curves, and name the changes to try",
        description="Tells over- from underfitting by the losses of a run, and what to change.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "history",
        metavar="HISTORY",
        help="a .csv or .json file with train_loss and validation_loss, or the folder of a study",
    )
    add("--arm", metavar="NAME", help="one arm of a study (default: all)")
    add(
        "--floor",
        type=float,
        default=0.0,
        metavar="LOSS",
        help="loss of a perfect prediction (default: 0)",
    )
    add("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Runs ``jaxreg diagnose``; raises ValueError with a one-line message on invalid input."""
    from jaxreg.diagnosis import diagnose

    if not math.isfinite(args.floor):
        raise ValueError(f"`--floor` must be a finite number, got {args.floor}.")
    arms = histories.read(args.history)
    if args.arm is not None and args.arm not in arms:
        known = ", ".join(name or "a single run without names" for name in arms)
        raise ValueError(f"`--arm` must be one of {known}, got {args.arm}.")
    baseline = arms.get("baseline")
    found = {
        name: diagnose(history, baseline=None if name == "baseline" else baseline, floor=args.floor)
        for name, history in arms.items()
        if args.arm in (None, name)
    }
    if args.json:
        is_single = list(found) == [histories.SINGLE_RUN]
        print_json(found[histories.SINGLE_RUN] if is_single else found)
    else:
        texts = [f"{name}: {text}" if name else str(text) for name, text in found.items()]
        print_text("\n\n".join(texts))
    return 0
