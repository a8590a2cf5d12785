"""Models of a study as three pure functions, made from a Linen or an NNX module."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from flax import nnx
from jax.core import Tracer

import jaxreg.nnx
from jaxreg.study.recipes import Recipe

Variables = dict[str, Any]
MakeModel = Callable[[Recipe], Any]


class Model(NamedTuple):
    """A model as three pure functions; only ``variables["params"]`` are trained.

    Attributes:
      init: ``(key, x) -> variables``.
      train: ``(variables, x, key) -> (outputs, variables)``, in training mode. The leaves of
        ``variables["losses"]``, if there are any, are added to the loss and then dropped.
      predict: ``(variables, x) -> outputs``, in evaluation mode.
    """

    init: Callable[[jax.Array, jax.Array], Variables]
    train: Callable[[Variables, jax.Array, jax.Array], tuple[jax.Array, Variables]]
    predict: Callable[[Variables, jax.Array], Any]


def as_model(made: Any) -> Model:
    """Returns a :class:`Model` from what ``make_model`` returned: a Linen module or a model.

    Raises:
      TypeError: It returned neither.
    """
    if isinstance(made, Model):
        return made
    if isinstance(made, nn.Module):
        return from_linen(made)
    hint = "; wrap the function that makes it in `from_nnx`" if isinstance(made, nnx.Module) else ""
    raise TypeError(
        "`make_model` must return a Linen module or a jaxreg.study.Model, got "
        f"{type(made).__name__}{hint}."
    )


def as_make_model(make: Callable[..., Any]) -> MakeModel:
    """Returns a function from a recipe to a model, from a user's function for Linen or NNX.

    Args:
      make: ``(recipe) -> module`` for Linen, or ``(recipe, rngs) -> module`` for NNX, or a module
        class with such a constructor. Further arguments need defaults.

    Raises:
      TypeError: The function takes other arguments.
    """
    if isinstance(make, type) and issubclass(make, nnx.Module):
        return from_nnx(make)
    arguments = inspect.signature(make).parameters.values()
    count = sum(each.default is each.empty for each in arguments)
    if count not in (1, 2):
        raise TypeError(
            f"`model` must be a function of `recipe` for Linen or of `recipe` and `rngs` for NNX, "
            f"got {count} required arguments."
        )
    return make if count == 1 else from_nnx(make)


def from_linen(module: nn.Module) -> Model:
    """Makes a :class:`Model` from a Linen module that is called as ``module(x, train=...)``.

    Args:
      module: Module that returns logits, ``[batch, classes]``, or predictions of a regression. It
        may keep ``batch_stats``, sow penalties in ``losses`` as
        :class:`jaxreg.linen.ActivityPenalty` does, and draw from the ``"dropout"`` stream.

    Returns:
      The model.
    """

    def init(key, x):
        return dict(module.init(key, x, train=False))

    def train(variables, x, key):
        outputs, updates = module.apply(
            variables, x, train=True, rngs={"dropout": key}, mutable=["batch_stats", "losses"]
        )
        return outputs, {**variables, **updates}

    def predict(variables, x):
        return module.apply(variables, x, train=False)

    return Model(init, train, predict)


def from_nnx(make: Callable[[Recipe, nnx.Rngs], nnx.Module]) -> Callable[[Recipe], Model]:
    """Converts a function that makes NNX modules into one that makes models for a study.

    Args:
      make: Function ``(recipe, rngs) -> module``. The module is called as ``module(x)``, after
        ``module.train()`` or ``module.eval()``. Strengths of the recipe are traced: pass them to
        modules of :mod:`jaxreg.nnx`, which keep them as state.

    Returns:
      Function from a recipe to a model, for :func:`jaxreg.study.run`.
    """

    def make_model(recipe: Recipe) -> Model:
        def variables_of(module):
            _check_untraced(module)
            _, params, rest = nnx.split(module, nnx.Param, ...)
            return {"params": params, "rest": rest}

        def rebuild(variables):
            # The graph is made anew, because a graph that outlives its trace has dead tracers.
            graph = nnx.graphdef(nnx.eval_shape(lambda: make(recipe, nnx.Rngs(0))))
            # Without a copy, NNX would write to variables from outside the transformation.
            return nnx.merge(graph, variables["params"], variables["rest"], copy=True)

        def init(key, x):
            del x
            return variables_of(make(recipe, nnx.Rngs(key)))

        def train(variables, x, key):
            module = rebuild(variables)
            module.train()
            _reseed(module, key)
            outputs, penalty = jaxreg.nnx.with_penalties(module)(x)
            return outputs, {**variables_of(module), "losses": penalty}

        def predict(variables, x):
            module = rebuild(variables)
            module.eval()
            return module(x)

        return Model(init, train, predict)

    return make_model


def _reseed(module: nnx.Module, key: jax.Array) -> None:
    """Gives every stream of a module a new key, whatever its name is."""
    streams = (node for _, node in nnx.iter_graph(module) if isinstance(node, nnx.RngStream))
    names = sorted({stream.tag for stream in streams})
    keys: dict[str, Any] = {
        name: jax.random.fold_in(key, index) for index, name in enumerate(names)
    }
    nnx.reseed(module, policy="match_shape", **keys)


def _check_untraced(module: nnx.Module) -> None:
    """Raises TypeError if a module of the graph keeps a traced strength outside its state."""
    state = jax.tree.leaves(nnx.state(module))
    for path, node in nnx.iter_graph(module):
        if not isinstance(node, nnx.Module):
            continue
        for name, value in vars(node).items():
            if isinstance(value, Tracer) and not any(value is leaf for leaf in state):
                place = "/".join(map(str, (*path, name)))
                own = type(node).__name__
                fix = f"use jaxreg.nnx.{own}" if hasattr(jaxreg.nnx, own) else "mark it as nnx.data"
                raise TypeError(
                    "`make` must pass traced strengths to modules of jaxreg.nnx, got one in "
                    f"{place} of {own}, which takes Python numbers only; {fix}."
                )
