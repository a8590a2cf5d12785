"""Prints ``losses_torch.json``: divergences and losses of torch with their gradients.

Run as ``python tests/references/losses_torch.py > tests/references/losses_torch.json`` where torch
is installed.
"""

import json
import sys

LABELS = [0, 3, -100, 2, 4, 1]
OTHERS = [1, -100, 2, 2, 0, 3]
LAM, ALPHA, BETA, LEVEL = 0.3, 0.1, 0.2, 1.5


def value_and_gradients(function, **inputs):
    """The value, or the rows of it, and the gradient of its sum by every input."""
    import torch

    leaves = {k: v.clone().requires_grad_() for k, v in inputs.items()}
    value = function(**leaves)
    gradients = torch.autograd.grad(value.sum(), list(leaves.values()))
    found = {f"d{k}": g.tolist() for k, g in zip(leaves, gradients, strict=True)}
    return {"value": value.tolist(), **found}


def divergences(z, other, mean, log_var):
    """One value for each example."""
    from torch import distributions
    from torch.nn import functional

    def kl(p, q):
        return functional.kl_div(
            q.log_softmax(-1), p.log_softmax(-1), log_target=True, reduction="none"
        ).sum(-1)

    def normal(mean, log_var):
        found = distributions.Normal(mean, (log_var / 2).exp())
        return distributions.kl_divergence(found, distributions.Normal(0.0, 1.0)).sum(-1)

    return {
        "gaussian_kl": value_and_gradients(normal, mean=mean, log_var=log_var),
        "categorical_kl": value_and_gradients(kl, p=z, q=other),
        "symmetric_kl": value_and_gradients(lambda p, q: (kl(p, q) + kl(q, p)) / 2, p=z, q=other),
        "confidence_penalty": value_and_gradients(
            lambda z: -distributions.Categorical(logits=z).entropy(), z=z
        ),
    }


def losses(z, mean, log_var):
    """Scalars; examples with the label -100 are ignored."""
    import torch
    from torch.nn import functional

    a = torch.tensor(LABELS)
    b = torch.tensor(OTHERS)
    counted = a >= 0

    def smoothed(z, labels=a, alpha=ALPHA):
        return functional.cross_entropy(z, labels, label_smoothing=alpha)

    def bottleneck(z, mean, log_var):
        rate = (mean**2 + log_var.exp() - 1 - log_var).sum(-1) / 2
        return smoothed(z, alpha=0.0) + BETA * rate[counted].mean()

    return {
        "cross_entropy": value_and_gradients(lambda z: smoothed(z, alpha=0.0), z=z),
        "smoothed_cross_entropy": value_and_gradients(smoothed, z=z),
        "mixed_cross_entropy": value_and_gradients(
            lambda z: LAM * smoothed(z) + (1 - LAM) * smoothed(z, b), z=z
        ),
        "bottleneck_loss": value_and_gradients(bottleneck, z=z, mean=mean, log_var=log_var),
        "all_ignored": bool(smoothed(z, torch.full_like(a, -100)).isnan()),
    }


def figures():
    """Inputs and figures, all in float64."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def draw(columns):
        return torch.randn(6, columns, generator=generator, dtype=torch.float64).round(decimals=3)

    z = draw(5)
    other = draw(5)
    mean = draw(3)
    log_var = draw(3)
    loss = torch.tensor([0.5, LEVEL, 2.0], dtype=torch.float64)
    return {
        "made_with": {"script": "tests/references/losses_torch.py", "torch": torch.__version__},
        "strengths": {"lam": LAM, "alpha": ALPHA, "beta": BETA, "level": LEVEL},
        "labels": {"a": LABELS, "b": OTHERS},
        "z": z.tolist(),
        "other": other.tolist(),
        "mean": mean.tolist(),
        "log_var": log_var.tolist(),
        "loss": loss.tolist(),
        **divergences(z, other, mean, log_var),
        **losses(z, mean, log_var),
        "flood": value_and_gradients(lambda loss: (loss - LEVEL).abs() + LEVEL, loss=loss),
    }


if __name__ == "__main__":
    json.dump(figures(), sys.stdout, indent=1)
    print()
