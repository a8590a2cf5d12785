"""Makes ``smoothness_torch.json``: penalties on derivatives of a small network, by torch.

Usage: ``python smoothness_torch.py > smoothness_torch.json`` with torch 2.13.0 on CPU.
"""

import json
import sys

BATCH, INPUTS, HIDDEN, OUTPUTS = 5, 4, 6, 3


def values(*shape):
    """Numbers without a pattern, rounded so that they are short to write down."""
    import torch

    size = 1
    for length in shape:
        size *= length
    numbers = torch.sin(torch.arange(1.0, 1 + size, dtype=torch.float64) ** 2)
    return numbers.round(decimals=3).view(shape)


def network(params, x):
    import torch

    w1, w2 = params
    return torch.tanh(x @ w1) @ w2


def slopes(params, x):
    """Gradient of the first output of every example."""
    import torch

    scores = network(params, x)[:, 0].sum()
    return torch.autograd.grad(scores, x, create_graph=True)[0]


def gradient_penalty(params, x):
    """The gradient penalty of WGAN-GP, as it is usually written."""
    return ((slopes(params, x).norm(2, dim=1) - 1) ** 2).mean()


def zero_centered_penalty(params, x):
    return slopes(params, x).pow(2).sum(dim=1).mean()


def jacobian(params, x):
    import torch

    rows = torch.autograd.functional.jacobian(
        lambda x: network(params, x).sum(dim=0), x, create_graph=True
    )
    return rows.pow(2).sum() / len(x)


def main():
    import torch

    x = values(BATCH, INPUTS)
    params = [values(INPUTS, HIDDEN), values(HIDDEN, OUTPUTS) / 2]
    made_with = {"script": "tests/references/smoothness_torch.py", "torch": torch.__version__}
    result = {"made_with": made_with, "x": x.tolist(), "params": [w.tolist() for w in params]}
    for penalty in (gradient_penalty, zero_centered_penalty, jacobian):
        leaves = [w.clone().requires_grad_() for w in params]
        value = penalty(leaves, x.clone().requires_grad_())
        gradients = torch.autograd.grad(value, leaves)
        result[penalty.__name__] = {
            "value": value.item(),
            "gradients": [g.tolist() for g in gradients],
        }
    json.dump(result, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
