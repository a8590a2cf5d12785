"""Hard concrete gates in a training."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import dropout, penalties


def test_gates_learn_which_inputs_matter():
    """A regression in which three inputs of eight count, of which L0 keeps those three."""
    x = jax.random.normal(jax.random.key(1), (200, 8))
    w = jnp.array([2.0, -3.0, 1.5, 0, 0, 0, 0, 0])
    y = x @ w + 0.1 * jax.random.normal(jax.random.key(2), (200,))

    def loss(params, key):
        gates = dropout.hard_concrete(key, params["log_alpha"])
        errors = jnp.mean((y - x @ (params["w"] * gates)) ** 2)
        return errors + 0.05 * penalties.hard_concrete_l0(params["log_alpha"])

    @jax.jit
    def train(params):
        def step(params, key):
            slope = jax.grad(loss)(params, key)
            rates = {"w": 0.05, "log_alpha": 1.0}
            return jax.tree.map(lambda p, g, r: p - r * g, params, slope, rates), None

        return jax.lax.scan(step, params, jax.random.split(jax.random.key(0), 4000))[0]

    trained = train({"w": jnp.zeros(8) + 0.5, "log_alpha": jnp.full(8, 2.0)})
    gates = dropout.hard_concrete_inference(trained["log_alpha"])
    np.testing.assert_array_equal(gates[:3], 1)
    np.testing.assert_array_equal(gates[3:], 0)
