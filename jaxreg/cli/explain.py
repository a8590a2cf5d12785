"""``jaxreg explain``: lists the regularizers of each parameter, and known conflicts."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from jaxreg.cli.printing import print_json, print_text
from jaxreg.study.data.functions import load_object

_POSITIONAL = ("model", "optimizer", "params", "inputs")
_OPTIONS = ("call", "penalty", "loss", "targets")

# Positional arguments of `explain`, and its keyword arguments.
_Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def add_command(commands: Any) -> None:
    """Adds the ``explain`` subcommand to the argument parser of ``jaxreg``."""
    parser = commands.add_parser(
        "explain",
        help="list the regularizers of each parameter, and known conflicts",
        description="Lists the regularizers of each parameter and activation, known conflicts, and "
        "practices with a price.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "function",
        nargs="?",
        metavar="MODULE:NAME",
        help="a model, a TrainState, a tuple (model, optimizer, params, *inputs), a mapping of "
        "these names, or a function without arguments that returns one; also FILE.py:NAME",
    )
    add(
        "--recipe",
        metavar="NAME=X,NAME=X",
        help="strengths of a study's recipe instead, such as l2=0.5,dropout=0.2,batch_norm",
    )
    add("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Runs ``jaxreg explain``; raises ValueError or ImportError on invalid input."""
    if (args.function is None) == (args.recipe is None):
        raise ValueError("Give either MODULE:NAME or `--recipe`; see jaxreg explain --help")
    # Imports Flax, which the other commands do without.
    from jaxreg.explain import explain

    if args.recipe is not None:
        arguments, options = _arguments_of_recipe(args.recipe)
    else:
        arguments, options = _arguments_of_name(args.function)
    try:
        found = explain(*arguments, **options)
    except TypeError as error:
        # This is wrong input like any other, which ends in one line.
        raise ValueError(str(error)) from error
    if args.json:
        print_json(found)
    else:
        print_text(str(found))
    return 0


def _arguments_of_name(spec: str) -> _Arguments:
    """Returns what the user's ``spec`` names, or what it returns, as arguments of ``explain``."""
    made = load_object(spec, "MODULE:NAME")
    if _is_maker(made):
        try:
            made = made()
        except Exception as error:
            text = " ".join(str(error).split())
            raise ValueError(
                f"`{spec}` must run without arguments, but raised {type(error).__name__}: {text}"
            ) from error
    if isinstance(made, Mapping):
        return _arguments_of_mapping(made, spec)
    return (made,), {}


def _is_maker(value: Any) -> bool:
    """Returns whether a value is to be called: a function or a class, but not a model."""
    from flax import linen, nnx

    return callable(value) and not isinstance(value, linen.Module | nnx.Module)


def _arguments_of_mapping(made: Mapping[Any, Any], spec: str) -> _Arguments:
    known = sorted([*_POSITIONAL, *_OPTIONS])
    if unknown := sorted(map(str, set(made) - set(known))):
        raise ValueError(
            f"`{spec}` must return a mapping with keys among {', '.join(known)}, got "
            f"{', '.join(unknown)}."
        )
    first = (made.get("model"), made.get("optimizer"), made.get("params"))
    options = {name: made[name] for name in _OPTIONS if name in made}
    inputs = made.get("inputs", ())
    return (*first, *(inputs if isinstance(inputs, tuple | list) else (inputs,))), options


def _arguments_of_recipe(text: str) -> _Arguments:
    """Returns the arguments of ``explain`` for a recipe on the circles data and its MLP."""
    recipe = _read_recipe(text)
    import jax

    from jaxreg.study import from_linen, mlp, optimizer
    from jaxreg.study.data import DATA_SETS

    preset = DATA_SETS["circles"]
    split = preset.load(train_size=preset.train_size)(0)
    x = jax.numpy.asarray(split.train_x[: preset.batch_size])
    model = from_linen(mlp(preset.hidden, preset.num_classes)(recipe))
    key = jax.random.key(0)

    def call(variables: Any, x: Any) -> Any:
        return model.train(variables, x, key)[0]

    chain = optimizer(recipe, preset.learning_rate)
    return (model, chain, model.init(key, x), x), {"call": call}


def _read_recipe(text: str) -> Any:
    """Parses a recipe from text such as ``l2=0.5,dropout=0.2,batch_norm``."""
    from jaxreg.study.arms import ARMS
    from jaxreg.study.recipes import Recipe

    values: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        if name not in ARMS:
            raise ValueError(f"`--recipe` must have names that `jaxreg list` shows, got {name!r}.")
        if not ARMS[name].has_strength and not value:
            values[name] = True
            continue
        with suppress(ValueError):
            values[name] = float(value)
        if name not in values:
            raise ValueError(f"`--recipe` must have a number for {name}, got {value!r}.")
    return Recipe(values)
