"""Prints ``coming_from_torch.json``: figures of torch for the rows of docs/coming_from/pytorch.md.

Run as ``python tests/references/coming_from_torch.py > tests/references/coming_from_torch.json``
where torch is installed.
"""

import inspect
import json
import re
import sys

import numpy as np

X = np.random.default_rng(0).normal(size=(3, 6)).round(3)
WALK = [[1.0, 0.0], [0.5, 0.25], [0.75, -1.0], [2.0, 0.125]]


def defaults():
    """Default arguments of layers that the page names."""
    from torch import nn

    layers = (nn.BatchNorm2d, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.InstanceNorm2d, nn.Dropout)
    found = {}
    for layer in layers:
        parameters = inspect.signature(layer).parameters
        names = ("eps", "momentum", "affine", "elementwise_affine", "p")
        found[layer.__name__] = {n: parameters[n].default for n in names if n in parameters}
    return found


def averages():
    """Averages of parameters that walk, after each update."""
    import torch
    from torch.optim import swa_utils

    found = {}
    for name, options in {
        "swa": {},
        "ema": {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.9)},
    }.items():
        model = torch.nn.Linear(2, 1, bias=False)
        averaged = swa_utils.AveragedModel(model, **options)
        path = []
        for w in WALK[1:]:
            with torch.no_grad():
                model.weight.copy_(torch.tensor([w]))
            averaged.update_parameters(model)
            path.append(averaged.module.weight[0].tolist())
        found[name] = path
    return found


def rows_of_an_embedding():
    """The table after a look-up of two rows with ``max_norm=1``."""
    import torch

    table = torch.nn.Embedding(3, 2, max_norm=1.0)
    with torch.no_grad():
        table.weight.copy_(torch.tensor([[3.0, 4.0], [3.0, 4.0], [0.3, 0.4]]))
    table(torch.tensor([0, 2]))
    return table.weight.tolist()


def fused():
    """A convolution and a batch norm, and the convolution that replaces both."""
    import torch
    from torch.nn.utils import fuse_conv_bn_eval

    torch.manual_seed(0)
    conv = torch.nn.Conv2d(2, 3, 2)
    norm = torch.nn.BatchNorm2d(3)
    with torch.no_grad():
        for value in (norm.weight, norm.running_mean, norm.running_var):
            value.copy_(torch.rand(3) + 0.5)
    both = fuse_conv_bn_eval(conv.eval(), norm.eval())
    states = {"conv": conv, "norm": norm, "both": both}
    return {
        name: {key: value.tolist() for key, value in module.state_dict().items()}
        for name, module in states.items()
    }


def clipped():
    """A gradient of length 5 after clipping to 1."""
    import torch

    w = torch.nn.Parameter(torch.zeros(2))
    w.grad = torch.tensor([3.0, 4.0])
    torch.nn.utils.clip_grad_norm_([w], 1.0)
    return w.grad.tolist()


def public_names():
    """Names of layers and parametrizations that regularize."""
    from torch import nn

    found = [name for name in dir(nn) if re.search(r"Dropout|Norm(\d|$)|Norm\dd", name)]
    found = [name for name in found if not name.startswith(("Lazy", "_"))]
    return [*found, "orthogonal", "spectral_norm", "weight_norm"]


def figures():
    import torch
    from torch.nn import functional

    x = torch.tensor(X)
    x[1] = 0.0
    small = torch.tensor(1e-4 * X, dtype=torch.float32)
    logits = torch.tensor(X[:, :4])
    labels = torch.tensor([0, 3, -100])
    weight = torch.tensor([1.0, 2.0, 0.5, 4.0], dtype=torch.float64)
    return {
        "public": public_names(),
        "made_with": {
            "script": "tests/references/coming_from_torch.py",
            "torch": torch.__version__,
        },
        "x": X.tolist(),
        "walk": WALK,
        "defaults": defaults(),
        "normalize": functional.normalize(x, dim=-1).tolist(),
        "rms_norm of small numbers": functional.rms_norm(small, (6,)).tolist(),
        "layer_norm": functional.layer_norm(torch.tensor(X), (6,)).tolist(),
        "averages": averages(),
        "embedding": rows_of_an_embedding(),
        "fused": fused(),
        "clipped": clipped(),
        "smoothed with weights": functional.cross_entropy(
            logits, labels, weight=weight, label_smoothing=0.1
        ).item(),
        "weights": weight.tolist(),
        "labels": labels.tolist(),
    }


if __name__ == "__main__":
    json.dump(figures(), sys.stdout, indent=1)
    print()
