"""The circle study as a PyTorch program: one network after the other.

Four configurations of a 2-50-50-1 network: plain, an L1 penalty, weight decay, and dropout.
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

ROWS = 1000
BATCH_SIZE = 32
CONFIGURATIONS = (
    {},
    {"l1": 0.01},
    {"weight_decay": 0.01},
    {"dropout": 0.5},
)
Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]
MakeBatches = Callable[[torch.Tensor, torch.Tensor], Batches]


def points() -> tuple[torch.Tensor, torch.Tensor]:
    """Returns points of a square, and labels that are 1 outside the circle."""
    x = np.random.RandomState(42).rand(ROWS, 2) * 4 - 2
    y = np.square(x).sum(axis=1, keepdims=True) > 5
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)


def by_slices(x: torch.Tensor, y: torch.Tensor) -> Batches:
    """Yields one epoch of full batches in a new order by indexing, which is fast."""
    order = torch.randperm(len(x))
    for rows in order[: len(x) // BATCH_SIZE * BATCH_SIZE].split(BATCH_SIZE):
        yield x[rows], y[rows]


def by_loader(x: torch.Tensor, y: torch.Tensor) -> Batches:
    """Yields the same with a ``DataLoader``, which is common."""
    dataset = torch.utils.data.TensorDataset(x, y)
    yield from torch.utils.data.DataLoader(dataset, BATCH_SIZE, shuffle=True, drop_last=True)


def train(
    seed: int,
    make_batches: MakeBatches,
    *,
    epochs: int,
    l1: float = 0.0,
    weight_decay: float = 0.0,
    dropout: float = 0.0,
) -> float:
    """Trains one network and returns its accuracy on the training points."""
    torch.manual_seed(seed)
    x, y = points()
    thin = [nn.Dropout(dropout)] if dropout else []
    network = nn.Sequential(
        nn.Linear(2, 50), nn.ReLU(), *thin, nn.Linear(50, 50), nn.ReLU(), *thin, nn.Linear(50, 1)
    )
    parameters = list(network.parameters())
    optimizer = torch.optim.Adam(parameters, lr=0.01, weight_decay=weight_decay)
    criterion = nn.BCEWithLogitsLoss()
    for _ in range(epochs):
        for batch_x, batch_y in make_batches(x, y):
            loss = criterion(network(batch_x), batch_y)
            if l1:
                loss = loss + l1 * sum(p.abs().sum() for p in parameters)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    network.eval()
    with torch.no_grad():
        return float(((network(x) > 0) == (y > 0.5)).float().mean())


def study(seeds: int, make_batches: MakeBatches, *, epochs: int) -> list[list[float]]:
    """Returns the accuracies of every configuration and seed."""
    accuracies = [
        train(seed, make_batches, epochs=epochs, **configuration)
        for configuration, seed in itertools.product(CONFIGURATIONS, range(seeds))
    ]
    return [accuracies[i : i + seeds] for i in range(0, len(accuracies), seeds)]
