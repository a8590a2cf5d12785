"""Stochastic depth around Linen layers: state, keys and the cost of a skipped layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxreg import linen
from tests.helpers import few
from tests.trees import assert_equal, draw, shapes_of

KEY = jax.random.key(5)
X = draw(4, 8, mean=1)


class Block(nn.Module):
    """A residual branch with statistics, keys of its own and intermediates."""

    @nn.compact
    def __call__(self, x, gain=1.0):
        self.sow("intermediates", "inputs", x)
        y = nn.BatchNorm(use_running_average=False, momentum=0.5)(nn.Dense(8)(x))
        return gain * linen.Dropout(0.5, deterministic=False, rng_collection="inner")(y)


@few("mutable", [["batch_stats"], ["batch_stats", "intermediates"]])
def test_statistics_inside_move_when_the_layer_is_not_skipped(mutable):
    module = linen.StochasticDepth(Block(), 0.5, deterministic=False)
    variables = jax.jit(module.init)({"params": KEY, "dropout": KEY, "inner": KEY}, X)
    variables = {name: variables[name] for name in ("params", "batch_stats")}
    plain = shapes_of(lambda: Block().init({"params": KEY, "inner": KEY}, X)["params"])
    assert jax.tree.map(jnp.shape, variables["params"]) == plain

    @jax.jit
    def run(key):
        rngs = {"dropout": key, "inner": KEY}
        return module.apply(variables, X, 2.0, mutable=mutable, rngs=rngs)

    added = 0
    for key in jax.random.split(KEY, 12):
        y, updated = run(key)
        difference = np.asarray(y) - X
        assert set(updated) == {"batch_stats"}
        if np.any(difference != 0):
            added += 1
            # Batch norm of 4 examples is at most the root of 3; 2 dropouts and the gain double it.
            assert np.mean(difference == 0) < 0.9
            assert np.max(abs(difference)) < 8 * np.sqrt(3) + 1e-3
            assert np.max(abs(difference)) > 4 * np.sqrt(3) + 1e-3
            assert np.any(updated["batch_stats"]["BatchNorm_0"]["mean"] != 0)
        else:
            assert_equal(updated["batch_stats"], variables["batch_stats"])
    assert 0 < added < 12


class Product(nn.Module):
    """A layer of two inputs."""

    @nn.compact
    def __call__(self, x, y):
        return x * y


def test_further_inputs_are_passed_on():
    module = linen.StochasticDepth(Product(), 0.5)

    @jax.jit
    def run(keys):
        def call(key):
            return module.apply({}, X, 3 * X, deterministic=False, rng=key)

        return jax.vmap(call)(keys), module.apply({}, X, 3 * X, deterministic=True)

    drawn, evaluated = run(jax.random.split(KEY, 12))
    np.testing.assert_allclose(evaluated, X + 3 * X * X, rtol=1e-6)
    kept = [np.any(np.asarray(y) != X) for y in drawn]
    assert 0 < sum(kept) < 12
    for y in drawn[np.array(kept)]:
        np.testing.assert_allclose(y, X + 6 * X * X, rtol=1e-6)


def test_a_layer_of_another_dtype_is_named():
    narrow = linen.StochasticDepth(nn.Dense(8, dtype=jnp.bfloat16), 0.5)
    with pytest.raises(TypeError, match="`block` must keep the dtype of `x`"):
        jax.eval_shape(lambda: narrow.init(KEY, X, deterministic=True))


def test_a_skipped_layer_is_not_computed():
    """The layer is in a branch of a conditional, and nowhere else."""
    module = linen.StochasticDepth(nn.Dense(8), 0.5, deterministic=False)
    variables = {"params": {"kernel": np.eye(8, dtype=np.float32), "bias": np.zeros(8, np.float32)}}
    program = jax.make_jaxpr(lambda key: module.apply(variables, X, rng=key))(KEY)
    names = [equation.primitive.name for equation in program.eqns]
    assert "cond" in names
    assert "dot_general" not in names
    assert "dot_general" in str(program)
