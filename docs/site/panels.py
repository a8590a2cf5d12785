"""Records of what a picture shows; ``drawing.py`` draws them, once light and once dark."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxreg
from jaxreg import (
    augment,
    dropout,
    information,
    masks,
    noise,
    normalization,
    penalties,
    projections,
    proximal,
    reparam,
    smoothness,
    targets,
    transforms,
)
from jaxreg.augment import borders, matrices, series, tables, text
from jaxreg.training import digests, early_stopping, ensembles, plateau, schedules, statistics

KEY = jax.random.key(3)
NAMES: dict[str, Any] = {
    "augment": augment, "borders": borders, "digests": digests, "dropout": dropout,
    "early_stopping": early_stopping, "ensembles": ensembles, "information": information,
    "jax": jax, "jaxreg": jaxreg, "jnp": jnp, "key": KEY, "masks": masks, "matrices": matrices,
    "noise": noise, "normalization": normalization, "optax": optax, "partial": functools.partial,
    "penalties": penalties, "plateau": plateau, "projections": projections, "proximal": proximal,
    "reparam": reparam, "schedules": schedules, "series": series, "smoothness": smoothness,
    "statistics": statistics, "tables": tables, "targets": targets, "text": text,
    "transforms": transforms,
}  # fmt: skip

Curves = Mapping[str, Any]


@dataclass(frozen=True)
class Heat:
    """A matrix as colors; NaN stays empty."""

    title: str
    values: Any
    low: float | None = None
    high: float | None = None
    across: str = ""
    down: str = ""


@dataclass(frozen=True)
class Photo:
    """An image with values in ``[0, 1]``, and what is drawn on it."""

    title: str
    values: Any
    points: Any = None
    boxes: Any = None
    mask: Any = None


@dataclass(frozen=True)
class Lines:
    """Curves over a common axis."""

    title: str
    x: Any
    curves: Curves
    across: str = ""
    up: str = ""
    marks: Mapping[str, float] = field(default_factory=dict)
    steps: bool = False


@dataclass(frozen=True)
class Points:
    """Groups of points in a plane, paths through them, and arrows between the first two groups."""

    title: str
    groups: Mapping[str, Any] = field(default_factory=dict)
    paths: Mapping[str, Any] = field(default_factory=dict)
    surface: tuple[Any, Any, Any] | None = None
    arrows: bool = False
    across: str = ""
    up: str = ""


@dataclass(frozen=True)
class Words:
    """Lines of words, some of them marked."""

    title: str
    lines: Sequence[Sequence[tuple[str, bool]]]


Panel = Heat | Photo | Lines | Points | Words


@dataclass(frozen=True)
class Picture:
    """Panels, the calls that made them, and a sentence on what they show."""

    panels: tuple[Panel, ...]
    calls: tuple[str, ...]
    about: str = ""


def evaluate(code: str, **names: Any) -> Any:
    """Evaluates the call below a picture, so that the picture shows what the call returns."""
    return eval(code, {**NAMES, **names})


def compiled(code: str, *arguments: str) -> Any:
    """Returns a compiled function of named arguments, whose body is the call below a picture."""
    return jax.jit(lambda *values: evaluate(code, **dict(zip(arguments, values, strict=True))))


def as_array(values: Any) -> np.ndarray:
    """Returns float32 values for drawing."""
    return np.asarray(values, np.float32)


def side_by_side(maps: Any) -> np.ndarray:
    """Puts the channels of a map ``[height, width, channels]`` side by side, with gaps."""
    values = as_array(maps)
    gap = np.full((values.shape[0], 1), np.nan, np.float32)
    parts = [part for i in range(values.shape[-1]) for part in (values[..., i], gap)]
    return np.concatenate(parts[:-1], axis=1)
