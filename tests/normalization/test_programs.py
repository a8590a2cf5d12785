"""What the compiler makes of norms, and what they hold for the backward pass."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import normalization
from tests.normalization.helpers import draw

SHAPES = {"group_norm": (16, 8, 8, 32)}
SHAPE = (1024, 32)
FACTORS = {"scale": jnp.linspace(0.5, 2, 32), "bias": jnp.linspace(-1, 1, 32)}
EVERY_NORM = {
    "layer_norm": lambda x: normalization.layer_norm(x, **FACTORS),
    "rms_norm": lambda x: normalization.rms_norm(x, scale=FACTORS["scale"]),
    "group_norm": lambda x: normalization.group_norm(x, groups=4, **FACTORS),
    "batch_norm": lambda x: normalization.batch_norm(x, normalization.init_stats(32), **FACTORS)[0],
}

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


@pytest.mark.parametrize("name", EVERY_NORM)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_backward_pass_holds_the_input_alone(name, dtype):
    """Not its deviations, nor products with it, in float32."""
    x = jax.ShapeDtypeStruct(SHAPES.get(name, SHAPE), dtype)
    pull = jax.eval_shape(lambda x: jax.vjp(EVERY_NORM[name], x)[1], x)
    large = {leaf.dtype for leaf in jax.tree.leaves(pull) if leaf.size >= x.size}
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pull))
    assert large == {x.dtype}
    assert held < 2 * x.size * x.dtype.itemsize


@pytest.mark.parametrize("name", EVERY_NORM)
def test_a_cpu_writes_results_only(name):
    """Each sum includes what is computed from the elements, in place of reading it."""

    def both(x, dy):
        y, pull = jax.vjp(EVERY_NORM[name], x)
        return y, pull(dy)

    x = jax.ShapeDtypeStruct(SHAPES.get(name, SHAPE), "float32")
    assert arrays_written(both, x, x) == 2
    narrow = jax.ShapeDtypeStruct(SHAPES.get(name, SHAPE), "bfloat16")
    assert arrays_written(EVERY_NORM[name], narrow) == 1


def arrays_written(function, *shapes):
    """Counts the instructions of a program whose result is as large as the input."""
    text = jax.jit(function).lower(*shapes).compile().as_text()
    program = text[text.index("\nENTRY") :]
    found = re.findall(r" = \w+\[([\d,]+)\]\S* (?!parameter|bitcast|get-tuple)", program)
    sizes = [math.prod(map(int, shape.split(","))) for shape in found]
    return sizes.count(math.prod(SHAPE))


@pytest.mark.parametrize("name", EVERY_NORM)
def test_the_gradient_of_a_narrow_input_is_rounded_once(name):
    x = draw(*SHAPES.get(name, SHAPE), mean=1).astype(jnp.bfloat16)
    dy = draw(*SHAPES.get(name, SHAPE), seed=1).astype(jnp.bfloat16)

    @jax.jit
    def gradients(x, dy):
        narrow = jax.vjp(EVERY_NORM[name], x)[1](dy)[0]
        wide = jax.vjp(EVERY_NORM[name], x.astype(jnp.float32))[1](dy.astype(jnp.float32))[0]
        return narrow, wide

    narrow, wide = gradients(x, dy)
    assert narrow.dtype == jnp.bfloat16
    once = np.asarray(wide).astype(jnp.bfloat16)
    # Sums in another order may round a few elements to the other side.
    assert np.mean(np.asarray(narrow) != once) < 0.01
