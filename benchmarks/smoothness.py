"""A training step of LeNet with a Jacobian penalty, compared with the plain step and torch.

XLA counts the operations. The floor is what a method cannot do without: two plain steps for one
product with the Jacobian, and 12.2 for the exact norm, which needs one gradient of the images for
each of the ten outputs. Torch is faster because its convolutions on a CPU are, as the plain step
shows.
"""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from benchmarks.measuring import Row, if_installed, shortest
from jaxreg import smoothness, targets

LEARNING_RATE = 0.01
WEIGHT = 0.01
OUTPUTS = 10
PLAIN_STEPS = {"plain": 1.0, "forward probe": 2.0, "reverse projection": 2.0, "exact": 12.2}
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
    works |= if_installed("torch", lambda: _torch_works(len(x)))
    times = shortest(works, turns=turns)
    rows = [
        _row(f"LeNet step, Jacobian, {name}", name, peer, times, "ms")
        for name in penalties
        for peer in ("plain", "torch, reverse projection")
        if peer in times and not (peer != "plain" and name.startswith("exact"))
    ]
    if "torch, plain" in times:
        rows.append(_row("LeNet step, plain", "plain", "torch, plain", times, "ms"))
    millions = {name: number / 1e6 for name, number in operations.items()}
    return rows + [
        _row(f"LeNet step, Jacobian, {name}, operations", name, "plain", millions, "million")
        for name in penalties
    ]


def _row(work: str, name: str, peer: str, measures: dict[str, float], unit: str) -> Row:
    least = PLAIN_STEPS[name.split(" by ")[0]] * measures["plain"]
    return Row(work, peer, measures[name], measures[peer], least, unit)


def _torch_works(batch: int) -> dict[str, Any]:
    return importlib.import_module("benchmarks.smoothness_torch").works(batch)


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
