"""Batch normalization in training, beside Flax and torch.

Ours computes the variance in two passes, Flax's default as the mean of the squares minus the square
of the mean, which loses its digits where the mean is large.
"""

import jax
import torch
from flax import linen as nn

from benchmarks.measuring import Row, Work, shortest
from jaxreg import linen

_TARGETS = {
    "forward": {"flax.linen.BatchNorm": 1.0},
    "forward and gradients": {"flax.linen.BatchNorm": 1.0, "torch": 1.4},
}


def measure(*, small: bool) -> list[Row]:
    """Forward, and forward with the gradients of input, scale and bias; float32."""
    shape, turns = ((64, 128), 2) if small else ((2048, 4096), 15)
    layers = {"jaxreg": linen.BatchNorm, "flax.linen.BatchNorm": nn.BatchNorm}
    works = {name: _flax_works(layer, shape) for name, layer in layers.items()}
    works["torch"] = _torch_works(shape)
    rows = []
    for place, (kind, targets) in enumerate(_TARGETS.items()):
        times = shortest({name: pair[place] for name, pair in works.items()}, turns=turns)
        ours = times.pop("jaxreg")
        rows += [
            Row(f"batch norm, float32, {kind}", peer, ours, time, "ms", targets.get(peer))
            for peer, time in times.items()
        ]
    return rows


def _flax_works(layer: type[nn.Module], shape: tuple[int, ...]) -> tuple[Work, Work]:
    module = layer(use_running_average=False)
    x, cotangent = (jax.random.normal(jax.random.key(i), shape) for i in (1, 2))
    variables = module.init(jax.random.key(0), x)
    params, stats = variables["params"], variables["batch_stats"]

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


def _torch_works(shape: tuple[int, ...]) -> tuple[Work, Work]:
    features = shape[-1]
    x, cotangent = torch.randn(shape), torch.randn(shape)
    mean, var = torch.zeros(features), torch.ones(features)
    scale, bias = torch.ones(features), torch.zeros(features)
    leaves = [tensor.clone().requires_grad_() for tensor in (x, scale, bias)]

    def normalized(x, scale, bias):
        return torch.nn.functional.batch_norm(x, mean, var, scale, bias, training=True)

    def gradients():
        y = normalized(*leaves)
        return y, torch.autograd.grad(y, leaves, cotangent)

    return (lambda: normalized(x, scale, bias)), gradients
