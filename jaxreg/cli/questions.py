"""The commands ``jaxreg diagnose``, ``jaxreg explain`` and ``jaxreg advise``."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from jaxreg.study import histories
from jaxreg.cli.loading import load_function
from jaxreg.study.recipes import Recipe, strength_names
from jaxreg.advice.rows import ARCHITECTURES, NEEDS, TASKS

_STYLES = {
    "conflict": "bold red", "avoid": "red", "try": "green", "why": "", "fix": "green",
    "see": "dim", "but": "yellow", "mind": "yellow", "because": "", "where": "",
}  # fmt: skip


def add_commands(commands: Any) -> None:
    """Adds the three commands to the parser of the command line."""
    diagnose = commands.add_parser(
        "diagnose", help="what the loss curves of a run tell, and what to change",
        description="Tells over- from underfitting, and what to change, from the losses of a run.",
        allow_abbrev=False,
    )  # fmt: skip
    add = diagnose.add_argument
    add("history", metavar="HISTORY", help="a .csv or .json file with train_loss and "
        "validation_loss, or the folder of a study")  # fmt: skip
    add("--arm", metavar="NAME", help="one arm of a study (default: all)")
    add("--floor", type=float, default=0.0, metavar="LOSS", help="loss of a perfect prediction "
        "(default: 0)")  # fmt: skip
    explain = commands.add_parser(
        "explain", help="what regularizes each parameter, and what does not go together",
        description="Lists what regularizes each parameter and activation, with known conflicts.",
        allow_abbrev=False,
    )  # fmt: skip
    add = explain.add_argument
    add("function", nargs="?", metavar="MODULE:FUNCTION", help="function without arguments that "
        "returns model, optimizer, params and inputs")  # fmt: skip
    add("--recipe", metavar="NAME=X,NAME=X", help="strengths of a study's recipe instead, such as "
        "l2=0.5,dropout=0.2,batch_norm")  # fmt: skip
    advise = commands.add_parser(
        "advise", help="which technique to begin with",
        description="Ranks the techniques for a task, a model and data, with reasons and sources.",
        allow_abbrev=False,
    )  # fmt: skip
    add = advise.add_argument
    add("--task", metavar="NAME", help=", ".join(TASKS))
    add("--architecture", metavar="NAME", help=", ".join(ARCHITECTURES))
    add("--rows", type=int, metavar="N", help="training examples")
    add("--batch-size", type=int, metavar="N", help="examples per batch and device")
    add("--variable-batch", action="store_true", help="batches differ in size")
    add("--needs", default="", metavar="NAME,NAME", help=", ".join(NEEDS))
    for parser in (diagnose, explain, advise):
        parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Runs one of the three commands; raises with one line to print where its input is wrong."""
    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        "diagnose": _diagnose, "explain": _explain, "advise": _advise,
    }  # fmt: skip
    return commands[args.command](args)


def _diagnose(args: argparse.Namespace) -> int:
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
        plain = {name: {**d._asdict(), "changes": [c._asdict() for c in d.changes],
                        "evidence": d.evidence._asdict()} for name, d in found.items()}  # fmt: skip
        _print_json(plain[""] if list(plain) == [""] else plain)
    else:
        texts = [f"{name}: {text}" if name else str(text) for name, text in found.items()]
        _print("\n\n".join(texts))
    return 0


def _explain(args: argparse.Namespace) -> int:
    if (args.function is None) == (args.recipe is None):
        raise ValueError("Give either MODULE:FUNCTION or `--recipe`; see jaxreg explain --help")
    from jaxreg.explain.explanation import explain

    given = _of_recipe(args.recipe) if args.recipe is not None else _of_function(args.function)
    options = given[-1] if given and isinstance(given[-1], _Options) else {}
    try:
        found = explain(*(given[:-1] if options else given), **options)
    except TypeError as error:
        # Wrong input like any other, which ends in one line.
        raise ValueError(str(error)) from error
    if args.json:
        plain = found._asdict()
        plain["effects"] = [effect._asdict() for effect in found.effects]
        plain["conflicts"] = [conflict._asdict() for conflict in found.conflicts]
        _print_json(plain)
    else:
        _print(str(found))
    return 0


