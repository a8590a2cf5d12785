"""Arms that change a batch before the model sees it.

Rows of numbers are standardized. An augmentation that needs original units, such as one with black
borders, restores them with ``mean`` and ``stddev`` and adds the change to the standardized rows.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxreg import augment, dropout, noise
from jaxreg.augment import series
from jaxreg.study.arms.row import NUMBERS, RATE, SHARE, Arm, BatchChange, LogGrid, Rule
from jaxreg.study.data.sentences import PADDING, UNKNOWN


def move_images(
    key: jax.Array, x: jax.Array, strength: Any, mean: jax.Array, stddev: jax.Array
) -> jax.Array:
    """Rotates, shifts and scales images."""
    rows = x * stddev + mean
    moved = augment.random_affine(
        key, rows, degrees=90 * strength, shift=strength * x.shape[1], scale=strength
    )
    return x + (moved - rows) / stddev


def crop_images(
    key: jax.Array, x: jax.Array, strength: Any, mean: jax.Array, stddev: jax.Array
) -> jax.Array:
    """Pads images with zeros and crops them at random, by up to a share of their sides."""
    rows = x * stddev + mean
    height, width = x.shape[1:3]
    padded = augment.pad(rows, width=(height, height, width, width))
    moves = strength * jax.random.uniform(key, (2, len(x)), minval=-1.0)
    top, left = jnp.round(moves * jnp.array([[height], [width]])).astype(int)
    moved = augment.crop(padded, top=height + top, left=width + left, size=(height, width))
    return x + (moved - rows) / stddev


def flip_images(key: jax.Array, x: jax.Array, strength: Any) -> jax.Array:
    """Mirrors a share of the images left to right."""
    return augment.random_flip_left_right(key, x, probability=strength)


def apply_rand_augment(
    key: jax.Array, x: jax.Array, strength: Any, mean: jax.Array, stddev: jax.Array
) -> jax.Array:
    """Applies two random operations of RandAugment to rows scaled to ``[0, 1]``."""
    rows = x * stddev + mean
    low = rows.min()
    size = jnp.maximum(rows.max() - low, jnp.finfo(rows.dtype).tiny)
    changed = low + size * augment.rand_augment(key, (rows - low) / size, magnitude=strength)
    return x + (changed - rows) / stddev


def erase_boxes(key: jax.Array, x: jax.Array, strength: Any) -> jax.Array:
    """Erases a random box of every image."""
    height, width = x.shape[1:3]
    return augment.random_cutout(key, x, height=strength * height, width=strength * width)


def warp_magnitudes(
    key: jax.Array, x: jax.Array, strength: Any, mean: jax.Array, stddev: jax.Array
) -> jax.Array:
    """Multiplies series by a smooth curve near 1."""
    rows = x * stddev + mean
    warped = series.random_magnitude_warp(key, rows, stddev=strength, knots=4)
    return x + (warped - rows) / stddev


def warp_time(
    key: jax.Array, x: jax.Array, strength: Any, mean: jax.Array, stddev: jax.Array
) -> jax.Array:
    """Plays series at a varying speed."""
    rows = x * stddev + mean
    warped = series.random_time_warp(key, rows, stddev=strength, knots=4)
    return x + (warped - rows) / stddev


def add_noise(key: jax.Array, x: jax.Array, strength: Any) -> jax.Array:
    """Adds normal noise to standardized rows."""
    return noise.gaussian_noise(key, x, stddev=strength)


def drop_words(key: jax.Array, x: jax.Array, strength: Any) -> jax.Array:
    """Replaces random words with the unknown word."""
    kept = dropout.dropout(key, jnp.ones(x.shape), rate=strength) > 0
    return jnp.where(kept | (x == PADDING), x, UNKNOWN)


def paste_boxes(
    key: jax.Array, x: jax.Array, labels: jax.Array, strength: Any, num_classes: int | None
) -> tuple[jax.Array, jax.Array]:
    """Pastes a box of another image into every image, and mixes their labels (CutMix)."""
    mixed = augment.random_cutmix(key, x, labels, alpha=strength, num_classes=num_classes)
    return mixed.x, mixed.labels


def mix_rows(
    key: jax.Array, x: jax.Array, labels: jax.Array, strength: Any, num_classes: int | None
) -> tuple[jax.Array, jax.Array]:
    """Averages every row with another one, and their labels in the same way (mixup)."""
    mixed = augment.random_mixup(key, x, labels, alpha=strength, num_classes=num_classes)
    return mixed.x, mixed.labels


# In the order of the changes. Mixing comes last, because it mixes examples as the model sees them.
ARMS = (
    Arm(
        name="augmentation",
        summary="images rotated, shifted and scaled at random",
        source="jaxreg.augment.random_affine",
        acts=BatchChange(move_images),
        grid=LogGrid(0.01, 0.2),
        label="largest shift, relative to the height",
        kinds=("image",),
    ),
    Arm(
        name="random_crop",
        summary="images padded, and cropped at random",
        source="jaxreg.augment.crop",
        acts=BatchChange(crop_images),
        grid=LogGrid(0.05, 0.4),
        rule=SHARE,
        label="largest shift, relative to the sides",
        kinds=("image",),
    ),
    Arm(
        name="random_flip",
        summary="a share of the images mirrored left to right",
        source="jaxreg.augment.random_flip_left_right",
        acts=BatchChange(flip_images),
        grid=LogGrid(0.1, 0.5),
        rule=SHARE,
        label="share of the images",
        kinds=("image",),
        aliases=("random_horizontal_flip", "mirror"),
    ),
    Arm(
        name="rand_augment",
        summary="two random operations on every image",
        source="jaxreg.augment.rand_augment",
        acts=BatchChange(apply_rand_augment),
        grid=LogGrid(2.0, 20.0),
        rule=Rule("from 0 to 30", lambda value: 0 <= value <= 30),
        label="magnitude, from 0 to 30",
        kinds=("image",),
    ),
    Arm(
        name="cutout",
        summary="a box of every image erased",
        source="jaxreg.augment.random_cutout",
        acts=BatchChange(erase_boxes),
        grid=LogGrid(0.1, 0.6),
        rule=SHARE,
        label="sides of the box, relative to the image",
        kinds=("image",),
        aliases=("random_erasing",),
    ),
    Arm(
        name="magnitude_warp",
        summary="series multiplied by a smooth curve near 1",
        source="jaxreg.augment.series.random_magnitude_warp",
        acts=BatchChange(warp_magnitudes),
        grid=LogGrid(0.05, 0.5),
        label="standard deviation of the curve",
        kinds=("series",),
    ),
    Arm(
        name="time_warp",
        summary="series at a varying speed",
        source="jaxreg.augment.series.random_time_warp",
        acts=BatchChange(warp_time),
        grid=LogGrid(0.05, 0.5),
        label="standard deviation of the log speed",
        kinds=("series",),
    ),
    Arm(
        name="jitter",
        summary="normal noise on the rows",
        source="jaxreg.noise.gaussian_noise",
        acts=BatchChange(add_noise),
        grid=LogGrid(0.05, 1.0),
        label="standard deviation of the noise",
        kinds=NUMBERS,
        aliases=("gaussian_noise",),
    ),
    Arm(
        name="token_dropout",
        summary="words replaced with the unknown one",
        source="jaxreg.dropout.dropout",
        acts=BatchChange(drop_words),
        grid=LogGrid(0.05, 0.5),
        rule=RATE,
        label="rate",
        kinds=("text",),
    ),
    Arm(
        name="cutmix",
        summary="a box of another image in every image, labels mixed",
        source="jaxreg.augment.random_cutmix",
        acts=BatchChange(paste_boxes),
        grid=LogGrid(0.1, 2.0),
        label="parameter of the Beta distribution",
        kinds=("image",),
    ),
    Arm(
        name="mixup",
        summary="weighted averages of two rows and of their labels",
        source="jaxreg.augment.random_mixup",
        acts=BatchChange(mix_rows),
        grid=LogGrid(0.05, 2.0),
        label="parameter of the Beta distribution",
        kinds=NUMBERS,
    ),
)
