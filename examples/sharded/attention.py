"""Attention with dropout of its weights, for both models."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    heads: int,
    drop: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    """Returns the attention of every token to every other, ``[batch, length, features]``.

    Kernels remain matrices ``[in, out]``, and the heads are split here: norms of units need no axis
    then. The softmax is computed in float32.
    """
    *lead, features = query.shape
    depth = features // heads
    split = (*lead, heads, depth)
    query = query.reshape(split)
    key = key.reshape(split)
    value = value.reshape(split)
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
    weights = drop(jax.nn.softmax(scores / depth**0.5).astype(value.dtype))
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(*lead, features)
