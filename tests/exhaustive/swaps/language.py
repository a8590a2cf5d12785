"""A decoder with logical partitioning, in the shape of Flax's example lm1b."""

import dataclasses

import jax
import optax
from flax import linen as nn


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes and rates."""

    vocabulary: int = 64
    width: int = 32
    heads: int = 4
    depth: int = 2
    dropout_rate: float = 0.1
    attention_dropout_rate: float = 0.1
    label_smoothing: float = 0.1


def partitioned(initializer, *names):
    return nn.with_logical_partitioning(initializer, names)


class Mlp(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x, deterministic):
        width = x.shape[-1]
        init = partitioned(nn.initializers.xavier_uniform(), "embed", "mlp")
        x = nn.relu(nn.Dense(4 * width, kernel_init=init)(x))
        x = nn.Dropout(self.config.dropout_rate)(x, deterministic=deterministic)
        back = partitioned(nn.initializers.xavier_uniform(), "mlp", "embed")
        x = nn.Dense(width, kernel_init=back)(x)
        return nn.Dropout(self.config.dropout_rate)(x, deterministic=deterministic)


class Block(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x, mask, deterministic):
        scale = partitioned(nn.initializers.ones_init(), "embed")
        bias = partitioned(nn.initializers.zeros_init(), "embed")
        h = nn.LayerNorm(scale_init=scale, bias_init=bias)(x)
        h = nn.MultiHeadDotProductAttention(
            self.config.heads,
            dropout_rate=self.config.attention_dropout_rate,
            broadcast_dropout=False,
            deterministic=deterministic,
        )(h, mask=mask)
        x = x + nn.Dropout(self.config.dropout_rate)(h, deterministic=deterministic)
        h = nn.LayerNorm(scale_init=scale, bias_init=bias)(x)
        return x + Mlp(self.config)(h, deterministic)


class Model(nn.Module):
    config: Config = Config()

    @nn.compact
    def __call__(self, tokens, deterministic):
        x = nn.Embed(self.config.vocabulary, self.config.width)(tokens)
        x = nn.Dropout(self.config.dropout_rate)(x, deterministic=deterministic)
        mask = nn.make_causal_mask(tokens)
        for _ in range(self.config.depth):
            x = Block(self.config)(x, mask, deterministic)
        return nn.Dense(self.config.vocabulary)(nn.LayerNorm()(x))


def batch():
    tokens = jax.random.randint(jax.random.key(0), (8, 16), 1, 64)
    return tokens[:, :-1], tokens[:, 1:]


def loss_of(logits, labels, smoothing):
    soft = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, soft).mean()


def optimizer():
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(1e-2, weight_decay=0.1),
    )
