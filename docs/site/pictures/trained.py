"""Pictures of small models, trained without and with a smoothness penalty."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import make_moons

from docs.site.panels import KEY, Heat, Lines, Panel, Picture, as_array, evaluate

STEPS = 800
SIDE = 41


def init(sizes: tuple[int, ...], scale: float = 1.5) -> list[tuple[jax.Array, jax.Array]]:
    """Returns the weights of a small network."""
    keys = jax.random.split(jax.random.key(0), len(sizes))
    return [
        (scale * jax.random.normal(key, (a, b)) / a**0.5, jnp.zeros(b))
        for key, a, b in zip(keys, sizes, sizes[1:], strict=False)
    ]


def network(layers: Any, x: Any) -> Any:
    """Applies a small network."""
    for w, b in layers[:-1]:
        x = jnp.tanh(x @ w + b)
    w, b = layers[-1]
    return x @ w + b


def train(loss: Callable[..., Any], sizes: tuple[int, ...]) -> Any:
    """Returns weights after some hundred steps of Adam."""
    tx = optax.adam(0.02)

    def step(carry: Any, key: Any) -> Any:
        layers, state = carry
        updates, state = tx.update(jax.grad(loss)(layers, key), state)
        return (optax.apply_updates(layers, updates), state), None

    layers = init(sizes)
    keys = jax.random.split(KEY, STEPS)
    (layers, _), _ = jax.jit(lambda c: jax.lax.scan(step, c, keys))((layers, tx.init(layers)))
    return layers


@functools.cache
def moons() -> tuple[jax.Array, jax.Array]:
    """Returns two classes of points, with some labels wrong."""
    x, y = make_moons(60, noise=0.35, random_state=1)
    return jnp.float32(x), jnp.asarray(y)


@functools.cache
def classifier(code: str, weight: float) -> jax.Array:
    """Returns probabilities on a grid, of a network trained with a penalty."""
    x, y = moons()

    def loss(layers: Any, key: Any) -> Any:
        f = partial(network, layers)
        value = optax.softmax_cross_entropy_with_integer_labels(f(x), y).mean()
        if weight:
            value += weight * evaluate(code, f=f, x=x, key=key)
        return value

    layers = train(loss, (2, 32, 32, 2))
    across = jnp.linspace(-2, 3, SIDE)
    up = jnp.linspace(2, -1.5, SIDE)
    grid = jnp.stack(jnp.meshgrid(across, up), axis=-1)
    return jax.nn.softmax(network(layers, grid))[..., 1]


def boundary(code: str, weight: float) -> Picture:
    """Shows the predictions of a classifier, trained without and with a penalty."""
    panels: list[Panel] = []
    for title, w in (("without", 0.0), (f"with weight {weight:g}", weight)):
        grid = classifier("" if not w else code, w)
        panels.append(Heat(title, as_array(grid), 0, 1, "first input", "second input"))
    return Picture(
        tuple(panels), (code,), "Predicted probability of a class, after training on 60 points."
    )


def critic(code: str, weight: float) -> Picture:
    """Shows a critic of one input, trained without and with a penalty."""
    keys = jax.random.split(jax.random.key(1), 2)
    real = 1 + 0.3 * jax.random.normal(keys[0], (64, 1))
    fake = -1 + 0.3 * jax.random.normal(keys[1], (64, 1))
    grid = jnp.linspace(-2, 2, 161)
    drawn = {}
    for name, w in (("without", 0.0), (f"with weight {weight:g}", weight)):

        def loss(layers: Any, key: Any, w: float = w) -> Any:
            def f(x: Any) -> Any:
                return network(layers, x)[:, 0]

            value = jax.nn.softplus(-f(real)).mean() + jax.nn.softplus(f(fake)).mean()
            if w:
                value += w * evaluate(code, critic=f, real=real, fake=fake, key=key)
            return value

        drawn[name] = network(train(loss, (1, 32, 1)), grid[:, None])[:, 0]
    marks = {"fake": -1.0, "real": 1.0}
    return Picture((Lines("critic of one input", grid, drawn, "input", "critic", marks),), (code,))


PICTURES: dict[str, Callable[[], Picture]] = {
    "smoothness/jacobian": partial(boundary, "smoothness.jacobian(f, x, key=key)", 0.02),
    "smoothness/virtual_adversarial": partial(
        boundary, "smoothness.virtual_adversarial(f, x, key=key, radius=0.5)", 1.0
    ),
    "smoothness/graph_laplacian": partial(
        boundary,
        "smoothness.graph_laplacian(f(x), smoothness.rbf_affinity(x, length_scale=0.3))",
        0.0005,
    ),
    "smoothness/gradient_penalty": partial(
        critic, "smoothness.gradient_penalty(critic, real, fake, key=key)", 1.0
    ),
    "smoothness/zero_centered_penalty": partial(
        critic, "smoothness.zero_centered_penalty(critic, real)", 1.0
    ),
}
