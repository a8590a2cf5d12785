"""Cross entropies against integer labels, without a one-hot array.

A label outside ``[0, num_classes)``, such as the -1 or -100 of padding, does not count.
"""

import jax
import jax.numpy as jnp

from jaxreg._checks import check_integer, check_real
from jaxreg._numerics import weighted


def check_logits(logits: jax.Array, name: str) -> None:
    """Raises unless ``logits`` have classes along their last axis."""
    check_real(logits, name)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(
            f"`{name}` must have the axes [..., num_classes], with at least one class, got shape "
            f"{logits.shape}."
        )


def check_labels(logits: jax.Array, labels: jax.Array, name: str = "labels") -> None:
    """Raises unless ``labels`` are class ids for the rows of ``logits``."""
    check_logits(logits, "logits")
    check_integer(labels, name)
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"`{name}` must have the shape of `logits` without its last axis, got {labels.shape} "
            f"for logits of shape {logits.shape}."
        )


def check_where(where: jax.Array | None, shape: tuple[int, ...], name: str = "labels") -> None:
    """Raises unless a mask has the shape of the examples, that of the argument ``name``."""
    if where is not None and where.shape != shape:
        raise ValueError(f"`where` must have the shape of `{name}`, {shape}, got {where.shape}.")


def counted_examples(labels: jax.Array, num_classes: int, where: jax.Array | None) -> jax.Array:
    """Tells which examples have a label in range and are not masked."""
    counted = is_class(labels, num_classes)
    return counted if where is None else counted & where.astype(bool)


def only(counted: jax.Array, x: jax.Array) -> jax.Array:
    """Rows of the examples that count, else zeros: 0 * inf in their gradient would be NaN."""
    return jnp.where(counted[..., None], x, jnp.zeros((), x.dtype))


def is_class(labels: jax.Array, num_classes: int) -> jax.Array:
    """Tells which labels are in range."""
    labels = widen_labels(labels)
    return (labels >= 0) & (labels < num_classes)


def widen_labels(labels: jax.Array) -> jax.Array:
    """Makes room for the number of classes in the dtype of the labels."""
    return labels.astype(jnp.int32) if labels.dtype.itemsize < 4 else labels


def cross_entropies(logits: jax.Array, labels: jax.Array, share: jax.Array) -> jax.Array:
    """Cross entropy of each example, with a share of the label spread over all classes.

    What it is where a label is out of range has no meaning, but is finite.
    """
    mean = jnp.sum(logits, -1) / logits.shape[-1]
    own = own_logits(logits, widen_labels(labels))
    return jax.nn.logsumexp(logits, axis=-1) - weighted(1 - share, own) - weighted(share, mean)


def own_logits(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The logits of the labels."""
    if jax.typeof(logits).sharding.spec[-1] is None:
        safe = jnp.clip(labels, 0, logits.shape[-1] - 1)
        return jnp.squeeze(jnp.take_along_axis(logits, safe[..., None], axis=-1), -1)
    # A gather cannot cross the devices that share the classes of an Explicit mesh.
    ids = jax.lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)
    chosen = jnp.where(ids == labels[..., None], logits, jnp.zeros((), logits.dtype))
    return jnp.sum(chosen, axis=-1)
