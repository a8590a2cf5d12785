"""The transformer in NNX: layers by ``nnx.vmap`` and ``nnx.scan``, with DropPath's rate for each.

Modules keep no streams: each call gets the streams of its layer, which come from one key. So the
state consists of parameters only, and a step draws the same masks wherever it is resumed.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxreg import dropout
from jaxreg import nnx as regularized
from sharded.attention import attend
from sharded.settings import Settings

LAYERS = {nnx.PARTITION_NAME: "layers"}


def dense(settings: Settings, sizes: tuple[int, int], names: tuple[str, str], rngs: nnx.Rngs):
    """Makes a layer without bias; ``names`` are the logical axes of its kernel."""
    init = nnx.with_partitioning(nnx.initializers.lecun_normal(), names)
    dtype = compute_dtype(settings)
    return nnx.Linear(*sizes, use_bias=False, dtype=dtype, kernel_init=init, rngs=rngs)


def norm(settings: Settings, rngs: nnx.Rngs) -> regularized.RMSNorm:
    return regularized.RMSNorm(settings.width, dtype=compute_dtype(settings), rngs=rngs)


def compute_dtype(settings: Settings) -> Any:
    return jnp.bfloat16 if settings.bfloat16 else jnp.float32


def call(layer: Any, streams: nnx.Rngs | None, **options: Any) -> Callable[[jax.Array], jax.Array]:
    """Returns a random layer with its streams; without streams it drops nothing."""
    return lambda x: layer(x, rngs=streams, deterministic=streams is None, **options)


class Attention(nnx.Module):
    """Self-attention."""

    def __init__(self, settings: Settings, rngs: nnx.Rngs):
        square = (settings.width, settings.width)
        self.heads = settings.heads
        self.query = dense(settings, square, ("embed", "heads"), rngs)
        self.key = dense(settings, square, ("embed", "heads"), rngs)
        self.value = dense(settings, square, ("embed", "heads"), rngs)
        self.out = dense(settings, square, ("heads", "embed"), rngs)
        self.dropout = regularized.Dropout(settings.dropout)

    def __call__(self, x: jax.Array, streams: nnx.Rngs | None) -> jax.Array:
        drop = call(self.dropout, streams)
        y = attend(self.query(x), self.key(x), self.value(x), heads=self.heads, drop=drop)
        return self.out(y)


class Perceptron(nnx.Module):
    """A hidden layer with dropout."""

    def __init__(self, settings: Settings, rngs: nnx.Rngs):
        width = settings.width
        self.up = dense(settings, (width, 4 * width), ("embed", "hidden"), rngs)
        self.down = dense(settings, (4 * width, width), ("hidden", "embed"), rngs)
        self.dropout = regularized.Dropout(settings.dropout)

    def __call__(self, x: jax.Array, streams: nnx.Rngs | None) -> jax.Array:
        return self.down(call(self.dropout, streams)(nnx.gelu(self.up(x))))


class Block(nnx.Module):
    """A layer; ``rate`` is the probability that DropPath skips a branch for an example."""

    def __init__(self, settings: Settings, rngs: nnx.Rngs):
        self.attention_norm = norm(settings, rngs)
        self.attention = Attention(settings, rngs)
        self.perceptron_norm = norm(settings, rngs)
        self.perceptron = Perceptron(settings, rngs)
        self.drop_path = regularized.DropPath()

    def __call__(self, x: jax.Array, rate: jax.Array, key: jax.Array | None) -> jax.Array:
        streams = None if key is None else nnx.Rngs(dropout=key)
        skip = call(self.drop_path, streams, rate=rate)
        x = x + skip(self.attention(self.attention_norm(x), streams))
        return x + skip(self.perceptron(self.perceptron_norm(x), streams))


class Transformer(nnx.Module):
    """Logits of every token."""

    def __init__(self, settings: Settings, rngs: nnx.Rngs):
        s = settings
        normal = nnx.initializers.normal(0.02)
        table = nnx.with_partitioning(normal, ("vocabulary", "embed"))
        head = nnx.with_partitioning(nnx.initializers.lecun_normal(), ("embed", "vocabulary"))
        places = nnx.with_partitioning(normal, ("length", "embed"))
        self.settings = settings
        self.tokens = nnx.Embed(s.vocabulary, s.width, embedding_init=table, rngs=rngs)
        self.positions = nnx.Param(places(rngs.params(), (s.length, s.width)))
        self.blocks = self.make_layers(rngs)
        self.norm = norm(s, rngs)
        self.head = nnx.Linear(s.width, s.vocabulary, use_bias=False, kernel_init=head, rngs=rngs)

    def make_layers(self, rngs: nnx.Rngs) -> Block:
        @nnx.split_rngs(splits=self.settings.layers)
        @nnx.vmap(transform_metadata=LAYERS)
        def make(rngs: nnx.Rngs) -> Block:
            return Block(self.settings, rngs)

        return make(rngs)

    def run_layers(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        def run(x: jax.Array, block: Block, rate: jax.Array, key: jax.Array | None) -> jax.Array:
            return block(x, rate, key)

        s = self.settings
        rates = jnp.asarray(dropout.drop_path_rates(s.drop_path, s.layers))
        keys = None if key is None else jax.random.split(key, s.layers)
        axes = (nnx.Carry, 0, 0, 0)
        scan = nnx.scan(in_axes=axes, out_axes=nnx.Carry, transform_metadata=LAYERS)
        return scan(nnx.remat(run) if s.remat else run)(x, self.blocks, rates, keys)

    def __call__(self, tokens: jax.Array, key: jax.Array | None = None) -> jax.Array:
        x = self.tokens(tokens) + self.positions[...]
        x = self.run_layers(x.astype(compute_dtype(self.settings)), key)
        return self.head(self.norm(x).astype(jnp.float32))


def init(settings: Settings, key: jax.Array) -> nnx.State:
    """Returns the parameters."""
    with nnx.use_eager_sharding(False):  # The jit of the caller places them.
        return nnx.state(Transformer(settings, nnx.Rngs(key)))


def partition_specs(settings: Settings, rules: Any) -> Any:
    """Returns the partition of each parameter over the mesh, by the rules for logical axes."""
    state = nnx.eval_shape(lambda: init(settings, jax.random.key(0)))
    with nnx.logical_axis_rules(rules):
        return nnx.get_partition_spec(state)


def apply(
    settings: Settings, params: nnx.State, tokens: jax.Array, key: jax.Array | None = None
) -> jax.Array:
    """Returns the logits; without a key nothing is dropped."""
    with nnx.use_eager_sharding(False):
        graph, _ = nnx.split(nnx.eval_shape(lambda: Transformer(settings, nnx.Rngs(0))))
        return nnx.merge(graph, params)(tokens, key)
