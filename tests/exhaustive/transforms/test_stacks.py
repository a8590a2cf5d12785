"""Models whose layers run in a scan train like the same layers one after the other.

Each layer has its own rate of dropout and DropPath. The steps scale the updates by depth, decay the
kernels, shrink their groups and bound their norms.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

from jaxreg import dropout, linen, masks, projections, proximal, transforms
from jaxreg import nnx as regularized

LAYERS = 3
WIDTH = 8
NAMES = tuple(f"block_{i}" for i in range(LAYERS))
RATES = np.float32(dropout.drop_path_rates(0.6, LAYERS))
KEYS = jax.random.split(jax.random.key(1), LAYERS)
X = np.random.default_rng(0).normal(size=(16, WIDTH)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(16, 2)).astype(np.float32)


def make_optimizer(stacked, order):
    kernels = partial(masks.kernels, stacked=stacked)
    ball = partial(projections.max_norm, radius=0.5)
    lasso = transforms.proximal(proximal.group_lasso, 0.05, 0.1, stacked=stacked)
    return optax.chain(
        optax.sgd(0.1, momentum=0.9),
        transforms.layerwise_scale(0.7, partial(masks.depth, order=order, stacked=stacked)),
        transforms.decoupled_decay(0.1, learning_rate=0.1, mask=kernels),
        optax.masked(lasso, kernels),
        optax.masked(transforms.project(ball, stacked=stacked), kernels),
    )


STACKED = make_optimizer(masks.match("blocks"), ("blocks", "head"))
UNROLLED = make_optimizer(None, (*NAMES, "head"))


def unroll(tree):
    """The tree of the unrolled model, from one with a stack."""
    layers = {
        name: jax.tree.map(lambda leaf, i=i: leaf[i], tree["blocks"])
        for i, name in enumerate(NAMES)
    }
    return {**layers, "head": tree["head"]}


def fit(tx, forward, params):
    """Takes steps, and returns the parameters and the losses."""

    def step(carry, _):
        params, state = carry
        loss = lambda params: jnp.mean((forward(params, X) - Y) ** 2)  # noqa: E731
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = tx.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    (params, _), losses = jax.lax.scan(step, (params, tx.init(params)), length=6)
    return params, losses


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, inputs):
        rate, key = inputs
        first, second = jax.random.split(key)
        y = nn.relu(nn.Dense(WIDTH)(linen.RMSNorm()(x)))
        y = linen.Dropout(deterministic=False)(y, rate=rate, rng=first)
        return x + linen.DropPath(deterministic=False)(y, rate=rate, rng=second), None


class Scanned(nn.Module):
    @nn.compact
    def __call__(self, x):
        axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}, "in_axes": 0}
        x, _ = nn.scan(Block, length=LAYERS, **axes)(name="blocks")(x, (RATES, KEYS))
        return nn.Dense(2, name="head")(x)


class Unrolled(nn.Module):
    @nn.compact
    def __call__(self, x):
        for i, name in enumerate(NAMES):
            x, _ = Block(name=name)(x, (RATES[i], KEYS[i]))
        return nn.Dense(2, name="head")(x)


def train_linen():
    params = Scanned().init(jax.random.key(0), X)["params"]
    scanned = fit(STACKED, lambda params, x: Scanned().apply({"params": params}, x), params)
    forward = lambda params, x: Unrolled().apply({"params": params}, x)  # noqa: E731
    return scanned, fit(UNROLLED, forward, unroll(params))


class Layer(nnx.Module):
    """A layer with its rate as an attribute."""

    def __init__(self, rate, key):
        rngs = nnx.Rngs(key)
        self.norm = regularized.RMSNorm(WIDTH, rngs=rngs)
        self.linear = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.dropout = regularized.Dropout(rate)
        self.drop_path = regularized.DropPath(rate)

    def __call__(self, x, key):
        first, second = jax.random.split(key)
        y = self.dropout(nnx.relu(self.linear(self.norm(x))), rngs=first)
        return x + self.drop_path(y, rngs=second)


def train_nnx():
    keys = jax.random.split(jax.random.key(0), LAYERS)
    head = nnx.Linear(WIDTH, 2, rngs=nnx.Rngs(1))
    stack = nnx.Dict(blocks=nnx.vmap(Layer)(RATES, keys), head=head)
    layers = {name: Layer(float(RATES[i]), keys[i]) for i, name in enumerate(NAMES)}
    loop = nnx.Dict(**layers, head=head)

    @nnx.scan(in_axes=(nnx.Carry, 0, 0), out_axes=nnx.Carry)
    def run(x, layer, key):
        return layer(x, key)

    def run_one_by_one(model, x):
        for i, name in enumerate(NAMES):
            x = model[name](x, KEYS[i])
        return model.head(x)

    def fit_model(tx, call, model):
        graph, params, rest = nnx.split(model, nnx.Param, ...)
        forward = lambda params, x: call(nnx.merge(graph, params, rest), x)  # noqa: E731
        params, losses = fit(tx, forward, params)
        return nnx.to_pure_dict(params), losses

    def scan(model, x):
        return model.head(run(x, model.blocks, KEYS))

    return fit_model(STACKED, scan, stack), fit_model(UNROLLED, run_one_by_one, loop)


@pytest.mark.parametrize("train", [train_linen, train_nnx])
def test_a_model_with_a_stack_trains_like_the_unrolled_model(train):
    (scanned, losses), (want, expected) = jax.jit(train)()
    assert len(set(losses.tolist())) > 1
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-6)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=1e-6), unroll(scanned), want)
    layers = scanned["blocks"]
    kernel = layers["linear" if "linear" in layers else "Dense_0"]["kernel"]
    norms = np.linalg.norm(np.float64(kernel), axis=1)
    assert (norms < 0.5 + 1e-5).all()  # The bound holds, and binds for some units.
    assert (norms > 0.5 - 1e-5).any()
    assert (norms < 0.5 - 1e-3).any()
