"""Structured sparsity: group lasso removes channels of a convolutional network.

Every proximal step shrinks the weights into a channel as one group, and sets whole groups to
exactly zero. Such a channel has the same value at every position, ``relu(bias)``, which moves into
the bias of the next layer; the channel and the weights that read it are then removed. Without
padding the outputs only change by rounding.

    python examples/structured_sparsity.py
"""

import time
from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from jaxreg import proximal, targets, transforms

FEATURES = (24, 48)
BATCH_SIZE = 64
EPOCHS = 20
LEARNING_RATE = 0.1
MOMENTUM = 0.9
WEIGHT = 3e-3
CONVOLUTIONS = ("conv_0", "conv_1")


class Network(nn.Module):
    """Convolutions of the given numbers of channels, without padding, and a dense layer."""

    features: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for name, channels in zip(CONVOLUTIONS, self.features, strict=True):
            x = nn.relu(nn.Conv(channels, (3, 3), padding="VALID", name=name)(x))
        return nn.Dense(10, name="dense")(x.reshape(len(x), -1))


def load() -> list[jax.Array]:
    """Loads training and test images and labels: ``x, y`` twice."""
    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 8, 8, 1) / 16
    x, test_x, y, test_y = train_test_split(x, y, test_size=0.3, random_state=0, stratify=y)
    return [jnp.float32(x), jnp.int32(y), jnp.float32(test_x), jnp.int32(test_y)]


def optimizer(steps: int, weight: jax.Array) -> optax.GradientTransformationExtraArgs:
    """Chains momentum and a proximal step on convolutions, scaled to momentum's step size."""
    schedule = optax.cosine_decay_schedule(LEARNING_RATE, steps)
    shrink = transforms.proximal(
        proximal.group_lasso, weight, lambda step: schedule(step) / (1 - MOMENTUM)
    )

    def convolutions(params):
        return jax.tree_util.tree_map_with_path(
            lambda path, _: path[0].key in CONVOLUTIONS and path[-1].key == "kernel", params
        )

    return optax.chain(optax.sgd(schedule, MOMENTUM), optax.masked(shrink, convolutions))


@jax.jit
def fit(key, x, y, weight):
    """Trains a network of full size with this ``weight`` of the group lasso."""
    init_key, key = jax.random.split(key)
    model = Network(FEATURES)
    steps = len(x) // BATCH_SIZE
    tx = optimizer(steps * EPOCHS, weight)
    params = model.init(init_key, x[:1])["params"]

    def step(carry, rows):
        params, state = carry

        def loss(params):
            logits = model.apply({"params": params}, x[rows])
            return targets.smoothed_cross_entropy(logits, y[rows], alpha=0.0)

        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    def epoch(carry, key):
        order = jax.random.permutation(key, len(x))[: steps * BATCH_SIZE]
        return jax.lax.scan(step, carry, order.reshape(steps, BATCH_SIZE))

    carry, _ = jax.lax.scan(epoch, (params, tx.init(params)), jax.random.split(key, EPOCHS))
    return carry[0]


def remove_channels(params):
    """Removes channels whose kernels are zero, without changing the outputs."""
    params = dict(params)
    for name, following in zip(CONVOLUTIONS, (*CONVOLUTIONS[1:], "dense"), strict=True):
        kernel = params[name]["kernel"]
        bias = params[name]["bias"]
        kept = jnp.any(kernel != 0, axis=(0, 1, 2))
        constant = jnp.where(kept, 0, nn.relu(bias))
        # Positions, channels, outputs: a dense layer reads each position with its own weights.
        weights = params[following]["kernel"]
        outputs = weights.shape[-1]
        reading = weights.reshape(-1, len(kept), outputs)
        moved = jnp.einsum("pio,i->o", reading, constant, precision="highest")
        shape = (*weights.shape[:-2], -1, outputs)
        params[name] = {"kernel": kernel[..., kept], "bias": bias[kept]}
        params[following] = {
            "kernel": reading[:, kept].reshape(shape),
            "bias": params[following]["bias"] + moved,
        }
    return params


def size_of(params) -> int:
    return sum(w.size for w in jax.tree.leaves(params))


def compile_for(params, x: jax.Array):
    """Compiles the network for these parameters, and counts its operations for ``x``."""
    features = tuple(len(params[name]["bias"]) for name in CONVOLUTIONS)
    function = jax.jit(lambda params, x: Network(features).apply({"params": params}, x))
    program = function.lower(params, x).compile()
    return partial(program, params), program.cost_analysis()["flops"]


def seconds(function, x: jax.Array) -> float:
    """Returns the shortest time of 30 runs."""
    runs = []
    for _ in range(30):
        start = time.perf_counter()
        jax.block_until_ready(function(x))
        runs.append(time.perf_counter() - start)
    return min(runs)


def main() -> None:
    """Trains, removes channels, and compares the smaller network with the full one."""
    x, y, test_x, test_y = load()
    dense = fit(jax.random.key(0), x, y, 0.0)
    full = fit(jax.random.key(0), x, y, WEIGHT)
    small = remove_channels(full)
    run_dense, _ = compile_for(dense, test_x)
    run_full, flops_full = compile_for(full, test_x)
    run_small, flops_small = compile_for(small, test_x)
    logits = run_full(test_x)
    same = run_small(test_x)
    for name in CONVOLUTIONS:
        print(f"{name}: {len(small[name]['bias'])} of {len(full[name]['bias'])} channels kept")
    outputs = {"without penalty": run_dense(test_x), "with penalty": logits, "small": same}
    for name, values in outputs.items():
        print(f"test accuracy {name}: {jnp.mean(values.argmax(-1) == test_y):.3f}")
    difference = jnp.abs(same - logits).max() / jnp.abs(logits).max()
    print(f"largest difference of logits: {difference:.1e} of the largest logit")
    print(f"parameters: {size_of(full)} to {size_of(small)}")
    print(f"operations: {flops_full / flops_small:.1f} times fewer")
    print(f"time: {seconds(run_full, test_x) / seconds(run_small, test_x):.1f} times less")


if __name__ == "__main__":
    main()
