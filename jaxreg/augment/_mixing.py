"""Averages of examples and of labels, and per-pixel labels pasted along with the pixels."""

import jax
import jax.numpy as jnp

from jaxreg._checks import check_static_integer
from jaxreg._labels import widen_labels
from jaxreg._numerics import widen
from jaxreg._sharding import place_first, place_like
from jaxreg.augment._images import is_labels, select


def check_partner(x: jax.Array, other: jax.Array, name: str) -> None:
    """Raises unless ``other`` has the shape and dtype of ``x``, and both have a batch axis."""
    if x.ndim < 1 or x.shape != other.shape or x.dtype != other.dtype:
        raise ValueError(
            f"`{name}` must have the same shape, [batch, ...], and dtype as the array it is mixed "
            f"with, {x.dtype} of shape {x.shape}, got {other.dtype} of shape {other.shape}."
        )


def average(x: jax.Array, other: jax.Array, share: jax.Array) -> jax.Array:
    """Returns ``share * x + (1 - share) * other`` in the dtype of ``x``."""
    return (share * widen(x) + (1 - share) * widen(other)).astype(x.dtype)


def mix_labels(
    x: jax.Array,
    labels: jax.Array,
    other: jax.Array,
    share: jax.Array,
    num_classes: int | None,
) -> jax.Array:
    """Returns ``share * labels + (1 - share) * other`` as floats, with class ids made one-hot."""
    _check_labels(x, labels, other)
    first = _as_rows(labels, share.dtype, num_classes)
    second = _as_rows(other, share.dtype, num_classes)
    share = place_first(share.reshape(share.shape + (1,) * (first.ndim - 1)), first)
    mixed = share * first + (1 - share) * second
    return select(share == 1, first, mixed)


def paste_labels(
    pasted: jax.Array, labels: jax.Array, other: jax.Array, num_classes: int | None
) -> jax.Array:
    """Returns ``other`` at pixels where the mask ``pasted`` is true, and ``labels`` elsewhere."""
    _check_labels(pasted, labels, other)
    if num_classes is not None or not is_labels(labels):
        labels = _as_rows(labels, jnp.dtype(jnp.float32), num_classes)
        other = _as_rows(other, jnp.dtype(jnp.float32), num_classes)
    labels = jnp.asarray(labels)
    place = pasted.reshape(pasted.shape[:3] + (1,) * (labels.ndim - 3))
    return select(place, place_like(jnp.asarray(other), labels), labels)


def are_of_pixels(labels: jax.Array, image: jax.Array) -> bool:
    """Returns whether ``labels`` begin with the batch, height and width axes of ``image``."""
    return jnp.ndim(labels) >= 3 and jnp.shape(labels)[:3] == image.shape[:3]


def _check_labels(x: jax.Array, labels: jax.Array, other: jax.Array) -> None:
    for value, name in ((labels, "labels"), (other, "other_labels")):
        if not (is_labels(value) or jnp.issubdtype(jnp.result_type(value), jnp.floating)):
            raise TypeError(
                f"`{name}` must be class ids, distributions or other real numbers, got "
                f"{jnp.result_type(value)}."
            )
    # Integers with two axes are more likely one-hot labels than ids.
    if labels.shape[:1] != x.shape[:1] or (is_labels(labels) and labels.ndim == 2):
        raise ValueError(
            f"`labels` must be integer class ids, one per example (shape {x.shape[:1]}) or one per "
            f"pixel, or floats of shape ({x.shape[0]}, ...), got {labels.dtype} of shape "
            f"{labels.shape}; convert integer one-hot labels with labels.astype(jnp.float32)."
        )
    if labels.shape != other.shape:
        raise ValueError(
            f"`other_labels` must have the same shape as `labels`, {labels.shape}, got "
            f"{other.shape}."
        )


def _as_rows(labels: jax.Array, dtype: jnp.dtype, num_classes: int | None) -> jax.Array:
    """Returns labels as floats; class ids become one-hot, ``[batch, ..., num_classes]``."""
    labels = jnp.asarray(labels)
    if not is_labels(labels):
        return labels.astype(jnp.promote_types(dtype, labels.dtype))
    if num_classes is None:
        raise ValueError(
            "`num_classes` must be given with integer `labels`, which cannot be averaged, got "
            "None; pass it to make them one-hot, or pass labels as floats."
        )
    check_static_integer(num_classes, "num_classes")
    ids = widen_labels(labels.astype(jnp.uint8) if labels.dtype == bool else labels)[..., None]
    classes = jnp.arange(num_classes, dtype=ids.dtype)
    classes = jax.lax.expand_dims(classes, range(labels.ndim))
    return (ids == classes).astype(dtype)
