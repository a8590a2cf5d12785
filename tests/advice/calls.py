"""The code that the advice names, and calls of it in a training step of small arrays."""

import functools
import importlib

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

import jaxreg
from jaxreg.training import early_stopping

WIDTH = 64


def resolve(address):
    """The object behind an address; AttributeError or ImportError where there is none."""
    module, _, name = address.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError:
        return importlib.import_module(address)


def exists(address):
    try:
        return resolve(address) is not None
    except (AttributeError, ImportError):
        return False


def evaluate(expression):
    """Evaluates an expression of the advice, and uses its value as a training step would.

    Call it under `jax.eval_shape`, which compiles nothing.
    """
    key = jax.random.key(0)
    images = jnp.zeros((2, 32, 32, WIDTH))
    x = jnp.zeros((2, 8))
    params = {"kernel": jnp.zeros((8, WIDTH)), "bias": jnp.zeros(WIDTH)}
    names = {
        "functools": functools,
        "jaxreg": jaxreg,
        "nn": nn,
        "optax": optax,
        "key": key,
        "images": images,
        "x": x,
        "labels": jnp.zeros(2, int),
        "tokens": jnp.zeros((2, 8), int),
        "logits": jnp.zeros((2, 10)),
        "train": True,
        "block": nn.Dense(WIDTH),
        "learning_rate": 0.1,
        "params": params,
        "validation_loss": jnp.ones(()),
        "state": early_stopping.init(params),
        "critic": lambda x: jnp.sum(x**2, axis=-1),
        "model": jnp.sin,
        "real": x,
        "fake": x,
        "predictions": x,
        "affinity": jnp.ones((2, 2)),
        "distortion": jnp.zeros(2),
        "mean": x,
        "log_var": x,
    }
    made = eval(expression, names)
    if isinstance(made, nn.RNNCellBase):
        return nn.RNN(made).init_with_output({"params": key, "dropout": key}, images[0])
    if isinstance(made, nn.Module):
        return made.init_with_output({"params": key, "dropout": key}, images)
    if isinstance(made, optax.GradientTransformation):
        return made.update(params, made.init(params), params)
    return made
