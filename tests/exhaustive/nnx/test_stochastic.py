"""Random NNX modules without ``nnx.jit``: eager calls draw what compiled ones do."""

import jax
import numpy as np
import pytest
from flax import nnx as flax_nnx

from tests.cases.modules import MODULES

RANDOM = [row for row in MODULES if row.mode == "deterministic"]


@pytest.mark.parametrize("row", RANDOM, ids=str)
def test_compiled_calls_draw_the_masks_of_eager_ones(row):
    eager = row.nnx(**{**row.fields, "rngs": flax_nnx.Rngs(0)})
    jitted = flax_nnx.clone(eager)
    run = flax_nnx.jit(lambda layer, inputs: layer(*inputs))
    for _ in range(2):
        ours = jax.tree.leaves(run(jitted, row.inputs))
        theirs = jax.tree.leaves(eager(*row.inputs))
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("row", RANDOM, ids=str)
def test_split_and_merge_continue_where_the_module_stood(row):
    layer = row.nnx(**{**row.fields, "rngs": flax_nnx.Rngs(0)})
    layer(*row.inputs)
    graph, state = flax_nnx.split(layer)
    merged = flax_nnx.merge(graph, state, copy=True)
    for _ in range(2):
        pairs = (merged(*row.inputs), layer(*row.inputs))
        for a, b in zip(*map(jax.tree.leaves, pairs), strict=True):
            np.testing.assert_array_equal(a, b)
