"""Makes ``batch_norm_torch.json``: batch norm of torch over ten steps, run with torch installed.

Usage: ``python batch_norm_torch.py > batch_norm_torch.json`` with torch 2.13.0 on CPU.
"""

import json
import sys


def figures():
    """Returns inputs and results, channels last; torch itself takes channels second."""
    import torch

    torch.manual_seed(0)
    layer = torch.nn.BatchNorm1d(3, eps=1e-5, momentum=0.1, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        layer.bias.copy_(torch.tensor([-1.0, 0.0, 0.25]))
    steps = []
    for step in range(10):
        x = (torch.randn(4, 3, 2, dtype=torch.float64) * (step + 1) + step).round(decimals=3)
        dy = torch.randn(4, 3, 2, dtype=torch.float64).round(decimals=3)
        x.requires_grad_()
        y = layer(x)
        dx, dscale, dbias = torch.autograd.grad(y, (x, layer.weight, layer.bias), dy)
        arrays = {"x": x, "dy": dy, "y": y, "dx": dx}
        result = {name: a.detach().transpose(1, 2) for name, a in arrays.items()}
        result |= {"dscale": dscale, "dbias": dbias}
        result |= {"running_mean": layer.running_mean, "running_var": layer.running_var}
        steps.append({name: a.tolist() for name, a in result.items()})
    layer.eval()
    evaluated = layer(x.detach()).detach().transpose(1, 2).tolist()
    affine = {"scale": layer.weight.tolist(), "bias": layer.bias.tolist()}
    made_with = {"script": "tests/references/batch_norm_torch.py", "torch": torch.__version__}
    layout = "x[batch, time, channel]"
    settings = {"eps": layer.eps, "momentum": layer.momentum, "layout": layout}
    return {"made_with": made_with | settings, **affine, "steps": steps, "evaluated": evaluated}


if __name__ == "__main__":
    json.dump(figures(), sys.stdout, indent=1)
    print()
