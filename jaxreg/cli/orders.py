"""Validates the arguments of ``jaxreg study`` and turns them into an order."""

from __future__ import annotations

import argparse
import math
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from jaxreg.study.data import DATA_SETS, Loaded, extra, kind, load
from jaxreg.study.data.functions import load_function
from jaxreg.study.reports.files import check_folder

SEARCHES = ("grid", "random", "halving")
MODELS = ("mlp", "convnet", "transformer")
# The report needs them only at the end, which is too late to find them missing.
_EXTRAS = ("sklearn", "matplotlib", "rich", "pandas")


@dataclass(frozen=True)
class Order:
    """Validated arguments of ``jaxreg study``, with the data and the model.

    Attributes:
      data: Name of the data set.
      loaded: The data.
      model: Name of a built-in model, or the user's ``FILE.py:make``.
      make_model: Function from a recipe to a model.
      objective: The task and its metrics.
      names: Names of the arms, without ``combined``.
      combined: Whether to combine them.
      notes: Remarks for the report.
      search: A name of ``SEARCHES``.
      strengths: Number of strengths of an arm; None for the default.
      seeds: Number of seeds.
      epochs: Number of epochs.
      batch_size: Rows of a batch.
      learning_rate: Learning rate of Adam.
      out: Folder of the report.
      resume: Whether to continue an interrupted study.
      command: The command line.
    """

    data: str
    loaded: Loaded
    model: str
    make_model: Any
    objective: Any
    names: tuple[str, ...]
    combined: bool
    notes: tuple[str, ...]
    search: str
    strengths: int | None
    seeds: int
    epochs: int
    batch_size: int
    learning_rate: float
    out: Path
    resume: bool
    command: str


def make_order(args: argparse.Namespace, command: str) -> Order:
    """Validates the arguments and loads the data and the model.

    Args:
      args: The parsed arguments.
      command: The command line, to quote in the report.

    Raises:
      ValueError: An argument is wrong.
      ImportError: An optional dependency is missing, or the model's module.
      OSError: A file or a folder cannot be used.
    """
    _check_numbers(args)
    asked, named = _arm_names(args.arms)
    check_folder(args.out)
    for module in _EXTRAS:
        extra(module)
    loaded = _load_data(args)
    # A split fits transformers, and the checks below all look at the first one.
    loaded = replace(loaded, split=lru_cache(maxsize=1)(loaded.split))
    use_all_cores(args.seeds)
    _check_devices()
    # This imports JAX and Flax, which takes seconds, so a wrong argument is reported before.
    from jaxreg.study.objectives import OBJECTIVES

    preset = DATA_SETS.get(args.data)
    model, make_model = _make_model(args.model, loaded, preset)
    objective = OBJECTIVES[loaded.task]
    if args.metric:
        objective = _with_metric(objective, args.metric)
    _check_outputs(make_model, loaded, objective, model)
    names, notes = _suited_arms(asked, named, loaded)
    names, remarks = _heeded_arms(names, named, make_model, loaded, model)
    train_size = loaded.split(0).sizes[0]
    return Order(
        data=args.data,
        loaded=loaded,
        model=model,
        make_model=make_model,
        objective=objective,
        names=tuple(name for name in names if name != "combined"),
        combined="combined" in names,
        notes=(*map(_with_options, loaded.notes), *notes, *remarks),
        search=args.search,
        strengths=args.strengths,
        seeds=args.seeds,
        epochs=args.epochs or (preset.epochs if preset else 60),
        batch_size=min(preset.batch_size if preset else 32, train_size),
        learning_rate=preset.learning_rate if preset else 1e-3,
        out=Path(args.out),
        resume=args.resume,
        command=command,
    )


def _with_metric(objective: Any, name: str) -> Any:
    """Returns the objective with the metric of ``--metric`` first."""
    try:
        return objective.with_metric(name)
    except ValueError as error:
        raise ValueError(_with_options(str(error))) from error


def _check_numbers(args: argparse.Namespace) -> None:
    _check_range("--seeds", args.seeds, 2, 1000)
    _check_range("--epochs", args.epochs, 1, 100_000)
    _check_range("--strengths", args.strengths, 1, 100)
    _check_range("--train-size", args.train_size, 2)
    _check_range("--folds", args.folds, 1, 100)
    if args.folds > args.seeds:
        raise ValueError(
            f"`--seeds` must be at least `--folds`, so that every fold is tested, got {args.seeds} "
            f"seeds and {args.folds} folds."
        )


