"""A rare class of time series, and new examples of it by a GAN and by simpler methods.

Both classes oscillate, the rare one faster, with random phases and correlated noise. The GAN is a
Wasserstein GAN: spectral norm keeps the slope of its critic at most 1, and the gradient penalty
pulls it up to 1. A small network is then trained on the series and on new examples of the rare
class, which make the classes equally large. All six seeds, each with its own series, run in vmapped
programs. The score is the mean of the accuracies in both classes, with its standard error. With 25
series the GAN does no better than repetition; warping helps, and so does a mixture of Gaussians.

    python examples/series_gan.py [figure.png]
"""

import itertools
import sys
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
from matplotlib import pyplot as plt

from jaxreg import augment, reparam, smoothness
from jaxreg.augment import series

TIME = 32
COMMON, RARE = 200, 25
NEW = COMMON - RARE
TEST_ROWS = 1000
SEEDS = 6
LATENT = 8
HIDDEN = 64
GAN_STEPS, CRITIC_STEPS = 400, 3
BATCH_SIZE = 25
ADAM = optax.adam(1e-3, b1=0.5, b2=0.9)
CLASSIFIER_STEPS = 200


def draw_series(key: jax.Array, number: int, fastest: float) -> jax.Array:
    """Draws oscillations ``[number, TIME]`` with correlated noise."""
    keys = jax.random.split(key, 4)
    cycles = fastest + jax.random.uniform(keys[0], (number, 1), minval=-1.0, maxval=0.0)
    phase = jax.random.uniform(keys[1], (number, 1))
    height = jax.random.uniform(keys[2], (number, 1), minval=0.7, maxval=1.3)
    shocks = 0.3 * jax.random.normal(keys[3], (TIME, number))
    noise = jax.lax.scan(lambda n, shock: (0.7 * n + shock,) * 2, jnp.zeros(number), shocks)[1].T
    time = jnp.linspace(0, 1, TIME)[None]
    return height * jnp.sin(2 * jnp.pi * (cycles * time + phase)) + noise


def draw_data(key: jax.Array, common: int, rare: int) -> tuple[jax.Array, jax.Array]:
    """Draws series of both classes, the common one first, and their labels."""
    keys = jax.random.split(key)
    x = jnp.concatenate([draw_series(keys[0], common, 3.0), draw_series(keys[1], rare, 4.0)])
    return x, jnp.repeat(jnp.arange(2), jnp.array([common, rare]), total_repeat_length=len(x))


def init_layers(key: jax.Array, *sizes: int):
    """Returns initial kernels and biases of a network."""
    keys = jax.random.split(key, len(sizes) - 1)
    init = jax.nn.initializers.he_normal()
    shapes = itertools.pairwise(sizes)
    return [(init(k, shape), jnp.zeros(shape[1])) for k, shape in zip(keys, shapes, strict=True)]


def apply_layers(layers, x: jax.Array) -> jax.Array:
    *hidden, (kernel, bias) = layers
    for w, b in hidden:
        x = jax.nn.leaky_relu(x @ w + b)
    return x @ kernel + bias


def normalize(layers, vectors, steps: int):
    """Normalizes layers to slope 1, and returns them with their singular vectors."""
    pairs = [
        reparam.spectral_norm(w, u, steps=steps) for (w, _), u in zip(layers, vectors, strict=True)
    ]
    return [(w, b) for (w, _), (_, b) in zip(pairs, layers, strict=True)], [u for _, u in pairs]


def descend(loss, params, state):
    updates, state = ADAM.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state


def gan_step(real: jax.Array, carry, key: jax.Array):
    """Trains the critic on some batches and the generator on one."""
    generator, generator_state, critic, critic_state, vectors = carry
    *critic_keys, key = jax.random.split(key, CRITIC_STEPS + 1)
    for critic_key in critic_keys:
        row_key, fake_key, penalty_key = jax.random.split(critic_key, 3)
        batch = real[jax.random.randint(row_key, (BATCH_SIZE,), 0, len(real))]
        fake = generate(generator, fake_key, BATCH_SIZE)
        vectors = normalize(critic, vectors, steps=1)[1]

        def loss(critic, batch=batch, fake=fake, key=penalty_key, vectors=vectors):
            score = partial(apply_layers, normalize(critic, vectors, steps=0)[0])
            penalty = smoothness.gradient_penalty(score, batch, fake, key=key)
            return score(fake).mean() - score(batch).mean() + penalty

        critic, critic_state = descend(loss, critic, critic_state)

    def deceive(generator):
        layers = normalize(critic, vectors, steps=0)[0]
        return -apply_layers(layers, generate(generator, key, BATCH_SIZE)).mean()

    generator, generator_state = descend(deceive, generator, generator_state)
    return (generator, generator_state, critic, critic_state, vectors), None


def generate(generator, key: jax.Array, number: int) -> jax.Array:
    return apply_layers(generator, jax.random.normal(key, (number, LATENT)))


