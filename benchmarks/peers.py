"""Timed calls of JAX functions, Keras layers and torch functions, without and with gradients."""

import importlib
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax

from benchmarks.measuring import Row, Work, rows_against, shortest

KINDS = ("forward", "forward and gradient")
FLOOR = "multiply"


class Pair(NamedTuple):
    """Two calls: without and with the gradient with respect to the inputs."""

    forward: Work
    gradient: Work


def rows(
    work: str,
    pairs: dict[str, Pair],
    *,
    turns: int,
    kinds: tuple[str, ...] = KINDS,
) -> list[Row]:
    """Compares the pair named ``jaxreg`` with the others; all take turns.

    Args:
      work: Name of the work.
      pairs: Pairs by the name of the implementation; the one named ``multiply`` is the floor.
      turns: Number of turns of each.
      kinds: Kinds of calls, from :data:`KINDS`.
    """
    result = []
    for kind in kinds:
        times = shortest({n: pair[KINDS.index(kind)] for n, pair in pairs.items()}, turns=turns)
        result += rows_against(f"{work}, {kind}", times, floor=FLOOR)
    return result


def array(shape: tuple[int, ...], dtype: str = "float32", *, seed: int = 1) -> jax.Array:
    """Draws standard normal data."""
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def of_jax(function: Callable[..., Any], *inputs: jax.Array) -> Pair:
    """Returns calls of ``function(key, *inputs)``."""
    key = jax.random.key(0)
    return _compile(function, key, *inputs)


def of_keras(layer: Any, x: jax.Array) -> Pair:
    """Returns calls of a Keras layer in training mode, with its seed as state."""
    layer.build(x.shape)

    def function(seed, x):
        y, (seed,) = layer.stateless_call([], [seed], x, training=True)
        return y, seed

    return _compile(function, jax.random.key_data(jax.random.key(0)), x, has_aux=True)


def of_torch(function: Callable[[Any, Any], Any], shape: tuple[int, ...], dtype: str) -> Pair:
    """Returns calls of ``function(torch.nn.functional, x)`` of one tensor."""
    torch = importlib.import_module("torch")
    functional = torch.nn.functional
    x = torch.randn(shape).to(getattr(torch, dtype))
    cotangent = torch.randn(shape).to(getattr(torch, dtype))
    leaf = x.clone().requires_grad_()

    def gradient():
        y = function(functional, leaf)
        return y, torch.autograd.grad(y, leaf, cotangent)

    return Pair(lambda: function(functional, x), gradient)


def keras_layers() -> ModuleType:
    """Imports the layers of Keras with the JAX backend."""
    os.environ["KERAS_BACKEND"] = "jax"  # Keras reads it at import.
    import keras

    return keras.layers


def _compile(
    function: Callable[..., Any], key: jax.Array, *inputs: jax.Array, has_aux: bool = False
) -> Pair:
    result = jax.eval_shape(function, key, *inputs)
    result = result[0] if has_aux else result
    cotangent = array(result.shape, result.dtype, seed=2)

    @jax.jit
    def both(key, inputs, cotangent):
        y, pull_back, *seed = jax.vjp(
            lambda *inputs: function(key, *inputs), *inputs, has_aux=has_aux
        )
        return y, pull_back(cotangent), seed

    forward = jax.jit(function)
    return Pair(lambda: forward(key, *inputs), lambda: both(key, inputs, cotangent))
