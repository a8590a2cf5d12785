"""Checkpoints of Flax's modules load into ours of the same names, and ours into Flax's."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx as flax_nnx

from jaxreg import nnx
from tests.checkpoints import NNX
from tests.flax_suite import shared_names
from tests.helpers import few
from tests.trees import assert_close, assert_equal

# Where the scales of weight norm are ones and no variables; 0.12.12 mended it.
WITHOUT_SCALES = flax.__version__ == "0.12.8"


def exchanged(module):
    """Returns the state that a checkpoint holds."""
    return flax_nnx.state(module, lambda path, _: not (WITHOUT_SCALES and path[0] == "scales"))


def described(make):
    """Kinds, shapes, dtypes and metadata by path."""
    found = {}
    for path, leaf in flax_nnx.to_flat_state(exchanged(flax_nnx.eval_shape(make))):
        value = leaf.get_value()
        found[path] = (type(leaf), value.shape, value.dtype, leaf.get_metadata().get("role"))
    return found


def filled(tree):
    """The same tree with positive numbers, as variances are; keys and counts stay."""
    random = np.random.default_rng(2)

    def fill(a):
        floating = jnp.issubdtype(a.dtype, jnp.floating)
        return jnp.asarray(random.uniform(0.2, 1, a.shape), a.dtype) if floating else a

    return jax.tree.map(fill, tree)


def bits_of_keys(tree):
    keys = jax.dtypes.prng_key
    return jax.tree.map(
        lambda a: jax.random.key_data(a) if jnp.issubdtype(a.dtype, keys) else a, tree
    )


def loaded(make, checkpoint):
    module = make()
    state = exchanged(module)
    flax_nnx.replace_by_pure_dict(state, checkpoint)
    flax_nnx.update(module, state)
    return module


def outputs(row, module):
    """Returns the results and variables of training, and the result of evaluation."""
    evaluated = flax_nnx.clone(module)(*row.inputs, **row.evaluation)
    y = module(*row.inputs, **row.call)
    return y, flax_nnx.to_pure_dict(flax_nnx.state(module, flax_nnx.BatchStat)), evaluated


@few("row", NNX, ids=str)
def test_checkpoints_are_exchanged(row):
    assert described(row.ours) == described(row.theirs)

    @jax.jit
    def run():
        checkpoint = filled(flax_nnx.to_pure_dict(exchanged(row.theirs())))
        ours = loaded(row.ours, checkpoint)
        saved = flax_nnx.to_pure_dict(exchanged(ours))
        theirs = loaded(row.theirs, saved)
        back = flax_nnx.to_pure_dict(exchanged(theirs))
        trees = bits_of_keys(checkpoint), bits_of_keys(back)
        return (outputs(row, ours), outputs(row, theirs)), trees

    (found, expected), (checkpoint, back) = run()
    assert_equal(back, checkpoint)
    assert_close(found, expected, 2e-6)


def test_every_module_of_a_name_of_flax_has_a_row():
    names = {row.name.split("-")[0] for row in NNX}
    assert set(shared_names(nnx, flax_nnx)) <= names
