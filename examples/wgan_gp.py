"""A Wasserstein GAN on a ring of eight Gaussians, with and without gradient penalty.

The critic measures a distance only if its slope is at most 1 everywhere; without the penalty its
slope is not bounded. Trains all seeds of an arm in one vmapped program.

    python examples/wgan_gp.py [figure.png]
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

from jaxreg import smoothness

WEIGHTS = (0.0, 1.0)
SEEDS = 3
STEPS = 1000
CRITIC_STEPS = 3
BATCH_SIZE = 128
LATENT = 4
LEARNING_RATE = 1e-3
MODES, RADIUS, STDDEV = 8, 2.0, 0.05
ANGLES = 2 * np.pi / MODES * np.arange(MODES)
CENTERS = RADIUS * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)


class Network(nn.Module):
    """Two hidden layers."""

    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.leaky_relu(nn.Dense(64)(x))
        x = nn.leaky_relu(nn.Dense(64)(x))
        return nn.Dense(self.outputs)(x)


GENERATOR = Network(2)
CRITIC = Network(1)
ADAM = optax.adam(LEARNING_RATE, b1=0.5, b2=0.9)


def real_points(key: jax.Array, number: int) -> jax.Array:
    """Draws from the mixture."""
    mode_key, noise_key = jax.random.split(key)
    center = jnp.float32(CENTERS)[jax.random.randint(mode_key, number, 0, MODES)]
    return center + STDDEV * jax.random.normal(noise_key, (number, 2))


def generate(params, key: jax.Array, number: int) -> jax.Array:
    return GENERATOR.apply(params, jax.random.normal(key, (number, LATENT)))


def distance(critic, real: jax.Array, fake: jax.Array) -> jax.Array:
    """Returns the critic's distance between real and generated points."""
    return CRITIC.apply(critic, real).mean() - CRITIC.apply(critic, fake).mean()


def descend(loss, params, state):
    updates, state = ADAM.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state


def train_step(weight: jax.Array, carry, key: jax.Array):
    """Trains the critic on some batches and the generator on one; returns the distance too."""
    generator, generator_state, critic, critic_state = carry
    *critic_keys, key = jax.random.split(key, CRITIC_STEPS + 1)
    for critic_key in critic_keys:
        real_key, fake_key, penalty_key = jax.random.split(critic_key, 3)
        real = real_points(real_key, BATCH_SIZE)
        fake = generate(generator, fake_key, BATCH_SIZE)

        def loss(critic, real=real, fake=fake, key=penalty_key):
            f = partial(CRITIC.apply, critic)
            penalty = smoothness.gradient_penalty(f, real, fake, key=key)
            return weight * penalty - distance(critic, real, fake)

        critic, critic_state = descend(loss, critic, critic_state)

    def deceive(generator):
        return -CRITIC.apply(critic, generate(generator, key, BATCH_SIZE)).mean()

    generator, generator_state = descend(deceive, generator, generator_state)
    carry = generator, generator_state, critic, critic_state
    return carry, distance(critic, real, fake)


@jax.jit
def fit(key: jax.Array, weight: jax.Array):
    """Returns generated points, and the critic's distance after every step."""
    generator_key, critic_key, key, sample_key = jax.random.split(key, 4)
    generator = GENERATOR.init(generator_key, jnp.zeros((1, LATENT)))
    critic = CRITIC.init(critic_key, jnp.zeros((1, 2)))
    carry = generator, ADAM.init(generator), critic, ADAM.init(critic)
    carry, distances = jax.lax.scan(
        partial(train_step, weight), carry, jax.random.split(key, STEPS)
    )
    return generate(carry[0], sample_key, 4000), distances


def coverage(points: np.ndarray) -> tuple[int, float]:
    """Counts the modes with a fifth of their share, and returns the share of points near any."""
    near = np.linalg.norm(points[:, None] - CENTERS, axis=-1) < 5 * STDDEV
    return int((near.mean(axis=0) > 0.2 / MODES).sum()), float(near.any(axis=1).mean())


def draw(results: dict[str, tuple[np.ndarray, np.ndarray]], path: str) -> None:
    """Draws points of the first seed over real ones, and the critics' distances."""
    figure, axes = plt.subplots(1, len(results) + 1, figsize=(13, 4), layout="constrained")
    real = np.asarray(real_points(jax.random.key(3), 1000))
    for axis, (name, (points, distances)) in zip(axes, results.items(), strict=False):
        axis.scatter(*real.T, s=4, color="0.7", label="real")
        axis.scatter(*points[0, :1000].T, s=4, label="generated")
        axis.set(title=name, xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
        axis.legend(loc="upper right")
        axes[-1].plot(np.abs(distances[0]), label=name, linewidth=0.8)
    axes[-1].set(yscale="log", xlabel="step", title="Magnitude of the critic's distance")
    axes[-1].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Trains both arms, prints covered modes and distances, and draws the points."""
    mpl.use("Agg")
    path = sys.argv[1] if len(sys.argv) > 1 else "wgan_gp.png"
    keys = jax.random.split(jax.random.key(0), SEEDS)
    results = {}
    for weight in WEIGHTS:
        name = f"gradient penalty {weight:g}" if weight else "without"
        points, distances = jax.device_get(jax.vmap(fit, (0, None))(keys, weight))
        results[name] = points, distances
        for seed in range(SEEDS):
            modes, near = coverage(points[seed])
            last = np.abs(distances[seed, -100:]).mean()
            print(
                f"{name}, seed {seed}: {modes} of {MODES} modes, {near:.0%} of the points near "
                f"one, distance {last:.3g}"
            )
    draw(results, path)
    print(f"figure: {path}")


if __name__ == "__main__":
    main()
