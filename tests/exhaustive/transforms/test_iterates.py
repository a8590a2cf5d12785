"""SAM in the training loops of Flax, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen, nnx
from flax.training.train_state import TrainState

from jaxreg import transforms
from tests.transforms.test_iterates import RATE, W

X = np.random.default_rng(1).normal(0, 1, (8, 3)).astype(np.float32)
Y = np.random.default_rng(2).normal(0, 1, (8, 2)).astype(np.float32)
RADIUS = 0.5


def descended(kernel, decay=0.0):
    """Kernel after a step of SAM on half of the mean of squares, by NumPy in float64."""
    kernel = np.float64(kernel)
    slope = lambda k: X.T @ (X @ k - Y) / Y.size  # noqa: E731
    gradient = slope(kernel)
    there = kernel + RADIUS * gradient / np.linalg.norm(gradient)
    return kernel - RATE * slope(there) - decay * kernel


def sam(*after):
    return transforms.sam(optax.chain(optax.sgd(RATE), *after), RADIUS)


def test_decay_inside_of_sam_is_of_the_parameters_and_not_of_the_worst_point():
    loss = lambda k: jnp.mean((X @ k - Y) ** 2) / 2  # noqa: E731
    tx = sam(transforms.independent_decay(0.1))

    @jax.jit
    def step(w):
        slope = jax.grad(loss)
        return optax.apply_updates(w, tx.update(slope(w), tx.init(w), w, grad_fn=slope)[0])

    np.testing.assert_allclose(step(W), descended(W, 0.1), rtol=1e-5)


def test_sam_with_a_train_state_of_flax():
    model = linen.Dense(2, use_bias=False)
    state = TrainState.create(apply_fn=model.apply, params={"kernel": W}, tx=sam())

    @jax.jit
    def step(state):
        def loss(params):
            return jnp.mean((state.apply_fn({"params": params}, X) - Y) ** 2) / 2

        slope = jax.grad(loss)
        updates, opt_state = state.tx.update(
            slope(state.params), state.opt_state, state.params, grad_fn=slope
        )
        params = optax.apply_updates(state.params, updates)
        return state.replace(step=state.step + 1, params=params, opt_state=opt_state)

    after = step(state)
    np.testing.assert_allclose(after.params["kernel"], descended(W), rtol=1e-5)
    assert (after.step, after.opt_state.step.count) == (1, 1)


class Dropped(nnx.Module):
    def __init__(self, rngs):
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.kernel = nnx.Param(W)

    def __call__(self, x):
        return self.dropout(x) @ self.kernel[...]


def test_sam_with_dropout_in_nnx_draws_the_same_masks_at_both_points():
    """The masks of the first gradient are known from a copy of the model."""
    model = Dropped(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, sam(), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x):
        graph, params, rest = nnx.split(model, nnx.Param, ...)

        def loss(params):
            copy = nnx.merge(graph, params, rest, copy=True)
            return jnp.mean((copy(x) - Y) ** 2) / 2, nnx.state(copy, nnx.Not(nnx.Param))

        gradients, rest_after = jax.grad(loss, has_aux=True)(params)
        optimizer.update(model, gradients, grad_fn=lambda p: jax.grad(loss, has_aux=True)(p)[0])
        nnx.update(model, rest_after)

    dropped = nnx.jit(lambda model: nnx.clone(model).dropout(X))(model)
    count = int(model.dropout.rngs.count[...])
    step(model, optimizer, X)
    assert model.dropout.rngs.count[...] == count + 1
    slope = lambda k: np.float64(dropped).T @ (dropped @ k - Y) / Y.size  # noqa: E731
    gradient = slope(np.float64(W))
    there = W + RADIUS * gradient / np.linalg.norm(gradient)
    np.testing.assert_allclose(model.kernel[...], W - RATE * slope(there), rtol=1e-4, atol=1e-6)
