"""An encoder of patches with layers in a scan, in the shape of big_vision's ViT."""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn


class Mlp(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, x, deterministic):
        width = x.shape[-1]
        x = nn.gelu(nn.Dense(4 * width)(x))
        x = nn.Dropout(self.rate)(x, deterministic)
        return nn.Dense(width)(x)


class Block(nn.Module):
    heads: int
    rate: float

    @nn.compact
    def __call__(self, x, deterministic):
        y = nn.LayerNorm()(x)
        y = nn.MultiHeadDotProductAttention(
            self.heads,
            deterministic=deterministic,
        )(y, y)
        x = x + nn.Dropout(self.rate)(y, deterministic)
        y = Mlp(self.rate)(nn.LayerNorm()(x), deterministic)
        return x + nn.Dropout(self.rate)(y, deterministic), None


class Model(nn.Module):
    width: int = 32
    heads: int = 4
    depth: int = 3
    rate: float = 0.1

    @nn.compact
    def __call__(self, images, deterministic):
        x = nn.Conv(self.width, (4, 4), (4, 4), padding="VALID")(images)
        x = x.reshape(len(x), -1, self.width)
        x += self.param("position", nn.initializers.normal(0.02), x.shape[1:])
        layers = nn.scan(
            nn.remat(Block, prevent_cse=False, static_argnums=(2,)),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=nn.broadcast,
            length=self.depth,
        )
        x, _ = layers(self.heads, self.rate)(x, deterministic)
        return nn.Dense(10)(nn.LayerNorm()(x).mean(1))


def batch():
    images = jax.random.normal(jax.random.key(0), (8, 16, 16, 3))
    return images, jnp.arange(8)


def loss_of(logits, labels, smoothing):
    soft = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, soft).mean()


def optimizer():
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(1e-3, weight_decay=1e-4),
    )
