"""The transformer in Linen: layers by ``nn.scan``, with a rate of DropPath for each."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxreg import dropout, linen
from sharded.attention import attend
from sharded.settings import Settings


def dense(settings: Settings, features: int, *names: str) -> nn.Dense:
    """Makes a layer without bias; ``names`` are the logical axes of its kernel."""
    init = nn.with_logical_partitioning(nn.initializers.lecun_normal(), names)
    return nn.Dense(features, use_bias=False, dtype=compute_dtype(settings), kernel_init=init)


def compute_dtype(settings: Settings) -> Any:
    return jnp.bfloat16 if settings.bfloat16 else jnp.float32


class Attention(nn.Module):
    """Self-attention."""

    settings: Settings
    deterministic: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        s = self.settings
        query = dense(s, s.width, "embed", "heads")(x)
        key = dense(s, s.width, "embed", "heads")(x)
        value = dense(s, s.width, "embed", "heads")(x)
        drop = linen.Dropout(s.dropout, deterministic=self.deterministic)
        y = attend(query, key, value, heads=s.heads, drop=drop)
        return dense(s, s.width, "heads", "embed")(y)


class Perceptron(nn.Module):
    """A hidden layer with dropout."""

    settings: Settings
    deterministic: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        s = self.settings
        x = nn.gelu(dense(s, 4 * s.width, "embed", "hidden")(x))
        x = linen.Dropout(s.dropout, deterministic=self.deterministic)(x)
        return dense(s, s.width, "hidden", "embed")(x)


class Block(nn.Module):
    """A layer; ``rate`` is the probability that DropPath skips a branch for an example."""

    settings: Settings
    deterministic: bool

    @nn.compact
    def __call__(self, x: jax.Array, rate: jax.Array) -> tuple[jax.Array, None]:
        for branch in (Attention, Perceptron):
            y = linen.RMSNorm(dtype=compute_dtype(self.settings))(x)
            y = branch(self.settings, self.deterministic)(y)
            x = x + linen.DropPath(deterministic=self.deterministic)(y, rate=rate)
        return x, None


class Transformer(nn.Module):
    """Logits of every token."""

    settings: Settings
    deterministic: bool

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        s = self.settings
        normal = nn.initializers.normal(0.02)
        table = nn.with_logical_partitioning(normal, ("vocabulary", "embed"))
        places = nn.with_logical_partitioning(normal, ("length", "embed"))
        x = nn.Embed(s.vocabulary, s.width, embedding_init=table, name="tokens")(tokens)
        x = x + self.param("positions", places, (s.length, s.width))
        x = self.run_layers(x.astype(compute_dtype(s)))
        x = linen.RMSNorm(dtype=compute_dtype(s), name="norm")(x)
        init = nn.with_logical_partitioning(nn.initializers.lecun_normal(), ("embed", "vocabulary"))
        head = nn.Dense(s.vocabulary, use_bias=False, kernel_init=init, name="head")
        return head(x.astype(jnp.float32))

    @nn.nowrap
    def run_layers(self, x: jax.Array) -> jax.Array:
        s = self.settings
        stack = nn.scan(
            nn.remat(Block, prevent_cse=False) if s.remat else Block,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=0,
            length=s.layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        rates = jnp.asarray(dropout.drop_path_rates(s.drop_path, s.layers))
        x, _ = stack(s, self.deterministic, name="blocks")(x, rates)
        return x


def init(settings: Settings, key: jax.Array) -> Any:
    """Returns the parameters."""
    return nn.unbox(_init_boxed(settings, key))


def partition_specs(settings: Settings, rules: Any) -> Any:
    """Returns the partition of each parameter over the mesh, by the rules for logical axes."""
    boxed = jax.eval_shape(lambda: _init_boxed(settings, jax.random.key(0)))
    return nn.logical_to_mesh(nn.get_partition_spec(boxed), rules)


def apply(
    settings: Settings, params: Any, tokens: jax.Array, key: jax.Array | None = None
) -> jax.Array:
    """Returns the logits; without a key nothing is dropped."""
    rngs = {} if key is None else {"dropout": key}
    model = Transformer(settings, deterministic=key is None)
    return model.apply({"params": params}, tokens, rngs=rngs)


def _init_boxed(settings: Settings, key: jax.Array) -> Any:
    tokens = jnp.zeros((1, settings.length), jnp.int32)
    return Transformer(settings, deterministic=True).init(key, tokens)["params"]
