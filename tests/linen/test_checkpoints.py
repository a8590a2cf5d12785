"""Checkpoints of Flax's modules load into ours of the same names, and ours into Flax's."""

import jax
import numpy as np
import pytest
from flax import linen as flax_linen
from flax import serialization

from jaxreg import linen
from tests.checkpoints import LINEN
from tests.flax_suite import shared_names
from tests.helpers import few
from tests.trees import assert_close, assert_equal

KEY = jax.random.key(3)


def made(row, make):
    """Shapes of the variables, in the boxes of partition metadata."""
    return jax.eval_shape(lambda: make().init(KEY, *row.inputs, **row.evaluation))


def filled(tree):
    """The same tree with positive numbers, as variances are."""
    random = np.random.default_rng(2)
    return jax.tree.map(lambda a: random.uniform(0.2, 1, a.shape).astype(a.dtype), tree)


def outputs(row, make, variables):
    """The results and variables of training, and the results of evaluation."""
    trained = make().apply(variables, *row.inputs, **row.call, mutable=["batch_stats"])
    return trained, make().apply(variables, *row.inputs, **row.evaluation)


@few("row", LINEN, ids=str)
def test_checkpoints_are_exchanged(row):
    theirs = made(row, row.theirs)
    ours = made(row, row.ours)
    plain = flax_linen.unbox(ours) if row.unboxed else ours
    assert jax.tree.structure(plain) == jax.tree.structure(theirs)
    described = [[(a.shape, a.dtype) for a in jax.tree.leaves(tree)] for tree in (plain, theirs)]
    assert described[0] == described[1]

    of_theirs = filled(theirs)
    written = serialization.to_bytes(of_theirs)
    loaded = serialization.from_bytes(jax.tree.map(np.zeros_like, filled(plain)), written)
    back = serialization.from_bytes(of_theirs, serialization.to_bytes(loaded))
    assert_equal(back, of_theirs)

    @jax.jit
    def run(theirs, ours):
        return outputs(row, row.theirs, theirs), outputs(row, row.ours, ours)

    found, expected = run(back, loaded)
    assert_close(found, expected, 2e-6)


def test_every_module_of_a_name_of_flax_has_a_row():
    names = {row.name.split("-")[0] for row in LINEN}
    assert set(shared_names(linen, flax_linen)) <= names


def test_flax_does_not_take_boxes_in_spectral_norm():
    """Its names need keys, and boxes have none; ours names the kernel without its box."""
    row = next(row for row in LINEN if row.name == "SpectralNorm-partitioned")
    boxed = flax_linen.SpectralNorm(row.ours().layer_instance)
    with pytest.raises(AttributeError):
        made(row, lambda: boxed)
