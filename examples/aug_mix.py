"""AugMix with few training digits: does a network that saw mixtures stand corruptions?

Networks are trained on 300 handwritten digits on their own, on AugMix's mixtures, and on their own
with the Jensen-Shannon divergence of the predictions for a digit and for two of its mixtures added
(Hendrycks et al., 2020). They are tested on digits they have not seen, as they are and corrupted in
ways that no operation of AugMix is: noise, blur, little contrast, and pixels that are missing.
Seeds differ in their rows, weights, batches and draws; what is printed is the mean of the accuracy
over them with its standard error, and that of the difference to no augmentation, seed by seed.
Blur gains from both and holes from the divergence; noise loses with the divergence, and
clean digits lose a little. Digits of 8 by 8 pixels are a small world: that says nothing on
photographs.

    python examples/aug_mix.py
"""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from sklearn.datasets import load_digits

from jaxreg import augment, information, noise

# Weights of the cross entropy of digits, of that of mixtures, and of the divergence.
ARMS = {"plain": (1.0, 0.0, 0.0), "mixtures": (0.0, 1.0, 0.0), "divergence": (1.0, 0.0, 12.0)}
SEEDS = 6
TRAINING_ROWS = 300
BATCH_SIZE = 50
EPOCHS = 80
LEARNING_RATE = 3e-3


class Network(nn.Module):
    """Two layers on the pixels of images."""

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        return nn.Dense(10)(nn.relu(nn.Dense(128)(x)))


MODEL = Network()


def load() -> tuple[jax.Array, jax.Array]:
    """All digits as images in ``[0, 1]``, and their labels."""
    x, y = load_digits(return_X_y=True)
    return jnp.float32(x / 16).reshape(-1, 8, 8, 1), jnp.int32(y)


def corrupted(key: jax.Array, x: jax.Array) -> dict[str, jax.Array]:
    """Digits as they are, and in what else a camera might do to them."""
    noise_key, hole_key = jax.random.split(key)
    return {
        "clean": x,
        "noise": jnp.clip(noise.gaussian_noise(noise_key, x, stddev=0.3), 0, 1),
        "blur": augment.gaussian_blur(x, sigma=1.0, radius=2),
        "contrast": augment.contrast(x, factor=0.3),
        "holes": augment.random_cutout(hole_key, x, height=3, width=3),
    }


def loss(params, weights, key, x, labels):
    """Cross entropies and the divergence of three views, in some shares."""
    views = jnp.stack([x, *(augment.aug_mix(k, x) for k in jax.random.split(key))])
    logits = jax.vmap(lambda view: MODEL.apply(params, view))(views)
    own, mixed = (
        optax.softmax_cross_entropy_with_integer_labels(z, labels).mean() for z in logits[:2]
    )
    divergence = information.jensen_shannon(logits).mean()
    return weights[0] * own + weights[1] * mixed + weights[2] * divergence


def train(weights, key, x, y):
    """Trains one network; returns its accuracy on digits it has not seen, by corruption."""
    split_key, init_key, step_key, test_key = jax.random.split(key, 4)
    order = jax.random.permutation(split_key, len(x))
    train_rows, test_rows = order[:TRAINING_ROWS], order[TRAINING_ROWS:]
    tx = optax.adam(LEARNING_RATE)
    params = MODEL.init(init_key, x[:1])

    def step(carry, key):
        params, state = carry
        row_key, mix_key = jax.random.split(key)
        rows = jax.random.choice(row_key, train_rows, (BATCH_SIZE,))
        gradient = jax.grad(loss)(params, weights, mix_key, x[rows], y[rows])
        updates, state = tx.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(step_key, EPOCHS * TRAINING_ROWS // BATCH_SIZE)
    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), keys)
    tests = corrupted(test_key, x[test_rows])
    return {
        name: (MODEL.apply(params, image).argmax(-1) == y[test_rows]).mean()
        for name, image in tests.items()
    }


def table(title: str, names, scores) -> None:
    """Prints means over seeds and their standard errors, a line for each arm."""
    print(f"{title}\n{'':12}" + "".join(f"{name:>17}" for name in scores))
    for index, name in enumerate(names):
        cells = (values[index] for values in scores.values())
        error = jnp.sqrt(SEEDS)
        print(
            f"{name:12}" + "".join(f"{c.mean():9.4f} ± {c.std(ddof=1) / error:.4f}" for c in cells)
        )


def main() -> None:
    """Trains all networks at once and prints their accuracies."""
    # The draws are the same for all arms, and made once.
    over_arms = jax.vmap(train, in_axes=(0, None, None, None))
    over_seeds = jax.vmap(over_arms, in_axes=(None, 0, None, None), out_axes=1)
    keys = jax.random.split(jax.random.key(0), SEEDS)
    scores = jax.jit(over_seeds)(jnp.array([*ARMS.values()]), keys, *load())
    table("accuracy", ARMS, scores)
    differences = {name: values[1:] - values[0] for name, values in scores.items()}
    table("difference to plain", [*ARMS][1:], differences)


if __name__ == "__main__":
    main()
