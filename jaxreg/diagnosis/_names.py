"""Words in the names of columns: which part of the data, which curve, which counter."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

TRAIN = frozenset(("train", "training", "trn", "tr", "trained"))
VALIDATION = frozenset(("validation", "val", "valid", "eval", "evaluation", "dev", "holdout"))
TEST = frozenset(("test", "testing"))
_PARTS = TRAIN | VALIDATION | TEST
# Losses that carry another name, if nothing is called a loss.
_OTHER_LOSSES = frozenset(
    ("logloss", "mlogloss", "nll", "xent", "crossentropy", "mse", "rmse", "mae", "cost", "error")
)
# Words that do not tell one loss from another.
_FILLERS = frozenset(
    (
        "avg", "average", "mean", "epoch", "step", "run", "tag", "metric", "metrics", "scalar",
        "scalars", "history", "log", "model", "per",
    )
)  # fmt: skip
_KINDS_OF_ACCURACY = frozenset(("sparse", "categorical", "binary", "multiclass", "top", "1"))
_EPOCHS = frozenset(("epoch", "epochs"))
_STEPS = frozenset(
    ("step", "steps", "iteration", "iterations", "iter", "iters", "update", "updates")
)
_COUNTED = frozenset(("global", "trainer", "current", "number", "num", "no", "idx", "index"))
_JOINED = re.compile(r"(train|val|valid|test|eval|dev)(loss|acc|accuracy)")


class Name(NamedTuple):
    """The meaning of a column's name."""

    part: str  # "train", "validation", "test", or empty
    kind: str  # "loss", "other loss", "accuracy", or empty
    extras: tuple[str, ...]  # words that make it a special loss or accuracy
    is_epoch_mean: bool
    is_step: bool


def to_words(name: Any) -> tuple[str, ...]:
    """Returns the words of a name in small letters: ``valLoss`` and ``val_loss`` are the same.

    Example:
      >>> to_words("Val/Loss_epoch"), to_words("trainLoss")
      (('val', 'loss', 'epoch'), ('train', 'loss'))
    """
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", str(name)).lower()
    words = []
    for word in re.findall(r"[^\W\d_]+|\d+", text):
        joined = _JOINED.fullmatch(word)
        words.extend(joined.groups() if joined else [word])
    return tuple(words)


def is_part(name: Any) -> bool:
    """Returns whether a name says only which part of the data something was measured on."""
    words = to_words(name)
    return bool(words) and set(words) <= _PARTS


def is_counter(name: Any) -> bool:
    """Returns whether a column of this name counts epochs or steps."""
    return is_epoch(name) or is_step(name)


def is_epoch(name: Any) -> bool:
    """Returns whether a column of this name counts epochs."""
    return _is_count(name, _EPOCHS)


def is_step(name: Any) -> bool:
    """Returns whether a column of this name counts steps or iterations."""
    return _is_count(name, _STEPS)


def _is_count(name: Any, words: frozenset[str]) -> bool:
    rest = [word for word in to_words(name) if word not in _COUNTED]
    return len(rest) == 1 and rest[0] in words


def read(name: Any) -> Name:
    """Returns the meaning of the name of a column."""
    words = to_words(name)
    part = next(
        (
            part
            for part, known in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST))
            if known & set(words)
        ),
        "",
    )
    rest = [word for word in words if word not in _PARTS]
    kind, core = _kind(rest)
    extras = tuple(word for word in rest if word not in core and word not in _FILLERS)
    return Name(part, kind, extras, "epoch" in rest, "step" in rest)


def _kind(words: list[str]) -> tuple[str, frozenset[str]]:
    """Returns the kind of a curve, and the words that say so."""
    found = set(words)
    if "loss" in found:
        return "loss", frozenset(("loss",))
    if found & {"accuracy", "acc"} or {"top", "1"} <= found:
        return "accuracy", _KINDS_OF_ACCURACY | {"accuracy", "acc"}
    if {"cross", "entropy"} <= found:
        return "other loss", frozenset(("cross", "entropy"))
    others = found & _OTHER_LOSSES
    return ("other loss", frozenset(others)) if others else ("", frozenset())
