"""Linen wrappers around attention, and trained by gradient descent."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxreg import linen, reparam

KEY = jax.random.key(3)
SERIES = np.random.default_rng(0).normal(size=(2, 6, 8)).astype(np.float32)


def test_spectral_norm_of_attention_bounds_the_linear_maps():
    module = linen.SpectralNorm(
        nn.MultiHeadDotProductAttention(2),
        n_steps=30,
        update_stats=True,
        feature_axes=reparam.output_axes,
    )

    @jax.jit
    def run(x):
        variables = module.init(KEY, x, x)
        _, updated = module.apply(variables, x, x, mutable=["batch_stats"])
        return variables["params"]["layer_instance"]["query"]["kernel"], updated["batch_stats"]

    query, stats = run(SERIES)
    exact = np.linalg.norm(np.asarray(query).reshape(8, 8), ord=2)
    sigma = stats["layer_instance/query/kernel/sigma"]
    np.testing.assert_allclose(sigma, exact, rtol=1e-3)


def test_training_moves_lengths_and_directions():
    module = linen.WeightNorm(nn.Dense(3, use_bias=False))
    optimizer = optax.sgd(0.01)

    def loss(params):
        return jnp.mean((module.apply({"params": params}, SERIES) - 1) ** 2)

    @jax.jit
    def train(key):
        def step(carry, _):
            params, state = carry
            value, gradient = jax.value_and_grad(loss)(params)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), value

        params = module.init(key, SERIES)["params"]
        (trained, _), values = jax.lax.scan(step, (params, optimizer.init(params)), length=50)
        return params, trained, values

    before, after, values = train(KEY)
    assert values[-1] < 0.9 * values[0]
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, after)
    assert all(jax.tree.leaves(moved))
