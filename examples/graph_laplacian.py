"""Ten labeled images of each digit, and all other images without labels: does a graph help?

The graph of the ten nearest neighbors needs no labels, so it joins all images, including the test
images (transductive learning). Each seed draws new labeled images, the same for all arms. The loss
is the cross entropy of the labeled images plus the Laplacian of the probabilities of all images.

    python examples/graph_laplacian.py [figure.png]
"""

import sys

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
from flax import linen as nn
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits

from jaxreg import smoothness, targets

WEIGHTS = (0.0, 0.01, 0.1, 1.0)  # Per image.
LABELS_PER_CLASS = 10
NEIGHBORS = 10
LENGTH_SCALE = 1.0
SEEDS = 6
STEPS = 300
LEARNING_RATE = 3e-3


class Network(nn.Module):
    """Two hidden layers."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Dense(100)(x))
        x = nn.relu(nn.Dense(100)(x))
        return nn.Dense(10)(x)


def labeled_rows(y: np.ndarray, seed: int) -> np.ndarray:
    """Draws the rows of the images whose labels are known."""
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [rng.choice(np.flatnonzero(y == c), LABELS_PER_CLASS, replace=False) for c in range(10)]
    )


@jax.jit
def fit(
    key: jax.Array,
    weight: jax.Array,
    x: jax.Array,
    y: jax.Array,
    rows: jax.Array,
    affinity: smoothness.Neighbors,
) -> jax.Array:
    """Trains one network and returns its accuracy on the images without labels."""
    tx = optax.adam(LEARNING_RATE)
    params = Network().init(key, x[:1])

    def loss(params):
        logits = Network().apply(params, x)
        roughness = smoothness.graph_laplacian(jax.nn.softmax(logits), affinity) / len(x)
        fit = targets.smoothed_cross_entropy(logits[rows], y[rows], alpha=0.0)
        return fit + weight * roughness

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), length=STEPS)
    right = Network().apply(params, x).argmax(-1) == y
    return jnp.mean(right, where=jnp.ones(len(x), bool).at[rows].set(False))


def draw(accuracies: dict[float, np.ndarray], path: str) -> None:
    """Draws one line per seed, which is a choice of labeled images."""
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    names = [f"{weight:g}" for weight in accuracies]
    table = np.stack(list(accuracies.values()))
    axis.plot(names, table, "o-", color="0.75")
    error = table.std(axis=1, ddof=1) / np.sqrt(SEEDS)
    axis.errorbar(names, table.mean(axis=1), error, capsize=3, label="mean and standard error")
    axis.set(xlabel="weight of the Laplacian", ylabel="accuracy without labels in %")
    axis.legend(loc="lower right")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Trains all arms and seeds, prints accuracies and paired differences, and draws them."""
    mpl.use("Agg")
    path = sys.argv[1] if len(sys.argv) > 1 else "graph_laplacian.png"
    x, y = load_digits(return_X_y=True)
    x = jnp.float32(x / 16)
    affinity = smoothness.knn_affinity(x, neighbors=NEIGHBORS, length_scale=LENGTH_SCALE)
    same = np.mean(y[np.asarray(affinity.indices)] == y[:, None])
    print(f"{same:.1%} of the neighbors are the same digit")
    accuracies = {}
    for weight in WEIGHTS:
        shares = [
            fit(jax.random.key(seed), weight, x, jnp.int32(y), labeled_rows(y, seed), affinity)
            for seed in range(SEEDS)
        ]
        accuracies[weight] = 100 * np.asarray(shares)
    print(f"accuracy in %, mean and standard error of {SEEDS} choices of labels")
    for weight, values in accuracies.items():
        gain = values - accuracies[0.0]
        error = values.std(ddof=1) / np.sqrt(SEEDS)
        gain_error = gain.std(ddof=1) / np.sqrt(SEEDS)
        print(
            f"weight {weight:g}: {values.mean():.1f} ± {error:.1f}, "
            f"difference {gain.mean():+.1f} ± {gain_error:.1f}"
        )
    draw(accuracies, path)
    print(f"figure: {path}")


if __name__ == "__main__":
    main()
