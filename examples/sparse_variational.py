"""Sparse variational dropout: every weight learns its own dropout rate, and most can be pruned.

Trains a network on scikit-learn's digits, with the weight of the divergence from the prior warmed
up from zero. Weights with ``log_alpha > 3`` are pruned in evaluation mode.

    python examples/sparse_variational.py [figure.png]
"""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib as mpl
import optax
from flax import linen as nn
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from jaxreg import dropout, linen, targets

LEARNING_RATE = 3e-3
BATCH_SIZE = 64
EPOCHS = 100
WARM_UP = 30  # Number of epochs until the divergence has its full weight.
THRESHOLD = 3.0


class Network(nn.Module):
    """Two hidden layers; weights above the threshold count as zero in evaluation mode."""

    threshold: float = THRESHOLD

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        dense = partial(linen.VariationalDense, threshold=self.threshold, deterministic=not train)
        x = nn.relu(dense(100, name="layer 1")(x))
        x = nn.relu(dense(100, name="layer 2")(x))
        return dense(10, name="layer 3")(x)


def load() -> list[jax.Array]:
    """Loads training and test rows: ``x, y`` twice."""
    x, y = load_digits(return_X_y=True)
    x, test_x, y, test_y = train_test_split(x / 16, y, test_size=0.3, random_state=0, stratify=y)
    return [jnp.float32(x), jnp.int32(y), jnp.float32(test_x), jnp.int32(test_y)]


def log_alphas(params) -> dict[str, jax.Array]:
    """Returns the noise of every weight, by layer."""
    return {
        name: dropout.variational_log_alpha(layer["kernel"], layer["log_var"])
        for name, layer in params.items()
    }


def share_pruned(params) -> jax.Array:
    """Returns the share of all weights that evaluation sets to zero."""
    noise = jnp.concatenate([a.ravel() for a in log_alphas(params).values()])
    return jnp.mean(noise > THRESHOLD)


def accuracy(params, x: jax.Array, y: jax.Array, *, threshold: float) -> jax.Array:
    logits = Network(threshold).apply({"params": params}, x, train=False)
    return jnp.mean(logits.argmax(-1) == y)


def train_step(tx, x, y, weight, carry, inputs):
    """Trains on one batch, with this ``weight`` of the divergence."""
    params, state = carry
    rows, key = inputs

    def loss(params):
        logits = Network().apply({"params": params}, x[rows], train=True, rngs={"dropout": key})
        kl = sum(dropout.variational_dropout_kl(a) for a in log_alphas(params).values())
        return targets.smoothed_cross_entropy(logits, y[rows], alpha=0.0) + weight * kl / len(x)

    updates, state = tx.update(jax.grad(loss)(params), state, params)
    return (optax.apply_updates(params, updates), state), None


@jax.jit
def fit(key, x, y, test_x, test_y):
    """Returns the parameters, and the share pruned and the test accuracy after every epoch."""
    init_key, key = jax.random.split(key)
    steps = len(x) // BATCH_SIZE
    tx = optax.adam(optax.linear_schedule(LEARNING_RATE, 0.0, steps * EPOCHS))
    params = Network().init(init_key, x[:1], train=False)["params"]

    def epoch(carry, inputs):
        number, key = inputs
        order_key, noise_key = jax.random.split(key)
        order = jax.random.permutation(order_key, len(x))[: steps * BATCH_SIZE]
        weight = jnp.minimum(number / WARM_UP, 1.0)
        carry, _ = jax.lax.scan(
            partial(train_step, tx, x, y, weight),
            carry,
            (order.reshape(steps, BATCH_SIZE), jax.random.split(noise_key, steps)),
        )
        scored = accuracy(carry[0], test_x, test_y, threshold=THRESHOLD)
        return carry, (share_pruned(carry[0]), scored)

    epochs = (jnp.arange(EPOCHS), jax.random.split(key, EPOCHS))
    (params, _), curves = jax.lax.scan(epoch, (params, tx.init(params)), epochs)
    return params, curves


def draw(params, curves, path: str) -> None:
    """Draws the training (left) and the final noise of the weights (right)."""
    shares, accuracies = curves
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.plot(100 * shares, label="weights pruned")
    left.plot(100 * accuracies, label="test accuracy, pruned")
    left.axvspan(0, WARM_UP, color="0.93", label="warm-up of the divergence")
    left.set(xlabel="epoch", ylabel="%", ylim=(0, 102), title="Training")
    left.legend(loc="lower right")
    for name, noise in log_alphas(params).items():
        right.hist(noise.ravel(), bins=40, range=(-10, 15), histtype="step", label=name)
    right.axvline(THRESHOLD, color="black", linestyle="--", label="threshold")
    right.text(THRESHOLD, 0.97, " pruned →", transform=right.get_xaxis_transform(), va="top")
    right.set(xlabel=r"$\log \alpha$", ylabel="weights", yscale="log", title="Noise of the weights")
    right.legend(loc="upper left")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Trains, prints the size and accuracy after pruning, and draws the figure."""
    mpl.use("Agg")
    path = sys.argv[1] if len(sys.argv) > 1 else "sparse_variational.png"
    data = load()
    params, curves = fit(jax.random.key(0), *data)
    before = accuracy(params, *data[2:], threshold=jnp.inf)
    after = accuracy(params, *data[2:], threshold=THRESHOLD)
    for name, noise in log_alphas(params).items():
        kept = (noise <= THRESHOLD).sum()
        print(f"{name}: {kept} of {noise.size} weights kept")
    print(f"pruned: {share_pruned(params):.1%}")
    print(f"test accuracy before pruning: {before:.3f}, after: {after:.3f}")
    draw(params, curves, path)
    print(f"figure: {path}")


if __name__ == "__main__":
    main()
