"""Recipes of language models."""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import nnx

from jaxreg import dropout, linen, masks, normalization
from tests.explain.recipes.base import (
    KEY,
    SCALES,
    Recipe,
    decay,
    inside,
    nnx_model,
    none,
    on,
    rows,
    tokens,
    variables_of,
)

TOKENS = tokens(4, 6)
WIDTH = 8


def attend(q, k, v, *, drop=lambda weights: weights):
    """Causal attention of one head."""
    scores = q @ jnp.swapaxes(k, -1, -2) / WIDTH**0.5
    scores = jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -jnp.inf)
    return drop(jax.nn.softmax(scores)) @ v


def gpt(params, ids, key):
    """A block of nanoGPT with `dropout=0.2`, as a plain function."""
    keys = iter(jax.random.split(key, 4))
    drop = lambda x: dropout.dropout(next(keys), x, rate=0.2)  # noqa: E731
    norm = partial(normalization.layer_norm, eps=1e-5)
    x = drop(params["wte"][ids] + params["wpe"])
    h = norm(x) * params["ln_1"]
    x += drop(attend(*(h @ params[name] for name in ("q", "k", "v")), drop=drop) @ params["proj"])
    h = jax.nn.gelu((norm(x) * params["ln_2"]) @ params["fc"])
    x += drop(h @ params["out"])
    return (norm(x) * params["ln_f"]) @ params["wte"].T


GPT_MATRICES = ["wte", "wpe", "q", "k", "v", "proj", "fc", "out"]
GPT_VECTORS = ["ln_1", "ln_2", "ln_f"]


def gpt_as_nanogpt():
    """Karpathy's nanoGPT: AdamW with decay 0.1 of all matrices, embeddings among them, and none of
    the vectors; gradients clipped to norm 1; dropout 0.2 of embeddings, attention and branches.

    A step takes 6e-4 * 0.1 of each matrix.
    """
    params = {name: rows(WIDTH, WIDTH) for name in GPT_MATRICES}
    params |= {name: rows(WIDTH) for name in GPT_VECTORS}
    params["wpe"] = params["wpe"][:6]
    matrices = lambda params: jax.tree.map(lambda w: w.ndim >= 2, params)  # noqa: E731
    adamw = optax.adamw(6e-4, b2=0.95, weight_decay=0.1, mask=matrices)
    return Recipe(
        (gpt, optax.chain(optax.clip_by_global_norm(1.0), adamw), params, TOKENS, KEY),
        [
            *decay(GPT_MATRICES, 6e-5),
            *none(GPT_VECTORS),
            *on("model", "dropout.dropout", 0.2, "rate"),
            *on("model", "normalization.layer_norm"),
            *on("optimizer", "gradient clipping", 1.0, "largest global norm"),
        ],
    )


class Gemma(nnx.Module):
    """A block with RMS norms before and after each branch, and no noise."""

    def __init__(self, *, rngs):
        linear = partial(nnx.Linear, WIDTH, WIDTH, use_bias=False, rngs=rngs)
        norm = partial(nnx.RMSNorm, WIDTH, rngs=rngs)
        self.embed = nnx.Embed(WIDTH, WIDTH, rngs=rngs)
        self.norm1 = norm()
        self.query = linear()
        self.key = linear()
        self.value = linear()
        self.proj = linear()
        self.norm2 = norm()
        self.gate = linear()
        self.up = linear()
        self.down = linear()
        self.norm3 = norm()

    def __call__(self, ids):
        x = self.embed(ids) * WIDTH**0.5
        h = self.norm1(x)
        x += self.proj(attend(self.query(h), self.key(h), self.value(h)))
        h = self.norm2(x)
        x += self.down(nnx.gelu(self.gate(h)) * self.up(h))
        return self.embed.attend(self.norm3(x))


def gemma_and_llama():
    """Touvron et al. 2023: AdamW with decay 0.1 of everything, gradients clipped to norm 1, RMS
    norms, no dropout.

    With a warm-up to 3e-4, a step at the peak takes 3e-4 * 0.1 of each weight. Scales decay, too.
    """
    layers = ["query", "key", "value", "proj", "gate", "up", "down"]
    scales = ["norm1/scale", "norm2/scale", "norm3/scale"]
    rate = optax.warmup_cosine_decay_schedule(0.0, 3e-4, 100, 1000)
    adamw = optax.adamw(rate, b2=0.95, weight_decay=0.1)
    return Recipe(
        (
            nnx_model(lambda: Gemma(rngs=nnx.Rngs(0))),
            optax.chain(optax.clip_by_global_norm(1.0), adamw),
            None,
            TOKENS,
        ),
        [
            *decay(["embed/embedding", *(f"{layer}/kernel" for layer in layers), *scales], 3e-5),
            *on("norm1 norm2 norm3", "RMSNorm"),
            *on("optimizer", "gradient clipping", 1.0, "largest global norm"),
        ],
        notes={SCALES: set(scales)},
    )


class Bert(nn.Module):
    """An encoder with norms after the sums."""

    @nn.compact
    def __call__(self, ids, deterministic):
        drop = partial(nn.Dropout, 0.1, deterministic=deterministic)
        embed = partial(nn.Embed, WIDTH, WIDTH)
        x = embed(name="words")(ids) + embed(name="positions")(jnp.arange(ids.shape[-1]))
        x = drop(name="drop0")(nn.LayerNorm(name="norm0")(x))
        attention = nn.MultiHeadDotProductAttention(
            num_heads=2, dropout_rate=0.1, deterministic=deterministic, name="attention"
        )
        x = nn.LayerNorm(name="norm1")(x + drop(name="drop1")(attention(x)))
        y = nn.Dense(WIDTH, name="output")(nn.gelu(nn.Dense(WIDTH, name="inner")(x)))
        x = nn.LayerNorm(name="norm2")(x + drop(name="drop2")(y))
        return nn.Dense(WIDTH, name="head")(x)


