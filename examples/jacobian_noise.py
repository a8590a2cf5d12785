"""Accuracy on noisy digits after training on clean ones, with and without a Jacobian penalty.

Trains all seeds of an arm in one vmapped program and tests all arms on the same noisy images, after
Hoffman, Roberts and Yaida, "Robust Learning with Jacobian Regularization", 2019. The penalty helps
with noise and costs some accuracy on clean images.

    python examples/jacobian_noise.py [figure.png]
"""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
from flax import linen as nn
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from jaxreg import smoothness, targets

WEIGHTS = (0.0, 0.01, 0.1)
SEEDS = 5
EPOCHS = 40
BATCH_SIZE = 64
LEARNING_RATE = 2e-3
NOISE = np.linspace(0, 1, 9)  # Pixels are in [0, 1].


class Network(nn.Module):
    """Two hidden layers."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Dense(100)(x))
        x = nn.relu(nn.Dense(100)(x))
        return nn.Dense(10)(x)


def load() -> list[jax.Array]:
    """Loads training and test rows: ``x, y`` twice."""
    x, y = load_digits(return_X_y=True)
    x, test_x, y, test_y = train_test_split(x / 16, y, test_size=0.3, random_state=0, stratify=y)
    return [jnp.float32(x), jnp.int32(y), jnp.float32(test_x), jnp.int32(test_y)]


@jax.jit
def fit(key: jax.Array, weight: jax.Array, x: jax.Array, y: jax.Array):
    """Trains one network with the penalty at this ``weight``."""
    init_key, key = jax.random.split(key)
    steps = len(x) // BATCH_SIZE
    tx = optax.adam(optax.linear_schedule(LEARNING_RATE, 0.0, steps * EPOCHS))
    params = Network().init(init_key, x[:1])

    def step(carry, inputs):
        params, state = carry
        rows, probe_key = inputs

        def loss(params):
            f = partial(Network().apply, params)
            fit = targets.smoothed_cross_entropy(f(x[rows]), y[rows], alpha=0.0)
            return fit + weight / 2 * smoothness.jacobian(f, x[rows], key=probe_key)

        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    def epoch(carry, key):
        order_key, probe_key = jax.random.split(key)
        order = jax.random.permutation(order_key, len(x))[: steps * BATCH_SIZE]
        probe_keys = jax.random.split(probe_key, steps)
        return jax.lax.scan(step, carry, (order.reshape(steps, BATCH_SIZE), probe_keys))

    (params, _), _ = jax.lax.scan(epoch, (params, tx.init(params)), jax.random.split(key, EPOCHS))
    return params


@jax.jit
def evaluate(params, key: jax.Array, x: jax.Array, y: jax.Array):
    """Returns the accuracy by noise, and the exact norm of the Jacobian on clean images."""
    f = partial(Network().apply, params)
    noise = jax.random.normal(key, x.shape)
    right = [jnp.mean(f(x + level * noise).argmax(-1) == y) for level in NOISE]
    return jnp.stack(right), jnp.sqrt(smoothness.jacobian_exact(f, x))


def draw(accuracies: dict[float, np.ndarray], path: str) -> None:
    """Draws means over seeds, with standard errors."""
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for weight, rows in accuracies.items():
        error = rows.std(axis=0, ddof=1) / np.sqrt(len(rows))
        axis.errorbar(NOISE, rows.mean(axis=0), error, capsize=3, label=f"weight {weight:g}")
    axis.set(xlabel="standard deviation of the noise", ylabel="test accuracy in %")
    axis.legend(title="Jacobian penalty")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Trains all arms, prints accuracies by noise, and draws them."""
    mpl.use("Agg")
    path = sys.argv[1] if len(sys.argv) > 1 else "jacobian_noise.png"
    x, y, test_x, test_y = load()
    keys = jax.random.split(jax.random.key(0), SEEDS)
    noise_keys = jax.random.split(jax.random.key(1), SEEDS)
    accuracies = {}
    print(f"test accuracy in %, mean and standard error of {SEEDS} seeds, by noise")
    for weight in WEIGHTS:
        params = jax.vmap(fit, (0, None, None, None))(keys, weight, x, y)
        right, norms = jax.vmap(evaluate, (0, 0, None, None))(params, noise_keys, test_x, test_y)
        rows = accuracies[weight] = 100 * np.asarray(right)
        print(f"weight {weight:g}: norm of the Jacobian {norms.mean():.2f}")
        for level, mean, error in zip(
            NOISE, rows.mean(axis=0), rows.std(axis=0, ddof=1) / np.sqrt(SEEDS), strict=True
        ):
            print(f"  noise {level:.3f}: {mean:5.1f} ± {error:.1f}")
    draw(accuracies, path)
    print(f"figure: {path}")


if __name__ == "__main__":
    main()