def _check_range(option: str, value: int | None, least: int, most: float = math.inf) -> None:
    if value is not None and not least <= value <= most:
        rule = f"at least {least}" if value < least else f"at most {most}"
        raise ValueError(f"`{option}` must be {rule}, got {value}.")


def _load_data(args: argparse.Namespace) -> Loaded:
    """Loads the data; errors name the options of the command line."""
    try:
        if args.data in DATA_SETS:
            return _load_preset(args)
        return load(
            args.data,
            target=args.target,
            groups=args.groups,
            task=args.task,
            train_size=args.train_size,
            folds=args.folds,
        )
    except ValueError as error:
        raise ValueError(_with_options(str(error))) from error


def _with_options(text: str) -> str:
    """Replaces arguments of the Python functions with the options of the command line."""
    for name in ("data", "target", "groups", "task", "folds", "train_size", "metric"):
        text = text.replace(f"`{name}`", f"`--{name.replace('_', '-')}`")
    return text


def _load_preset(args: argparse.Namespace) -> Loaded:
    """Loads a built-in data set, which does not take the options for files."""
    given = {"--target": args.target, "--groups": args.groups, "--task": args.task}
    for option, value in given.items():
        if value is not None:
            raise ValueError(f"`{option}` is for data from files, got {value} with {args.data}.")
    if args.folds > 1:
        raise ValueError(f"`--folds` is for data from files, got {args.folds} with {args.data}.")
    preset = DATA_SETS[args.data]
    size = args.train_size or preset.train_size
    if size < preset.batch_size:
        raise ValueError(f"`--train-size` must be at least {preset.batch_size}, got {size}.")
    split = preset.load(train_size=size)
    return Loaded(
        split=split,
        kind=kind(split(0).train_x),
        task="classification",
        outputs=preset.num_classes,
        vocabulary=preset.vocabulary,
        classes=(),
        notes=(),
        data_import=f"from jaxreg.study.data.builtin import {args.data}",
        data_code=f"{args.data}(train_size={size})",
    )