def gan(key: jax.Array, x: jax.Array, labels: jax.Array) -> jax.Array:
    """Trains a GAN on the rare class and draws from it."""
    del labels
    keys = jax.random.split(key, 5)
    generator = init_layers(keys[0], LATENT, HIDDEN, HIDDEN, TIME)
    critic = init_layers(keys[1], TIME, HIDDEN, HIDDEN, 1)
    vectors = [reparam.spectral_norm_vector(keys[2], w) for w, _ in critic]
    carry = generator, ADAM.init(generator), critic, ADAM.init(critic), vectors
    step = partial(gan_step, x[COMMON:])
    carry, _ = jax.lax.scan(step, carry, jax.random.split(keys[3], GAN_STEPS))
    return generate(carry[0], keys[4], NEW)


def repeat(key: jax.Array, x: jax.Array, labels: jax.Array) -> jax.Array:
    del labels
    return x[jax.random.randint(key, (NEW,), COMMON, COMMON + RARE)]


def warp(key: jax.Array, x: jax.Array, labels: jax.Array) -> jax.Array:
    """Repeats series and changes their values and their times."""
    row_key, key = jax.random.split(key)
    both = augment.sequence(
        partial(series.random_magnitude_warp, stddev=0.2, knots=6),
        partial(series.random_time_warp, stddev=0.2, knots=6),
    )
    return both(key, repeat(row_key, x, labels)[..., None])[..., 0]


def smote(key: jax.Array, x: jax.Array, labels: jax.Array) -> jax.Array:
    return augment.tables.smote(key, x, labels, wanted=jnp.ones(NEW, int))


def mixture(key: jax.Array, x: jax.Array, labels: jax.Array) -> jax.Array:
    """Draws from two Gaussians; with fewer series than time steps, the fit needs a ridge."""
    fit_key, key = jax.random.split(key)
    options = {"num_classes": 2, "components": 2, "steps": 20, "ridge": 0.1}
    fitted = augment.tables.fit_mixture(fit_key, x, labels, **options)
    return augment.tables.sample_mixture(key, fitted, wanted=jnp.ones(NEW, int))


ARMS = {"repeated": repeat, "warped": warp, "SMOTE": smote, "mixture": mixture, "GAN": gan}


def score(key: jax.Array, x: jax.Array, labels: jax.Array, test_key: jax.Array) -> jax.Array:
    """Trains a network on these series and returns its mean accuracy over both classes."""
    layers = init_layers(key, TIME, HIDDEN, HIDDEN, 2)

    def loss(layers):
        logits = apply_layers(layers, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(carry, _):
        return descend(loss, *carry), None

    (layers, _), _ = jax.lax.scan(step, (layers, ADAM.init(layers)), length=CLASSIFIER_STEPS)
    x, labels = draw_data(test_key, TEST_ROWS, TEST_ROWS)
    return jnp.mean(apply_layers(layers, x).argmax(-1) == labels)


@jax.jit
@jax.vmap
def score_unchanged(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the score without new series, and the series of the rare class."""
    data_key, _, init_key, test_key = jax.random.split(key, 4)
    x, labels = draw_data(data_key, COMMON, RARE)
    return score(init_key, x, labels, test_key), x[COMMON:]


@partial(jax.jit, static_argnames="arm")
def draw_new(keys: jax.Array, arm: str) -> jax.Array:
    """Draws the new series of an arm, for each seed."""

    def of_seed(key):
        data_key, arm_key, _, _ = jax.random.split(key, 4)
        return ARMS[arm](arm_key, *draw_data(data_key, COMMON, RARE))

    return jax.vmap(of_seed)(keys)


@jax.jit
@jax.vmap
def score_with(key: jax.Array, new: jax.Array) -> jax.Array:
    """Returns the score with new series of the rare class."""
    data_key, _, init_key, test_key = jax.random.split(key, 4)
    x, labels = draw_data(data_key, COMMON, RARE)
    x = jnp.concatenate([x, new])
    labels = jnp.concatenate([labels, jnp.ones(NEW, int)])
    return score(init_key, x, labels, test_key)


def standard_error(values: np.ndarray) -> float:
    return values.std(ddof=1) / len(values) ** 0.5


def draw(results: dict[str, tuple[np.ndarray, np.ndarray]], path: str) -> None:
    """Draws six series of the first seed from every arm."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 6), layout="constrained", sharey=True)
    for axis, (name, (scores, new)) in zip(axes.flat, results.items(), strict=True):
        axis.plot(new[0, :6].T, linewidth=1)
        axis.set(title=f"{name}: {scores.mean():.1%}", xlabel="time")
    figure.savefig(path, dpi=100)


def main() -> None:
    """Prints the score of every arm and its gain over repetition, and draws the series."""
    mpl.use("Agg")
    path = sys.argv[1] if len(sys.argv) > 1 else "series_gan.png"
    keys = jax.random.split(jax.random.key(0), SEEDS)
    results = {"unchanged": jax.device_get(score_unchanged(keys))}
    for arm in ARMS:
        new = draw_new(keys, arm)
        results[arm] = np.asarray(score_with(keys, new)), np.asarray(new)
    for name, (scores, _) in results.items():
        line = f"{name:9} {scores.mean():.1%} +- {standard_error(scores):.1%}"
        if name not in ("unchanged", "repeated"):
            gain = 100 * (scores - results["repeated"][0])
            line += f", {gain.mean():+.1f} +- {standard_error(gain):.1f} points over repetition"
        print(line)
    draw(results, path)
    print(f"figure: {path}")


if __name__ == "__main__":
    main()
