"""Recipes of generative models."""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import nnx

from jaxreg import information, smoothness, transforms
from jaxreg import nnx as regularized
from tests.explain.recipes.base import (
    KEY,
    Recipe,
    inside,
    nnx_model,
    none,
    on,
    rows,
    variables_of,
)

REAL = rows(4, 8)
FAKE = rows(4, 8)


class Critic(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.LayerNorm(name="norm")(nn.Dense(8, name="dense")(x)))
        return nn.Dense(1, name="head")(x)[:, 0]


def wgan_gp():
    """Gulrajani et al. 2017: a critic with layer norm, Adam with beta 0 and 0.9, and ten times the
    gradient penalty, as a plain function of the critic's parameters.

    Nothing acts on the weights themselves. The random points between real and fake examples are
    part of the penalty.
    """
    module = Critic()

    def loss(params, real, fake, key):
        critic = partial(module.apply, {"params": params})
        penalty = smoothness.gradient_penalty(critic, real, fake, key=key)
        return jnp.mean(critic(fake)) - jnp.mean(critic(real)) + 10 * penalty

    params = variables_of(module, REAL)["params"]
    return Recipe(
        (loss, optax.adam(1e-4, b1=0.0, b2=0.9), params, REAL, FAKE, KEY),
        [
            *none(inside("dense head", "bias", "kernel")),
            *none(inside("norm", "bias", "scale")),
            *on("norm", "LayerNorm"),
            *on("model", "smoothness.gradient_penalty"),
        ],
    )


class Discriminator(nnx.Module):
    def __init__(self, *, rngs):
        bounded = lambda: regularized.SpectralNorm(nnx.Linear(8, 8, rngs=rngs), rngs=rngs)  # noqa: E731
        self.first = bounded()
        self.second = bounded()

    def __call__(self, x):
        return self.second(nnx.leaky_relu(self.first(x), 0.1))


def sn_gan():
    """Miyato et al. 2018: spectral norm around every layer of the discriminator, Adam with rate
    2e-4 and beta 0.5; no other regularizer."""
    layers = ["first/layer_instance", "second/layer_instance"]
    return Recipe(
        (
            nnx_model(lambda: Discriminator(rngs=nnx.Rngs(0))),
            optax.adam(2e-4, b1=0.5, b2=0.999),
            None,
            REAL,
        ),
        [
            *none(inside(layers, "bias", "kernel")),
            *on("first second", "SpectralNorm"),
        ],
    )


def vae():
    """Kingma and Welling 2014: the evidence lower bound, as a plain function of the parameters."""

    def loss(params, x, key):
        h = jnp.tanh(x @ params["encoder"])
        mean = h @ params["mean"]
        log_var = h @ params["log_var"]
        z = information.sample_gaussian(key, mean, log_var)
        distortion = jnp.sum(jnp.square(jnp.tanh(z @ params["decoder"]) @ params["out"] - x), -1)
        return information.beta_vae_loss(distortion, mean, log_var, beta=1.0)

    params = {name: rows(8, 8) for name in ("encoder", "mean", "log_var", "decoder", "out")}
    return Recipe(
        (loss, optax.adam(1e-3), params, REAL, KEY),
        [
            *none(params),
            *on("model", "information.sample_gaussian"),
            *on("model", "information.beta_vae_loss", 1.0, "beta"),
        ],
    )


class UNet(nn.Module):
    """A residual block of the U-Net, with the time embedded into it."""

    @nn.compact
    def __call__(self, x, time, *, train):
        norm = partial(nn.GroupNorm, num_groups=2)
        conv = partial(nn.Conv, 8, (3, 3))
        y = conv(name="conv1")(nn.swish(norm(name="norm1")(x)))
        y += nn.Dense(8, name="time")(nn.swish(time))[:, None, None]
        y = nn.Dropout(0.1, deterministic=not train, name="drop")(nn.swish(norm(name="norm2")(y)))
        return conv(name="out")(nn.swish(norm(name="norm3")(x + conv(name="conv2")(y))))


def ddpm():
    """Ho, Jain and Abbeel 2020: Adam with rate 2e-4, gradients clipped to norm 1, group norm,
    dropout 0.1, an average of the weights; the noise of the diffusion is drawn in the loss."""
    module = UNet()
    images = rows(4, 4, 4, 8)
    time = rows(4, 8)

    def call(variables, images, key):
        noise = jax.random.normal(key, images.shape)
        noisy = 0.8 * images + 0.6 * noise
        rngs = {"dropout": KEY}
        return module.apply(variables, noisy, time, train=True, rngs=rngs) - noise

    layers = ["conv1", "conv2", "out", "time"]
    norms = ["norm1", "norm2", "norm3"]
    return Recipe(
        (
            module,
            optax.chain(
                optax.clip_by_global_norm(1.0),
                optax.adam(2e-4),
                transforms.exponential_average(0.9999),
            ),
            variables_of(module, images, time, train=False),
            images,
            KEY,
        ),
        [
            *none(inside(layers, "bias", "kernel")),
            *none(inside(norms, "bias", "scale")),
            *on(norms, "GroupNorm"),
            *on("drop", "Dropout", 0.1, "rate"),
            *on("model", "unknown random numbers"),
            *on("optimizer", "gradient clipping", 1.0, "largest global norm"),
            *on("optimizer", "weight averaging", 0.9999, "decay per step"),
        ],
        options={"call": call},
    )


GENERATIVE = (wgan_gp, sn_gan, vae, ddpm)
