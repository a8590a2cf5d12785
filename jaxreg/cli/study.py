"""``jaxreg study`` compares regularizers by training; ``jaxreg list`` lists them."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jaxreg.cli.ending import CAN_RESUME, Ending
from jaxreg.cli.orders import MODELS, SEARCHES, Order, make_order, use_all_cores
from jaxreg.study.data import DATA_SETS
from jaxreg.study.reports.files import write_whole

# Folder of the finished runs of a study that has not ended.
RUNS = ".runs"


def add_list(commands: Any) -> None:
    """Adds the ``list`` subcommand to the argument parser of ``jaxreg``."""
    commands.add_parser("list", help="list the arms of a study and the code behind each")


def add_command(commands: Any) -> None:
    """Adds the ``study`` subcommand to the argument parser of ``jaxreg``."""
    parser = commands.add_parser(
        "study",
        help="train every arm over strengths and seeds, and name the recipe to use",
        description="Trains every arm over strengths and seeds. Strengths are chosen on "
        "validation and reported on test, with differences from the baseline paired by seed.",
        allow_abbrev=False,
    )
    _add_data(parser.add_argument_group("data").add_argument)
    _add_training(parser.add_argument_group("training").add_argument)
    _add_processes(parser.add_argument_group("several processes").add_argument)


def _add_data(add: Any) -> None:
    add(
        "--data",
        default="digits",
        metavar="DATA",
        help="a .csv, .tsv, .parquet or .npz file, a folder of images by class, "
        f"FILE.py:FUNCTION, or one of {', '.join(DATA_SETS)} (default: digits)",
    )
    add("--target", metavar="COLUMN", help="column to predict (default: target, class, label or y)")
    add("--groups", metavar="COLUMN", help="column of groups that no split may divide")
    add(
        "--task",
        choices=("classification", "regression"),
        help="what to predict (default: by the values of the target)",
    )
    add("--metric", metavar="NAME", help="metric that chooses (default: accuracy, or r2)")
    add("--train-size", type=int, metavar="N", help="training rows (default: by the data)")
    add("--folds", type=int, default=1, metavar="K", help="test on each of K folds (default: 1)")


def _add_training(add: Any) -> None:
    add(
        "--model",
        metavar="MODEL",
        help=f"{', '.join(MODELS)}, or FILE.py:FUNCTION of a recipe (default: by the data)",
    )
    add(
        "--arms",
        default="default",
        metavar="NAME,NAME",
        help="all, default, or arms of `jaxreg list` (default: default)",
    )
    add("--search", choices=SEARCHES, default="grid", help="search of strengths (default: grid)")
    add("--strengths", type=int, metavar="N", help="strengths of every arm (default: 5)")
    add("--seeds", type=int, default=16, metavar="N", help="seeds of every arm (default: 16)")
    add("--epochs", type=int, metavar="N", help="epochs (default: by the data)")
    add(
        "--out",
        default="jaxreg-study",
        metavar="DIR",
        help="folder of the report (default: ./jaxreg-study)",
    )
    add("--resume", action="store_true", help="go on with an interrupted study in the same folder")


def _add_processes(add: Any) -> None:
    add("--coordinator", metavar="HOST:PORT", help="address of the first process")
    add("--num-processes", type=int, metavar="N", help="number of processes")
    add("--process-id", type=int, metavar="I", help="number of this process, from 0")


def run_list(args: argparse.Namespace) -> int:
    """Prints each arm with the function that implements it and a short summary."""
    from jaxreg.study.arms import ARMS, KINDS, TASKS

    del args
    rows = [("baseline", "optax.adam", "no regularization")]
    for arm in ARMS.values():
        limits = [] if len(arm.kinds) == len(KINDS) else [*arm.kinds]
        if len(arm.tasks) < len(TASKS):
            limits += arm.tasks
        only = f" ({', '.join(limits)})" if limits else ""
        other = f"; also called {', '.join(arm.aliases)}" if arm.aliases else ""
        rows.append((arm.name, arm.source, arm.summary + only + other))
    rows.append(("combined", "jaxreg.study.compare", "the best of the arms together"))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, function, summary in rows:
        print(f"{name:{widths[0]}}  {function:{widths[1]}}  {summary}")
    return 0


def run(args: argparse.Namespace, command: str, ending: Ending) -> int:
    """Runs ``jaxreg study``: trains all arms, writes the report and prints the table.

    Args:
      args: The parsed arguments.
      command: The full command line, to quote in the report.
      ending: State for an interrupt, which this function updates.

    Returns:
      The exit status.
    """
    start = time.monotonic()
    is_first = _join_processes(args)
    order = make_order(args, command)
    journal = _open_journal(order)
    ending.remark = CAN_RESUME
    study, weights = _train(order, journal)
    if not is_first:
        return 0
    # The files come first: a pipe that closes while the table is printed must not cost the report.
    ending.writing = True
    ending.remark = ""
    from rich.console import Console

    from jaxreg.study.reports import print_table
    from jaxreg.study.reports.summary import summarize

    summary = summarize(study)
    _write(order, summary, weights)
    seconds = time.monotonic() - start
    console = Console()
    print_table(summary, console)
    done = f"Wrote {order.out}: open report.html, paste recipe.py ({seconds:.0f} s)."
    console.print(done, markup=False, highlight=False, soft_wrap=True)
    return 0


def _join_processes(args: argparse.Namespace) -> bool:
    """Joins the processes of a study; returns whether this is the first one."""
    flags = (args.coordinator, args.num_processes, args.process_id)
    if all(flag is None for flag in flags):
        return True
    if any(flag is None for flag in flags):
        raise ValueError(
            "`--coordinator`, `--num-processes` and `--process-id` must be given together."
        )
    if args.resume:
        # Each process would have to know the same runs.
        raise ValueError("`--resume` must be used in one process, got `--coordinator` as well.")
    import jax

    use_all_cores(args.seeds)
    jax.distributed.initialize(args.coordinator, args.num_processes, args.process_id)
    return jax.process_index() == 0


def _train(order: Order, journal: Any) -> tuple[Any, Any]:
    """Trains all arms; returns the study and the weights of the chosen recipe for seed 0."""
    from rich.console import Console

    from jaxreg.study import progress, runner, search, selection

    split = order.loaded.split
    trainer = runner.Trainer(
        order.make_model,
        split,
        seeds=order.seeds,
        epochs=order.epochs,
        batch_size=order.batch_size,
        learning_rate=order.learning_rate,
        objective=order.objective,
    )
    grids = [_grid(name, order) for name in order.names]
    with progress.Bar(Console(stderr=True), order.objective.metric) as bar:
        train = bar.watch(partial(trainer, journal=journal))
        if order.search == "halving":
            grids = search.halve(
                lambda recipes, seeds: train(recipes, seeds=seeds),
                grids,
                seeds=order.seeds,
                lower_is_better=order.objective.metric.lower_is_better,
            )
        found = selection.compare(train, grids, combined=order.combined, objective=order.objective)
        weights = trainer.fit(found.best.recipe)
    study = replace(
        found,
        data=order.data,
        sizes=split(0).sizes,
        command=order.command,
        notes=(*found.notes, *order.notes),
    )
    return study, weights


def _grid(name: str, order: Order) -> Any:
    """Returns the grid of an arm for the order's search and data set."""
    from jaxreg.study.grids import grid
    from jaxreg.study.search import random_grid

    preset = DATA_SETS.get(order.data)
    if order.search == "random":
        return random_grid(name, count=order.strengths or 5)
    if order.strengths is not None:
        return grid(name, count=order.strengths)
    return grid(name, strengths=preset.strengths.get(name) if preset else None)


