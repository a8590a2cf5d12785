"""Models of a study: two or three pure functions, made from a Linen or an NNX module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from flax import nnx

from jaxreg.linen import BatchNorm, Dropout
from jaxreg.study.recipes import Recipe

Variables = dict[str, Any]


class Model(NamedTuple):
    """A model as pure functions of its variables, of which ``"params"`` are trained.

    Attributes:
      init: ``(key, x) -> variables``.
      train: ``(variables, x, key) -> (logits, variables)``, with batch statistics and noise.
      predict: ``(variables, x) -> logits``.
    """

    init: Callable[[jax.Array, jax.Array], Variables]
    train: Callable[[Variables, jax.Array, jax.Array], tuple[jax.Array, Variables]]
    predict: Callable[[Variables, jax.Array], Any]


def from_linen(module: nn.Module) -> Model:
    """Wraps a Linen module that is called as ``module(x, train=...)``.

    Args:
      module: Module that returns logits, ``[batch, classes]``. It may keep ``batch_stats`` and
        draw from the ``"dropout"`` stream.

    Returns:
      The model.
    """

    def init(key, x):
        return dict(module.init(key, x, train=False))

    def train(variables, x, key):
        logits, updates = module.apply(
            variables, x, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )
        return logits, {**variables, **updates}

    def predict(variables, x):
        return module.apply(variables, x, train=False)

    return Model(init, train, predict)


def from_nnx(make: Callable[[Recipe, nnx.Rngs], nnx.Module]) -> Callable[[Recipe], Model]:
    """Turns a maker of NNX modules into a maker of models, as :func:`jaxreg.study.run` takes it.

    Args:
      make: Function ``(recipe, rngs) -> module``; the module is called as ``module(x)`` and
        switched with ``module.train()`` and ``module.eval()``.

    Returns:
      Function from a recipe to a model.
    """

    def make_model(recipe: Recipe) -> Model:
        def module_of(key):
            return make(recipe, nnx.Rngs(key))

        graph = nnx.graphdef(nnx.eval_shape(lambda: module_of(jax.random.key(0))))

        def variables_of(module):
            _, params, rest = nnx.split(module, nnx.Param, ...)
            return {"params": params, "rest": rest}

        def merged(variables):
            # A copy, because variables from outside a transformation must not be written to.
            return nnx.merge(graph, variables["params"], variables["rest"], copy=True)

        def init(key, x):
            del x
            return variables_of(module_of(key))

        def train(variables, x, key):
            module = merged(variables)
            module.train()
            nnx.reseed(module, dropout=key)
            logits = module(x)
            return logits, variables_of(module)

        def predict(variables, x):
            module = merged(variables)
            module.eval()
            return module(x)

        return Model(init, train, predict)

    return make_model


class MLP(nn.Module):
    """Dense layers with the layers a recipe asks for in between.

    Attributes:
      hidden: Widths of the hidden layers.
      num_classes: Number of logits.
      dropout: Rate of the dropout after every hidden layer; None leaves the layer out.
      batch_norm: Whether every hidden layer is batch-normalized.
    """

    hidden: Sequence[int]
    num_classes: int
    dropout: Any = None
    batch_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        for width in self.hidden:
            x = nn.Dense(width)(x)
            if self.batch_norm:
                x = BatchNorm(use_running_average=not train)(x)
            x = nn.relu(x)
            if self.dropout is not None:
                x = Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes)(x)


def mlp(hidden: Sequence[int], num_classes: int) -> Callable[[Recipe], MLP]:
    """Returns the maker of multilayer perceptrons, as :func:`jaxreg.study.run` takes it.

    Args:
      hidden: Widths of the hidden layers.
      num_classes: Number of logits.

    Returns:
      Function from a recipe to an :class:`MLP`.

    Example:
      >>> from jaxreg.study import Recipe, mlp
      >>> mlp((8,), 2)(Recipe(batch_norm=True)).batch_norm
      True
    """

    def make_model(recipe: Recipe) -> MLP:
        off = isinstance(recipe.dropout, int | float) and recipe.dropout == 0
        rate = None if off else recipe.dropout
        return MLP(hidden, num_classes, dropout=rate, batch_norm=recipe.batch_norm)

    return make_model
