"""Kernels stacked by ``nn.scan`` and ``nnx.vmap`` take the steps of the unrolled model."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxreg import masks, penalties, projections, proximal, transforms
from tests.helpers import few

LAYERS = 3
STACKED = masks.match("blocks")


def draw(seed):
    """A stack of layers and a head, with a stacked vector of another name."""
    rng = np.random.default_rng(seed)
    shapes = {"kernel": (LAYERS, 4, 2), "bias": (LAYERS, 2), "gamma": (LAYERS, 2)}
    blocks = {name: rng.normal(0, 2, shape) for name, shape in shapes.items()}
    # Layers of different sizes, so that a norm over all of them is another one.
    blocks["kernel"] *= np.array([0.1, 1.0, 10.0])[:, None, None]
    tree = {"blocks": blocks, "head": {"kernel": rng.normal(0, 2, (4, 2))}}
    return jax.tree.map(np.float32, tree)


def unrolled(tree):
    layers = {
        f"block_{i}": {name: leaf[i] for name, leaf in tree["blocks"].items()}
        for i in range(LAYERS)
    }
    return {**layers, "head": tree["head"]}


def at_kernels(function):
    """A function of matrices, and the identity for vectors."""
    return lambda w: function(w) if w.ndim > 1 else w


def columns(w, step):
    return proximal.group_lasso(w, step=step) if w.ndim > 1 else w


ORDER = ("blocks|block_0", "block_1", "block_2", "head")


def scaled(stacked):
    # The stack takes the places of its layers by itself.
    order = ORDER if stacked is None else ("blocks", "head")
    return transforms.layerwise_scale(0.5, partial(masks.depth, order=order, stacked=stacked))


def preconditioned(prox, stacked, metric=None):
    metric = transforms.adam_metric() if metric is None else metric
    adam = optax.adam(0.1)
    return transforms.preconditioned_proximal(adam, prox, 0.5, 0.1, metric=metric, stacked=stacked)


BUILDS = {
    "max norm": lambda s: transforms.project(
        at_kernels(partial(projections.max_norm, radius=1.0)), stacked=s
    ),
    "spectral ball": lambda s: transforms.project(
        at_kernels(partial(projections.spectral_ball, radius=1.0)), stacked=s
    ),
    "l1 ball": lambda s: transforms.project(
        partial(projections.l1_ball, radius=1.0, axis=0), stacked=s
    ),
    "group lasso": lambda s: transforms.proximal(columns, 1.0, 0.5, stacked=s),
    "nuclear": lambda s: transforms.proximal(
        lambda w, step: proximal.nuclear(w, step=step) if w.ndim > 1 else w,
        1.0, 0.5, stacked=s,
    ),
    "gradient": lambda s: transforms.add_penalty_gradient(
        lambda w: penalties.orthogonality(w) if w.ndim > 1 else penalties.l2(w), 0.1, stacked=s
    ),
    "groups and multipliers": lambda s: transforms.proximal(
        columns, 1.0, 0.5, stacked=s, multipliers=masks.multipliers([("head/.*", 0.1)], otherwise=1)
    ),
    "centralize": lambda s: transforms.centralize(stacked=s),
    "centralize, first axis": lambda s: transforms.centralize(axis=-1, stacked=s),
    "scale": scaled,
    "adam, groups": lambda s: preconditioned(columns, s),
    "adam, l1": lambda s: preconditioned(proximal.l1, s),
    "decay": lambda s: transforms.independent_decay(0.5, mask=partial(masks.kernels, stacked=s)),
}  # fmt: skip


@few("name", BUILDS)
def test_a_stack_takes_the_steps_of_the_unrolled_model(name):
    build = BUILDS[name]
    params = draw(0)
    gradients = [draw(1), draw(2)]

    @jax.jit
    def steps(stacked, split):
        found = []
        for mask, tree, updates in ((STACKED, params, stacked), (None, unrolled(params), split)):
            tx = build(mask)
            state = tx.init(tree)
            weights = tree
            for gradient in updates:
                moved, state = tx.update(gradient, state, weights)
                weights = optax.apply_updates(weights, moved)
            found.append(weights)
        return found

    ours, want = steps(gradients, [unrolled(g) for g in gradients])
    ours = unrolled(ours)
    for leaf, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=1e-6, atol=1e-6 * abs(expected).max())


def test_each_layer_is_projected_to_its_own_ball():
    """Compared with NumPy; the stack as one kernel gives another result."""
    w = draw(0)["blocks"]["kernel"]
    ball = partial(projections.max_norm, radius=1.0)

    @jax.jit
    def steps(w):
        return [
            tx.update(jnp.zeros_like(w), tx.init(w), w)[0] + w
            for tx in (
                transforms.project(ball, stacked=lambda w: True),
                transforms.project(ball),
            )
        ]

    by_layer, as_one = steps(w)
    norms = np.linalg.norm(np.float64(w), axis=1, keepdims=True)
    np.testing.assert_allclose(by_layer, w / np.maximum(norms, 1), rtol=1e-5)
    assert abs(by_layer - as_one).max() > 0.1


def test_a_metric_that_broadcasts_goes_with_its_layers():
    w = draw(0)["blocks"]["kernel"]
    shapes = ((), (2,), (4, 2), (1, 1, 1), (1, 4, 2), (LAYERS, 1, 1), (LAYERS, 4, 2))
    diagonals = [np.random.default_rng(0).uniform(0.5, 2, s).astype(np.float32) for s in shapes]

    @jax.jit
    def steps(w):
        found = []
        for d in diagonals:
            tx = transforms.preconditioned_proximal(
                optax.sgd(0.0), proximal.l1, 1.0, 1.0, metric=lambda _, d=d: d,
                stacked=lambda w: True,
            )  # fmt: skip
            found.append(tx.update(jnp.zeros_like(w), tx.init(w), w)[0] + w)
        return found

    for d, found in zip(diagonals, steps(w), strict=True):
        want = np.sign(w) * np.maximum(abs(w) - 1 / d, 0)
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)


def test_depths_of_layers_have_to_fit_the_stack():
    params = {"blocks": np.ones((LAYERS, 2), np.float32)}
    for depth in ([0, 1], [0.0, 1.0, 2.0], [[0, 1, 2]]):
        tx = transforms.layerwise_scale(0.5, {"blocks": np.array(depth)})
        with pytest.raises(ValueError, match="`depth` must give an integer for each parameter"):
            tx.update(params, tx.init(params), params)


class Block(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(4, 4, rngs=rngs)


def test_layers_of_nnx_vmap_in_an_optimizer():
    @nnx.jit
    def make():
        keys = jax.random.split(jax.random.key(0), LAYERS)
        stack = nnx.vmap(lambda key: Block(nnx.Rngs(key)))(keys)
        return nnx.Dict(blocks=stack, head=nnx.Linear(4, 4, rngs=nnx.Rngs(1)))

    model = make()
    kernel = model.blocks.linear.kernel
    before = np.asarray(kernel[...])
    ball = transforms.project(partial(projections.max_norm, radius=0.5), stacked=STACKED)
    tx = optax.chain(optax.sgd(0.1), optax.masked(ball, partial(masks.kernels, stacked=STACKED)))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    rest = jax.tree.map(np.zeros_like, nnx.state(model, nnx.Param))
    nnx.jit(lambda model, optimizer: optimizer.update(model, rest))(model, optimizer)
    norms = np.linalg.norm(np.float64(before), axis=1, keepdims=True)
    want = before * np.minimum(0.5 / norms, 1)
    np.testing.assert_allclose(kernel[...], want, rtol=1e-5)
