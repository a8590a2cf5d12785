"""Attention whose weights are dropped independently, in Linen and in NNX, against Flax's default.

By default Flax draws one mask and uses it for every example and every head, and a rate of 1 gives
NaN, or an error with newer versions of NNX. Both frameworks accept another function as
``attention_fn``. The two functions here compute the weights with Flax and drop them with jaxreg.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx
from flax.nnx.nn.attention import dot_product_attention_weights as nnx_weights

from jaxreg import dropout

BATCH, LENGTH, HEADS, DEPTH = 8, 16, 4, 8


def linen_attention(
    query, key, value, *, mask=None, dropout_rng=None, dropout_rate=0.0, deterministic=False
):
    """Computes attention for Linen, which passes only the options that are named here."""
    weights = nn.dot_product_attention_weights(query, key, mask=mask, deterministic=True)
    if not deterministic:
        weights = dropout.dropout(dropout_rng, weights, rate=dropout_rate)
    return jnp.einsum("...hqk,...khd->...qhd", weights, value)


def nnx_attention(
    query,
    key,
    value,
    *,
    dropout_rng=None,
    dropout_rate=0.0,
    broadcast_dropout=False,
    deterministic=False,
    **options,
):
    """Computes attention for NNX, which passes all of its options, such as the mask."""
    del broadcast_dropout  # Every weight is dropped independently.
    weights = nnx_weights(query, key, deterministic=True, **options)
    if not deterministic:
        weights = dropout.dropout(dropout_rng, weights, rate=dropout_rate)
    return jnp.einsum("...hqk,...khd->...qhd", weights, value)


def different_masks(attention) -> int:
    """Counts the different masks of all examples and heads."""
    # Equal queries and keys make all weights equal. With the identity as values, the result is the
    # weights themselves.
    ones = jnp.ones((BATCH, LENGTH, HEADS, DEPTH))
    eye = jnp.broadcast_to(jnp.eye(LENGTH)[:, None], (BATCH, LENGTH, HEADS, LENGTH))
    weights = attention(ones, ones, eye, dropout_rng=jax.random.key(0), dropout_rate=0.5)
    masks = jnp.swapaxes(weights, 1, 2).reshape(BATCH * HEADS, -1) != 0
    return len(np.unique(masks, axis=0))


def with_linen(attention, rate: float, x: jax.Array) -> jax.Array:
    """Computes self-attention in training mode, in Linen."""
    module = nn.MultiHeadDotProductAttention(HEADS, dropout_rate=rate, attention_fn=attention)
    variables = module.init(jax.random.key(1), x, deterministic=True)
    return module.apply(variables, x, deterministic=False, rngs={"dropout": jax.random.key(2)})


def with_nnx(attention, rate: float, x: jax.Array) -> jax.Array:
    """Computes self-attention in training mode, in NNX."""
    module = nnx.MultiHeadAttention(
        HEADS,
        in_features=x.shape[-1],
        dropout_rate=rate,
        attention_fn=attention,
        decode=False,
        rngs=nnx.Rngs(1),
    )
    return module(x, deterministic=False)


def at_rate_1(layer) -> str:
    """Describes the output of a layer at rate 1; zeros are right, because its bias is zero."""
    x = jax.random.normal(jax.random.key(3), (BATCH, LENGTH, HEADS * DEPTH))
    try:
        y = layer(1.0, x)
    except ValueError:
        return "an error"
    if jnp.isnan(y).any():
        return "NaN"
    return "zeros" if (y == 0).all() else "other numbers"


def main() -> None:
    """Prints the number of different masks, and the output at rate 1."""
    rows = {
        "Linen, Flax's default": (with_linen, nn.dot_product_attention),
        "Linen, jaxreg": (with_linen, linen_attention),
        "NNX, Flax's default": (with_nnx, nnx.dot_product_attention),
        "NNX, jaxreg": (with_nnx, nnx_attention),
    }
    print(f"{BATCH} examples of {HEADS} heads")
    for name, (layer, attention) in rows.items():
        outcome = at_rate_1(partial(layer, attention))
        print(f"{name:21}: different masks {different_masks(attention):2}, rate 1 gives {outcome}")


if __name__ == "__main__":
    main()
