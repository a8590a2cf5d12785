"""Stochastic depth around NNX layers: state, keys and the cost of a skipped layer."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx as flax_nnx

from jaxreg import nnx
from tests.trees import different, draw

KEY = jax.random.key(15)
X = draw(16, 4, mean=1)


class Block(flax_nnx.Module):
    """A layer with statistics, and a stream of keys."""

    def __init__(self, rngs):
        self.dense = flax_nnx.Linear(4, 4, rngs=rngs)
        self.norm = flax_nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.drop(self.norm(self.dense(x)))


def test_the_state_of_a_layer_moves_when_it_is_not_skipped():
    make = flax_nnx.jit(
        lambda key, other: nnx.StochasticDepth(
            Block(flax_nnx.Rngs(key)), 0.5, rngs=flax_nnx.Rngs(other)
        )
    )
    layer = make(KEY, jax.random.key(1))

    @flax_nnx.jit
    def run(layer, x):
        y = layer(x)
        inside = layer.layer
        return y, inside.drop.rngs.count[...], inside.norm.mean[...], layer.rngs.count[...]

    skipped = 0
    before = (0, np.zeros(4, np.float32))
    for calls in range(1, 10):
        y, count, mean, outside = run(layer, X)
        assert outside == calls
        unmoved = count == before[0], np.array_equal(mean, before[1])
        assert unmoved == ((True, True) if np.array_equal(y, X) else (False, False))
        skipped += np.array_equal(y, X)
        before = (count, mean)
    assert 0 < skipped < 9


def test_a_skipped_layer_is_not_computed_and_parameters_come_from_outside():
    layer = nnx.StochasticDepth(flax_nnx.Linear(4, 4, rngs=flax_nnx.Rngs(0)), 0.5)
    traced = jax.make_jaxpr(lambda key, x: layer(x, rngs=key))(KEY, X)
    [cond] = [e for e in traced.eqns if e.primitive.name == "cond"]
    assert any("dot_general" in str(branch) for branch in cond.params["branches"])
    assert "dot_general" not in [e.primitive.name for e in traced.eqns]
    # The module is not an argument of what is differentiated.
    slope = jax.jit(jax.grad(lambda x: jnp.sum(layer(x, rngs=KEY))))(X)
    assert np.all(np.isfinite(slope))


def test_a_rate_of_one_skips_always():
    layer = nnx.StochasticDepth(flax_nnx.Linear(4, 4, rngs=flax_nnx.Rngs(0)), 1.0)
    np.testing.assert_array_equal(jax.jit(lambda key: layer(X, rngs=key))(KEY), X)


def test_stacked_blocks_in_a_scan():
    @flax_nnx.split_rngs(splits=8)
    @flax_nnx.vmap
    def make(rngs):
        return nnx.StochasticDepth(Block(rngs), 0.5, rngs=rngs)

    @flax_nnx.scan(in_axes=(flax_nnx.Carry, 0), out_axes=flax_nnx.Carry)
    def forward(x, layer):
        return layer(x)

    @flax_nnx.jit
    def run(key):
        layers = make(flax_nnx.Rngs(key))
        gradient = flax_nnx.grad(lambda layers: jnp.sum(forward(jnp.asarray(X), layers) ** 2))(
            layers
        )
        return layers.layer.norm.mean[...], gradient, layers.rngs.count[...]

    means, gradient, counts = run(KEY)
    moved = np.any(means != 0, axis=1)
    assert 0 < moved.sum() < 8
    pulled = np.any(gradient.layer.dense.kernel[...] != 0, axis=(1, 2))
    np.testing.assert_array_equal(pulled, moved)
    np.testing.assert_array_equal(counts, 1)


class Product(flax_nnx.Module):
    """A layer of two inputs."""

    def __call__(self, x, y):
        return x * y


def test_further_inputs_are_passed_on():
    layer = nnx.StochasticDepth(Product(), 0.5)
    threes = np.full_like(X, 3)

    @jax.jit
    def run(keys):
        drawn = jax.vmap(lambda key: layer(X, threes, rngs=key))(keys)
        return drawn, layer(X, threes, deterministic=True)

    drawn, evaluated = run(jax.random.split(KEY, 9))
    assert different(drawn) == 2
    for y in drawn:
        factor = 1 if np.array_equal(y, X) else 7
        np.testing.assert_allclose(y, factor * X, rtol=1e-5)
    np.testing.assert_allclose(evaluated, 4 * X, rtol=1e-6)
