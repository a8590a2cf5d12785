"""Every arm, trained: it changes the weights, and at a strength that is off it changes none."""

import functools
import math

import jax
import numpy as np

from jaxreg.study import CLASSIFICATION, Recipe, grid, loop
from jaxreg.study.arms import ARMS
from tests.helpers import few
from tests.study.rows import KINDS

# A gate and a code are more than their penalties, two random operations have no strength, and slow
# weights lag behind at any step size.
NEVER_OFF = ("l0", "bottleneck", "rand_augment", "lookahead")
# Stopping early is tested in test_runner.py.
NAMES = [name for name in ARMS if name not in ("jacobian", "early_stopping")]
OF_IMAGES = ("drop_path", "spatial_dropout")


def plan(make_model):
    return loop.Plan(
        make_model=make_model,
        objective=CLASSIFICATION,
        epochs=4,
        batch_size=25,
        learning_rate=0.05,
        devices=tuple(jax.local_devices()),
        together=1,
        num_classes=2,
    )


def trained(kind, recipe, strengths):
    """Weights after training with each of some lists of strengths, by one program."""
    data, make_model = KINDS[kind]
    structure = jax.tree.structure(recipe)

    @jax.jit
    def train(stacked, split):
        def one(row):
            own = jax.tree.unflatten(structure, list(row[1:])).with_cheap()
            _, variables, _ = loop.train(plan(make_model), own, split, jax.random.key(row[0]))
            return variables["params"]

        return jax.lax.map(one, stacked)

    columns = [np.float32(values) for values in zip(*strengths, strict=True)]
    seeds = np.zeros(len(strengths), np.int32)
    found = jax.device_get(train((seeds, *columns), data(0)))
    named = {jax.tree_util.keystr(path): leaf for path, leaf in leaves(found)}
    return [{name: leaf[i] for name, leaf in named.items()} for i in range(len(strengths))]


def leaves(params):
    return jax.tree_util.tree_leaves_with_path(params)


@functools.cache
def baseline(kind):
    return trained(kind, Recipe(), [[]])[0]


@few("name", ["jacobian", *NAMES])
def test_an_arm_changes_the_weights_and_none_when_it_is_off(name):
    arm = ARMS[name]
    kind = "image" if name in OF_IMAGES else arm.kinds[0]
    recipes = grid(name).recipes
    # The strongest: the largest strength, unless infinity is off.
    recipe = recipes[0] if arm.off == math.inf else recipes[-1]
    if name == "flood":
        recipe = Recipe({"flood": 5.0})
    on = jax.tree.leaves(recipe)
    off = [ARMS[own].off for own in recipe if ARMS[own].has_strength]
    moved, same = trained(kind, recipe, [on, off])
    plain = baseline(kind)
    shared = moved.keys() & plain.keys()
    assert any(abs(moved[own] - plain[own]).max() > 1e-4 for own in shared)
    if arm.has_strength and name not in NEVER_OFF:
        assert same.keys() == plain.keys()
        for own, leaf in same.items():
            np.testing.assert_allclose(leaf, plain[own], rtol=2e-3, atol=2e-4, err_msg=own)
