"""Cross entropies against integer labels, without a one-hot array.

A label outside ``[0, num_classes)``, such as -1 or -100 for padding, does not count.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._checks import check_integer, check_real
from jaxreg._numerics import weigh


def check_logits(logits: jax.Array, name: str) -> None:
    """Raises unless ``logits`` is a real array whose last axis has at least one class."""
    check_real(logits, name)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(
            f"`{name}` must have axes [..., num_classes], with at least one class, got shape "
            f"{logits.shape}."
        )


def check_labels(logits: jax.Array, labels: jax.Array, name: str = "labels") -> None:
    """Raises unless ``labels`` contains an integer class id for each row of ``logits``."""
    check_logits(logits, "logits")
    check_integer(labels, name)
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"`{name}` must have the same shape as `logits` without its last axis, "
            f"{logits.shape[:-1]}, got {labels.shape}."
        )


def check_where(
    where: jax.Array | None, shape: tuple[int, ...], name: str = "labels", part: str = ""
) -> None:
    """Raises unless ``where`` is None or has ``shape``; ``name + part`` names it in the error."""
    if where is not None and where.shape != shape:
        raise ValueError(
            f"`where` must have the same shape as `{name}`{part}, {shape}, got {where.shape}."
        )


def check_weights(
    where: jax.Array | None, shape: tuple[int, ...], name: str = "labels", part: str = ""
) -> None:
    """Raises unless ``where`` is None, or a mask or nonnegative weights of the given ``shape``."""
    check_where(where, shape, name, part)
    if where is None:
        return
    if not any(
        jnp.issubdtype(where.dtype, kind) for kind in (jnp.bool_, jnp.integer, jnp.floating)
    ):
        raise TypeError(f"`where` must contain booleans or real weights, got dtype {where.dtype}.")
    if isinstance(where, np.ndarray | np.generic) and not (where >= 0).all():
        wrong = np.asarray(where)[~(np.asarray(where) >= 0)]
        raise ValueError(
            f"`where` must contain weights that are zero or positive, got {wrong.flat[0]}; pass a "
            "mask to leave examples out."
        )


def example_weights(counted: jax.Array, where: jax.Array | None, dtype: jnp.dtype) -> jax.Array:
    """Returns each example's weight: from ``where`` (1 by default) if ``counted``, otherwise 0.

    A traced weight below zero becomes 0. A weight of 0 leaves the example out and has no
    derivative.
    """
    if where is None:
        return counted.astype(dtype)
    weights = jnp.asarray(where).astype(dtype)
    return jnp.where(counted & ~(weights <= 0), weights, jnp.zeros_like(weights))


def keep_weighted(weights: jax.Array, x: jax.Array) -> jax.Array:
    """Zeros the rows of ``x`` with weight 0, so that 0 * inf does not give NaN in the gradient."""
    return jnp.where((weights != 0)[..., None], x, jnp.zeros((), x.dtype))


def is_class(labels: jax.Array, num_classes: int) -> jax.Array:
    """Returns booleans that mark labels in ``[0, num_classes)``."""
    labels = widen_labels(labels)
    return (labels >= 0) & (labels < num_classes)


def widen_labels(labels: jax.Array) -> jax.Array:
    """Casts labels of fewer than 32 bits to int32, which can hold the number of classes."""
    return labels.astype(jnp.int32) if labels.dtype.itemsize < 4 else labels


def cross_entropies(logits: jax.Array, labels: jax.Array, share: jax.Array) -> jax.Array:
    """Returns the cross entropy of each example, with its label smoothed by ``share``.

    For a label out of range the value is finite, but has no meaning.
    """
    mean = jnp.sum(logits, -1) / logits.shape[-1]
    own = logits_of_labels(logits, widen_labels(labels))
    return jax.nn.logsumexp(logits, axis=-1) - weigh(1 - share, own) - weigh(share, mean)


def distribution_cross_entropies(logits: jax.Array, rows: jax.Array, share: jax.Array) -> jax.Array:
    """Returns the cross entropy against each distribution in ``rows``, smoothed by ``share``."""
    mass = jnp.sum(rows, axis=-1, keepdims=True)
    smoothed = (1 - share) * rows + share * mass / rows.shape[-1]
    return -jnp.sum(weigh(smoothed, jax.nn.log_softmax(logits)), axis=-1)


def logits_of_labels(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the logit of each example's label."""
    if jax.typeof(logits).sharding.spec[-1] is None:
        safe = jnp.clip(labels, 0, logits.shape[-1] - 1)
        return jnp.squeeze(jnp.take_along_axis(logits, safe[..., None], axis=-1), -1)
    # A gather cannot cross the devices that share the classes of an Explicit mesh.
    ids = jax.lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)
    chosen = jnp.where(ids == labels[..., None], logits, jnp.zeros((), logits.dtype))
    return jnp.sum(chosen, axis=-1)
