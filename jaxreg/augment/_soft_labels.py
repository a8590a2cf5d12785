"""Labels of mixed examples: averaged, or pasted with their pixels."""

import jax
import jax.numpy as jnp

from jaxreg._checks import check_static_integer
from jaxreg._labels import widen_labels
from jaxreg._sharding import place_first, place_like
from jaxreg.augment._shared import is_labels, select


def mix_labels(
    x: jax.Array,
    labels: jax.Array,
    other: jax.Array,
    share: jax.Array,
    num_classes: int | None,
) -> jax.Array:
    """The average of labels and others, as floats."""
    _check_labels(x, labels, other)
    first, second = (_rows(y, share.dtype, num_classes) for y in (labels, other))
    share = place_first(share.reshape(share.shape + (1,) * (first.ndim - 1)), first)
    mixed = share * first + (1 - share) * second
    return select(share == 1, first, mixed)


def paste_labels(
    pasted: jax.Array, labels: jax.Array, other: jax.Array, num_classes: int | None
) -> jax.Array:
    """Labels of pixels ``[batch, height, width, ...]`` where others take the place of some."""
    _check_labels(pasted, labels, other)
    if num_classes is not None or not is_labels(labels):
        labels, other = (_rows(y, jnp.dtype(jnp.float32), num_classes) for y in (labels, other))
    labels = jnp.asarray(labels)
    place = pasted.reshape(pasted.shape[:3] + (1,) * (labels.ndim - 3))
    return select(place, place_like(jnp.asarray(other), labels), labels)


def are_of_pixels(labels: jax.Array, image: jax.Array) -> bool:
    """Tells whether there is a label for each pixel."""
    return jnp.ndim(labels) >= 3 and jnp.shape(labels)[:3] == image.shape[:3]


def _check_labels(x: jax.Array, labels: jax.Array, other: jax.Array) -> None:
    for value, name in ((labels, "labels"), (other, "other_labels")):
        if not (is_labels(value) or jnp.issubdtype(jnp.result_type(value), jnp.floating)):
            raise TypeError(
                f"`{name}` must be class ids, distributions or other real numbers, got "
                f"{jnp.result_type(value)}."
            )
    # Two axes of integers are more likely one-hot than ids.
    if labels.shape[:1] != x.shape[:1] or (is_labels(labels) and labels.ndim == 2):
        raise ValueError(
            f"`labels` must be class ids of shape {x.shape[:1]} or of pixels, or floats of shape "
            f"({x.shape[0]}, ...), got {labels.dtype} of shape {labels.shape}; convert one-hot "
            "labels with labels.astype(jnp.float32)."
        )
    if labels.shape != other.shape:
        raise ValueError(
            f"`other_labels` must have the shape of `labels`, {labels.shape}, got {other.shape}."
        )


def _rows(labels: jax.Array, dtype: jnp.dtype, num_classes: int | None) -> jax.Array:
    """Labels as floats: class ids as distributions ``[batch, ..., num_classes]``."""
    labels = jnp.asarray(labels)
    if not is_labels(labels):
        return labels.astype(jnp.promote_types(dtype, labels.dtype))
    if num_classes is None:
        raise ValueError(
            "`num_classes` must be given with integer `labels`, of which there is no average; pass "
            "it for one-hot labels, or labels that are floats."
        )
    check_static_integer(num_classes, "num_classes")
    ids = widen_labels(labels.astype(jnp.uint8) if labels.dtype == bool else labels)[..., None]
    classes = jnp.arange(num_classes, dtype=ids.dtype)
    classes = jax.lax.expand_dims(classes, range(labels.ndim))
    return (ids == classes).astype(dtype)
