"""Normalization in training mode, compared with Flax and torch.

Flax's default variance is the mean of the squares minus the square of the mean, which loses digits
if the mean is large; ours is as accurate as two passes. The inputs have mean 1 and standard
deviation 1, as activations do; ``mean 10`` is a batch that needs the second pass. The floor is one
multiplication by a number, which reads and writes each array once.

The forward pass of batch norm sums about the running mean, which takes 0.8 of its 10 ms, and checks
that one pass was accurate enough. For gradients, XLA reads the arrays once for each sum.
"""

import importlib
from collections.abc import Callable
from functools import partial

import jax
from flax import linen as nn

from benchmarks.measuring import Row, Work, if_installed, rows_against, shortest
from benchmarks.peers import FLOOR
from jaxreg import linen

_KINDS = ("forward", "forward and gradients")
_NORMS = ("BatchNorm", "LayerNorm", "RMSNorm", "GroupNorm")


class Multiply(nn.Module):
    """Multiplies by a number, as fast as memory is read and written."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.param("scale", nn.initializers.ones, ())


def measure(*, small: bool) -> list[Row]:
    """Measures the forward pass, without and with the gradients of input, scale and bias."""
    rows = [row for name in _NORMS for row in _rows(name, name, mean=1, small=small)]
    return rows + _rows("BatchNorm", "BatchNorm, mean 10", mean=10, small=small)


def _rows(name: str, title: str, *, mean: float, small: bool) -> list[Row]:
    shape, turns = ((64, 128), 2) if small else ((2048, 4096), 15)
    if name == "GroupNorm":
        shape = (2, 4, 4, 64) if small else (32, 32, 32, 256)
    works = {
        "jaxreg": _flax_works(getattr(linen, name), shape, mean),
        "flax.linen": _flax_works(getattr(nn, name), shape, mean),
        FLOOR: _flax_works(Multiply, shape, mean),
        **if_installed("torch", lambda: {"torch": _torch_works(_TORCH[name], shape, mean)}),
    }
    rows = []
    for place, kind in enumerate(_KINDS):
        times = shortest({peer: pair[place] for peer, pair in works.items()}, turns=turns)
        rows += rows_against(f"{title}, float32, {kind}", times, floor=FLOOR)
    return rows


def _flax_works(
    layer: Callable[..., nn.Module], shape: tuple[int, ...], mean: float
) -> tuple[Work, Work]:
    training = layer in (linen.BatchNorm, nn.BatchNorm)
    module = layer(use_running_average=False) if training else layer()
    x = jax.random.normal(jax.random.key(1), shape) + mean
    cotangent = jax.random.normal(jax.random.key(2), shape)
    variables = module.init(jax.random.key(0), x)
    params = variables["params"]
    stats = variables.get("batch_stats", {})

    @jax.jit
    def forward(params, stats, x):
        variables = {"params": params, "batch_stats": stats}
        return module.apply(variables, x, mutable=["batch_stats"])

    @jax.jit
    def gradients(params, stats, x, cotangent):
        y, pull_back, stats = jax.vjp(
            lambda params, x: forward(params, stats, x), params, x, has_aux=True
        )
        return y, stats, pull_back(cotangent)

    return (lambda: forward(params, stats, x)), (lambda: gradients(params, stats, x, cotangent))


def _batch_norm(functional, x, scale, bias):
    return functional.batch_norm(x, None, None, scale, bias, training=True)


def _layer_norm(functional, x, scale, bias):
    return functional.layer_norm(x, x.shape[-1:], scale, bias)


def _rms_norm(functional, x, scale, _):
    return functional.rms_norm(x, x.shape[-1:], scale)


def _group_norm(functional, x, scale, bias):
    return functional.group_norm(x, 32, scale, bias)


_TORCH = dict(zip(_NORMS, (_batch_norm, _layer_norm, _rms_norm, _group_norm), strict=True))


def _torch_works(function: Callable, shape: tuple[int, ...], mean: float) -> tuple[Work, Work]:
    """Uses torch's layout, in which the channels come before the positions."""
    torch = importlib.import_module("torch")
    function = partial(function, torch.nn.functional)
    features = shape[-1]
    if len(shape) == 4:
        shape = (shape[0], features, *shape[1:3])
    x = torch.randn(shape) + mean
    cotangent = torch.randn(shape)
    scale = torch.ones(features)
    bias = torch.zeros(features)
    leaves = [tensor.clone().requires_grad_() for tensor in (x, scale, bias)]

    def gradients():
        y = function(*leaves)
        return y, torch.autograd.grad(y, leaves, cotangent, allow_unused=True)

    return (lambda: function(x, scale, bias)), gradients
