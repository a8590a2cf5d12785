"""``jaxreg diagnose``: tells overfitting from underfitting by the loss curves of a run."""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jaxreg.cli.printing import print_json, print_text

_BASELINE = "baseline"
# Names of arguments in messages, as this command spells them.
_SPELLED = {"source": "HISTORY", "train": "--train", "validation": "--validation",
            "epoch": "--epoch"}  # fmt: skip


class _Arm(NamedTuple):
    """Facts about an arm of a study besides its losses."""

    parts: dict[str, Any]
    is_better: bool


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
        nargs="+",
        help="a file of losses as CSV, JSON or JSON lines, a folder with one, such as a study's, "
        "or - for standard input; several files may hold the curves of one run, or a run each",
    )
    add("--arm", metavar="NAME", help="one arm of a study, or one run of several (default: all)")
    add("--train", metavar="NAME", help="column of the training loss (default: by its name)")
    add("--validation", metavar="NAME", help="column of the validation loss")
    add("--epoch", metavar="NAME", help="column that counts epochs or steps")
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
    from jaxreg.diagnosis import read_runs

    if not math.isfinite(args.floor):
        raise ValueError(f"`--floor` must be a finite number, got {args.floor}.")
    sources = [sys.stdin.buffer if name == "-" else name for name in args.history]
    try:
        runs = read_runs(
            sources if len(sources) > 1 else sources[0],
            train=args.train,
            validation=args.validation,
            epoch=args.epoch,
        )
    except ValueError as error:
        raise ValueError(_spell(str(error))) from error
    if args.arm is not None and args.arm not in runs:
        known = ", ".join(name or "a single run without names" for name in runs)
        raise ValueError(f"`--arm` must be one of {known}, got {args.arm}.")
    arms = _read_study(args.history[0]) if len(args.history) == 1 else {}
    names = [name for name in runs if args.arm in (None, name)]
    found = {name: _diagnose(name, runs, arms, args.floor) for name in names}
    if args.json:
        print_json(found[""] if names == [""] else found)
        return 0
    texts = [_text(name, found[name], runs[name]) for name in names]
    print_text("\n\n".join(texts))
    return 0


def _spell(message: str) -> str:
    """Returns a message in which arguments are named as on the command line."""
    names = "|".join(_SPELLED)
    return re.sub(f"`({names})`", lambda found: f"`{_SPELLED[found.group(1)]}`", message)


def _diagnose(name: str, runs: dict[str, Any], arms: dict[str, _Arm], floor: float) -> Any:
    """Diagnoses a run beside the baseline; the scores of a study count as well."""
    from jaxreg.diagnosis import diagnose, diagnose_better

    baseline = None if name == _BASELINE else runs.get(_BASELINE)
    arm = arms.get(name)
    if arm is None:
        return diagnose(runs[name], baseline=baseline, floor=floor)
    judge = diagnose_better if arm.is_better else diagnose
    return judge(runs[name], baseline=baseline, parts=arm.parts, floor=floor)


def _text(name: str, found: Any, history: Any) -> str:
    """Returns the diagnosis as text, with the columns and the epochs that were read."""
    head = f"{name}: {found}" if name else str(found)
    losses = [
        history.columns[field]
        for field in ("train_loss", "validation_loss")
        if field in history.columns
    ]
    if not history.epoch.size:
        return head
    extent = f"{history.counter} {history.epoch[0]:g} to {history.epoch[-1]:g}"
    if history.replaced:
        extent += f"; later rows replaced {history.replaced} earlier ones of the same epochs"
    return f"{head}\n  read: {' and '.join(losses)}, {extent}"


def _read_study(source: str) -> dict[str, _Arm]:
    """Returns the arms in the ``results.csv`` beside the history of a study, if there is one."""
    path = Path(source)
    folder = path if path.is_dir() else path.parent
    results = folder / "results.csv"
    if not results.exists() or (path != folder and path.name != "history.csv"):
        return {}
    try:
        with results.open(encoding="utf-8", newline="") as file:
            return dict(_arms(list(csv.DictReader(file))))
    except (KeyError, ValueError):
        # A table of another program.
        return {}


def _arms(rows: list[dict[str, str]]) -> Iterator[tuple[str, _Arm]]:
    """Yields the names of arms, with their recipes and whether they beat the baseline."""
    from jaxreg.study.objectives import OBJECTIVES

    lower = {m.name for each in OBJECTIVES.values() for m in each.metrics if m.lower_is_better}
    baseline = {row["arm"]: row for row in rows}[_BASELINE]
    for row in rows:
        sign = -1 if row["metric"] in lower else 1
        changes = [float(row[part]) - float(baseline[part]) for part in ("validation", "test")]
        is_better = row is baseline or any(sign * change > 0 for change in changes)
        yield row["arm"], _Arm(json.loads(row["recipe"]), is_better)
