"""Augmentations of a batch, each as a function and as source code for ``recipe.py``."""

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
# The line that takes the place of :func:`as_measured` in a program.
_AS_MEASURED = "rows = x * stddev + mean"


class Batch(NamedTuple):
    """Training batch: rows, labels and the statistics that standardized the rows.

    Attributes:
      x: Rows, standardized if they are numbers.
      labels: Class ids ``[batch]``, or distributions ``[batch, num_classes]``.
      mean: Mean subtracted from the rows to standardize them.
      stddev: Standard deviation that the rows were divided by.
      num_classes: Number of classes.
    """

    x: jax.Array
    labels: jax.Array
    mean: jax.Array
    stddev: jax.Array
    num_classes: int


class Input(NamedTuple):
    """An augmentation of a batch, as a function and as source code.

    Attributes:
      change: Function from the key, the batch and the strength to rows and labels.
      code: Source lines over the fields of :class:`Batch`, with ``{key}`` for the name of the key
        and ``{strength}`` for the strength.
    """

    change: Callable[[jax.Array, Batch, Any], Changed]
    code: str

    @property
    def needs_scale(self) -> bool:
        """True if the augmentation acts on rows in original units, before standardization."""
        return _AS_MEASURED in self.code


def as_measured(batch: Batch, change: Callable[[jax.Array], jax.Array]) -> Changed:
    """Applies ``change`` to the rows in original units, and returns standardized rows."""
    rows = batch.x * batch.stddev + batch.mean
    return batch.x + (change(rows) - rows) / batch.stddev, batch.labels


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
    height, width = batch.x.shape[1:3]
    x = augment.random_cutout(key, batch.x, height=strength * height, width=strength * width)
    return x, batch.labels


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


def _warp_code(name: str) -> str:
    return f"""{_AS_MEASURED}
warped = series.{name}({{key}}, rows, stddev={{strength}}, knots=4)
x += (warped - rows) / stddev"""


def _mix_code(name: str) -> str:
    return f"""x, labels, _ = augment.{name}(
    {{key}}, x, labels, alpha={{strength}}, num_classes={{num_classes}}
)"""


# Mixing comes last, because it mixes examples as the model would see them.
INPUTS: Mapping[str, Input] = {
    "augmentation": Input(
        _augmentation,
        f"""{_AS_MEASURED}
moved = augment.random_affine(
    {{key}},
    rows,
    degrees=90 * {{strength}},
    shift={{strength}} * x.shape[1],
    scale={{strength}},
)
x += (moved - rows) / stddev""",
    ),
    "cutout": Input(
        _cutout,
        """x = augment.random_cutout(
    {key}, x, height={strength} * x.shape[1], width={strength} * x.shape[2]
)""",
    ),
    "magnitude_warp": Input(_magnitude_warp, _warp_code("random_magnitude_warp")),
    "time_warp": Input(_time_warp, _warp_code("random_time_warp")),
    "jitter": Input(_jitter, "x = noise.gaussian_noise({key}, x, stddev={strength})"),
    "token_dropout": Input(
        _token_dropout,
        f"""kept = dropout.dropout({{key}}, jnp.ones(x.shape), rate={{strength}}) > 0
x = jnp.where(kept | (x == {PADDING}), x, {UNKNOWN})""",
    ),
    "cutmix": Input(_cutmix, _mix_code("random_cutmix")),
    "mixup": Input(_mixup, _mix_code("random_mixup")),
}
MIXING = ("cutmix", "mixup")


def change_batch(key: jax.Array, recipe: Recipe, names: Sequence[str], batch: Batch) -> Batch:
    """Applies the augmentations that a recipe switches on to a batch.

    Args:
      key: PRNG key.
      recipe: The recipe, whose strengths may be traced.
      names: Techniques that are on; those that do not act on the batch are ignored.
      batch: The batch.

    Returns:
      The changed batch; a technique of ``MIXING`` turns its labels into distributions.
    """
    for index, (name, arm) in enumerate(INPUTS.items()):
        if name in names:
            own = jax.random.fold_in(key, index)
            x, labels = arm.change(own, batch, getattr(recipe, name))
            batch = batch._replace(x=x, labels=labels)
    return batch
