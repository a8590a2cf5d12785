"""A small ResNet, with and without DropBlock and DropPath.

It learns scikit-learn's digits from few images. Some of their labels are random, so the network can
only memorize them. Both arms start from the same weights and see the same batches, and share one
compiled step, because rates are data. The loop is in Python: on CPU, gradients of convolutions are
many times slower inside a loop of XLA.

    python examples/resnet_drop_block.py [figure.png]
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
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from jaxreg import dropout, linen, targets

LEARNING_RATE = 3e-3
BATCH_SIZE = 50
EPOCHS = 20
SEEDS = 4
RANDOM_LABELS = 0.3
ARMS = {"without": (0.0, 0.0), "DropBlock and DropPath": (0.1, 0.1)}


class Block(nn.Module):
    """Two convolutions and a shortcut; a stride of 2 halves the map."""

    features: int
    stride: int
    block_rate: ArrayLike
    path_rate: ArrayLike

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        norm = partial(linen.BatchNorm, momentum=0.9, use_running_average=not train)
        conv = partial(nn.Conv, self.features, use_bias=False)
        drop = linen.DropBlock(self.block_rate, block_size=3, deterministic=not train)
        y = drop(nn.relu(norm()(conv((3, 3), strides=self.stride)(x))))
        y = drop(norm()(conv((3, 3))(y)))
        y = linen.DropPath(self.path_rate, deterministic=not train)(y)
        if self.stride > 1:
            x = norm()(conv((1, 1), strides=self.stride)(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Four blocks, on maps of 8 x 8 and 4 x 4."""

    block_rate: ArrayLike
    path_rate: ArrayLike

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        norm = linen.BatchNorm(momentum=0.9, use_running_average=not train)
        x = nn.relu(norm(nn.Conv(16, (3, 3), use_bias=False)(x)))
        sizes = ((16, 1), (16, 1), (32, 2), (32, 1))
        for size, rate in zip(sizes, dropout.drop_path_rates(self.path_rate, 4), strict=True):
            x = Block(*size, self.block_rate, rate)(x, train=train)
        return nn.Dense(10)(x.mean(axis=(1, 2)))


def load() -> list[jax.Array]:
    """Loads training images, partly random labels, test images and their true labels."""
    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 8, 8, 1) / 16
    x, test_x, y, test_y = train_test_split(
        x, y, train_size=400, test_size=500, random_state=1, stratify=y
    )
    random = np.random.default_rng(0)
    y = np.where(random.random(len(y)) < RANDOM_LABELS, random.integers(10, size=len(y)), y)
    return [jnp.float32(x), jnp.int32(y), jnp.float32(test_x), jnp.int32(test_y)]


def optimizer(examples: int) -> optax.GradientTransformation:
    steps = EPOCHS * (examples // BATCH_SIZE)
    return optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, steps))


@jax.jit
def start(key: jax.Array, x: jax.Array):
    """Returns the variables and the optimizer's state before the first step."""
    variables = ResNet(0.0, 0.0).init(key, x[:1], train=False)
    return variables, optimizer(len(x)).init(variables["params"])


@jax.jit
def train_step(rates, variables, opt_state, x, y, rows, key):
    """Trains on one batch."""
    model = ResNet(*rates)

    def loss(params):
        logits, updated = model.apply(
            {**variables, "params": params},
            x[rows],
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        return targets.smoothed_cross_entropy(logits, y[rows], alpha=0.0), updated

    params = variables["params"]
    grads, updated = jax.grad(loss, has_aux=True)(params)
    updates, opt_state = optimizer(len(x)).update(grads, opt_state, params)
    return {"params": optax.apply_updates(params, updates), **updated}, opt_state


@jax.jit
def accuracy(variables, x: jax.Array, y: jax.Array) -> jax.Array:
    logits = ResNet(0.0, 0.0).apply(variables, x, train=False)
    return jnp.mean(logits.argmax(-1) == y)


def fit(rates, seed: int, x, y, test_x, test_y) -> np.ndarray:
    """Returns training and test accuracy after every epoch."""
    key, noise_key = jax.random.split(jax.random.key(seed))
    variables, opt_state = start(key, x)
    rows_of = np.random.default_rng(seed)
    curves = []
    for epoch_key in jax.random.split(noise_key, EPOCHS):
        batches = rows_of.permutation(len(x)).reshape(-1, BATCH_SIZE)
        for rows, key in zip(batches, jax.random.split(epoch_key, len(batches)), strict=True):
            variables, opt_state = train_step(rates, variables, opt_state, x, y, rows, key)
        curves.append((accuracy(variables, x, y), accuracy(variables, test_x, test_y)))
    return np.asarray(curves)


def draw(curves: dict[str, np.ndarray], path: str) -> None:
    """Draws the mean over the seeds, in a band of one standard deviation."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    epochs = np.arange(1, EPOCHS + 1)
    titles = ("Training images, some labels random", "Test images, true labels")
    for column, (axis, title) in enumerate(zip(axes, titles, strict=True)):
        for name, runs in curves.items():
            mean = runs[..., column].mean(axis=0)
            stddev = runs[..., column].std(axis=0, ddof=1)
            axis.plot(epochs, mean, label=name)
            axis.fill_between(epochs, mean - stddev, mean + stddev, alpha=0.2)
        axis.set(xlabel="epoch", title=title, xticks=epochs[1::2], ylim=(0.4, 1.01))
        axis.grid(alpha=0.3)
    axes[0].set(ylabel=f"accuracy, mean of {SEEDS} seeds")
    axes[1].legend(loc="lower right")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Trains every arm with every seed, prints the test accuracies and draws the curves."""
    mpl.use("Agg")
    path = sys.argv[1] if len(sys.argv) > 1 else "resnet_drop_block.png"
    data = load()
    curves = {}
    for name, rates in ARMS.items():
        strengths = tuple(map(jnp.float32, rates))
        curves[name] = np.stack([fit(strengths, seed, *data) for seed in range(SEEDS)])
        last = curves[name][:, -1, 1]
        print(f"{name}: test accuracy {last.mean():.3f}, standard deviation {last.std(ddof=1):.3f}")
    without, with_both = curves.values()
    gain = with_both[:, -1, 1] - without[:, -1, 1]
    print(f"difference of each seed: {np.array2string(gain, precision=3, sign='+')}")
    draw(curves, path)
    print(f"figure: {path}")


if __name__ == "__main__":
    main()
