"""Uncertainty of MC dropout on rotated digits: does a network notice unfamiliar inputs?

A convolutional network learns upright handwritten digits with dropout. Then test digits are rotated
by up to 90 degrees and classified by many samples of the network, each with its own dropout masks.
The entropy of their mean probability is the total uncertainty; the mutual information is the part
that comes from disagreement between samples. Both grow up to 45 degrees. Beyond that they fall
again although accuracy does not recover: all samples mistake a digit on its side for another digit.

    python examples/mc_dropout_rotation.py [figure.png]
"""

import sys

import jax
import jax.numpy as jnp
import matplotlib as mpl
import optax
from flax import linen as nn
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits

from jaxreg import augment, linen, targets
from jaxreg.training import ensembles

DEGREES = jnp.arange(0.0, 91.0, 7.5)
SHOWN = (0, 3, 6, 9, 12)  # Indices of the angles at which a digit is drawn.
SAMPLES = 50
TRAINING_ROWS = 900
RATE = 0.4
BATCH_SIZE = 60
EPOCHS = 25


class Network(nn.Module):
    """Two convolutions and two dense layers, with dropout before each dense layer."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(16, (3, 3))(x))
        x = nn.max_pool(nn.relu(nn.Conv(32, (3, 3))(x)), (2, 2), (2, 2))
        x = linen.Dropout(RATE, deterministic=False)(x.reshape(len(x), -1))
        x = linen.Dropout(RATE, deterministic=False)(nn.relu(nn.Dense(64)(x)))
        return nn.Dense(10)(x)


def load() -> list[jax.Array]:
    """Loads training images and labels, test images and labels."""
    x, y = load_digits(return_X_y=True)
    x = jnp.float32(x / 16).reshape(-1, 8, 8, 1)
    y = jnp.int32(y)
    order = jax.random.permutation(jax.random.key(0), len(x))
    train, test = order[:TRAINING_ROWS], order[TRAINING_ROWS:]
    return [x[train], y[train], x[test], y[test]]


def train(key, x, y):
    """Trains a network on upright digits and returns its parameters."""
    init_key, order_key, key = jax.random.split(key, 3)
    params = Network().init({"params": init_key, "dropout": key}, x[:1])
    tx = optax.adam(2e-3)

    def step(carry, inputs):
        params, state = carry
        rows, key = inputs

        def loss(params):
            logits = Network().apply(params, x[rows], rngs={"dropout": key})
            return targets.smoothed_cross_entropy(logits, y[rows], alpha=0.0)

        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    orders = jax.vmap(lambda key: jax.random.permutation(key, len(x)))
    batches = orders(jax.random.split(order_key, EPOCHS)).reshape(-1, BATCH_SIZE)
    keys = jax.random.split(key, len(batches))
    return jax.lax.scan(step, (params, tx.init(params)), (batches, keys))[0][0]


def score(params, key, x, y, degrees):
    """Returns scores and probabilities of each test digit, rotated by an angle."""
    x = augment.rotate(x, degrees=degrees)
    keys = jax.random.split(key, SAMPLES)
    logits = jax.vmap(lambda key: Network().apply(params, x, rngs={"dropout": key}))(keys)
    result = ensembles.class_uncertainty(logits)
    p = jnp.exp(result.log_probabilities)
    return {
        "accuracy": jnp.float32(p.argmax(-1) == y),
        "confidence": p.max(-1),
        "entropy": result.entropy,
        "expected entropy": result.expected_entropy,
        "mutual information": result.mutual_information,
    }, p


def draw(scores, x, labels, p, path: str) -> None:
    """Draws a rotated digit with its predictions (top), and means over all digits (bottom)."""
    figure = plt.figure(figsize=(10, 6), layout="constrained")
    grid = figure.add_gridspec(2, 2 * len(SHOWN), height_ratios=(1, 2.4))
    for column, index in enumerate(SHOWN):
        axes = figure.add_subplot(grid[0, 2 * column : 2 * column + 2])
        axes.imshow(augment.rotate(x, degrees=DEGREES[index])[..., 0], cmap="gray_r")
        label, entropy = p[index].argmax(), scores["entropy"][index, 0]
        axes.set_title(f"{DEGREES[index]:.0f}°: {label}, {entropy:.2f} nats", fontsize=10)
        axes.axis("off")
    left = figure.add_subplot(grid[1, : len(SHOWN)])
    right = figure.add_subplot(grid[1, len(SHOWN) :])
    for names, axes in ((["accuracy", "confidence"], left), ([*scores][2:], right)):
        for name in names:
            mean = scores[name].mean(-1)
            error = scores[name].std(-1, ddof=1) / jnp.sqrt(len(labels))
            axes.errorbar(DEGREES, mean, 2 * error, marker="o", capsize=2, label=name)
        axes.set(xlabel="degrees", ylim=(0, None))
        axes.legend()
    left.set(title=f"mean of {SAMPLES} samples of the network")
    right.set(title="uncertainty (nats)")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Trains, rotates, prints the scores by angle, and draws the figure."""
    mpl.use("Agg")
    path = sys.argv[1] if len(sys.argv) > 1 else "mc_dropout_rotation.png"
    train_key, key = jax.random.split(jax.random.key(1))
    x, y, test_x, test_y = load()
    first = int(jnp.argmax(test_y == 1))  # A one is drawn, as in Gal and Ghahramani (2016).
    order = jnp.argsort(jnp.arange(len(test_y)) != first, stable=True)
    test_x, test_y = test_x[order], test_y[order]
    params = jax.jit(train)(train_key, x, y)
    by_angle = jax.jit(lambda degrees: score(params, key, test_x, test_y, degrees))
    scores, p = jax.lax.map(by_angle, DEGREES)
    print("degrees" + "".join(f"{name:>20}" for name in scores))
    for index, degrees in enumerate(DEGREES):
        cells = (f"{values[index].mean():20.3f}" for values in scores.values())
        print(f"{degrees:7.1f}" + "".join(cells))
    draw(scores, test_x[0], test_y, p[:, 0], path)
    print(f"figure: {path}")


if __name__ == "__main__":
    main()
