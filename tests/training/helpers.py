"""Curves of metrics of every kind, and states of a training with leaves of every kind."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from jaxreg.training import early_stopping, plateau

LENGTH = 32  # All curves are padded to it, so that one compiled scan runs them.
KINDS = ("any", "awkward", "descent", "ties", "constant", "grid")


def any_float(rng: np.random.Generator, size: int) -> np.ndarray:
    """Finite numbers of every exponent, without subnormal ones, which devices flush to zero."""
    exponents = rng.integers(-126, 128, size)
    return np.float32(rng.choice([-1, 1], size) * np.ldexp(rng.uniform(1, 1.99, size), exponents))


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
        return np.float32(rng.uniform(-1e3, 1e3) - rng.uniform(0, 0.5) * np.arange(length) + noise)
    if kind == "grid":  # Differences are exactly 0.25 in many places.
        return np.float32(rng.integers(-4, 5, length) / 4)
    levels = any_float(rng, 1 if kind == "constant" else int(rng.integers(1, 5)))
    return rng.choice(levels, length)


def some_curves(number: int, seed: int) -> list[np.ndarray]:
    """As many curves of every kind in turn."""
    rng = np.random.default_rng(seed)
    return [some_curve(rng, KINDS[index % len(KINDS)]) for index in range(number)]


def padded(curve) -> np.ndarray:
    """The curve at its full length; what is appended comes after all that is compared."""
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
    """Leaves of many kinds; the large ones become files of their own on disk."""
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
    """Whether a leaf holds typed keys."""
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def contents(tree: Any) -> list[bytes]:
    """The bytes of every leaf."""
    return [
        np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf).tobytes()
        for leaf in jax.tree.leaves(tree)
    ]


def flipped(data: bytes, bit: int) -> bytes:
    """Bytes with one bit turned over."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
