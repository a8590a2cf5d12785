"""Makes ``penalties_torch.json``: penalties and their gradients, written in torch in float64.

Usage: ``python penalties_torch.py > penalties_torch.json`` with torch 2.13.0 on CPU.
"""

import json
import math
import sys

SHAPE = (6, 4)


def group_lasso(w):
    return math.sqrt(len(w)) * w.norm(dim=0).sum()


def elastic_net(w):
    return 0.3 * w.abs().sum() + 0.7 * (w**2).sum() / 2


def orthogonality(w):
    import torch

    return ((w.T @ w - torch.eye(w.shape[1], dtype=w.dtype)) ** 2).sum()


def spectral(w):
    import torch

    return torch.linalg.matrix_norm(w, ord=2)


def nuclear(w):
    import torch

    return torch.linalg.matrix_norm(w, ord="nuc")


def decorrelation(x):
    import torch

    covariances = torch.cov(x.T, correction=0)
    return (covariances.square().sum() - covariances.diag().square().sum()) / 2


def total_variation(x):
    return x.diff(dim=0).abs().sum() + x.diff(dim=1).abs().sum()


def hard_concrete_l0(log_alpha):
    import torch

    return torch.sigmoid(log_alpha - 2 / 3 * math.log(0.1 / 1.1)).sum()


PENALTIES = (
    group_lasso,
    elastic_net,
    orthogonality,
    spectral,
    nuclear,
    decorrelation,
    total_variation,
    hard_concrete_l0,
)


def kinks():
    """Gradients of torch's own norms where they have no derivative."""
    import torch

    points = {"zero": torch.zeros(2, 2), "identity": torch.eye(2), "rank one": torch.ones(2, 2)}
    rows = {}
    for norm in (spectral, nuclear):
        for name, point in points.items():
            w = point.double().requires_grad_()
            (slope,) = torch.autograd.grad(norm(w), w)
            rows[f"{norm.__name__} at {name}"] = slope.tolist()
    return rows


def figures():
    """Returns values and gradients at one point, and gradients at kinks."""
    import torch

    w = torch.sin(torch.arange(1.0, 1 + math.prod(SHAPE), dtype=torch.float64) ** 2)
    w = w.round(decimals=3).reshape(SHAPE).requires_grad_()
    rows = {}
    for penalty in PENALTIES:
        value = penalty(w)
        (slope,) = torch.autograd.grad(value, w)
        rows[penalty.__name__] = {"value": value.item(), "gradient": slope.tolist()}
    made_with = {"script": "tests/references/penalties_torch.py", "torch": torch.__version__}
    return {"made_with": made_with, "w": w.tolist(), "penalties": rows, "kinks": kinks()}


if __name__ == "__main__":
    json.dump(figures(), sys.stdout, indent=1)
    print()
