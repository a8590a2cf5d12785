"""Loads the user's data: the entry point of this package."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.study.data.builtin import DATA_SETS
from jaxreg.study.data.columns import note_repeats
from jaxreg.study.data.extras import extra
from jaxreg.study.data.files import SUFFIXES, read_file
from jaxreg.study.data.folds import Limits, row_drawer
from jaxreg.study.data.functions import load_function
from jaxreg.study.data.images import read_images
from jaxreg.study.data.preparation import Preparation, keep_tokens, make_splitter, scale_numbers
from jaxreg.study.data.raw import Raw, from_mapping, from_pair, from_table
from jaxreg.study.data.records import Loaded, Split, Splitter, kind
from jaxreg.study.data.tables import prepare_table
from jaxreg.study.data.targets import TASKS, Targets, read_targets
from jaxreg.study.data.texts import prepare_texts
from jaxreg.study.data.wording import count_of, ending_with_closest

LIMITS = Limits(held_out=10, train=2000, validation=1000, test=3000)
_IMPORT = "from jaxreg.study.data import load"


def load(
    source: str,
    *,
    target: str | None = None,
    groups: str | None = None,
    task: str | None = None,
    train_size: int | None = None,
    folds: int = 1,
) -> Loaded:
    """Loads data for a study from a file, a folder of images or a function.

    Tables are read by pandas and prepared by scikit-learn's transformers: categories, missing
    cells, dates, heavy tails. Uninformative columns are left out. Images and series are
    standardized by channel. A table whose only column contains texts is read as words. All
    statistics come from the training rows of a seed.

    By default, 60% of the rows are for training, 20% for validation and 20% for test, but at most
    2000, 1000 and 3000 rows.

    Args:
      source: A file ``.csv``, ``.tsv``, ``.parquet`` or ``.npz`` (arrays x and y), a folder with a
        folder of images per class, or a function ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``.
        The function returns x and y, a mapping with x, y and perhaps groups, a pandas table, or a
        function from a seed to a :class:`jaxreg.study.Split`.
      target: Name of the column or array to predict.
      groups: Name of the column or array of groups; all rows of a group are in the same set.
      task: ``"classification"`` or ``"regression"``; by default inferred from the labels.
      train_size: Number of training rows; at least 10 rows are left for validation and for test.
      folds: Number of folds; seed ``s`` tests on fold ``s % folds``. By default all seeds test on
        the same rows.

    Returns:
      The data, with notes on how it was read.

    Raises:
      ValueError: An argument or the data is invalid; the message names the argument.
      ImportError: A package is missing; the message says how to install it.

    Example:
      >>> import tempfile, numpy as np
      >>> from jaxreg.study.data import load
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     x = np.random.default_rng(0).normal(size=(100, 3))
      ...     np.savez(f"{folder}/mine.npz", x=x, y=np.where(x[:, 0] > 0, "yes", "no"))
      ...     loaded = load(f"{folder}/mine.npz")
      >>> loaded.kind, loaded.task, loaded.classes, loaded.split(0).sizes
      ('table', 'classification', ('no', 'yes'), (60, 20, 20))
    """
    if task is not None and task not in TASKS:
        raise ValueError(f"`task` must be {' or '.join(TASKS)}, got {task}.")
    if folds < 1:
        raise ValueError(f"`folds` must be at least 1, got {folds}.")
    options: dict[str, Any] = {
        "target": target,
        "groups": groups,
        "task": task,
        "train_size": train_size,
        "folds": folds if folds > 1 else None,
    }
    code = _code(source, options)
    raw = _read(source, target, groups)
    if not isinstance(raw, Raw):
        _refuse_options(options, source)
        return _describe(raw, code, source)
    targets = read_targets(raw.y, task)
    raw = _keep(raw, targets.kept)
    preparation = _prepare(raw)
    draw = row_drawer(
        targets.values,
        limits=LIMITS,
        train_size=train_size,
        groups=_group_numbers(raw.groups),
        folds=folds,
    )
    notes = (
        *raw.notes,
        *targets.notes,
        *preparation.notes,
        *_repeats(raw, targets),
        *_size_notes(draw(0), len(targets.values), raw.groups, folds, train_size),
    )
    return Loaded(
        split=make_splitter(preparation, targets.values, draw),
        kind=preparation.kind,
        task=targets.task,
        outputs=targets.outputs,
        data_import=_IMPORT,
        data_code=code,
        vocabulary=preparation.vocabulary,
        classes=targets.classes,
        notes=notes,
    )


def _code(source: str, options: Mapping[str, Any]) -> str:
    """Returns an expression that evaluates to the split function."""
    given = [
        f"{name}={json.dumps(value, ensure_ascii=False)}"
        for name, value in options.items()
        if value is not None
    ]
    return f"load({', '.join([json.dumps(source, ensure_ascii=False), *given])}).split"


def _read(source: str, target: str | None, groups: str | None) -> Raw | Splitter:
    """Reads rows and labels, or returns the splitter of the user's function."""
    path = Path(source).expanduser()
    if source and path.is_dir():
        for option, value in (("target", target), ("groups", groups)):
            if value is not None:
                raise ValueError(
                    f"`{option}` is for tables and arrays, got {value} with a folder of images."
                )
        return read_images(path)
    if path.suffix.lower() in SUFFIXES and path.is_file():
        return read_file(path, target, groups)
    if ":" in source and not path.is_file():
        return _call(source, target, groups)
    names = ", ".join(DATA_SETS)
    rule = (
        f"`data` must be {names}, a file {', '.join(SUFFIXES)}, a folder of images by class, or "
        "FILE.py:FUNCTION"
    )
    if path.is_file():
        raise ValueError(f"{rule}, got {source}, whose format is unknown.")
    if path.suffix.lower() in SUFFIXES:
        beside = [str(each) for each in path.parent.glob("*")]
        raise ValueError(
            f"{rule}, got {source}, which does not exist{ending_with_closest(source, beside)}"
        )
    raise ValueError(f"{rule}, got {source or 'nothing'}.")


