"""A training step of LeNet in torch, plain and with one projection of the Jacobian."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks.measuring import Work

LEARNING_RATE = 0.01
WEIGHT = 0.01
OUTPUTS = 10


def works(batch: int) -> dict[str, Work]:
    """Returns the two steps, on a batch of images."""
    return {
        "torch, plain": _work(None, batch),
        "torch, reverse projection": _work(_projection, batch),
    }


def _projection(logits: Any, x: Any) -> Any:
    """Penalizes one projection of unit length, as Hoffman et al. (2019) do."""
    u = torch.nn.functional.normalize(torch.randn(logits.shape), dim=1)
    (rows,) = torch.autograd.grad(logits, x, u, create_graph=True)
    return OUTPUTS * rows.pow(2).sum() / len(x)


def _work(penalty: Callable[[Any, Any], Any] | None, batch: int) -> Work:
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, OUTPUTS),
    )
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE)
    x = torch.randn(batch, 1, 28, 28, requires_grad=penalty is not None)
    labels = torch.arange(batch) % OUTPUTS

    def step() -> None:
        logits = model(x)
        loss = nn.functional.cross_entropy(logits, labels)
        if penalty is not None:
            loss = loss + WEIGHT * penalty(logits, x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step