def _open_journal(order: Order) -> Any:
    """Opens the journal of finished runs in the folder of the report.

    Raises:
      ValueError: ``--resume`` finds the runs of a study with other data, model or training.
    """
    import jax

    from jaxreg.study.journal import Journal

    if jax.process_index() > 0:
        return Journal()
    folder = order.out / RUNS
    digest = folder / "study.json"
    own = _describe(order)
    if not order.resume:
        shutil.rmtree(folder, ignore_errors=True)
    elif digest.is_file() and json.loads(digest.read_text(encoding="utf-8")) != own:
        raise ValueError(
            f"`--resume` must be used with the same data, model and training, but {folder} is from "
            "another study; leave out `--resume` to start over, which replaces its files."
        )
    journal = Journal(folder)
    write_whole(digest, json.dumps(own))
    return journal


def _describe(order: Order) -> dict[str, Any]:
    """Returns what the results of a run depend on, besides its recipe and its seed."""
    from jaxreg.study.records import environment

    rows = hashlib.sha256()
    for seed in range(min(order.seeds, 2)):
        for array in order.loaded.split(seed):
            rows.update(array.tobytes())
    path = Path(order.model.partition(":")[0])
    source = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return {
        "rows": rows.hexdigest(),
        "model": [order.model, source],
        "training": [order.epochs, order.batch_size, order.learning_rate],
        "objective": [metric.name for metric in order.objective.metrics],
        "environment": {k: v for k, v in environment().items() if k != "device"},
    }


