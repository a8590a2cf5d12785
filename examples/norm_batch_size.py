"""Test accuracy of batch, ghost, group and layer norm at batch sizes of 2 to 128.

A perceptron learns scikit-learn's digits from 512 images, for the same number of epochs at every
batch size. All seeds of an arm run in one program, each with its own initial weights and batches.

    python examples/norm_batch_size.py [figure.png]
"""

import sys
from collections.abc import Callable
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

from jaxreg import linen, targets

SIZES = (2, 4, 8, 16, 32, 64, 128)
EPOCHS = 6
SEEDS = 8
LEARNING_RATE = 1e-3  # For batches of two; it grows with the square root of the batch size.

Norm = Callable[..., nn.Module]


def batch_norm(*, train: bool, size: int) -> nn.Module:
    return linen.BatchNorm(momentum=0.9, use_running_average=not train)


def ghost_norm(*, train: bool, size: int) -> nn.Module:
    return linen.GhostBatchNorm(
        ghost_batch_size=min(size, 16), momentum=0.9, use_running_average=not train
    )


def group_norm(*, train: bool, size: int) -> nn.Module:
    return linen.GroupNorm(num_groups=8)


def layer_norm(*, train: bool, size: int) -> nn.Module:
    return linen.LayerNorm()


ARMS: dict[str, Norm] = {
    "batch norm": batch_norm,
    "ghost batch norm, 16": ghost_norm,
    "group norm, 8 groups": group_norm,
    "layer norm": layer_norm,
}


class Perceptron(nn.Module):
    """Two hidden layers, each followed by a norm."""

    norm: Norm
    size: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        for _ in range(2):
            x = nn.relu(self.norm(train=train, size=self.size)(nn.Dense(64, use_bias=False)(x)))
        return nn.Dense(10)(x)


def load() -> list[jax.Array]:
    """Loads training images and labels, test images and labels."""
    x, y = load_digits(return_X_y=True)
    x, test_x, y, test_y = train_test_split(x / 16, y, train_size=512, random_state=0, stratify=y)
    return [jnp.float32(x), jnp.int32(y), jnp.float32(test_x), jnp.int32(test_y)]


def accuracy(variables, batches, x, y, test_x, test_y, *, model: nn.Module) -> jax.Array:
    """Trains with ``batches``, the rows of each step, and returns the test accuracy."""
    size = batches.shape[-1]
    optimizer = optax.adam(LEARNING_RATE * (size / 2) ** 0.5)

    def step(carry, rows):
        variables, state = carry

        def loss(params):
            logits, updated = model.apply(
                {**variables, "params": params}, x[rows], train=True, mutable=["batch_stats"]
            )
            return targets.smoothed_cross_entropy(logits, y[rows], alpha=0.0), updated

        grads, updated = jax.grad(loss, has_aux=True)(variables["params"])
        updates, state = optimizer.update(grads, state)
        params = optax.apply_updates(variables["params"], updates)
        return ({"params": params, **updated}, state), None

    carry = variables, optimizer.init(variables["params"])
    (variables, _), _ = jax.lax.scan(step, carry, batches)
    return jnp.mean(model.apply(variables, test_x, train=False).argmax(-1) == test_y)


def runs_of(norm: Norm, size: int, data: list[jax.Array]) -> np.ndarray:
    """Returns the test accuracy of each seed."""
    model = Perceptron(norm, size)
    orders = np.random.default_rng(0)
    keys = jax.random.split(jax.random.key(0), SEEDS)
    variables = jax.vmap(partial(model.init, train=False), (0, None))(keys, data[0][:size])
    epochs = [orders.permutation(len(data[0])) for _ in range(SEEDS * EPOCHS)]
    batches = np.reshape(epochs, (SEEDS, -1, size))
    train = jax.vmap(partial(accuracy, model=model), (0, 0, *[None] * 4))
    return np.asarray(jax.jit(train)(variables, batches, *data))


def draw(results: dict[str, np.ndarray], path: str) -> None:
    """Draws the mean and standard error over the seeds."""
    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, runs in results.items():
        error = runs.std(axis=1, ddof=1) / SEEDS**0.5
        axis.errorbar(SIZES, runs.mean(axis=1), yerr=error, marker="o", capsize=3, label=name)
    axis.set_xscale("log", base=2)
    axis.set_xticks(SIZES, [str(size) for size in SIZES])
    axis.set(xlabel="batch size", ylabel=f"test accuracy, mean of {SEEDS} seeds")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Trains each arm at each size, prints the test accuracies and draws them."""
    mpl.use("Agg")
    path = sys.argv[1] if len(sys.argv) > 1 else "norm_batch_size.png"
    data = load()
    results = {}
    print(f"{'batch size':22}" + "".join(f"{size:7}" for size in SIZES))
    for name, norm in ARMS.items():
        results[name] = np.stack([runs_of(norm, size, data) for size in SIZES])
        print(f"{name:22}" + "".join(f"{mean:7.3f}" for mean in results[name].mean(axis=1)))
    error = max(runs.std(axis=1, ddof=1).max() for runs in results.values()) / SEEDS**0.5
    print(f"largest standard error {error:.3f}")
    draw(results, path)
    print(f"figure: {path}")


if __name__ == "__main__":
    main()