def bert():
    """Devlin et al. 2019: Adam with decay 0.01 of all but biases and norms, gradients clipped to
    norm 1, dropout 0.1 of embeddings, attention and branches.

    A step takes 1e-4 * 0.01 of each weight. Sums stand between the weights and the norms, so the
    norms do not undo their scale.
    """
    module = Bert()
    layers = [f"attention/{part}" for part in ("query", "key", "value", "out")]
    layers += ["inner", "output", "head"]
    norms = inside("norm0 norm1 norm2", "bias", "scale")
    adamw = optax.adamw(1e-4, weight_decay=0.01, mask=masks.kernels)
    return Recipe(
        (
            module,
            optax.chain(optax.clip_by_global_norm(1.0), adamw),
            variables_of(module, TOKENS, deterministic=True),
            TOKENS,
        ),
        [
            *decay([*(f"{layer}/kernel" for layer in layers), "words/embedding",
                    "positions/embedding"], 1e-6),
            *none([*(f"{layer}/bias" for layer in layers), *norms]),
            *on("norm0 norm1 norm2", "LayerNorm"),
            *on("drop0 drop1 drop2", "Dropout", 0.1, "rate"),
            *on("attention", "attention dropout", 0.1, "dropout_rate"),
            *on("optimizer", "gradient clipping", 1.0, "largest global norm"),
        ],
    )  # fmt: skip


class T5(nn.Module):
    """A feed-forward block of T5.1.1: RMS norm, gated activation, dropout inside and after."""

    @nn.compact
    def __call__(self, ids, *, train):
        drop = partial(nn.Dropout, 0.1, broadcast_dims=(-2,), deterministic=not train)
        linear = partial(nn.Dense, WIDTH, use_bias=False)
        x = drop(name="drop0")(nn.Embed(WIDTH, WIDTH, name="embed")(ids))
        h = nn.RMSNorm(name="norm1")(x)
        h = nn.gelu(linear(name="gate")(h)) * linear(name="up")(h)
        x += drop(name="drop2")(linear(name="down")(drop(name="drop1")(h)))
        return linear(name="head")(drop(name="drop3")(nn.RMSNorm(name="norm2")(x)))


def t5():
    """Raffel et al. 2020: Adafactor with a constant rate and no decay, RMS norms, dropout 0.1."""
    module = T5()
    leaves = ["embed/embedding", *(f"{layer}/kernel" for layer in ("gate", "up", "down", "head"))]
    return Recipe(
        (
            module,
            optax.adafactor(1e-3),
            variables_of(module, TOKENS, train=False),
            TOKENS,
        ),
        [
            *none([*leaves, "norm1/scale", "norm2/scale"]),
            *on("norm1 norm2", "RMSNorm"),
            *on("drop0 drop1 drop2 drop3", "Dropout", 0.1, "rate"),
        ],
    )


class Lstm(nn.Module):
    """A recurrent network with one mask for all time steps."""

    @nn.compact
    def __call__(self, ids, *, train):
        table = self.param("embedding", nn.initializers.normal(), (WIDTH, WIDTH))
        table = linen.EmbeddingDropout(0.1, deterministic=not train, name="words")(table)
        x = linen.LockedDropout(0.4, deterministic=not train, name="inputs")(table[ids])
        cell = nn.OptimizedLSTMCell(WIDTH, name="cell")
        cell = linen.LockedDropoutCell(
            cell, input_rate=0.0, state_rate=0.25, deterministic=not train
        )
        x = nn.RNN(cell, split_rngs=cell.split_rngs)(x)
        x = linen.LockedDropout(0.4, deterministic=not train, name="outputs")(x)
        return nn.Dense(WIDTH, name="head")(x)


def lstm():
    """Merity, Keskar and Socher 2018: SGD with rate 30, torch's decay 1.2e-6 of everything,
    gradients clipped to norm 0.25, dropout with one mask for all time steps.

    A step takes 30 * 1.2e-6 of each weight.
    """
    module = Lstm()
    chain = optax.chain(
        optax.clip_by_global_norm(0.25), optax.add_decayed_weights(1.2e-6), optax.sgd(30.0)
    )
    recurrent = [f"cell/h{gate}" for gate in "figo"]
    kernels = [f"{layer}/kernel" for layer in (*recurrent, *(f"cell/i{g}" for g in "figo"), "head")]
    biases = [f"{layer}/bias" for layer in (*recurrent, "head")]
    return Recipe(
        (module, chain, variables_of(module, TOKENS, train=False), TOKENS),
        [
            *decay(["embedding", *kernels, *biases], 3.6e-5),
            *on("words", "EmbeddingDropout", 0.1, "rate"),
            *on("inputs outputs", "LockedDropout", 0.4, "rate"),
            *on("cell", "LockedDropoutCell", 0.0, "input_rate"),
            *on("cell", "LockedDropoutCell", 0.25, "state_rate"),
            *on("optimizer", "gradient clipping", 0.25, "largest global norm"),
        ],
        notes={SCALES: set(biases)},
    )


LANGUAGE = (gpt_as_nanogpt, gemma_and_llama, bert, t5, lstm)
