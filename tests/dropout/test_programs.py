"""What the compiler gets: layers share one hash, and parts are hashed once."""

import functools
import re
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from benchmarks import programs
from jaxreg import dropout, noise

KEY = jax.random.key(0)
OF_PARTS = {
    "spatial_dropout": (dropout.spatial_dropout, (4, 6, 5, 8)),
    "drop_path": (dropout.drop_path, (4, 6, 5, 8)),
    "locked_dropout": (dropout.locked_dropout, (4, 6, 8)),
    "embedding_dropout": (dropout.embedding_dropout, (16, 8)),
    "feature_alpha_dropout": (dropout.feature_alpha_dropout, (4, 6, 5, 8)),
    "broadcast_axes": (partial(dropout.dropout, broadcast_axes=1), (4, 6, 8)),
}


@pytest.mark.parametrize("name", OF_PARTS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_loop_over_elements_does_not_hash(name, dtype):
    function, shape = OF_PARTS[name]

    def both(x):
        y, pull = jax.vjp(lambda x: function(KEY, x, rate=0.3), x)
        return y, pull(y)

    text = jax.jit(both).lower(jnp.ones(shape, dtype)).compile().as_text()
    sizes = ",".join(map(str, shape))
    loops = [loop for loop in text.split("\n\n") if f"[{sizes}]" in loop]
    assert loops
    for loop in loops:
        assert not re.search(r" = u32\[[\d,]*\]\S* multiply\(", loop)


@pytest.mark.parametrize(
    "layer",
    [
        partial(dropout.dropout, rate=0.3),
        partial(dropout.gaussian_dropout, rate=0.3),
        partial(noise.gaussian_noise, stddev=0.3),
    ],
    ids=["dropout", "gaussian_dropout", "gaussian_noise"],
)
def test_layers_share_one_copy_of_the_hash(layer):
    def text(depth):
        def network(x, keys):
            for i in range(depth):
                x = jnp.tanh(layer(keys[i], x))
            return x.sum()

        keys = jax.random.split(KEY, 8)
        return jax.jit(jax.grad(network)).lower(jnp.ones((4, 8)), keys).as_text()

    assert text(8).count("stablehlo.xor") == text(2).count("stablehlo.xor")


def test_a_transformer_has_at_most_three_tenths_more_lines_than_with_the_parts_of_flax():
    def lines(name):
        function, arguments = programs.step(name, 2)
        return len(jax.jit(function).lower(*arguments).as_text().splitlines())

    assert lines("jaxreg") <= 1.3 * lines("flax")


@pytest.mark.parametrize(
    "layer",
    [dropout.dropout, dropout.classical_dropout, noise.salt_and_pepper],
    ids=lambda layer: layer.__name__,
)
def test_a_scan_stores_nothing_for_its_gradient(layer):
    """Neither a mask for each step, nor an array of zeros or NaN for all of them."""
    one_array = 256 * 64 * 4
    assert temporary_bytes(layer) < temporary_bytes(identity) + one_array / 4


def identity(key, x, *, rate):
    return x


@functools.cache
def temporary_bytes(layer):
    def loss(kernels, x, rate):
        def step(x, inputs):
            kernel, key = inputs
            return layer(key, jax.nn.relu(x @ kernel), rate=rate), None

        x, _ = jax.lax.scan(step, x, (kernels, jax.random.split(KEY, len(kernels))))
        return jnp.mean((x @ kernels[0]) ** 2)

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((4, 64, 64), (256, 64), ())]
    compiled = jax.jit(jax.grad(loss)).lower(*shapes).compile()
    return compiled.memory_analysis().temp_size_in_bytes
