"""A GAN on a ring of eight Gaussians, whose discriminator has spectrally normalized layers.

Generator and discriminator are separate models with their own optimizers. Every layer of the
discriminator has a slope of at most 1, so the discriminator does too, however long it is trained.
The same GAN without the normalization is shown for comparison.

    python examples/spectral_gan.py [figure.png]
"""

import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
from flax import nnx as flax_nnx
from matplotlib import pyplot as plt

from jaxreg import nnx

LEARNING_RATE = 1e-3
BATCH_SIZE = 128
STEPS = 1500
LATENT = 4
MODES, RADIUS, STDDEV = 8, 2.0, 0.05

Wrap = Callable[[flax_nnx.Module, flax_nnx.Rngs], flax_nnx.Module]
ARMS: dict[str, Wrap] = {
    "without": lambda layer, rngs: layer,
    "spectral norm": lambda layer, rngs: nnx.SpectralNorm(layer, rngs=rngs),
}


class Generator(flax_nnx.Module):
    """Maps noise to points."""

    def __init__(self, *, rngs: flax_nnx.Rngs):
        self.layers = flax_nnx.Sequential(
            flax_nnx.Linear(LATENT, 64, rngs=rngs),
            jax.nn.relu,
            flax_nnx.Linear(64, 64, rngs=rngs),
            jax.nn.relu,
            flax_nnx.Linear(64, 2, rngs=rngs),
        )

    def __call__(self, z: jax.Array) -> jax.Array:
        return self.layers(z)


class Discriminator(flax_nnx.Module):
    """Maps points to logits, which are high if the points look real."""

    def __init__(self, wrap: Wrap, *, rngs: flax_nnx.Rngs):
        sizes = ((2, 64), (64, 64), (64, 1))
        linear = [wrap(flax_nnx.Linear(*size, rngs=rngs), rngs) for size in sizes]
        self.linear = flax_nnx.List(linear)

    def __call__(self, x: jax.Array) -> jax.Array:
        *hidden, last = self.linear
        for layer in hidden:
            x = jax.nn.leaky_relu(layer(x))
        return last(x)[:, 0]


def real_points(key: jax.Array, number: int) -> jax.Array:
    """Draws from the mixture."""
    mode_key, noise_key = jax.random.split(key)
    angle = 2 * jnp.pi / MODES * jax.random.randint(mode_key, number, 0, MODES)
    center = RADIUS * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
    return center + STDDEV * jax.random.normal(noise_key, (number, 2))


def latents(key: jax.Array, number: int) -> jax.Array:
    return jax.random.normal(key, (number, LATENT))


@flax_nnx.jit
def train_step(generator, discriminator, generator_optimizer, discriminator_optimizer, key) -> None:
    """Trains the discriminator on one batch, and the generator on one."""
    real_key, first_key, second_key = jax.random.split(key, 3)
    real = real_points(real_key, BATCH_SIZE)
    z = latents(second_key, BATCH_SIZE)
    fake = generator(latents(first_key, BATCH_SIZE))

    def separate(discriminator):
        loss = jax.nn.softplus(-discriminator(real)) + jax.nn.softplus(discriminator(fake))
        return loss.mean()

    # Both models are arguments, because the discriminator's vectors are updated here too.
    def deceive(generator, discriminator):
        return jax.nn.softplus(-discriminator(generator(z))).mean()

    discriminator_optimizer.update(discriminator, flax_nnx.grad(separate)(discriminator))
    generator_optimizer.update(generator, flax_nnx.grad(deceive)(generator, discriminator))


def adam(model: flax_nnx.Module) -> flax_nnx.Optimizer:
    return flax_nnx.Optimizer(model, optax.adam(LEARNING_RATE, b1=0.5), wrt=flax_nnx.Param)


def fit(wrap: Wrap) -> tuple[Generator, Discriminator]:
    """Trains both models from the same start and on the same batches for every arm."""
    generator = Generator(rngs=flax_nnx.Rngs(0))
    discriminator = Discriminator(wrap, rngs=flax_nnx.Rngs(1))
    optimizers = adam(generator), adam(discriminator)
    for key in jax.random.split(jax.random.key(2), STEPS):
        train_step(generator, discriminator, *optimizers, key)
    discriminator.eval()
    return generator, discriminator


def steepest_slope(discriminator: Discriminator) -> float:
    """Returns the largest gradient norm of the discriminator on a grid."""
    side = jnp.linspace(-2 * RADIUS, 2 * RADIUS, 100)
    grid = jnp.stack(jnp.meshgrid(side, side), axis=-1).reshape(-1, 2)
    slope = flax_nnx.jit(jax.grad(lambda x: discriminator(x).sum()))(grid)
    return float(jnp.linalg.norm(slope, axis=1).max())


def coverage(points: np.ndarray) -> tuple[int, float]:
    """Counts the modes with a fifth of their share, and returns the share of points near any."""
    angle = 2 * np.pi / MODES * np.arange(MODES)
    centers = RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    near = np.linalg.norm(points[:, None] - centers, axis=-1) < 5 * STDDEV
    return int((near.mean(axis=0) > 0.2 / MODES).sum()), float(near.any(axis=1).mean())


def draw(results: dict[str, tuple[np.ndarray, float]], path: str) -> None:
    """Draws generated points over real ones."""
    figure, axes = plt.subplots(1, len(results), figsize=(9, 5), layout="constrained")
    real = np.asarray(real_points(jax.random.key(3), 1000))
    for axis, (name, (points, slope)) in zip(axes, results.items(), strict=True):
        axis.scatter(*real.T, s=4, color="0.7", label="real")
        axis.scatter(*points[:1000].T, s=4, label="generated")
        axis.set(title=f"{name}: steepest slope {slope:.2f}", xlim=(-3, 3), ylim=(-3, 3))
        axis.set_aspect("equal")
    axes[0].legend(loc="upper right")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Trains with and without spectral norm, prints slopes and covered modes, draws points."""
    mpl.use("Agg")
    path = sys.argv[1] if len(sys.argv) > 1 else "spectral_gan.png"
    results = {}
    for name, wrap in ARMS.items():
        generator, discriminator = fit(wrap)
        points = np.asarray(generator(latents(jax.random.key(4), 4000)))
        slope = steepest_slope(discriminator)
        modes, near = coverage(points)
        results[name] = points, slope
        print(f"{name}: steepest slope of the discriminator {slope:.2f}")
        print(f"{name}: {modes} of {MODES} modes, {near:.0%} of the points near one")
    draw(results, path)
    print(f"figure: {path}")


if __name__ == "__main__":
    main()
