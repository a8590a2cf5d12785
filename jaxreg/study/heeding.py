"""Finds the arms that a model does not heed, by tracing it."""

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
    """Returns the arms that add a layer but leave the training program of a model as it is.

    Args:
      make_model: Function from a recipe to a model, as for :func:`jaxreg.study.run`.
      names: Names of arms. Those that do not act in the model are heeded by every model.
      x: Rows of the data, for their shape and dtype.

    Returns:
      The names that the model does not heed.

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
    """Raises ValueError if a recipe switches on an arm that the model does not heed.

    Args:
      make_model: Function from a recipe to a model.
      recipes: The recipes.
      x: Rows of the data, for their shape and dtype.

    Raises:
      ValueError: The model is the same with an arm and without it, so a study of it would say
        nothing.
      TypeError: The model needs a strength as a Python number.
    """
    names = dict.fromkeys(name for recipe in recipes for name in recipe)
    missing = find_unheeded(make_model, names, x)
    if missing:
        uses = ", ".join(f"`recipe.{name}`" for name in missing)
        raise ValueError(
            f"`recipes` must have arms that the model heeds, but it is the same without "
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
            f"`make_model` must give `recipe.{name}`, which is traced, to layers of jaxreg.linen "
            f"or jaxreg.nnx, and must ask `if {name!r} in recipe`, not `if recipe.{name}`."
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
