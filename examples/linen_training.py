"""Linen: dropout, batch normalization, decay, L1, a norm bound and early stopping together.

Trains a small network on scikit-learn's digits. The whole training is one compiled program: a scan
over epochs around a scan over batches, with early stopping as a value in the carry.
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from jaxreg import linen, masks, projections, proximal, targets, transforms
from jaxreg.training import early_stopping

LEARNING_RATE = 3e-3
BATCH_SIZE = 50
EPOCHS = 60


class Network(nn.Module):
    """Two hidden layers, each with batch norm and dropout."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        for _ in range(2):
            x = nn.Dense(64)(x)
            x = linen.BatchNorm(momentum=0.9)(x, use_running_average=not train)
            x = nn.relu(x)
            x = linen.Dropout(0.2)(x, deterministic=not train)
        return nn.Dense(10)(x)


def optimizer() -> optax.GradientTransformation:
    """Chains Adam, decay, an L1 step and a norm bound; the last three act on kernels only."""
    shrink = transforms.proximal(proximal.l1, 0.05, LEARNING_RATE)
    bound = transforms.project(partial(projections.max_norm, radius=3.0))
    return optax.chain(
        optax.adam(LEARNING_RATE),
        transforms.decoupled_decay(0.1, learning_rate=LEARNING_RATE),
        optax.masked(shrink, masks.kernels),
        optax.masked(bound, masks.kernels),
    )


def load() -> list[jax.Array]:
    """Loads training, validation and test rows: ``x, y`` three times."""
    x, y = load_digits(return_X_y=True)
    x, rest_x, y, rest_y = train_test_split(x / 16, y, train_size=500, random_state=0, stratify=y)
    halves = train_test_split(rest_x, rest_y, train_size=0.5, random_state=0, stratify=rest_y)
    validation_x, test_x, validation_y, test_y = halves
    arrays = (x, y, validation_x, validation_y, test_x, test_y)
    return [jnp.asarray(a, jnp.float32 if a.ndim == 2 else jnp.int32) for a in arrays]


def train_step(model, tx, x, y, carry, inputs):
    """Trains on one batch; the variables are ``params`` and ``batch_stats``."""
    variables, opt_state = carry
    rows, key = inputs

    def loss(params):
        logits, updated = model.apply(
            {**variables, "params": params},
            x[rows],
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        return targets.smoothed_cross_entropy(logits, y[rows], alpha=0.05), updated

    params = variables["params"]
    grads, updated = jax.grad(loss, has_aux=True)(params)
    updates, opt_state = tx.update(grads, opt_state, params)
    return ({"params": optax.apply_updates(params, updates), **updated}, opt_state), None


@jax.jit
def fit(key, x, y, validation_x, validation_y):
    """Returns the variables of the best epoch, and the number of epochs."""
    model = Network()
    tx = optimizer()
    init_key, key = jax.random.split(key)
    variables = model.init(init_key, x[:1], train=False)
    steps = len(x) // BATCH_SIZE

    def epoch(carry, key):
        variables, opt_state, stopping = carry
        order_key, noise_key = jax.random.split(key)
        order = jax.random.permutation(order_key, len(x))[: steps * BATCH_SIZE]
        (variables, opt_state), _ = jax.lax.scan(
            partial(train_step, model, tx, x, y),
            (variables, opt_state),
            (order.reshape(steps, BATCH_SIZE), jax.random.split(noise_key, steps)),
        )
        logits = model.apply(variables, validation_x, train=False)
        loss = targets.smoothed_cross_entropy(logits, validation_y, alpha=0.0)
        stopping = early_stopping.update(stopping, loss, variables, patience=8)
        return variables, opt_state, stopping

    def epoch_unless_stopped(carry, key):
        stopped = carry[-1].should_stop
        return jax.lax.cond(stopped, lambda carry, _: carry, epoch, carry, key), ~stopped

    start = (variables, tx.init(variables["params"]), early_stopping.init(variables))
    (*_, stopping), trained = jax.lax.scan(
        epoch_unless_stopped, start, jax.random.split(key, EPOCHS)
    )
    return stopping.best_params, trained.sum()


def main() -> None:
    """Trains, and prints the accuracy on test rows."""
    *seen, test_x, test_y = load()
    variables, epochs = fit(jax.random.key(0), *seen)
    logits = Network().apply(variables, test_x, train=False)
    kernels = [w for w in jax.tree.leaves(variables["params"]) if w.ndim == 2]
    zeros = sum((w == 0).sum() for w in kernels) / sum(w.size for w in kernels)
    print(f"epochs: {epochs} of {EPOCHS}")
    print(f"weights that are exactly zero: {zeros:.0%}")
    print(f"test accuracy: {(logits.argmax(-1) == test_y).mean():.3f}")


if __name__ == "__main__":
    main()
