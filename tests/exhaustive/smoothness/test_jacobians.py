"""Jacobian penalties of functions with keys and modules, of batch norm, and a peer's variance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxreg import smoothness
from tests.arrays import float64, normal

KEY = jax.random.key(0)
PENALTIES = {
    "jacobian": lambda f, x: smoothness.jacobian(f, x, key=KEY, probes=2),
    "projected": lambda f, x: smoothness.jacobian_projected(f, x, key=KEY, probes=2),
    "exact": smoothness.jacobian_exact,
}


@pytest.mark.parametrize("name", PENALTIES)
def test_functions_may_close_over_keys_and_modules(name):
    """Dropout with one key, mapped over keys; an NNX module that changes between calls."""
    penalty, x = PENALTIES[name], jnp.ones((3, 4))
    w = jnp.asarray(normal(4, 2), jnp.float32)

    def of_key(key):
        return penalty(lambda x: (x * jax.random.bernoulli(key, 0.5, x.shape)) @ w, x)

    keys = jax.random.split(KEY, 3)
    looped = [of_key(key) for key in keys]
    np.testing.assert_allclose(jax.vmap(of_key)(keys), looped, rtol=1e-5)
    model = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
    before = penalty(model, x)
    model.kernel[...] = 2 * model.kernel[...]
    np.testing.assert_allclose(penalty(model, x), 4 * before, rtol=1e-5)
    gradient = nnx.grad(lambda model: penalty(model, x))(model)["kernel"]
    assert np.abs(gradient[...]).min() > 0


def test_batch_norm_in_training_breaks_the_meaning():
    """The examples mix: an invariant function of the batch mean has cross terms that all count."""
    x = jnp.asarray(normal(4, 1), jnp.float32)

    def centered(x):
        return x - x.mean(axis=0)

    own = np.mean([(1 - 1 / 4) ** 2] * 4)
    assert not np.allclose(smoothness.jacobian_exact(centered, x), own)


@pytest.mark.parametrize("kind", ["one large row", "orthogonal rows", "random"])
def test_gaussian_projections_of_outputs_have_the_variance_of_gaussian_directions(kind):
    """As the docstring of ``jacobian`` states of projections that are not of unit length."""
    w = {
        "one large row": np.outer([1, 0, 0, 0], np.ones(6)),
        "orthogonal rows": np.eye(4, 6),
        "random": normal(4, 6),
    }[kind]

    @jax.jit
    def values(x):
        y, pull_back = jax.vjp(lambda x: x @ np.float32(w).T, x)
        one = lambda key: jnp.sum(pull_back(jax.random.normal(key, y.shape))[0] ** 2)  # noqa: E731
        return jax.vmap(one)(jax.random.split(KEY, 20_000))

    sample = float64(values(np.ones((1, 6), np.float32)))
    spread = np.sqrt(np.var((sample - sample.mean()) ** 2) / len(sample))
    assert abs(sample.var() - 2 * np.sum((w @ w.T) ** 2)) < 5 * spread + 1e-6
