"""NNX: dropout, batch normalization, decay, L1, a norm bound and early stopping together.

Trains a small network on scikit-learn's digits in a plain Python loop. ``model.train()`` and
``model.eval()`` switch every layer, and early stopping ends the loop.
"""

from functools import partial

import jax
import numpy as np
import optax
from flax import nnx as flax_nnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from jaxreg import masks, nnx, projections, proximal, targets, transforms
from jaxreg.training import early_stopping

LEARNING_RATE = 3e-3
BATCH_SIZE = 50
EPOCHS = 60


class Network(flax_nnx.Module):
    """Two hidden layers, each with batch norm and dropout."""

    def __init__(self, *, rngs: flax_nnx.Rngs):
        self.first = flax_nnx.Linear(64, 64, rngs=rngs)
        self.first_norm = nnx.BatchNorm(64, momentum=0.9, rngs=rngs)
        self.second = flax_nnx.Linear(64, 64, rngs=rngs)
        self.second_norm = nnx.BatchNorm(64, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.head = flax_nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.dropout(jax.nn.relu(self.first_norm(self.first(x))))
        x = self.dropout(jax.nn.relu(self.second_norm(self.second(x))))
        return self.head(x)


def transformation() -> optax.GradientTransformation:
    """Chains Adam, decay, an L1 step and a norm bound; the last three act on kernels only."""
    shrink = transforms.proximal(proximal.l1, 0.05, LEARNING_RATE)
    bound = transforms.project(partial(projections.max_norm, radius=3.0))
    return optax.chain(
        optax.adam(LEARNING_RATE),
        transforms.decoupled_decay(0.1, learning_rate=LEARNING_RATE),
        optax.masked(shrink, masks.kernels),
        optax.masked(bound, masks.kernels),
    )


def load() -> list[np.ndarray]:
    """Loads training, validation and test rows: ``x, y`` three times."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    y = y.astype(np.int32)
    x, rest_x, y, rest_y = train_test_split(x, y, train_size=500, random_state=0, stratify=y)
    halves = train_test_split(rest_x, rest_y, train_size=0.5, random_state=0, stratify=rest_y)
    validation_x, test_x, validation_y, test_y = halves
    return [x, y, validation_x, validation_y, test_x, test_y]


@flax_nnx.jit
def train_step(model: Network, optimizer: flax_nnx.Optimizer, x: jax.Array, y: jax.Array) -> None:
    """Trains on one batch; the statistics and the dropout's keys advance inside ``model``."""

    def loss(model):
        return targets.smoothed_cross_entropy(model(x), y, alpha=0.05)

    optimizer.update(model, flax_nnx.grad(loss)(model))


@flax_nnx.jit
def evaluate(model: Network, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns loss and accuracy."""
    logits = model(x)
    loss = targets.smoothed_cross_entropy(logits, y, alpha=0.0)
    return loss, (logits.argmax(-1) == y).mean()


def fit(model: Network, x, y, validation_x, validation_y) -> int:
    """Trains ``model``, restores its best epoch and returns the number of epochs."""
    optimizer = flax_nnx.Optimizer(model, transformation(), wrt=flax_nnx.Param)
    learned = (flax_nnx.Param, flax_nnx.BatchStat)
    stopping = early_stopping.init(flax_nnx.state(model, learned))
    update = jax.jit(partial(early_stopping.update, patience=8))
    order = np.random.default_rng(0)
    epochs = 0
    while epochs < EPOCHS and not stopping.should_stop:
        epochs += 1
        model.train()
        for rows in order.permutation(len(x)).reshape(-1, BATCH_SIZE):
            train_step(model, optimizer, x[rows], y[rows])
        model.eval()
        loss, _ = evaluate(model, validation_x, validation_y)
        stopping = update(stopping, loss, flax_nnx.state(model, learned))
    flax_nnx.update(model, stopping.best_params)
    return epochs


def main() -> None:
    """Trains, and prints the accuracy on test rows."""
    *seen, test_x, test_y = load()
    model = Network(rngs=flax_nnx.Rngs(0))
    epochs = fit(model, *seen)
    model.eval()
    _, accuracy = evaluate(model, test_x, test_y)
    kernels = [w for w in jax.tree.leaves(flax_nnx.state(model, flax_nnx.Param)) if w.ndim == 2]
    zeros = sum((w == 0).sum() for w in kernels) / sum(w.size for w in kernels)
    print(f"epochs: {epochs} of {EPOCHS}")
    print(f"weights that are exactly zero: {zeros:.0%}")
    print(f"test accuracy: {accuracy:.3f}")


if __name__ == "__main__":
    main()
