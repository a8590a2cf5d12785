"""What a recipe does to a batch before the model sees it, each also as lines for a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxreg import augment, dropout, noise
from jaxreg.augment import series
from jaxreg.study.recipes import Recipe
from jaxreg.study.sentences import PADDING, UNKNOWN

Changed = tuple[jax.Array, jax.Array]


class Batch(NamedTuple):
    """Rows of a training step.

    Attributes:
      x: Rows, standardized if they are numbers.
      labels: Class ids ``[batch]``, or distributions ``[batch, num_classes]``.
      mean: What was subtracted from the features.
      deviation: What they were then divided by.
      num_classes: Number of classes.
    """

    x: jax.Array
    labels: jax.Array
    mean: jax.Array
    deviation: jax.Array
    num_classes: int


class Input(NamedTuple):
    """A change of a batch, and the same as lines over the names of :class:`Batch`.

    Attributes:
      change: Function of the key, the batch and the strength; rows and labels.
      code: The lines; ``{key}`` stands for the name of the key, ``{strength}`` for the strength.
    """

    change: Callable[[jax.Array, Batch, Any], Changed]
    code: str


def as_measured(batch: Batch, change: Callable[[jax.Array], jax.Array]) -> Changed:
    """Changes rows as they were before standardizing, by which their parts have scales."""
    rows = batch.x * batch.deviation + batch.mean
    return batch.x + (change(rows) - rows) / batch.deviation, batch.labels


def _augmentation(key: jax.Array, batch: Batch, strength: Any) -> Changed:
    def move(pixels: jax.Array) -> jax.Array:
        return augment.random_affine(
            key,
            pixels,
            degrees=90 * strength,
            shift=strength * batch.x.shape[1],
            scale=strength,
        )

    return as_measured(batch, move)


def _magnitude_warp(key: jax.Array, batch: Batch, strength: Any) -> Changed:
    return as_measured(
        batch, lambda rows: series.random_magnitude_warp(key, rows, stddev=strength, knots=4)
    )


def _time_warp(key: jax.Array, batch: Batch, strength: Any) -> Changed:
    return as_measured(
        batch, lambda rows: series.random_time_warp(key, rows, stddev=strength, knots=4)
    )


def _cutout(key: jax.Array, batch: Batch, strength: Any) -> Changed:
    height, width = (strength * side for side in batch.x.shape[1:3])
    return augment.random_cutout(key, batch.x, height=height, width=width), batch.labels


def _jitter(key: jax.Array, batch: Batch, strength: Any) -> Changed:
    return noise.gaussian_noise(key, batch.x, stddev=strength), batch.labels


def _token_dropout(key: jax.Array, batch: Batch, strength: Any) -> Changed:
    kept = dropout.dropout(key, jnp.ones(batch.x.shape), rate=strength) > 0
    return jnp.where(kept | (batch.x == PADDING), batch.x, UNKNOWN), batch.labels


def _cutmix(key: jax.Array, batch: Batch, strength: Any) -> Changed:
    mixed = augment.random_cutmix(
        key, batch.x, batch.labels, alpha=strength, num_classes=batch.num_classes
    )
    return mixed.x, mixed.labels


def _mixup(key: jax.Array, batch: Batch, strength: Any) -> Changed:
    mixed = augment.random_mixup(
        key, batch.x, batch.labels, alpha=strength, num_classes=batch.num_classes
    )
    return mixed.x, mixed.labels


def _warping(name: str) -> str:
    return f"""rows = x * deviation + mean
warped = series.{name}({{key}}, rows, stddev={{strength}}, knots=4)
x += (warped - rows) / deviation"""


def _mixing(name: str) -> str:
    return f"""x, labels, _ = augment.{name}(
    {{key}}, x, labels, alpha={{strength}}, num_classes={{num_classes}}
)"""


# Mixing comes last: it is of whole examples as the model would see them.
INPUTS: Mapping[str, Input] = {
    "augmentation": Input(
        _augmentation,
        """rows = x * deviation + mean
moved = augment.random_affine(
    {key},
    rows,
    degrees=90 * {strength},
    shift={strength} * x.shape[1],
    scale={strength},
)
x += (moved - rows) / deviation""",
    ),
    "cutout": Input(
        _cutout,
        """x = augment.random_cutout(
    {key}, x, height={strength} * x.shape[1], width={strength} * x.shape[2]
)""",
    ),
    "magnitude_warp": Input(_magnitude_warp, _warping("random_magnitude_warp")),
    "time_warp": Input(_time_warp, _warping("random_time_warp")),
    "jitter": Input(_jitter, "x = noise.gaussian_noise({key}, x, stddev={strength})"),
    "token_dropout": Input(
        _token_dropout,
        f"""kept = dropout.dropout({{key}}, jnp.ones(x.shape), rate={{strength}}) > 0
x = jnp.where(kept | (x == {PADDING}), x, {UNKNOWN})""",
    ),
    "cutmix": Input(_cutmix, _mixing("random_cutmix")),
    "mixup": Input(_mixup, _mixing("random_mixup")),
}
MIXING = ("cutmix", "mixup")


def changed(key: jax.Array, recipe: Recipe, names: Sequence[str], batch: Batch) -> Batch:
    """Changes a batch as a recipe asks for.

    Args:
      key: PRNG key.
      recipe: The recipe, whose strengths may be traced.
      names: Techniques that are on; those that do not act on the batch change nothing.
      batch: The batch.

    Returns:
      The batch; with a technique of ``MIXING`` its labels are distributions.
    """
    for index, (name, arm) in enumerate(INPUTS.items()):
        if name in names:
            own = jax.random.fold_in(key, index)
            x, labels = arm.change(own, batch, getattr(recipe, name))
            batch = batch._replace(x=x, labels=labels)
    return batch
