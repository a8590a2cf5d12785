"""Random NNX modules without ``nnx.jit``: eager calls draw what compiled ones do."""

import jax
import numpy as np
import pytest
from flax import nnx as fnx

from tests.cases.modules import MODULES

RANDOM = [row for row in MODULES if row.mode == "deterministic"]


@pytest.mark.parametrize("row", RANDOM, ids=str)
def test_compiled_calls_draw_the_masks_of_eager_ones(row):
    eager = row.nnx(**{**row.fields, "rngs": fnx.Rngs(0)})
    jitted = fnx.clone(eager)
    run = fnx.jit(lambda layer, inputs: layer(*inputs))
    for _ in range(2):
        ours = jax.tree.leaves(run(jitted, row.inputs))
        theirs = jax.tree.leaves(eager(*row.inputs))
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("row", RANDOM, ids=str)
def test_split_and_merge_continue_where_the_module_stood(row):
    layer = row.nnx(**{**row.fields, "rngs": fnx.Rngs(0)})
    layer(*row.inputs)
    graph, state = fnx.split(layer)
    merged = fnx.merge(graph, state, copy=True)
    for _ in range(2):
        pairs = (merged(*row.inputs), layer(*row.inputs))
        for a, b in zip(*map(jax.tree.leaves, pairs), strict=True):
            np.testing.assert_array_equal(a, b)