def _arm_names(text: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """Parses ``--arms`` into names in the order of the table, and the names given explicitly."""
    from jaxreg.study.arms import ARM_NAMES, DEFAULT_ARMS

    groups = {"all": ARM_NAMES, "default": DEFAULT_ARMS}
    words = [word.strip() for word in text.split(",")]
    named = {_arm_name(word) for word in words if word not in groups}
    asked = named.union(["baseline"], *(groups[word] for word in words if word in groups))
    names = tuple(name for name in ARM_NAMES if name in asked)
    if "combined" in names and len(names) < 4:
        raise ValueError(
            f"`--arms` must name at least two techniques besides `combined`, got {text}."
        )
    return names, frozenset(named)


def _arm_name(word: str) -> str:
    """Returns the name of an arm from its name or an alias."""
    from jaxreg.study.arms import ARM_NAMES, find

    if word in ARM_NAMES:
        return word
    try:
        return find(word).name
    except ValueError as error:
        text = str(error).replace("`name` must be an arm of a study", "")
        raise ValueError(
            f"`--arms` must be all, default, or arms of `jaxreg list`{text}"
        ) from error


def _leave_out(
    names: tuple[str, ...], others: dict[str, str], named: frozenset[str], rule: str, reason: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Leaves out arms that do not suit, with a remark; raises if one of them was asked for by name.

    Args:
      names: All arms.
      others: Descriptions of the arms that do not suit, by name.
      named: Arms that were given explicitly.
      rule: The rule for an error.
      reason: The reason for a remark.
    """
    wrong = [text for name, text in others.items() if name in named]
    if wrong:
        raise ValueError(f"`--arms` must {rule}; leave out {', '.join(wrong)}.")
    if not others:
        return names, ()
    left = tuple(name for name in names if name not in others)
    return left, (f"Left out, because {reason}: {', '.join(others.values())}.",)


def _suited_arms(
    names: tuple[str, ...], named: frozenset[str], loaded: Loaded
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the arms that suit the data and the task, and a remark about any left out."""
    from jaxreg.study.arms import ARMS

    others = {}
    for name in names:
        row = ARMS.get(name)
        if row is None:
            continue
        if loaded.kind not in row.kinds:
            others[name] = f"{name} ({', '.join(row.kinds)})"
        elif loaded.task not in row.tasks:
            others[name] = f"{name} ({', '.join(row.tasks)})"
    rows = f"the rows are {_kind_in_words(loaded.kind)} for {loaded.task}"
    rule = f"suit the data: {rows}"
    return _leave_out(names, others, named, rule, rows)


def _kind_in_words(kind: str) -> str:
    return {"image": "images", "text": "texts", "table": "a table"}.get(kind, kind)


def _heeded_arms(
    names: tuple[str, ...], named: frozenset[str], make_model: Any, loaded: Loaded, model: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the arms without the layers that the model ignores, and a remark about these."""
    from jaxreg.study.heeding import find_unheeded

    rows = loaded.split(0).train_x
    try:
        found = find_unheeded(make_model, names, rows)
    except Exception as error:
        raise _refusal(error, rows, model) from error
    rule = f"name arms that the model uses (your own as `recipe.NAME`), but {model} ignores some"
    reason = f"the model {model} does not use them"
    return _leave_out(names, {name: name for name in found}, named, rule, reason)


def _check_outputs(make_model: Any, loaded: Loaded, objective: Any, model: str) -> None:
    """Raises ValueError if the outputs of the model do not fit the labels."""
    from jaxreg.study.runner import count_outputs, stack_splits

    try:
        count_outputs(make_model, stack_splits(loaded.split, 1), objective)
    except Exception as error:
        text = str(error)
        if "`make_model`" not in text:
            raise _refusal(error, loaded.split(0).train_x, model) from error
        raise ValueError(text.replace("`make_model`", f"`--model` {model}")) from error


def _refusal(error: Exception, rows: Any, model: str) -> ValueError:
    """Returns the error for a model that raised another one, as a user's code may do anywhere."""
    text = str(error).partition("\n")[0]
    return ValueError(
        f"`--model` must accept rows of shape {rows.shape[1:]}, but {model} raised "
        f"{type(error).__name__}: {text}"
    )


def _make_model(name: str | None, loaded: Loaded, preset: Any) -> tuple[str, Any]:
    """Returns the name of a model and the function that makes it."""
    from jaxreg.study.networks import conv_net, mlp, transformer

    shape = loaded.split(0).train_x.shape[1:]
    if name is None:
        name = "mlp" if preset else _default_model(loaded.kind, shape)
    if ":" in name:
        return name, _make_own(name)
    if name == "mlp":
        hidden = preset.hidden if preset else (128, 128)
        return name, mlp(hidden, loaded.outputs, vocabulary=loaded.vocabulary)
    if name == "convnet" and loaded.kind == "image":
        return name, conv_net((32, 64), loaded.outputs)
    if name == "transformer" and loaded.kind in ("series", "text"):
        return name, transformer(32, 2, loaded.outputs, vocabulary=loaded.vocabulary)
    suited = {"image": "mlp, convnet", "series": "mlp, transformer", "text": "mlp, transformer"}
    raise ValueError(
        f"`--model` must be {suited.get(loaded.kind, 'mlp')} for {_kind_in_words(loaded.kind)}, or "
        f"FILE.py:FUNCTION, got {name}."
    )


def _make_own(name: str) -> Any:
    """Returns the user's function from a recipe to a model."""
    from jaxreg.study.models import as_make_model

    try:
        return as_make_model(load_function(name, "--model"))
    except TypeError as error:
        raise ValueError(str(error).replace("`model`", f"`--model` {name}")) from error


def _default_model(kind: str, shape: tuple[int, ...]) -> str:
    if kind == "image":
        return "convnet" if min(shape[:2]) >= 8 else "mlp"
    return "mlp" if kind == "table" else "transformer"


def use_all_cores(most: int) -> None:
    """Makes each CPU core a JAX device, up to ``most``, so that runs train in parallel."""
    import jax

    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    # A number chosen by the user, or a backend that already runs, is left alone.
    current = jax.config.jax_num_cpu_devices  # pyright: ignore[reportAttributeAccessIssue]
    if not chosen and current == -1:
        with suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", min(os.cpu_count() or 1, most))


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
