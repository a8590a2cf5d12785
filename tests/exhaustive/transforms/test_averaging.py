"""Averages in whole trainings: batch norms, sparse weights, and Lookahead of Optax."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.linear_model import Lasso

from jaxreg import proximal, transforms
from jaxreg.training import statistics


class Network(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.dense(x))


def test_an_nnx_model_takes_its_average_and_recalibrates():
    model = Network(nnx.Rngs(0))
    start = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    average = transforms.exponential_average(0.5, initial_weight=1.0)
    optimizer = nnx.Optimizer(model, optax.chain(optax.sgd(0.1), average), wrt=nnx.Param)
    x = jax.random.normal(jax.random.key(0), (16, 3))
    grads = nnx.grad(lambda model: jnp.sum(model(x)[:, 0] ** 3))(model)
    optimizer.update(model, grads)
    params = nnx.state(model, nnx.Param)
    read = transforms.read_average(optimizer.opt_state, params)
    halfway = jax.tree.map(lambda a, b: (a + b) / 2, start, nnx.to_pure_dict(params))
    chex.assert_trees_all_close(nnx.to_pure_dict(read), halfway, atol=1e-6)
    nnx.update(model, read)
    model.train()
    mean = statistics.recalibrate_model(model, [x]).norm.mean[...]
    np.testing.assert_allclose(mean, model.dense(x).mean(axis=0), atol=1e-6)


def lasso_path(alpha, learning_rate, tx):
    """Newest and averaged coefficients of the lasso by noisy proximal steps, and the solution."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, 50))
    truth = np.array([3, -2, 1.5, 1, -0.5] + [0] * 45)
    y = x @ truth + 0.5 * generator.normal(size=400)
    solution = Lasso(alpha, fit_intercept=False, tol=1e-10).fit(x, y).coef_
    step = transforms.proximal(proximal.l1, alpha, learning_rate)
    tx = optax.chain(optax.sgd(learning_rate), step, tx)
    features = np.float32(x)
    target = np.float32(y)

    def body(carry, rows):
        w, state = carry
        batch = jnp.asarray(features)[rows]
        gradient = batch.T @ (batch @ w - jnp.asarray(target)[rows]) / 16
        updates, state = tx.update(gradient, state, w)
        return (optax.apply_updates(w, updates), state), None

    @jax.jit
    def train(rows):
        start = jnp.zeros(50)
        (w, state), _ = jax.lax.scan(body, (start, tx.init(start)), rows)
        average = transforms.read_average(state, w)
        return w, average, proximal.l1(average, step=alpha * learning_rate)

    def excess(w):
        values = [np.mean((y - x @ v) ** 2) / 2 + alpha * abs(v).sum() for v in (w, solution)]
        return values[0] - values[1]

    rows = generator.integers(0, 400, (3000, 16))
    return solution, *map(np.asarray, train(rows)), excess


def test_a_last_proximal_step_restores_the_zeros_of_an_average():
    """The average of sparse parameters has no zeros; masking it where the newest are zero keeps
    their noise, and the threshold of one training step takes it away, at a better objective."""
    tx = transforms.exponential_average(0.99)
    solution, w, average, sparse, excess = lasso_path(0.2, 0.02, tx)
    masked = np.where(w == 0, 0, average)
    counts = [np.count_nonzero(v) for v in (solution, w, average, masked, sparse)]
    assert counts[0] == counts[4] == 5
    assert counts[2] == 50
    assert counts[1] == counts[3] > 8
    np.testing.assert_array_equal(sparse != 0, solution != 0)
    assert excess(sparse) < excess(masked) < min(excess(average), excess(w))


def test_lookahead_is_that_of_optax():
    ours = transforms.lookahead(optax.adam(0.1), period=4, step_size=0.3)
    theirs = optax.lookahead(optax.adam(0.1), sync_period=4, slow_step_size=0.3)

    @jax.jit
    def train():
        def step(carry, _):
            w, state, pair, other = carry
            updates, state = ours.update(jnp.sin(w), state, w)
            w = optax.apply_updates(w, updates)
            updates, other = theirs.update(jnp.sin(pair.fast), other, pair)
            pair = optax.apply_updates(pair, updates)
            return (w, state, pair, other), (w, pair.fast, state.average, pair.slow)

        w = jnp.array([1.0, -2.0])
        pair = optax.LookaheadParams.init_synced(w)
        return jax.lax.scan(step, (w, ours.init(w), pair, theirs.init(pair)), length=10)[1]

    w, fast, average, slow = train()
    np.testing.assert_allclose(w, fast, rtol=1e-5)
    np.testing.assert_allclose(average, slow, rtol=1e-5)
