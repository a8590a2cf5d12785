"""Built-in models of a study, with places for the layers of a recipe.

A network calls its layers by place, such as ``self.layers.units(x, train=train)``. ``recipe.py``
prints the source of the network with the layers of the recipe in these places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from flax import linen as nn

from jaxreg.study.arms import PLACES, acting
from jaxreg.study.arms.row import Layer, arguments
from jaxreg.study.recipes import Recipe

Apply = Callable[..., jax.Array]


@dataclass(frozen=True)
class Layers:
    """Layers that a recipe adds to a network: functions with their strengths, by place."""

    by_place: Mapping[str, Sequence[tuple[Apply, Any]]]

    def normalization(self, x: jax.Array, *, train: bool) -> jax.Array:
        return self._apply("normalization", x, train=train)

    def units(self, x: jax.Array, *, train: bool) -> jax.Array:
        return self._apply("units", x, train=train)

    def maps(self, x: jax.Array, *, train: bool) -> jax.Array:
        return self._apply("maps", x, train=train)

    def branch(self, x: jax.Array, *, train: bool) -> jax.Array:
        return self._apply("branch", x, train=train)

    def last(self, x: jax.Array, *, train: bool) -> jax.Array:
        return self._apply("last", x, train=train)

    def _apply(self, place: str, x: jax.Array, *, train: bool) -> jax.Array:
        for function, strength in self.by_place[place]:
            given = {"strength": strength, "train": train}
            own = {name: given[name] for name in arguments(function) if name in given}
            x = function(x, **own)
        return x


def layers_of(recipe: Recipe) -> Layers:
    """Returns the layers that a recipe switches on."""
    on = [arm for arm in acting(Layer) if arm.name in recipe]
    return Layers(
        {
            place: tuple(
                (arm.acts.function, recipe[arm.name]) for arm in on if arm.acts.place == place
            )
            for place in PLACES
        }
    )


class MLP(nn.Module):
    """Multilayer perceptron over flattened rows.

    Attributes:
      hidden: Widths of the hidden layers.
      outputs: Number of logits, or of predictions.
      layers: Layers of a recipe.
      vocabulary: Number of words if a row is a text, whose words are then embedded; else 0.
    """

    hidden: Sequence[int]
    outputs: int
    layers: Layers
    vocabulary: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        if self.vocabulary:
            x = nn.Embed(self.vocabulary, 16)(x)
        x = x.reshape(len(x), -1)
        for width in self.hidden:
            x = nn.Dense(width)(x)
            x = self.layers.normalization(x, train=train)
            x = nn.relu(x)
            x = self.layers.units(x, train=train)
        x = self.layers.last(x, train=train)
        return nn.Dense(self.outputs)(x)


class ConvNet(nn.Module):
    """Small residual network for images: two convolutions and a halving of the size per stage.

    Attributes:
      features: Channels of the stages.
      outputs: Number of logits, or of predictions.
      layers: Layers of a recipe.
    """

    features: Sequence[int]
    outputs: int
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        for width in self.features:
            x = nn.Conv(width, (3, 3))(x)
            x = self.layers.normalization(x, train=train)
            x = nn.relu(x)
            x = self.layers.maps(x, train=train)
            branch = nn.Conv(width, (3, 3))(x)
            branch = self.layers.normalization(branch, train=train)
            branch = nn.relu(branch)
            branch = self.layers.branch(branch, train=train)
            x = nn.avg_pool(x + branch, (2, 2), (2, 2))
        x = x.mean(axis=(1, 2))
        x = self.layers.units(x, train=train)
        x = self.layers.last(x, train=train)
        return nn.Dense(self.outputs)(x)


class Transformer(nn.Module):
    """Small transformer encoder for series and texts, which ends with the mean over time.

    Attributes:
      width: Width of the residual stream.
      blocks: Number of blocks.
      outputs: Number of logits, or of predictions.
      layers: Layers of a recipe.
      vocabulary: Number of words if a row is a text, whose padding (word 0) is ignored; else 0.
    """

    width: int
    blocks: int
    outputs: int
    layers: Layers
    vocabulary: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        kept = x > 0 if self.vocabulary else x[..., 0] == x[..., 0]
        embed = nn.Embed(self.vocabulary, self.width) if self.vocabulary else nn.Dense(self.width)
        x = embed(x)
        x += self.param("position", nn.initializers.normal(0.02), x.shape[1:])
        mask = nn.make_attention_mask(kept, kept)
        for _ in range(self.blocks):
            branch = nn.MultiHeadDotProductAttention(4)(nn.LayerNorm()(x), mask=mask)
            branch = self.layers.branch(branch, train=train)
            x += branch
            branch = nn.Dense(2 * self.width)(nn.LayerNorm()(x))
            branch = self.layers.normalization(branch, train=train)
            branch = nn.gelu(branch)
            branch = self.layers.units(branch, train=train)
            branch = nn.Dense(self.width)(branch)
            branch = self.layers.branch(branch, train=train)
            x += branch
        x = self.layers.maps(x, train=train)
        weights = kept[..., None] / kept.sum(axis=1)[:, None, None].clip(1)
        x = (x * weights).sum(axis=1)
        x = self.layers.last(x, train=train)
        return nn.Dense(self.outputs)(x)


def mlp(hidden: Sequence[int], outputs: int, *, vocabulary: int = 0) -> Callable[[Recipe], MLP]:
    """Returns a function that makes multilayer perceptrons for :func:`jaxreg.study.run`.

    Args:
      hidden: Widths of the hidden layers.
      outputs: Number of logits, or of predictions.
      vocabulary: Number of words if a row is a text, else 0.

    Returns:
      Function from a recipe to an :class:`MLP`.

    Example:
      >>> from jaxreg.study import Recipe, mlp
      >>> mlp((8,), 2)(Recipe({"batch_norm": True})).layers.by_place["normalization"][0][0].__name__
      'normalize_batch'
    """
    return lambda recipe: MLP(tuple(hidden), outputs, layers_of(recipe), vocabulary)


def conv_net(features: Sequence[int], outputs: int) -> Callable[[Recipe], ConvNet]:
    """Returns a function that makes residual networks for images ``[height, width, channels]``.

    Args:
      features: Channels of the stages; each stage halves the height and the width.
      outputs: Number of logits, or of predictions.

    Returns:
      Function from a recipe to a :class:`ConvNet`, for :func:`jaxreg.study.run`.
    """
    return lambda recipe: ConvNet(tuple(features), outputs, layers_of(recipe))


def transformer(
    width: int, blocks: int, outputs: int, *, vocabulary: int = 0
) -> Callable[[Recipe], Transformer]:
    """Returns a function that makes transformers for series and texts.

    Args:
      width: Width of the residual stream, a multiple of 4.
      blocks: Number of blocks.
      outputs: Number of logits, or of predictions.
      vocabulary: Number of words if a row is a text, else 0.

    Returns:
      Function from a recipe to a :class:`Transformer`, for :func:`jaxreg.study.run`.
    """
    return lambda recipe: Transformer(width, blocks, outputs, layers_of(recipe), vocabulary)
