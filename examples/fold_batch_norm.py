"""Recalibration of batch norms after training, then folding them into the convolutions.

A small convolutional network learns scikit-learn's digits in few steps, so the running averages of
its batch norms lag behind the weights. Recalibration replaces them with the statistics of the
training images under the last weights. Folding then moves the norms into the convolutions before
them, which gives the same outputs without any norm.

    python examples/fold_batch_norm.py
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from jaxreg import linen, targets
from jaxreg.training import statistics

STEPS = 60
BATCH_SIZE = 64
OPTIMIZER = optax.adam(3e-3)


class Network(nn.Module):
    """Three convolutions, each with a norm."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        for features, stride in ((16, 1), (32, 2), (32, 1)):
            x = nn.Conv(features, (3, 3), strides=stride, use_bias=False)(x)
            x = nn.relu(linen.BatchNorm(use_running_average=not train)(x))
        return nn.Dense(10)(x.mean(axis=(1, 2)))


train_mode = partial(Network().apply, train=True, mutable=["batch_stats"])
evaluate = partial(Network().apply, train=False)


def load() -> list[np.ndarray]:
    """Loads training and test images and their labels."""
    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 8, 8, 1).astype(np.float32) / 16
    return train_test_split(x, y.astype(np.int32), test_size=500, random_state=0, stratify=y)


@jax.jit
def train_step(variables, opt_state, x, y):
    """Trains on one batch."""

    def loss(params):
        logits, updated = train_mode({**variables, "params": params}, x)
        return targets.smoothed_cross_entropy(logits, y, alpha=0.0), updated

    params = variables["params"]
    gradients, updated = jax.grad(loss, has_aux=True)(params)
    updates, opt_state = OPTIMIZER.update(gradients, opt_state)
    return {"params": optax.apply_updates(params, updates), **updated}, opt_state


def fit(x: np.ndarray, y: np.ndarray):
    """Trains for a few steps and returns the variables."""
    variables = Network().init(jax.random.key(0), x[:1], train=False)
    opt_state = OPTIMIZER.init(variables["params"])
    rows = np.random.default_rng(0)
    for _ in range(STEPS):
        batch = rows.choice(len(x), BATCH_SIZE, replace=False)
        variables, opt_state = train_step(variables, opt_state, x[batch], y[batch])
    return variables


def report(name: str, apply, variables, x: np.ndarray, y: np.ndarray) -> jax.Array:
    """Prints accuracy and size of the compiled program, and returns the logits."""
    program = jax.jit(apply).lower(variables, x).compile()
    logits = program(variables, x)
    roots = program.as_text().count(" rsqrt(")
    numbers = sum(leaf.size for leaf in jax.tree.leaves(variables))
    accuracy = jnp.mean(logits.argmax(-1) == y)
    print(f"{name}: test accuracy {accuracy:.3f}, {numbers} numbers, {roots} inverse roots")
    return logits


def main() -> None:
    """Trains, recalibrates, folds, and prints the changes of each step."""
    x, test_x, y, test_y = load()
    variables = fit(x, y)
    report("running averages", evaluate, variables, test_x, test_y)
    batches = np.array_split(x, len(x) // BATCH_SIZE)
    variables = statistics.recalibrate(train_mode, variables, batches)
    expected = report("recalibrated", evaluate, variables, test_x, test_y)
    apply, folded = linen.fold_batch_norm(evaluate, variables, test_x[:1])
    logits = report("folded", apply, folded, test_x, test_y)
    print(f"largest difference of the logits: {jnp.abs(logits - expected).max():.1e}")


if __name__ == "__main__":
    main()
