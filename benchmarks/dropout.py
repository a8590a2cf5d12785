"""Dropout, beside Flax, torch and the floor: a multiplication by a constant."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import torch
from flax import linen as nn

from benchmarks.measuring import Row, Work, shortest
from jaxreg import dropout

RATE = 0.1
_TORCH_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# By dtype and peer: the least ratio of the peer's time to ours.
_TARGETS = {
    "float32": {"flax.linen.Dropout": 6.0, "torch": 6.0, "multiply": 1 / 1.5},
    "bfloat16": {"flax.linen.Dropout": 15.0},
}


def measure(*, small: bool) -> list[Row]:
    """Forward, and forward with the gradient, in two dtypes."""
    shape, turns = ((64, 128), 2) if small else ((2048, 4096), 15)
    rows = []
    for dtype in _TORCH_DTYPES:
        forward, gradient = _works(shape, dtype)
        rows += _rows(f"dropout {RATE}, {dtype}, forward", forward, turns, _TARGETS[dtype])
        rows += _rows(
            f"dropout {RATE}, {dtype}, forward and gradient", gradient, turns, _TARGETS[dtype]
        )
    return rows


def _rows(work: str, works: dict[str, Work], turns: int, targets: dict[str, float]) -> list[Row]:
    times = shortest(works, turns=turns)
    ours = times.pop("jaxreg")
    return [Row(work, peer, ours, time, "ms", targets.get(peer)) for peer, time in times.items()]


def _works(shape: tuple[int, ...], dtype: str) -> tuple[dict[str, Work], dict[str, Work]]:
    key = jax.random.key(0)
    x, cotangent = (jax.random.normal(jax.random.key(i), shape, dtype) for i in (1, 2))
    layer = nn.Dropout(RATE, deterministic=False)
    functions = {
        "jaxreg": lambda key, x: dropout.dropout(key, x, rate=RATE),
        "flax.linen.Dropout": lambda key, x: layer.apply({}, x, rngs={"dropout": key}),
        "multiply": lambda key, x: x * jnp.asarray(1 / (1 - RATE), x.dtype),
    }
    forward = {name: _bind(jax.jit(f), key, x) for name, f in functions.items()}
    gradient = {
        name: _bind(jax.jit(_with_gradient(f)), key, x, cotangent) for name, f in functions.items()
    }
    forward["torch"], gradient["torch"] = _torch_works(shape, dtype)
    return forward, gradient


def _bind(function: Callable, *args: jax.Array) -> Work:
    return lambda: function(*args)


def _with_gradient(function: Callable) -> Callable:
    def both(key, x, cotangent):
        y, pull_back = jax.vjp(lambda x: function(key, x), x)
        return y, pull_back(cotangent)

    return both


def _torch_works(shape: tuple[int, ...], dtype: str) -> tuple[Work, Work]:
    x, cotangent = (torch.randn(shape).to(_TORCH_DTYPES[dtype]) for _ in range(2))
    leaf = x.clone().requires_grad_()

    def forward():
        return torch.nn.functional.dropout(x, RATE, training=True)

    def gradient():
        y = torch.nn.functional.dropout(leaf, RATE, training=True)
        return y, torch.autograd.grad(y, leaf, cotangent)

    return forward, gradient
