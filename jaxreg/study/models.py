"""Models of a study as three pure functions, made from a Linen or an NNX module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from flax import nnx

from jaxreg import dropout, information, linen, penalties
from jaxreg.nnx import with_penalties
from jaxreg.study.recipes import Recipe

Variables = dict[str, Any]
# Width of the embedding of a word.
EMBEDDING = 16


class Model(NamedTuple):
    """A model as three pure functions; only ``variables["params"]`` are trained.

    Attributes:
      init: ``(key, x) -> variables``.
      train: ``(variables, x, key) -> (logits, variables)``, in training mode. The leaves of
        ``variables["losses"]``, if there are any, are added to the loss and then dropped.
      predict: ``(variables, x) -> logits``, in evaluation mode.
    """

    init: Callable[[jax.Array, jax.Array], Variables]
    train: Callable[[Variables, jax.Array, jax.Array], tuple[jax.Array, Variables]]
    predict: Callable[[Variables, jax.Array], Any]


def from_linen(module: nn.Module) -> Model:
    """Makes a :class:`Model` from a Linen module that is called as ``module(x, train=...)``.

    Args:
      module: Module that returns logits, ``[batch, classes]``. It may keep ``batch_stats``, sow
        penalties in ``losses`` as :class:`jaxreg.linen.ActivityPenalty` does, and draw from the
        ``"dropout"`` stream.

    Returns:
      The model.
    """

    def init(key, x):
        return dict(module.init(key, x, train=False))

    def train(variables, x, key):
        logits, updates = module.apply(
            variables, x, train=True, rngs={"dropout": key}, mutable=["batch_stats", "losses"]
        )
        return logits, {**variables, **updates}

    def predict(variables, x):
        return module.apply(variables, x, train=False)

    return Model(init, train, predict)


def from_nnx(make: Callable[[Recipe, nnx.Rngs], nnx.Module]) -> Callable[[Recipe], Model]:
    """Converts a function that makes NNX modules to a function that makes models for a study.

    Args:
      make: Function ``(recipe, rngs) -> module``. The module is called as ``module(x)``, after
        ``module.train()`` or ``module.eval()``.

    Returns:
      Function from a recipe to a model, for :func:`jaxreg.study.run`.
    """

    def make_model(recipe: Recipe) -> Model:
        def module_of(key):
            return make(recipe, nnx.Rngs(key))

        graph = nnx.graphdef(nnx.eval_shape(lambda: module_of(jax.random.key(0))))

        def variables_of(module):
            _, params, rest = nnx.split(module, nnx.Param, ...)
            return {"params": params, "rest": rest}

        def rebuild(variables):
            # Without a copy, NNX would write to variables from outside the transformation.
            return nnx.merge(graph, variables["params"], variables["rest"], copy=True)

        def init(key, x):
            del x
            return variables_of(module_of(key))

        def train(variables, x, key):
            module = rebuild(variables)
            module.train()
            nnx.reseed(module, dropout=key)
            logits, penalty = with_penalties(module)(x)
            return logits, {**variables_of(module), "losses": penalty}

        def predict(variables, x):
            module = rebuild(variables)
            module.eval()
            return module(x)

        return Model(init, train, predict)

    return make_model


class Gates(nn.Module):
    """Multiplies units by hard concrete gates and penalizes the expected number of open ones."""

    weight: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        log_alpha = self.param("log_alpha", nn.initializers.constant(2.0), x.shape[-1:])
        counted = linen.ActivityPenalty(penalties.hard_concrete_l0, self.weight)(log_alpha)
        if train:
            return x * dropout.hard_concrete(self.make_rng("dropout"), counted)
        return x * dropout.hard_concrete_inference(counted)


class Bottleneck(nn.Module):
    """Samples a Gaussian code and penalizes its rate; in evaluation the code is its mean."""

    features: int
    weight: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        mean = nn.Dense(self.features)(x)
        log_var = nn.Dense(self.features)(x)

        def rate(mean: jax.Array) -> jax.Array:
            return information.gaussian_kl(mean, log_var).mean()

        mean = linen.ActivityPenalty(rate, self.weight)(mean)
        if not train:
            return mean
        return information.sample_gaussian(self.make_rng("dropout"), mean, log_var)


class MLP(nn.Module):
    """Multilayer perceptron over flattened rows, with the layers that a recipe switches on.

    Attributes:
      hidden: Widths of the hidden layers.
      num_classes: Number of logits.
      dropout: Rate of the dropout after every hidden layer; None omits the dropout layers. None
        omits each of the four weights below as well.
      activity_l1: Weight of the absolute activations of every hidden layer.
      decorrelation: Weight of the covariances of every hidden layer.
      l0: Weight of the gates on every hidden layer.
      bottleneck: Weight of the rate of a Gaussian bottleneck, as wide as the last hidden layer.
      batch_norm: Whether every hidden layer is batch-normalized.
      vocabulary: Number of words if a row is a text, whose words are then embedded; else 0.
    """

    hidden: Sequence[int]
    num_classes: int
    dropout: Any = None
    activity_l1: Any = None
    decorrelation: Any = None
    l0: Any = None
    bottleneck: Any = None
    batch_norm: bool = False
    vocabulary: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        if self.vocabulary:
            x = nn.Embed(self.vocabulary, EMBEDDING)(x)
        x = x.reshape(len(x), -1)
        for width in self.hidden:
            x = nn.Dense(width)(x)
            if self.batch_norm:
                x = linen.BatchNorm(use_running_average=not train)(x)
            x = nn.relu(x)
            if self.l0 is not None:
                x = Gates(self.l0)(x, train=train)
            if self.activity_l1 is not None:
                penalty = penalties.per_example(penalties.l1)
                x = linen.ActivityPenalty(penalty, self.activity_l1)(x)
            if self.decorrelation is not None:
                x = linen.ActivityPenalty(penalties.decorrelation, self.decorrelation)(x)
            if self.dropout is not None:
                x = linen.Dropout(self.dropout, deterministic=not train)(x)
        if self.bottleneck is not None:
            x = Bottleneck(self.hidden[-1], self.bottleneck)(x, train=train)
        return nn.Dense(self.num_classes)(x)


def mlp(hidden: Sequence[int], num_classes: int, *, vocabulary: int = 0) -> Callable[[Recipe], MLP]:
    """Returns a function that makes multilayer perceptrons for :func:`jaxreg.study.run`.

    Args:
      hidden: Widths of the hidden layers.
      num_classes: Number of logits.
      vocabulary: Number of words if a row is a text, else 0.

    Returns:
      Function from a recipe to an :class:`MLP`.

    Example:
      >>> from jaxreg.study import Recipe, mlp
      >>> mlp((8,), 2)(Recipe(batch_norm=True)).batch_norm
      True
    """

    def make_model(recipe: Recipe) -> MLP:
        def strength(name: str) -> Any:
            value = getattr(recipe, name)
            return None if isinstance(value, int | float) and value == 0 else value

        layers = ("dropout", "activity_l1", "decorrelation", "l0", "bottleneck")
        chosen = {name: strength(name) for name in layers}
        return MLP(
            hidden, num_classes, **chosen, batch_norm=recipe.batch_norm, vocabulary=vocabulary
        )

    return make_model
