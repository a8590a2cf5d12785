"""Work of jax functions, Keras layers and torch functions: forward, and with the gradient."""

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import torch

from benchmarks.measuring import Row, Work, shortest

KINDS = ("forward", "forward and gradient")
_TORCH_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Pair(NamedTuple):
    """Work without and with the gradient with respect to the inputs."""

    forward: Work
    gradient: Work


def rows(
    work: str,
    pairs: dict[str, Pair],
    *,
    turns: int,
    targets: dict[str, float] | None = None,
    kinds: tuple[str, ...] = KINDS,
) -> list[Row]:
    """Compares the pair ``jaxreg`` with the others, which take turns with it.

    Args:
      work: What is done.
      pairs: By name of who does it.
      turns: How many turns each takes.
      targets: By peer, the least ratio of its time to ours.
      kinds: Which of :data:`KINDS`.
    """
    result = []
    for kind in kinds:
        times = shortest({n: pair[KINDS.index(kind)] for n, pair in pairs.items()}, turns=turns)
        ours = times.pop("jaxreg")
        result += [
            Row(f"{work}, {kind}", peer, ours, time, "ms", (targets or {}).get(peer))
            for peer, time in times.items()
        ]
    return result


def array(shape: tuple[int, ...], dtype: str = "float32", *, seed: int = 1) -> jax.Array:
    """Standard normal data."""
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def of_jax(function: Callable[..., Any], *inputs: jax.Array) -> Pair:
    """Work of ``function(key, *inputs)``."""
    key = jax.random.key(0)
    return _compiled(function, key, *inputs)


def of_keras(layer: Any, x: jax.Array) -> Pair:
    """Work of a Keras layer in training, whose seed is state that goes in and comes out."""
    layer.build(x.shape)

    def function(seed, x):
        y, (seed,) = layer.stateless_call([], [seed], x, training=True)
        return y, seed

    return _compiled(function, jax.random.key_data(jax.random.key(0)), x, has_aux=True)


def of_torch(function: Callable[[Any], Any], shape: tuple[int, ...], dtype: str) -> Pair:
    """Work of a torch function of one tensor."""
    x, cotangent = (torch.randn(shape).to(_TORCH_DTYPES[dtype]) for _ in range(2))
    leaf = x.clone().requires_grad_()

    def gradient():
        y = function(leaf)
        return y, torch.autograd.grad(y, leaf, cotangent)

    return Pair(lambda: function(x), gradient)


def keras_layers() -> ModuleType:
    """The layers of Keras, with JAX under them."""
    os.environ["KERAS_BACKEND"] = "jax"  # Keras reads it once, when it is imported.
    import keras

    return keras.layers


def _compiled(
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
