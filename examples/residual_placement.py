"""Three placements of batch norm in a residual block, over seeds, at two depths.

    post-activation   x -> relu(x + norm(dense(relu(norm(dense(x))))))
    norm last         x -> x + norm(relu(dense(norm(relu(dense(x))))))
    pre-activation    x -> x + dense(relu(norm(dense(relu(norm(x))))))

The original residual networks use the first one. He et al., `Identity Mappings in Deep Residual
Networks <https://arxiv.org/abs/1603.05027>`_, 2016, use the last one, whose shortcuts are the
identity. The networks learn scikit-learn's digits from 400 images, and all seeds of an arm run in
one program.

    python examples/residual_placement.py [figure.png]
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

WIDTH = 32
DEPTHS = (4, 48)
BATCH_SIZE = 50
EPOCHS = 20
SEEDS = 8
LEARNING_RATE = 0.1


class Block(nn.Module):
    """A residual block; its methods are the placements."""

    train: bool

    def setup(self) -> None:
        self.dense = [nn.Dense(WIDTH, use_bias=False) for _ in range(2)]
        self.norms = [
            linen.BatchNorm(momentum=0.9, use_running_average=not self.train) for _ in range(2)
        ]

    def post_activation(self, x: jax.Array) -> jax.Array:
        y = nn.relu(self.norms[0](self.dense[0](x)))
        return nn.relu(x + self.norms[1](self.dense[1](y)))

    def norm_last(self, x: jax.Array) -> jax.Array:
        y = self.norms[0](nn.relu(self.dense[0](x)))
        return x + self.norms[1](nn.relu(self.dense[1](y)))

    def pre_activation(self, x: jax.Array) -> jax.Array:
        y = self.dense[0](nn.relu(self.norms[0](x)))
        return x + self.dense[1](nn.relu(self.norms[1](y)))


ARMS = {
    "post-activation": Block.post_activation,
    "norm last": Block.norm_last,
    "pre-activation": Block.pre_activation,
}


class Network(nn.Module):
    """Blocks of one placement between two dense layers, with a norm before the last one."""

    placement: Callable[[Block, jax.Array], jax.Array]
    depth: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        def call(block: Block, x: jax.Array) -> tuple[jax.Array, None]:
            return self.placement(block, x), None

        scan = nn.scan(
            call,
            variable_axes={"params": 0, "batch_stats": 0},
            split_rngs={"params": True},
            length=self.depth,
        )
        x, _ = scan(Block(train), nn.Dense(WIDTH)(x))
        norm = linen.BatchNorm(momentum=0.9, use_running_average=not train)
        return nn.Dense(10)(nn.relu(norm(x)))


def load() -> list[jax.Array]:
    """Loads training images and labels, test images and labels."""
    x, y = load_digits(return_X_y=True)
    x, test_x, y, test_y = train_test_split(x / 16, y, train_size=400, random_state=0, stratify=y)
    return [jnp.float32(x), jnp.int32(y), jnp.float32(test_x), jnp.int32(test_y)]


def fit(key, x, y, test_x, test_y, *, model: Network) -> tuple[jax.Array, jax.Array]:
    """Returns the training loss of each step and the test accuracy at the end."""
    optimizer = optax.sgd(LEARNING_RATE, momentum=0.9)
    start_key, order_key = jax.random.split(key)
    variables = model.init(start_key, x, train=False)

    def step(carry, rows):
        variables, state = carry

        def loss(params):
            logits, updated = model.apply(
                {**variables, "params": params}, x[rows], train=True, mutable=["batch_stats"]
            )
            return targets.smoothed_cross_entropy(logits, y[rows], alpha=0.0), updated

        (value, updated), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        updates, state = optimizer.update(grads, state)
        params = optax.apply_updates(variables["params"], updates)
        return ({"params": params, **updated}, state), value

    orders = jax.vmap(partial(jax.random.permutation, x=len(x)))(
        jax.random.split(order_key, EPOCHS)
    )
    carry = variables, optimizer.init(variables["params"])
    (variables, _), losses = jax.lax.scan(step, carry, orders.reshape(-1, BATCH_SIZE))
    test = jnp.mean(model.apply(variables, test_x, train=False).argmax(-1) == test_y)
    return losses, test


def draw(losses: dict[tuple[str, int], np.ndarray], path: str) -> None:
    """Draws the mean training loss of each epoch, in the range over seeds."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    epochs = np.arange(1, EPOCHS + 1)
    for (name, depth), runs in losses.items():
        axis = axes[DEPTHS.index(depth)]
        of_epoch = runs.reshape(SEEDS, EPOCHS, -1).mean(axis=-1)
        axis.plot(epochs, of_epoch.mean(axis=0), label=name)
        axis.fill_between(epochs, of_epoch.min(axis=0), of_epoch.max(axis=0), alpha=0.2)
        axis.set(xlabel="epoch", title=f"{depth} blocks", yscale="log")
        axis.grid(alpha=0.3)
    axes[0].set(ylabel=f"training loss, mean of {SEEDS} seeds")
    axes[1].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Trains each placement at each depth, prints their test accuracies and draws the losses."""
    mpl.use("Agg")
    path = sys.argv[1] if len(sys.argv) > 1 else "residual_placement.png"
    data = load()
    keys = jax.random.split(jax.random.key(0), SEEDS)
    losses = {}
    tests = {}
    for depth in DEPTHS:
        for name, placement in ARMS.items():
            train = partial(fit, model=Network(placement, depth))
            loss, test = jax.device_get(jax.jit(jax.vmap(train, (0, *[None] * 4)))(keys, *data))
            losses[name, depth] = loss
            tests[name, depth] = test
            last = loss[:, -8:].mean()
            gain = test - tests["post-activation", depth]
            error = gain.std(ddof=1) / SEEDS**0.5
            print(
                f"{depth:2} blocks, {name:15} training loss {last:.4f}, test accuracy "
                f"{test.mean():.3f}, {gain.mean():+.3f} +- {error:.3f} against post-activation"
            )
    draw(losses, path)
    print(f"figure: {path}")


if __name__ == "__main__":
    main()