class _Options(dict[str, Any]):
    """Keyword arguments of ``explain``, behind the others."""


def _of_function(spec: str) -> tuple[Any, ...]:
    """Arguments of ``explain`` that a user's function returns."""
    given = load_function(spec)()
    if isinstance(given, Mapping):
        first = [given.get(name) for name in ("model", "optimizer", "params")]
        known = {"model", "optimizer", "params", "inputs", "call", "penalty", "loss", "targets"}
        if unknown := sorted(map(str, set(given) - known)):
            raise ValueError(
                f"`{spec}` must return a mapping of {', '.join(sorted(known))}, got "
                f"{', '.join(unknown)}."
            )
        options = {name: given[name] for name in known - {"model", "optimizer", "params", "inputs"}
                   if name in given}  # fmt: skip
        return (*first, *given.get("inputs", ()), *([_Options(options)] if options else []))
    if not isinstance(given, tuple) or len(given) < 2:
        raise ValueError(
            f"`{spec}` must return (model, optimizer, params, *inputs) or a mapping of these "
            f"names, got {type(given).__name__}."
        )
    return given


def _of_recipe(text: str) -> tuple[Any, ...]:
    """Arguments of ``explain`` for a recipe on the network and the data of a study."""
    recipe = _recipe(text)
    import jax

    from jaxreg.study.data import TASKS as DATA
    from jaxreg.study.models import from_linen, mlp
    from jaxreg.study.runner import optimizer

    task = DATA["circles"]
    split = task.load(train_size=task.train_size)(0)
    x = jax.numpy.asarray(split.train_x[: task.batch_size])
    model = from_linen(mlp(task.hidden, task.num_classes)(recipe))
    key = jax.random.key(0)

    def call(variables: Any, x: Any) -> Any:
        return model.train(variables, x, key)[0]

    chain = optimizer(recipe, task.learning_rate)
    return model, chain, model.init(key, x), x, _Options(call=call)


def _recipe(text: str) -> Recipe:
    """Reads ``l2=0.5,dropout=0.2,batch_norm``."""
    values: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        if name == "batch_norm" and not value:
            values[name] = True
            continue
        if name not in strength_names():
            raise ValueError(
                f"`--recipe` must name strengths of {', '.join(strength_names())} or batch_norm, "
                f"got {name!r}."
            )
        with suppress(ValueError):
            values[name] = float(value)
        if name not in values:
            raise ValueError(f"`--recipe` must have a number for {name}, got {value!r}.")
    return Recipe(**values)


def _advise(args: argparse.Namespace) -> int:
    from jaxreg.advice import advise

    try:
        found = advise(
            task=args.task,
            architecture=args.architecture,
            rows=args.rows,
            batch_size=args.batch_size,
            variable_batch=args.variable_batch,
            needs=[need.strip() for need in args.needs.split(",") if need.strip()],
        )
    except ValueError as error:
        # The options have the names of the arguments, in their own spelling.
        _, name, rest = str(error).split("`", 2)
        raise ValueError(f"`--{name.replace('_', '-')}`{rest}") from error
    if args.json:
        from dataclasses import asdict

        _print_json([{**a._asdict(), "start": asdict(a.start)} for a in found])
    else:
        _print("\n\n".join(map(str, found)))
    return 0


def _print(text: str) -> None:
    """Prints text: in color on a terminal, as it stands elsewhere."""
    if not sys.stdout.isatty():
        print(text)
        return
    from jaxreg.study.data import extra

    console = extra("rich.console").Console()
    for line in text.splitlines():
        console.print(line, style=_style(line), markup=False, highlight=False, soft_wrap=True)


def _style(line: str) -> str:
    """The style of a line: that of its first word, or bold where a paragraph begins."""
    word = line.split()[0].rstrip(":") if line.strip() else ""
    return _STYLES.get(word, "" if line.startswith(" ") or not line else "bold")


def _print_json(value: Any) -> None:
    print(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def _plain(value: Any) -> Any:
    """The same without what JSON lacks: NaN and infinity are null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
