"""A training step of LeNet with a Jacobian penalty, compared with the plain step and torch.

Compared with the plain step, a ratio of 1/n means that ours costs as much as n plain steps. The
exact norm needs about one plain step and one gradient of the images for each of the ten outputs, so
its ratio is below 1/10. XLA counts the operations.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import torch
from flax import linen as nn
from torch import nn as torch_nn

from benchmarks.measuring import Row, Work, shortest
from jaxreg import smoothness, targets

LEARNING_RATE = 0.01
WEIGHT = 0.01
OUTPUTS = 10
Penalty = Callable[[Callable[[Any], Any], Any], Any]


class LeNet(nn.Module):
    """Two convolutions and three dense layers, with rectifiers."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.max_pool(nn.relu(nn.Conv(6, (5, 5))(x)), (2, 2), (2, 2))
        x = nn.max_pool(nn.relu(nn.Conv(16, (5, 5), padding="VALID")(x)), (2, 2), (2, 2))
        x = x.reshape(len(x), -1)
        for features in (120, 84):
            x = nn.relu(nn.Dense(features)(x))
        return nn.Dense(OUTPUTS)(x)


def probe(f: Any, x: jax.Array) -> jax.Array:
    return smoothness.jacobian(f, x, key=jax.random.key(2))


def projection(f: Any, x: jax.Array) -> jax.Array:
    return smoothness.jacobian_projected(f, x, key=jax.random.key(2))


def by_vmap(f: Any, x: jax.Array) -> jax.Array:
    """Computes the exact norm as one would without a library."""
    rows = jax.vmap(jax.jacrev(lambda example: f(example[None])[0]))(x)
    return jnp.sum(rows**2) / len(x)


def measure(*, small: bool) -> list[Row]:
    """Measures one step of gradient descent on a batch of 100 images."""
    turns = 2 if small else 15
    x = jax.random.normal(jax.random.key(1), (4 if small else 100, 28, 28, 1))
    penalties: dict[str, Penalty] = {
        "forward probe": probe,
        "reverse projection": projection,
        "exact": smoothness.jacobian_exact,
        "exact by vmap of jacrev": by_vmap,
    }
    steps = {name: _step(penalty, x) for name, penalty in penalties.items()}
    steps["plain"] = _step(None, x)
    operations = {name: step.cost_analysis()["flops"] for name, (step, _) in steps.items()}
    works = {name: partial(step, *inputs) for name, (step, inputs) in steps.items()}
    works["torch, plain"] = _torch_work(None, len(x))
    works["torch, reverse projection"] = _torch_work(torch_projection, len(x))
    times = shortest(works, turns=turns)

    def row(name: str, peer: str) -> Row:
        return Row(f"LeNet step, Jacobian, {name}", peer, times[name], times[peer], "ms")

    rows = [row(name, "plain") for name in penalties]
    rows.append(row("forward probe", "torch, reverse projection"))
    rows.append(row("torch, reverse projection", "torch, plain"))
    return rows + [
        Row(
            f"LeNet step, Jacobian, {name}, operations",
            "plain",
            operations[name] / 1e6,
            operations["plain"] / 1e6,
            "million",
        )
        for name in penalties
    ]


def _step(penalty: Penalty | None, x: jax.Array) -> tuple[Any, ...]:
    """Returns the compiled step and its inputs."""
    model = LeNet()
    params = model.init(jax.random.key(0), x)
    labels = jnp.arange(len(x)) % OUTPUTS

    def loss(params: Any, x: jax.Array) -> jax.Array:
        f = partial(model.apply, params)
        value = targets.smoothed_cross_entropy(f(x), labels, alpha=0.0)
        return value if penalty is None else value + WEIGHT * penalty(f, x)

    @jax.jit
    def step(params: Any, x: jax.Array) -> Any:
        return jax.tree.map(lambda w, g: w - LEARNING_RATE * g, params, jax.grad(loss)(params, x))

    return step.lower(params, x).compile(), (params, x)


def torch_projection(logits: Any, x: Any) -> Any:
    """Penalizes one projection of unit length, as Hoffman et al. (2019) do."""
    u = torch.nn.functional.normalize(torch.randn(logits.shape), dim=1)
    (rows,) = torch.autograd.grad(logits, x, u, create_graph=True)
    return OUTPUTS * rows.pow(2).sum() / len(x)


def _torch_work(penalty: Callable[[Any, Any], Any] | None, batch: int) -> Work:
    model = torch_nn.Sequential(
        torch_nn.Conv2d(1, 6, 5, padding=2),
        torch_nn.ReLU(),
        torch_nn.MaxPool2d(2),
        torch_nn.Conv2d(6, 16, 5),
        torch_nn.ReLU(),
        torch_nn.MaxPool2d(2),
        torch_nn.Flatten(),
        torch_nn.Linear(400, 120),
        torch_nn.ReLU(),
        torch_nn.Linear(120, 84),
        torch_nn.ReLU(),
        torch_nn.Linear(84, OUTPUTS),
    )
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE)
    x = torch.randn(batch, 1, 28, 28, requires_grad=penalty is not None)
    labels = torch.arange(batch) % OUTPUTS

    def step() -> None:
        logits = model(x)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        if penalty is not None:
            loss = loss + WEIGHT * penalty(logits, x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step
