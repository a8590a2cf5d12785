"""Finds the arms that a model ignores, by tracing it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import jax

from jaxreg.study.arms import ARMS
from jaxreg.study.arms.row import Layer
from jaxreg.study.models import MakeModel, as_model
from jaxreg.study.recipes import Recipe


def find_unheeded(make_model: MakeModel, names: Iterable[str], x: Any) -> tuple[str, ...]:
    """Returns the arms that should add a layer, but do not change a model's training program.

    Args:
      make_model: Function from a recipe to a model, as for :func:`jaxreg.study.run`.
      names: Names of arms. Arms that act outside the model are never returned.
      x: Data rows, for their shape and dtype.

    Returns:
      The names of the arms that the model ignores.

    Example:
      >>> import numpy as np
      >>> from jaxreg.study import mlp
      >>> from jaxreg.study.heeding import find_unheeded
      >>> find_unheeded(mlp((4,), 2), ["dropout", "drop_path", "l2"], np.zeros((8, 3), np.float32))
      ('drop_path',)
    """
    shape = (min(len(x), 8), *x.shape[1:])
    layers = [name for name in names if name in ARMS and isinstance(ARMS[name].acts, Layer)]
    return tuple(name for name in layers if not _heeds(make_model, name, shape, x.dtype.name))


def check_heeded(make_model: MakeModel, recipes: Sequence[Recipe], x: Any) -> None:
    """Raises ValueError if a recipe switches on an arm that the model ignores.

    Args:
      make_model: Function from a recipe to a model.
      recipes: The recipes.
      x: Data rows, for their shape and dtype.

    Raises:
      ValueError: The model is the same with and without an arm, so a study of it would be
        meaningless.
      TypeError: The model needs a strength as a Python number.
    """
    names = dict.fromkeys(name for recipe in recipes for name in recipe)
    missing = find_unheeded(make_model, names, x)
    if missing:
        uses = ", ".join(f"`recipe.{name}`" for name in missing)
        raise ValueError(
            f"`recipes` must contain only arms that the model uses, but it is the same without "
            f"{', '.join(missing)}; use {uses} in `make_model`, or leave out such arms."
        )


@lru_cache(maxsize=256)
def _heeds(make_model: MakeModel, name: str, shape: tuple[int, ...], dtype: str) -> bool:
    strength = 0.1 if ARMS[name].has_strength else True
    rows = jax.ShapeDtypeStruct(shape, dtype)
    try:
        program = _program(make_model, Recipe({name: strength}), rows)
    except jax.errors.ConcretizationTypeError as error:
        raise TypeError(
            f"`make_model` must pass `recipe.{name}`, which is traced, to layers of jaxreg.linen "
            f"or jaxreg.nnx, and must test `if {name!r} in recipe`, not `if recipe.{name}`."
        ) from error
    return program != _baseline(make_model, rows)


@lru_cache(maxsize=16)
def _baseline(make_model: MakeModel, rows: jax.ShapeDtypeStruct) -> str:
    return _program(make_model, Recipe(), rows)


def _program(make_model: MakeModel, recipe: Recipe, rows: jax.ShapeDtypeStruct) -> str:
    """Returns the text of a forward pass in training mode, with traced strengths."""
    strengths, structure = jax.tree.flatten(recipe)

    def outputs(strengths, x):
        model = as_model(make_model(jax.tree.unflatten(structure, strengths)))
        key = jax.random.key(0)
        return model.train(model.init(key, x), x, key)

    return jax.jit(outputs).lower(strengths, rows).as_text()
