"""Curves of every kind, states with leaves of every kind, and networks with batch norms."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import linen as flax_linen
from flax import nnx as flax_nnx

from jaxreg import linen, nnx
from jaxreg.training import early_stopping, plateau

LENGTH = 32  # All curves are padded to it, so that one compiled scan runs them.
KINDS = ("any", "awkward", "descent", "ties", "constant", "grid")


def any_float(rng: np.random.Generator, size: int) -> np.ndarray:
    """Finite numbers of every exponent, without subnormal ones, which devices flush to zero."""
    exponents = rng.integers(-126, 128, size)
    numbers = rng.choice([-1, 1], size) * np.ldexp(rng.uniform(1, 1.99, size), exponents)
    return numbers.astype(np.float32)


def some_curve(rng: np.random.Generator, kind: str) -> np.ndarray:
    """A curve of a random length."""
    length = int(rng.integers(1, LENGTH + 1))
    if kind == "any":
        return any_float(rng, length)
    if kind == "awkward":
        odd = rng.choice(np.float32([np.nan, np.inf, -np.inf, 0.0, -0.0]), length)
        return np.where(rng.uniform(size=length) < 0.6, odd, any_float(rng, length))
    if kind == "descent":
        noise = rng.uniform(-1, 1, length)
        curve = rng.uniform(-1e3, 1e3) - rng.uniform(0, 0.5) * np.arange(length) + noise
        return curve.astype(np.float32)
    if kind == "grid":  # Differences are exactly 0.25 in many places.
        return (rng.integers(-4, 5, length) / 4).astype(np.float32)
    levels = any_float(rng, 1 if kind == "constant" else int(rng.integers(1, 5)))
    return rng.choice(levels, length)


def some_curves(number: int, seed: int) -> list[np.ndarray]:
    """Curves of every kind in turn."""
    rng = np.random.default_rng(seed)
    return [some_curve(rng, KINDS[index % len(KINDS)]) for index in range(number)]


def padded(curve) -> np.ndarray:
    """Pads a curve to its full length; tests compare only values before the padding."""
    curve = np.asarray(curve, np.float32)
    return np.pad(curve, (0, LENGTH - len(curve)), constant_values=-np.inf)


class State(NamedTuple):
    """A state of a training."""

    params: Any
    moments: Any
    stopping: Any
    weight: Any
    key: Any
    epoch: Any
    nothing: Any


def some_state() -> State:
    """A state with leaves of many kinds; the large ones become separate files on disk."""
    draw = np.random.default_rng(0).normal
    params = {
        "kernel": jnp.asarray(draw(size=(64, 32)).astype(np.float32)),
        "small": jnp.asarray(draw(size=600).astype(ml_dtypes.bfloat16)),
        "table": np.arange(12, dtype=np.int16).reshape(3, 4),
    }
    return State(
        params=params,
        moments=({"mu": jax.tree.map(np.zeros_like, params)}, np.int32(7)),
        stopping=early_stopping.init(params),
        weight=plateau.init(0.5),
        key=jax.random.wrap_key_data(np.arange(8, dtype=np.uint32).reshape(2, 4), impl="rbg"),
        epoch=7,
        nothing=None,
    )


def is_key(leaf: Any) -> bool:
    """Returns whether a leaf holds typed keys."""
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def contents(tree: Any) -> list[bytes]:
    """The bytes of every leaf."""
    return [
        np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf).tobytes()
        for leaf in jax.tree.leaves(tree)
    ]


def flipped(data: bytes, bit: int) -> bytes:
    """Returns the bytes with one bit flipped."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


LINEN_NORMS = {"flax": flax_linen.BatchNorm, "jaxreg": linen.BatchNorm}
NNX_NORMS = {"flax": flax_nnx.BatchNorm, "jaxreg": nnx.BatchNorm}


def normal(*shape: int, seed: int = 0, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1.5, shape).astype(np.float32)


def some_batches(sizes: Sequence[int], *shape: int, mean: float = 0.0) -> list[np.ndarray]:
    """Batches of different sizes, each around its own mean."""
    return [normal(size, *shape, seed=seed, mean=mean + seed) for seed, size in enumerate(sizes)]


def trains(module: flax_linen.Module) -> Callable[..., Any]:
    return partial(module.apply, mutable=["batch_stats"])


def variables_of_norm(features: int) -> dict[str, Any]:
    """The initial variables of Linen's batch norm."""
    zeros = np.zeros(features, np.float32)
    ones = np.ones(features, np.float32)
    return {
        "params": {"scale": ones, "bias": zeros},
        "batch_stats": {"mean": zeros, "var": ones},
    }


def of_model(norm: flax_nnx.Module) -> dict[str, Any]:
    """The statistics of an NNX norm."""
    return {"mean": norm.mean[...], "var": norm.var[...]}


def assert_moments(stats: Any, mean: Any, var: Any, rtol: float = 1e-5) -> None:
    np.testing.assert_allclose(stats["mean"], mean, rtol=rtol, atol=1e-6)
    np.testing.assert_allclose(stats["var"], var, rtol=rtol)


class Net(flax_linen.Module):
    """Two layers with norms; the second norm may be frozen."""

    frozen: bool = False

    @flax_linen.compact
    def __call__(self, x, *, train=True):
        x = flax_linen.Dense(6, name="first")(x)
        x = flax_linen.relu(linen.BatchNorm(not train, name="first_norm")(x))
        x = flax_linen.Dense(4, name="second")(x)
        evaluate = self.frozen or not train
        return flax_linen.BatchNorm(evaluate, name="second_norm")(x)


def net_variables() -> dict[str, Any]:
    """Variables of :class:`Net` for rows of three numbers."""
    first = variables_of_norm(6)
    second = variables_of_norm(4)
    dense = {
        "first": {"kernel": normal(3, 6, seed=10), "bias": np.zeros(6, np.float32)},
        "second": {"kernel": normal(6, 4, seed=11), "bias": np.zeros(4, np.float32)},
    }
    return {
        "params": dense | {"first_norm": first["params"], "second_norm": second["params"]},
        "batch_stats": {
            "first_norm": first["batch_stats"],
            "second_norm": second["batch_stats"],
        },
    }


class NnxNet(flax_nnx.Module):
    """The same in NNX."""

    def __init__(self, variables):
        rngs = flax_nnx.Rngs(0)
        # Zeros compile fewer programs than random kernels, and are replaced below.
        zeros = flax_nnx.initializers.zeros
        self.first = flax_nnx.Linear(3, 6, kernel_init=zeros, rngs=rngs)
        self.first_norm = nnx.BatchNorm(6, rngs=rngs)
        self.second = flax_nnx.Linear(6, 4, kernel_init=zeros, rngs=rngs)
        self.second_norm = flax_nnx.BatchNorm(4, rngs=rngs)
        for name, values in variables["params"].items():
            for leaf, value in {**values, **variables["batch_stats"].get(name, {})}.items():
                getattr(getattr(self, name), leaf)[...] = jnp.asarray(value)

    def __call__(self, x):
        x = jax.nn.relu(self.first_norm(self.first(x)))
        return self.second_norm(self.second(x))
