"""An LSTM without dropout, with a new mask at each time step, and with one mask for all of them.

The sequences come from a chain in which a symbol depends on the one before and on an older one, so
that the network has to remember, and the entropy of the chain is the loss that nothing can beat.
There are few sequences: without dropout the network learns them by heart.

    python examples/lstm_locked_dropout.py [figure.png]
"""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
from flax import linen as nn
from jax.typing import ArrayLike
from matplotlib import pyplot as plt

from jaxreg import linen, targets

SYMBOLS, LAG, LENGTH = 6, 3, 24
FEATURES = 32
LEARNING_RATE = 1e-2
BATCH_SIZE = 16
EPOCHS = 60
SEEDS = 4
RATE = 0.25
# By name: the rate, and whether every time step has a mask of its own.
ARMS = {"no dropout": (0.0, False), "per step": (RATE, True), "locked": (RATE, False)}


class Network(nn.Module):
    """Predicts the next symbol; drops inputs, states and outputs of the LSTM."""

    rate: ArrayLike
    per_step: bool
    train: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Embed(SYMBOLS, FEATURES)(x)
        cell = linen.LockedDropoutCell(
            nn.LSTMCell(FEATURES), self.rate, self.rate, deterministic=not self.train
        )
        # A cell that gets a new key at each step is locked no more.
        x = nn.RNN(cell, split_rngs={"params": False, "dropout": self.per_step})(x)
        drop = linen.Dropout if self.per_step else linen.LockedDropout
        x = drop(self.rate, deterministic=not self.train)(x)
        return nn.Dense(SYMBOLS)(x)


def load(training: int, validation: int) -> tuple[list[jax.Array], float]:
    """Sequences ``[..., LENGTH + 1]`` for training and validation, and the entropy of the latter."""
    rng = np.random.default_rng(0)
    table = rng.dirichlet(np.full(SYMBOLS, 0.2), size=(SYMBOLS, SYMBOLS))
    number = training + validation
    x = rng.integers(SYMBOLS, size=(number, LAG + LENGTH + 1))
    entropies = np.zeros((number, LENGTH + 1))
    for t in range(LAG, x.shape[1]):
        p = table[x[:, t - 1], x[:, t - LAG]]
        x[:, t] = (p.cumsum(axis=1) < rng.random((number, 1))).sum(axis=1).clip(max=SYMBOLS - 1)
        entropies[:, t - LAG] = -(p * np.log(p.clip(1e-30))).sum(axis=1)
    x = jnp.asarray(x[:, LAG:])
    return [x[:training], x[training:]], entropies[training:, 1:].mean()


def cross_entropy(params, x: jax.Array) -> jax.Array:
    logits = Network(0.0, per_step=False, train=False).apply(params, x[:, :-1])
    return targets.smoothed_cross_entropy(logits, x[:, 1:], alpha=0.0)


@partial(jax.jit, static_argnames="per_step")
@partial(jax.vmap, in_axes=(None, None, None, 0, None))
def fit(rate, x, validation, key, per_step):
    """Returns the losses of training and validation after every epoch."""
    model = Network(rate, per_step, train=True)
    tx = optax.adam(LEARNING_RATE)
    init_key, key = jax.random.split(key)
    params = Network(0.0, per_step=False, train=False).init(init_key, x[:1, :-1])

    def step(carry, inputs):
        params, state = carry
        rows, key = inputs

        def loss(params):
            logits = model.apply(params, x[rows, :-1], rngs={"dropout": key})
            return targets.smoothed_cross_entropy(logits, x[rows, 1:], alpha=0.0)

        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    def epoch(carry, key):
        order_key, noise_key = jax.random.split(key)
        batches = jax.random.permutation(order_key, len(x)).reshape(-1, BATCH_SIZE)
        carry, _ = jax.lax.scan(step, carry, (batches, jax.random.split(noise_key, len(batches))))
        return carry, (cross_entropy(carry[0], x), cross_entropy(carry[0], validation))

    _, curves = jax.lax.scan(epoch, (params, tx.init(params)), jax.random.split(key, EPOCHS))
    return curves
