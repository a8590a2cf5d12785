"""Variational dropout in a training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxreg import dropout


def test_a_sparse_problem_is_solved_sparsely():
    """Two of eight inputs matter; what training leaves of the other weights is noise."""
    x = jax.random.normal(jax.random.key(1), (256, 8))
    y = x[:, :1] - 2 * x[:, 1:2]
    optimizer = optax.adam(optax.cosine_decay_schedule(0.02, 2000))
    params = (jnp.full((8, 1), 0.1), jnp.full((8, 1), -5.0))

    def loss(params, key):
        prediction = dropout.variational_dense(key, x, *params)
        divergence = dropout.variational_dropout_kl(dropout.variational_log_alpha(*params))
        return jnp.mean((prediction - y) ** 2) / (2 * 0.1**2) + divergence / len(x)

    def step(carry, key):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, key), state)
        return (optax.apply_updates(params, updates), state), None

    start = (params, optimizer.init(params))
    keys = jax.random.split(jax.random.key(42), 2000)
    (params, _), _ = jax.lax.scan(step, start, keys)
    pruned = np.asarray(dropout.variational_prune(params[0], params[1]))[:, 0]
    np.testing.assert_allclose(pruned[:2], [1, -2], atol=0.1)
    np.testing.assert_array_equal(pruned[2:], 0)
