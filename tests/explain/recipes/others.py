"""Recipes of reinforcement learning and of tables."""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import nnx

from jaxreg import linen, masks, penalties, proximal, transforms
from tests.explain.recipes.base import Recipe, inside, nnx_model, none, on, rows, variables_of

STATES = rows(4, 8)


class CrossQCritic(nn.Module):
    """A critic that sees both batches at once, with batch renorm before each layer."""

    @nn.compact
    def __call__(self, x, *, train):
        limits = {"r_max": 3.0, "d_max": 5.0}
        norm = partial(linen.BatchRenorm, use_running_average=not train, momentum=0.99, **limits)
        x = norm(name="norm0")(x)
        for n in (1, 2):
            x = norm(name=f"norm{n}")(nn.relu(nn.Dense(8, name=f"dense{n}")(x)))
        return nn.Dense(8, name="head")(x)


def crossq():
    """Bhatt et al. 2024: batch renorm in the critic, Adam with beta 0.5, no target network."""
    module = CrossQCritic()
    layers = ["dense1", "dense2", "head"]
    norms = ["norm0", "norm1", "norm2"]
    return Recipe(
        (
            module,
            optax.adam(1e-3, b1=0.5),
            variables_of(module, STATES, train=False),
            STATES,
        ),
        [
            *none(inside(layers, "bias", "kernel")),
            *none(inside(norms, "bias", "scale")),
            *on(norms, "BatchRenorm", 0.99, "momentum"),
        ],
    )


class Actor(nnx.Module):
    """A policy that samples its action from a squashed Gaussian."""

    def __init__(self, *, rngs):
        self.hidden = nnx.Linear(8, 8, rngs=rngs)
        self.mean = nnx.Linear(8, 8, rngs=rngs)
        self.log_std = nnx.Linear(8, 8, rngs=rngs)
        self.rngs = rngs

    def __call__(self, x):
        x = nnx.relu(self.hidden(x))
        noise = jax.random.normal(self.rngs.sample(), x.shape)
        return jnp.tanh(self.mean(x) + jnp.exp(self.log_std(x)) * noise)


def sac():
    """Haarnoja et al. 2018: Adam with rate 3e-4, a target that follows with tau 0.005, and actions
    that are sampled in the model. Nobody can tell what this noise is for."""
    layers = ["hidden", "mean", "log_std"]
    return Recipe(
        (
            nnx_model(lambda: Actor(rngs=nnx.Rngs(sample=0, params=1))),
            optax.chain(
                optax.adam(3e-4), transforms.exponential_average(1 - 0.005, initial_weight=1)
            ),
            None,
            STATES,
        ),
        [
            *none(inside(layers, "bias", "kernel")),
            *on("model", "unknown random numbers"),
            *on("optimizer", "weight averaging", 0.995, "decay per step"),
        ],
    )


def mlp(params, x):
    x = jnp.tanh(x @ params["first"]["w"] + params["first"]["b"])
    return x @ params["second"]["w"] + params["second"]["b"]


def perceptron_with_penalties():
    """A perceptron with L1 of the first and L2 of the second layer in the loss, and SGD: the
    gradients are the penalties', whatever the loss is."""

    def penalty(params):
        first = penalties.l1(params["first"]["w"])
        return 1e-3 * first + 5e-4 * penalties.l2(params["second"]["w"])

    params = {name: {"w": rows(8, 8), "b": rows(8)} for name in ("first", "second")}
    return Recipe(
        (mlp, optax.sgd(0.1, momentum=0.9), params, STATES),
        [
            *none("first/b second/b"),
            *on("first/w", "penalty", 1e-3, "mean gradient at weights near 1"),
            *on("second/w", "L2 penalty", 5e-4, "times the weight"),
        ],
        options={"penalty": penalty},
    )


def elastic_net():
    """Zou and Hastie 2005 by proximal gradient steps: scikit-learn's alpha 0.02, l1_ratio 0.5.

    With t = 0.1 * 0.02 a step divides by 1 + t / 2, after it takes t / 2 from each magnitude.
    """
    half = 0.5 * 0.1 * 0.02
    prox = partial(proximal.elastic_net, l1=0.5, l2=0.5)
    step = optax.masked(transforms.proximal(prox, 0.02, 0.1), masks.match("w"))
    return Recipe(
        (None, optax.chain(optax.sgd(0.1), step), {"w": rows(8), "b": rows(8)}),
        [
            *on("w", "decay", half / (1 + half), "of the weight per step"),
            *on("w", "proximal step to exact zeros", half / (1 + half), "of each weight per step"),
            *none("b"),
        ],
    )


OTHERS = (crossq, sac, perceptron_with_penalties, elastic_net)
