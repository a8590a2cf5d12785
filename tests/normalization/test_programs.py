"""What the compiler makes of norms in a deep residual network."""

import jax
import jax.numpy as jnp
import pytest

from jaxreg import normalization

STATS = normalization.init_stats(8)
NORMS = {
    "layer_norm": normalization.layer_norm,
    "batch_norm": lambda x: normalization.batch_norm(x, STATS)[0],
    "batch_renorm": lambda x: normalization.batch_renorm(x, STATS, r_max=2.0, d_max=1.0)[0],
}


@pytest.mark.parametrize("name", NORMS)
def test_twice_the_blocks_move_twice_the_bytes(name):
    """Without a copy of its input, each norm would add up all residual branches before it."""

    def loss(kernels, x):
        for kernel in kernels:
            x = x + NORMS[name](x) @ kernel
        return x.sum()

    def bytes_of(blocks):
        lowered = jax.jit(jax.grad(loss)).lower(jnp.ones((blocks, 8, 8)), jnp.ones((64, 8)))
        return lowered.compile().cost_analysis()["bytes accessed"]

    assert bytes_of(8) < 2.25 * bytes_of(4)
