"""Networks with conflicting techniques, and networks without."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

from jaxreg import linen
from jaxreg import nnx as regularized

RNG = np.random.default_rng(0)
KEY = jax.random.wrap_key_data(np.zeros(2, np.uint32))
X = RNG.normal(size=(16, 8)).astype(np.float32)


class Mixed(nn.Module):
    """Dropout before a batch norm, with a layer between; and one after it."""

    norm: type = linen.BatchNorm
    drop: type = linen.Dropout
    rate: float = 0.5

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.relu(nn.Dense(8, name="first")(x))
        x = self.drop(self.rate, deterministic=not train, name="early")(x)
        x = nn.Dense(8, name="second")(x)
        x = self.norm(use_running_average=not train, name="norm")(x)
        x = linen.Dropout(0.5, deterministic=not train, name="late")(nn.relu(x))
        return nn.Dense(8, name="last")(x)


class Clean(nn.Module):
    """A batch norm, dropout after it, and no decay on the norm's input."""

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.relu(nn.Dense(8, name="first")(x))
        x = linen.BatchNorm(use_running_average=not train, name="norm")(x)
        x = linen.Dropout(0.5, deterministic=not train, name="late")(x)
        return nn.Dense(8, name="last")(x)


def variables(module):
    """Random kernels, and zeros and ones elsewhere, without compiling a draw."""
    init = partial(module.init, train=False)
    shapes = jax.eval_shape(init, {"params": KEY, "dropout": KEY}, X)

    def fill(path, leaf):
        name = path[-1].key
        if name == "kernel":
            return RNG.normal(size=leaf.shape).astype(np.float32)
        return np.full(leaf.shape, name in ("scale", "var"), np.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def drawn_by_numpy(_, shape, dtype):
    return jnp.asarray(RNG.normal(size=shape).astype(dtype))


class Network(nnx.Module):
    def __init__(self, order, *, rngs):
        linear = partial(nnx.Linear, kernel_init=drawn_by_numpy, rngs=rngs)
        self.first = linear(8, 8)
        self.second = linear(8, 8)
        self.norm = regularized.BatchNorm(8, rngs=rngs)
        self.drop = regularized.Dropout(0.5, rngs=rngs)
        self.last = linear(8, 8)
        self.order = order

    def __call__(self, x):
        x = nnx.relu(self.first(x))
        x = self.drop(x) if self.order == "early" else x
        x = self.norm(self.second(x))
        x = self.drop(x) if self.order == "late" else x
        return self.last(x)
