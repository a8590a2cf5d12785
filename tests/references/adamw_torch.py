"""Makes ``adamw_torch.json``: weight decay of the optimizers of torch over ten steps.

Usage: ``python adamw_torch.py > adamw_torch.json`` with torch 2.13.0 on CPU.
"""

import json
import sys

STEPS, RATE, WEIGHT = 10, 0.1, 0.2


def figures():
    """Returns parameters, gradients, learning rates, and where each optimizer arrives."""
    import torch

    torch.manual_seed(0)
    start = torch.randn(6, dtype=torch.float64).round(decimals=3)
    gradients = torch.randn(STEPS, 6, dtype=torch.float64).round(decimals=3)
    rates = [RATE * (1 - step / STEPS) for step in range(STEPS)]
    optimizers = {
        "AdamW": (torch.optim.AdamW, {}),
        "Adam": (torch.optim.Adam, {}),
        "SGD": (torch.optim.SGD, {"momentum": 0.9}),
    }
    paths = {}
    for name, (make, options) in optimizers.items():
        w = torch.nn.Parameter(start.clone())
        optimizer = make([w], lr=RATE, weight_decay=WEIGHT, **options)
        path = []
        for rate, gradient in zip(rates, gradients, strict=True):
            optimizer.param_groups[0]["lr"] = rate
            w.grad = gradient.clone()
            optimizer.step()
            path.append(w.detach().tolist())
        paths[name] = path
    made_with = {"script": "tests/references/adamw_torch.py", "torch": torch.__version__}
    inputs = {"start": start.tolist(), "gradients": gradients.tolist(), "rates": rates}
    return {"made_with": made_with, "weight": WEIGHT, **inputs, "paths": paths}


if __name__ == "__main__":
    json.dump(figures(), sys.stdout, indent=1)
    print()
