"""An LSTM without dropout, with a new mask at each time step, and with one mask for all steps.

The sequences come from a chain in which a symbol depends on the last one and on an older one, so
the network needs its memory. The entropy of the chain is the lowest possible loss. There are few
sequences, and without dropout the network memorizes them. Both kinds of masks prevent that, here
equally well.

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
SEEDS = 5
RATE = 0.25
# By name: the rate, and True for a new mask at each time step.
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
        # A new key at each step gives a new mask at each step.
        x = nn.RNN(cell, split_rngs={"params": False, "dropout": self.per_step})(x)
        drop = linen.Dropout if self.per_step else linen.LockedDropout
        x = drop(self.rate, deterministic=not self.train)(x)
        return nn.Dense(SYMBOLS)(x)


def load(training: int, validation: int) -> tuple[list[jax.Array], float]:
    """Draws sequences for training and validation, and returns the entropy of the latter."""
    rng = np.random.default_rng(1)
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


def draw(curves: dict[str, np.ndarray], entropy: float, path: str) -> None:
    """Draws mean validation losses in bands of one standard deviation over the seeds."""
    figure, axis = plt.subplots(figsize=(8.5, 4.5), layout="constrained")
    epochs = np.arange(1, EPOCHS + 1)
    for name, losses in curves.items():
        mean = losses.mean(axis=0)
        stddev = losses.std(axis=0, ddof=1)
        axis.plot(epochs, mean, label=name)
        axis.fill_between(epochs, mean - stddev, mean + stddev, alpha=0.2)
    axis.axhline(np.log(SYMBOLS), color="0.6", linestyle=":", label="guessing")
    axis.axhline(entropy, color="black", linestyle="--", label="entropy of the chain")
    axis.set(xlabel="epoch", ylabel="validation loss", title=f"LSTM, {SEEDS} seeds")
    axis.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Trains every arm with every seed at once, prints the losses and draws the curves."""
    mpl.use("Agg")
    path = sys.argv[1] if len(sys.argv) > 1 else "lstm_locked_dropout.png"
    data, entropy = load(training=96, validation=96)
    keys = jax.random.split(jax.random.key(0), SEEDS)
    curves = {}
    print(f"entropy of the chain: {entropy:.3f}")
    for name, (rate, per_step) in ARMS.items():
        training, validation = jax.device_get(fit(jnp.float32(rate), *data, keys, per_step))
        curves[name] = validation
        last = validation[:, -1]
        print(
            f"{name:10}: training {training[:, -1].mean():.3f}, validation {last.mean():.3f}, "
            f"standard deviation {last.std(ddof=1):.3f}, best epoch {validation.min(1).mean():.3f}"
        )
    draw(curves, entropy, path)
    print(f"figure: {path}")


if __name__ == "__main__":
    main()
