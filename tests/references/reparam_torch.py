"""Makes ``reparam_torch.json``: weights and gradients of torch's parametrizations.

Usage: ``python reparam_torch.py > reparam_torch.json`` with torch 2.13.0 on CPU.
"""

import json
import sys

STEPS = 3


def layers():
    """Name, layer, and the order of the axes of its weight in Flax's layout."""
    import torch

    yield "dense", torch.nn.Linear(4, 3, bias=False), (1, 0)
    yield "conv", torch.nn.Conv2d(2, 3, (2, 2), bias=False), (2, 3, 1, 0)
    yield "conv_transpose", torch.nn.ConvTranspose2d(2, 3, (2, 2), bias=False), (2, 3, 0, 1)


def start(layer):
    """Gives a layer in float64 weights without a pattern."""
    import torch

    layer = layer.double()
    values = torch.sin(torch.arange(1.0, 1 + layer.weight.numel(), dtype=torch.float64) ** 2)
    layer.weight.data = values.round(decimals=3).reshape(layer.weight.shape)
    return layer


def gradient(layer, parameters):
    """Gradients of a sum whose terms have different weights, in torch's layout."""
    import torch

    w = layer.weight
    weights = torch.cos(torch.arange(w.numel(), dtype=w.dtype)).reshape(w.shape)
    return weights, torch.autograd.grad((weights * w).sum(), parameters)


def length_normalized(layer, order, dim):
    """Weight norm with lengths that differ from the weight's."""
    from torch.nn.utils import parametrizations

    v = layer.weight.detach().clone()
    parametrizations.weight_norm(layer, dim=dim)
    lengths = layer.parametrizations.weight.original0
    row = {"v": flax(v, order), "lengths": lengths.flatten().tolist()}
    lengths.data = lengths.data * 2 + 1
    both = (lengths, layer.parametrizations.weight.original1)
    weights, (of_scale, of_v) = gradient(layer, both)
    return {
        **row,
        "scale": lengths.flatten().tolist(),
        "w": flax(layer.weight, order),
        "weights": flax(weights, order),
        "gradient_of_scale": of_scale.flatten().tolist(),
        "gradient_of_v": flax(of_v, order),
    }


def spectrally_normalized(layer, order, dim):
    """Spectral norm in a few training steps from a given vector, and then in evaluation."""
    import torch
    from torch.nn.utils import parametrizations

    w = layer.weight.detach().clone()
    parametrizations.spectral_norm(layer, dim=dim)
    inner = layer.parametrizations.weight[0]
    matrix = w.movedim(dim, 0).flatten(1)
    inner._u = torch.ones(len(matrix), dtype=w.dtype) / len(matrix) ** 0.5
    inner._v = torch.nn.functional.normalize(matrix.T @ inner._u, dim=0)
    row = {"w": flax(w, order), "u": inner._u.tolist(), "steps": []}
    for _ in range(STEPS):
        weights, (slope,) = gradient(layer, [layer.parametrizations.weight.original])
        # The gradient took one more step; evaluation uses the weight of that step.
        layer.eval()
        state = {"u": inner._u.tolist(), "normalized": flax(layer.weight, order)}
        row["steps"].append({**state, "gradient": flax(slope, order)})
        layer.train()
    return {**row, "weights": flax(weights, order)}


def after_a_weight_of_zeros():
    """Returns whether torch's weight is finite then, and with a good weight again."""
    import torch
    from torch.nn.utils import parametrizations

    layer = start(torch.nn.Linear(4, 3, bias=False))
    good = layer.weight.detach().clone()
    parametrizations.spectral_norm(layer)
    seen = []
    for w in (torch.zeros_like(good), good):
        layer.parametrizations.weight.original.data = w
        seen.append(bool(layer.weight.isfinite().all()))
    return seen


def flax(w, order):
    return w.detach().permute(order).tolist()


def figures():
    """Returns weights and results in Flax's layout."""
    import torch

    rows = []
    for name, layer, order in layers():
        dim = order[-1]
        row = {"layer": name, "weight_norm": length_normalized(start(layer), order, dim)}
        again = next(other for same, other, _ in layers() if same == name)
        rows.append({**row, "spectral_norm": spectrally_normalized(start(again), order, dim)})
    made_with = {"script": "tests/references/reparam_torch.py", "torch": torch.__version__}
    made_with["layout"] = "[*window, in, out]"
    return {"made_with": made_with, "rows": rows, "finite_after_zeros": after_a_weight_of_zeros()}


if __name__ == "__main__":
    json.dump(figures(), sys.stdout, indent=1)
    print()
