"""What the compiler makes of norms in a deep residual network."""

import jax
import jax.numpy as jnp
import pytest

from jaxreg import normalization

NORMS = {
    "layer_norm": normalization.layer_norm,
    "batch_norm": lambda x: normalization.batch_norm(x, normalization.init_stats(8))[0],
}


@pytest.mark.parametrize("name", NORMS)
def test_twice_the_blocks_move_twice_the_bytes(name):
    """Without a copy of its input, each norm would add up all residual branches before it."""

    def loss(kernels, x):
        for kernel in kernels:
            x = x + NORMS[name](x) @ kernel
        return x.sum()

    def bytes_of(blocks):
        shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((blocks, 8, 8), (64, 8))]
        compiled = jax.jit(jax.grad(loss)).lower(*shapes).compile()
        return compiled.cost_analysis()["bytes accessed"]

    assert bytes_of(8) < 2.25 * bytes_of(4)