def _call(source: str, target: str | None, groups: str | None) -> Raw | Splitter:
    """Calls the user's function, and looks at what it returns."""
    function = load_function(source)
    if _needs_seed(function):
        return function
    found = _run(function, source)
    if hasattr(found, "columns"):
        return from_table(found, target, groups)
    if isinstance(found, Mapping):
        return from_mapping(found, target, groups)
    if isinstance(found, tuple) and len(found) == 2:
        _refuse_options({"target": target, "groups": groups}, source)
        return from_pair(*found)
    if callable(found):
        splitter: Any = found
        return splitter
    raise ValueError(
        f"`data` must be a function that returns (x, y), a mapping with x and y, a table, or a "
        f"function from a seed to a split, got {type(found).__name__} from {source}."
    )


def _run(function: Any, source: str, *arguments: int) -> Any:
    """Calls a user's function; its errors become one line."""
    try:
        return function(*arguments)
    except ImportError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise ValueError(
            f"`data` must be a function that returns rows and labels, but {source} raised "
            f"{type(error).__name__}: {text}"
        ) from error


def _needs_seed(function: Any) -> bool:
    """Returns whether a function has exactly one required argument, which is then a seed."""
    try:
        arguments = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return sum(each.default is each.empty and each.kind not in kinds for each in arguments) == 1


def _refuse_options(options: Mapping[str, Any], source: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise ValueError(
                f"`{name}` does not apply to {source}, which decides it itself, got {value}; "
                "leave it out."
            )


def _describe(split: Splitter, code: str, source: str) -> Loaded:
    """Describes a user's splitter from its first split."""
    first = _run(split, source, 0)
    if not isinstance(first, Split):
        raise ValueError(
            "`data` must be a function from a seed to a jaxreg.study.Split, got "
            f"{type(first).__name__}."
        )
    own = kind(np.asarray(first.train_x))
    labels = [np.asarray(part) for part in (first.train_y, first.validation_y, first.test_y)]
    vocabulary = 0
    if own == "text":
        rows = (first.train_x, first.validation_x, first.test_x)
        vocabulary = 1 + max(int(np.max(part)) for part in rows)
    if not np.issubdtype(labels[0].dtype, np.integer):
        outputs = int(np.prod(labels[0].shape[1:], dtype=int))
        return Loaded(split, own, "regression", outputs, _IMPORT, code, vocabulary)
    count = 1 + max(int(part.max()) for part in labels)
    names = tuple(map(str, range(count)))
    return Loaded(split, own, "classification", count, _IMPORT, code, vocabulary, names)


def _keep(raw: Raw, kept: np.ndarray) -> Raw:
    """Leaves out rows without a label."""
    if kept.all():
        return raw
    groups = None if raw.groups is None else np.asarray(raw.groups, object)[kept]
    if raw.kind == "text":
        x = [text for text, keep in zip(raw.x, kept, strict=True) if keep]
    elif raw.kind == "table":
        x = raw.x[kept].reset_index(drop=True)
    else:
        x = raw.x[kept]
    return raw._replace(x=x, groups=groups)


def _prepare(raw: Raw) -> Preparation:
    if raw.kind == "table":
        return prepare_table(raw.x)
    if raw.kind == "text":
        return prepare_texts(raw.x)
    if raw.kind == "tokens":
        return keep_tokens(raw.x, int(raw.x.max()) + 1)
    return scale_numbers(raw.x, raw.kind)


def _group_numbers(groups: Any) -> np.ndarray | None:
    """Returns the groups as strings."""
    if groups is None:
        return None
    cells = np.asarray(groups, object)
    empty = int(extra("pandas").isna(cells).sum())
    if empty:
        raise ValueError(
            f"`groups` must give a group for every row, got {count_of(empty, 'empty cell')}; fill "
            "them, or leave out the rows."
        )
    return cells.astype(str)


def _repeats(raw: Raw, targets: Targets) -> tuple[str, ...]:
    if raw.kind != "table" or raw.groups is not None or targets.values.ndim > 1:
        return ()
    return note_repeats(raw.x, targets.values.tolist())


def _size_notes(
    parts: tuple[np.ndarray, ...], rows: int, groups: Any, folds: int, train_size: int | None
) -> tuple[str, ...]:
    """Returns remarks on the sizes of the sets."""
    sizes = [len(part) for part in parts]
    train, validation, test = sizes
    notes = [f"Rows: {train:,} for training, {validation:,} for validation, {test:,} for test."]
    left = rows - train - validation - test
    if groups is not None:
        count = len(np.unique(np.asarray(groups, object).astype(str)))
        notes.append(
            f"Rows of one group stay together: {count:,} groups. Every seed leaves out "
            f"{count_of(left, 'row')}, so that all of them have the same sizes."
        )
    elif train_size is None and left:
        notes.append(f"Left out {left:,} rows, to be fast; `train_size` asks for more.")
    if folds > 1:
        notes.append(
            f"Seed s tests on fold s % {folds}. Strengths are chosen over all seeds together, so "
            "rows that one seed tests on validate for another."
        )
    if test < 50:
        notes.append(f"The test set is small: {test} rows, so that scores are coarse.")
    return tuple(notes)
