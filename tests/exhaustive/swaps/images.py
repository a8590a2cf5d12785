"""A residual network with batch norm, in the shape of Flax's example imagenet."""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn


class Block(nn.Module):
    features: int
    strides: tuple[int, int] = (1, 1)

    @nn.compact
    def __call__(self, x, deterministic):
        norm = partial(nn.BatchNorm, use_running_average=deterministic, momentum=0.9, epsilon=1e-5)
        y = nn.Conv(self.features, (3, 3), self.strides, use_bias=False)(x)
        y = nn.relu(norm()(y))
        y = nn.Conv(self.features, (3, 3), use_bias=False)(y)
        y = norm(scale_init=nn.initializers.zeros_init())(y)
        if x.shape != y.shape:
            x = nn.Conv(self.features, (1, 1), self.strides, use_bias=False, name="conv_proj")(x)
            x = norm(name="norm_proj")(x)
        return nn.relu(x + y)


class Model(nn.Module):
    classes: int = 10

    @nn.compact
    def __call__(self, x, deterministic):
        x = nn.Conv(8, (3, 3), use_bias=False, name="conv_init")(x)
        for i, features in enumerate((8, 16, 32)):
            x = Block(features, (1, 1) if i == 0 else (2, 2))(x, deterministic)
        x = jnp.mean(x, axis=(1, 2))
        return nn.Dense(self.classes, name="head")(x)


def batch():
    images = jax.random.normal(jax.random.key(0), (8, 16, 16, 3))
    return images, jnp.arange(8)


def loss_of(logits, labels, smoothing):
    soft = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, soft).mean()


def optimizer():
    return optax.chain(
        optax.add_decayed_weights(1e-4),
        optax.sgd(0.1, momentum=0.9, nesterov=True),
    )
