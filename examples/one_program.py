"""A whole training run as one program, and 32 of them at once.

Early stopping and a weight decay that follows the validation loss are values in the carry of one
``lax.scan``, and the rate of dropout is a function of its step. No Python runs between the steps,
and the buffers are donated. ``jax.vmap`` runs 32 limits of dropout with 32 seeds side by side, and
each run stops at the same step as it would alone.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

from jaxreg import dropout, targets, transforms
from jaxreg.training import early_stopping, plateau, schedules

LEARNING_RATE = 2e-3
STEPS = 1000
BATCH_SIZE = 50
EVALUATE_EVERY = 10
PATIENCE = 15
RUNS = 32


class Run(NamedTuple):
    """State of a run, a pytree that can be donated, saved or vmapped."""

    key: jax.Array
    params: Any
    optimizer: Any
    stopping: early_stopping.EarlyStopping
    decay: plateau.Plateau


def load() -> list[jax.Array]:
    """Loads training rows and labels, validation rows and labels."""
    x, y = load_digits(return_X_y=True)
    x = jnp.float32(x / 16)
    y = jnp.int32(y)
    return [x[:300], y[:300], x[300:900], y[300:900]]


def predict(params, x):
    return jax.nn.relu(x @ params["a"] + params["b"]) @ params["c"]


def predict_in_training(key, params, x, rate):
    hidden = jax.nn.relu(x @ params["a"] + params["b"])
    return dropout.dropout(key, hidden, rate=rate) @ params["c"]


def optimizer(decay):
    return optax.chain(
        optax.adam(LEARNING_RATE), transforms.decoupled_decay(decay, learning_rate=LEARNING_RATE)
    )


def start(key) -> Run:
    """Returns a run before its first step."""
    a_key, c_key, key = jax.random.split(key, 3)
    params = {
        "a": jax.random.normal(a_key, (64, 64)) / 8,
        "b": jnp.zeros(64),
        "c": jax.random.normal(c_key, (64, 10)) / 8,
    }
    return Run(
        key=key,
        params=params,
        optimizer=optimizer(0.0).init(params),
        stopping=early_stopping.init(params),
        decay=plateau.init(0.01),
    )


def update(run: Run, step, limit, data) -> Run:
    """Takes one step, and evaluates on the validation rows every few steps."""
    x, y, validation_x, validation_y = data
    rows_key, key = jax.random.split(jax.random.fold_in(run.key, step))
    rows = jax.random.randint(rows_key, (BATCH_SIZE,), 0, len(x))
    rate = schedules.curriculum_dropout(step, rate=limit, gamma=10 / STEPS)

    def loss(params):
        logits = predict_in_training(key, params, x[rows], rate)
        return targets.smoothed_cross_entropy(logits, y[rows], alpha=0.0)

    tx = optimizer(run.decay.strength)
    updates, state = tx.update(jax.grad(loss)(run.params), run.optimizer, run.params)
    params = optax.apply_updates(run.params, updates)
    new = run._replace(params=params, optimizer=state)

    def evaluate(new: Run) -> Run:
        logits = predict(new.params, validation_x)
        metric = targets.smoothed_cross_entropy(logits, validation_y, alpha=0.0)
        return new._replace(
            stopping=early_stopping.update(new.stopping, metric, new.params, patience=PATIENCE),
            decay=plateau.update(new.decay, metric, patience=PATIENCE / 3, factor=2.0, maximum=1.0),
        )

    new = jax.lax.cond((step + 1) % EVALUATE_EVERY == 0, evaluate, lambda new: new, new)
    # A stopped run no longer changes while the others go on.
    stopped = run.stopping.should_stop
    return jax.tree.map(lambda old, leaf: jnp.where(stopped, old, leaf), run, new)


def train(run: Run, limit, data) -> tuple[Run, jax.Array]:
    """Trains to the end, and returns the run and the number of its steps."""

    def step(run, index):
        return update(run, index, limit, data), run.stopping.should_stop

    run, stopped = jax.lax.scan(step, run, jnp.arange(STEPS))
    return run, STEPS - jnp.sum(stopped)


def main() -> None:
    """Trains all runs at once, and one of them alone."""
    data = load()
    keys = jax.random.split(jax.random.key(0), RUNS)
    limits = jnp.linspace(0.0, 0.8, RUNS)
    train_all = jax.jit(jax.vmap(train, in_axes=(0, 0, None)), donate_argnums=0)
    runs, steps = train_all(jax.vmap(start)(keys), limits, data)

    print("limit of dropout  steps  last decay  best validation loss")
    for row in range(0, RUNS, 4):
        best = runs.stopping.best_metric[row]
        decay = runs.decay.strength[row]
        print(f"{limits[row]:16.2f}  {steps[row]:5d}  {decay:10.2f}  {best:20.3f}")

    row = 20
    alone, own = jax.jit(partial(train, data=data), donate_argnums=0)(start(keys[row]), limits[row])
    difference = abs(alone.stopping.best_metric - runs.stopping.best_metric[row])
    print(f"run {row} alone stops after {own} steps as well: {bool(own == steps[row])}")
    print(f"difference of its best validation loss: {difference:.1e}")


if __name__ == "__main__":
    main()