def _write(order: Order, summary: Any, weights: Any) -> None:
    """Writes the report, the program and the weights, and removes the journal."""
    from jaxreg.study.reports import write

    order.out.mkdir(parents=True, exist_ok=True)
    write(summary, order.out, program=_program(order, summary))
    _write_weights(order.out / "best", weights)
    shutil.rmtree(order.out / RUNS, ignore_errors=True)


def _program(order: Order, summary: Any) -> str:
    """Returns the text of ``recipe.py``."""
    from jaxreg.study.program import Origin, source
    from jaxreg.study.recipes import Recipe

    is_own = ":" in order.model
    imports = [
        "from jaxreg.study.data.functions import load_function",
        "from jaxreg.study.models import as_make_model",
    ]
    origin = Origin(
        data_import=order.loaded.data_import,
        data_code=order.loaded.data_code,
        batch_size=order.batch_size,
        learning_rate=order.learning_rate,
        model_import="\n".join(imports) if is_own else "",
        model_code=f"as_make_model(load_function({json.dumps(order.model)}))" if is_own else "",
        network=None if is_own else order.make_model(Recipe()),
    )
    return source(
        summary.study.best.recipe,
        origin,
        order.objective,
        epochs=order.epochs,
        num_classes=order.loaded.outputs if order.loaded.task == "classification" else None,
        remarks=[
            f"Data: {order.data}. Recipe: {summary.recipe}.",
            summary.headline,
            f"Made by: {order.command}",
        ],
    )


def _write_weights(folder: Path, weights: Any) -> None:
    """Writes weights as an Orbax checkpoint and as an ``.npz`` file with a name for each leaf."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    def as_numbers(leaf: Any) -> Any:
        is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    plain = jax.tree.map(as_numbers, weights)
    partial_folder = folder.with_name(f".{folder.name}")
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir(parents=True)
    leaves = jax.tree_util.tree_leaves_with_path(plain)
    names = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    np.savez(partial_folder / "weights.npz", **names)
    # By default all processes of a study would have to save, and the first one would wait for them.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=0, active_processes={0}, barrier_sync_key_prefix="best"
    )
    with ocp.StandardCheckpointer(multiprocessing_options=alone) as checkpointer:
        checkpointer.save((partial_folder / "checkpoint").absolute(), plain)
    shutil.rmtree(folder, ignore_errors=True)
    partial_folder.rename(folder)
