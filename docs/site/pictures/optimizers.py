"""Pictures of transformations of Optax: paths of two weights, and numbers over steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from docs.site.panels import KEY, Lines, Picture, Points, as_array, evaluate

START = np.float32([[-1.6], [1.4]])
MINIMUM = np.float32([[0.1], [1.0]])
CURVATURE = np.float32([[1.6, 0.3], [0.3, 0.8]])
STEPS = 60
NOISE = 2.0


def bowl(w: Any) -> Any:
    """Returns a quadratic loss of two weights of one unit."""
    d = w - MINIMUM
    return 0.5 * jnp.sum(d * (CURVATURE @ d))


def valley(w: Any) -> Any:
    """Returns a loss with a narrow minimum beside a wide one."""
    sharp = 1.2 * jnp.exp(-jnp.sum((w - jnp.array([[-0.6], [0.8]])) ** 2) / 0.08)
    return bowl(w) / 3 - sharp


def descend(
    tx: Any, loss: Any = bowl, start: Any = START, steps: int = STEPS, noise: float = 0.0,
    read: Any = None,
) -> Any:  # fmt: skip
    """Returns the weights after each step, and their average if ``read`` reads it."""
    tx = optax.with_extra_args_support(tx)

    def step(carry: Any, key: Any) -> Any:
        w, state = carry
        slope = jax.grad(loss)
        g = slope(w) + noise * jax.random.normal(key, w.shape)
        updates, state = tx.update(g, state, w, grad_fn=slope)
        w = optax.apply_updates(w, updates)
        return (w, state), (w, read(state, w) if read else w)

    carry = (start, tx.init(start))
    keys = jax.random.split(KEY, steps)
    _, (path, averages) = jax.jit(lambda c: jax.lax.scan(step, c, keys))(carry)
    path = jnp.concatenate([start[None], path])
    return path, averages


def surface(loss: Any = bowl) -> Any:
    """Returns a grid of losses for the lines of equal loss."""
    x = jnp.linspace(-2, 1.5, 61)
    y = jnp.linspace(-0.6, 2.2, 61)
    grid = jnp.stack(jnp.meshgrid(x, y), axis=-1).reshape(-1, 2, 1)
    return x, y, as_array(jax.vmap(loss)(grid)).reshape(61, 61)


def flat(path: Any) -> Any:
    """Returns a path of two weights as points."""
    return as_array(path)[..., 0]


def compare(
    codes: Mapping[str, str], title: str = "", about: str = "", loss: Any = bowl, **options: Any
) -> Picture:
    """Shows the paths that optimizers take."""
    paths = {
        name: flat(descend(evaluate(code), loss, **options)[0]) for name, code in codes.items()
    }
    panel = Points(
        title or "lines of equal loss", paths=paths, surface=surface(loss),
        across="first weight", up="second weight",
    )  # fmt: skip
    return Picture((panel,), tuple(codes.values()), about)


def averaged(code: str) -> Picture:
    """Shows noisy parameters and their average."""
    full = f"optax.chain(optax.sgd(0.1), {code})"
    read = "transforms.read_average(state, params)"
    path, averages = descend(
        evaluate(full), noise=NOISE, read=lambda s, w: evaluate(read, state=s, params=w)
    )
    paths = {"parameters": flat(path), "average": flat(averages)}
    panel = Points(
        "training with noisy gradients", paths=paths, surface=surface(),
        across="first weight", up="second weight",
    )  # fmt: skip
    return Picture((panel,), (full, read))


def lookahead() -> Picture:
    """Shows noisy parameters with and without slow weights."""
    plain = "optax.sgd(0.1)"
    code = "transforms.lookahead(optax.sgd(0.1), period=5, step_size=0.5)"
    return compare({"SGD": plain, "with lookahead": code}, noise=NOISE)


def decays() -> Picture:
    """Shows weights without a gradient under three decays, with a falling learning rate."""
    rate = "optax.linear_schedule(0.1, 0.0, 60)"
    codes = {
        "decoupled": f"transforms.decoupled_decay(0.5, learning_rate={rate}, mask=None)",
        "independent": "transforms.independent_decay(0.05, mask=None)",
    }
    curves = {}
    for name, code in codes.items():
        path, _ = descend(evaluate(code), lambda w: 0.0 * jnp.sum(w), jnp.ones((2, 1)))
        curves[name] = path[:, 0, 0]
    panel = Lines("a weight without gradients", range(STEPS + 1), curves, "step", "weight")
    return Picture(
        (panel,),
        tuple(codes.values()),
        "The learning rate falls to 0, and only the decoupled decay falls with it.",
    )


def rounding() -> Picture:
    """Shows a bfloat16 weight under a small decay."""
    decay = "transforms.independent_decay(1e-3, mask=None)"
    codes = {"bfloat16": decay, "compensated": f"transforms.compensate_rounding({decay})"}
    start = jnp.ones((2, 1), jnp.bfloat16)
    curves = {}
    for name, code in codes.items():
        path, _ = descend(evaluate(code), lambda w: 0 * w.sum(), start, 300)
        curves[name] = jnp.float32(path[:, 0, 0])
    panel = Lines("a weight that decays", range(301), curves, "step", "weight")
    return Picture((panel,), tuple(codes.values()))


def layerwise() -> Picture:
    """Shows the factor of each layer."""
    code = "transforms.layerwise_scale(0.75, depth)"
    params = {f"block_{i}": jnp.ones(1) for i in range(12)}
    depth = {name: i for i, name in enumerate(params)}
    tx = evaluate(code, depth=depth)
    updates, _ = tx.update(params, tx.init(params), params)
    factors = jnp.stack([updates[name][0] for name in params])
    panel = Lines(
        "12 blocks", range(12), {"": factors}, "block", "factor of the update", steps=True
    )
    return Picture((panel,), (code,))


def centralized() -> Picture:
    """Shows the gradients of seven units before and after."""
    code = "transforms.centralize()"
    tx = evaluate(code)
    gradients = jax.random.normal(jax.random.key(1), (2, 7)) + jnp.array([[1.0], [0.4]])
    after, _ = tx.update(gradients, tx.init(gradients), gradients)
    groups = {"gradient": as_array(gradients).T, "centralized": as_array(after).T}
    panel = Points(
        "each point is a unit", groups, arrows=True, across="first weight", up="second weight"
    )
    return Picture((panel,), (code,))


ADAM = "optax.adam(0.1)"
SGD = "optax.sgd(0.2)"
L2 = "transforms.add_penalty_gradient(penalties.l2, 1.0)"
PROX = "transforms.proximal(proximal.l1, 0.4, learning_rate=0.2)"
BALL = "transforms.project(partial(projections.max_norm, radius=0.8))"
SPARSE = (
    "transforms.preconditioned_proximal(optax.adam(0.1), proximal.l1, 0.4, 0.1, "
    "metric=transforms.adam_metric())"
)

PICTURES: dict[str, Callable[[], Picture]] = {
    "transforms/add_penalty_gradient": partial(
        compare, {"SGD": SGD, "with L2": f"optax.chain({L2}, {SGD})"}
    ),
    "transforms/proximal": partial(
        compare,
        {"SGD": SGD, "with a proximal step": f"optax.chain({SGD}, {PROX})"},
        "",
        "The first weight becomes exactly zero.",
    ),
    "transforms/preconditioned_proximal": partial(
        compare, {"Adam": ADAM, "with a proximal step in its metric": SPARSE}
    ),
    "transforms/project": partial(
        compare, {"SGD": SGD, "projected": f"optax.chain({SGD}, {BALL})"}
    ),
    "transforms/decoupled_decay": partial(
        compare,
        {
            "Adam": ADAM,
            "decoupled decay": "optax.chain(optax.adam(0.1), "
            "transforms.decoupled_decay(0.5, learning_rate=0.1))",
            "L2 through Adam": "optax.chain("
            "transforms.add_penalty_gradient(penalties.l2, 0.5), optax.adam(0.1))",
        },
    ),
    "transforms/independent_decay": decays,
    "transforms/cautious_decay": partial(
        compare,
        {
            "decoupled decay": "optax.chain(optax.adam(0.1), "
            "transforms.decoupled_decay(1.0, learning_rate=0.1))",
            "cautious decay": "optax.chain(optax.adam(0.1), "
            "transforms.cautious_decay(1.0, learning_rate=0.1))",
        },
    ),
    "transforms/sam": partial(
        compare, {"SGD": SGD, "SAM": f"transforms.sam({SGD}, radius=0.3)"}, loss=valley
    ),
    "transforms/asam": partial(
        compare, {"SGD": SGD, "ASAM": f"transforms.asam({SGD}, radius=0.5)"}, loss=valley
    ),
    "transforms/layerwise_scale": layerwise,
    "transforms/compensate_rounding": rounding,
    "transforms/centralize": centralized,
    "transforms/exponential_average": partial(averaged, "transforms.exponential_average(0.9)"),
    "transforms/stochastic_weight_average": partial(
        averaged, "transforms.stochastic_weight_average(start=20, period=1)"
    ),
    "transforms/lookahead": lookahead,
}
