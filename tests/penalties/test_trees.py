"""Sums of penalties over trees: masks, further trees, leaves that are no weights, dtypes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jaxreg import masks, penalties
from jaxreg.penalties import trees
from tests.arrays import weights
from tests.helpers import few

PENALTIES = {
    "l1": penalties.l1,
    "elastic_net": partial(penalties.elastic_net, l1=0.5, l2=2.0),
    "group_lasso": penalties.group_lasso,
    "isotropic": partial(penalties.isotropic_total_variation, axis=(0, 1)),
    "nuclear": penalties.nuclear,
    "decorrelation": penalties.decorrelation,
    "hard_concrete_l0": penalties.hard_concrete_l0,
}


def full(shape, value):
    return np.full(shape, value, np.float32)


# 6 twos, 3 fives, 4 minus ones and a seven.
TREE = {
    "dense": {"kernel": full((2, 3), 2.0), "bias": full((3,), 5.0)},
    "list": [full((1, 4), -1.0), full((), 7.0)],
}


def total(params, *arguments, **options):
    return jax.jit(lambda params: penalties.total(params, *arguments, **options))(params)


@pytest.mark.parametrize(("penalty", "want"), [(penalties.l1, 38.0), (penalties.l2, 76.0)])
def test_every_leaf_is_added(penalty, want):
    value = total(TREE, penalty)
    assert (value.shape, value.dtype) == ((), np.float32)
    assert float(value) == want


def test_masks_are_functions_and_trees():
    by_hand = {"dense": {"kernel": False, "bias": True}, "list": [False, True]}
    nothing = jax.tree.map(lambda _: False, TREE)

    @jax.jit
    def values(params):
        chosen = (masks.kernels, masks.kernels(params), by_hand, nothing)
        return [penalties.total(params, penalties.l1, mask) for mask in chosen]

    np.testing.assert_array_equal(values(TREE), [16.0, 16.0, 22.0, 0.0])


@pytest.mark.parametrize(
    "mask",
    [
        {"dense": {"kernel": True}, "list": [True, True]},
        {"dense": {"kernel": True, "bias": True}, "list": [True]},
        lambda params: jax.tree.leaves(params),
    ],
    ids=["missing", "short", "function"],
)
def test_a_mask_of_another_structure_raises(mask):
    with pytest.raises(ValueError, match=r"`mask` must have the tree structure of the parameters"):
        penalties.total(TREE, penalties.l1, mask)


def test_a_masked_weight_has_no_gradient():
    gradient = jax.jit(jax.grad(lambda p: penalties.total(p, penalties.l2, masks.kernels)))(TREE)
    np.testing.assert_array_equal(gradient["dense"]["bias"], np.zeros(3))
    np.testing.assert_array_equal(gradient["dense"]["kernel"], np.full((2, 3), 2.0))


@pytest.mark.parametrize("params", [{}, [], None, (), {"a": {}}], ids=str)
def test_the_sum_of_nothing_is_zero(params):
    value = penalties.total(params, penalties.l2)
    assert (value.shape, value.dtype, float(value)) == ((), np.float32, 0.0)


@pytest.mark.parametrize(
    "leaf",
    [np.arange(4), 3, True, np.array(True), jax.random.key(0), None],
    ids=["int", "python int", "bool", "array bool", "key", "none"],
)
def test_leaves_that_are_no_weights_are_passed_over(leaf):
    params = {"w": np.array([3.0, 4.0], np.float32), "other": leaf}
    for mask in (None, jax.tree.map(lambda _: True, params)):
        assert float(penalties.total(params, penalties.l2, mask)) == 12.5


def test_leaves_that_are_python_numbers_are_weights():
    assert float(penalties.total({"w": 3.0, "n": 3}, penalties.l2)) == 4.5


def test_the_sum_of_mixed_dtypes_is_in_float32():
    params = [np.full((10,), 300.0, d) for d in (np.float16, jnp.bfloat16, np.float32)]
    value = total(params, penalties.l2)
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, 3 * 10 * 300.0**2 / 2, rtol=1e-6)


def test_the_sum_with_float64_is_in_float64_in_any_order():
    w = weights(4, 3)
    expected = 2 * np.sum(np.float64(w) ** 2) / 2
    with jax.enable_x64(True):
        for params in ([w, np.float64(w)], [np.float64(w), w]):
            value = total(params, penalties.l2)
            assert value.dtype == np.float64
            np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_linen_parameters_are_a_tree():
    dense = linen.Dense(3)
    shapes = jax.eval_shape(lambda: dense.init(jax.random.key(0), jnp.ones((1, 2))))["params"]
    params = {name: weights(*leaf.shape, seed=1) for name, leaf in shapes.items()}
    squares = {name: np.sum(np.float64(w) ** 2) / 2 for name, w in params.items()}
    np.testing.assert_allclose(
        total(params, penalties.l2, masks.kernels), squares["kernel"], rtol=1e-6
    )
    both = squares["kernel"] + squares["bias"]
    np.testing.assert_allclose(total(params, penalties.l2), both, rtol=1e-6)


def test_an_nnx_state_is_a_tree_whose_random_streams_are_passed_over():
    @nnx.jit
    def make():
        dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(1))
        return nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), dropout)

    def loss(model):
        state = nnx.state(model)
        kernels = penalties.total(state, penalties.l1, masks.kernels)
        return kernels, penalties.total(state, penalties.l2)

    model = make()
    gradient, everything = nnx.jit(nnx.grad(loss, has_aux=True))(model)
    kernel = np.asarray(model.layers[0].kernel[...])
    squares = np.sum(np.float64(kernel) ** 2) + np.sum(model.layers[0].bias[...] ** 2)
    np.testing.assert_allclose(everything, squares / 2, rtol=1e-6)
    np.testing.assert_array_equal(gradient["layers"][0]["kernel"][...], np.sign(kernel))
    np.testing.assert_array_equal(gradient["layers"][0]["bias"][...], np.zeros(3))


def test_a_penalty_may_be_ones_own():
    assert float(total(TREE, lambda w: jnp.max(jnp.abs(w)))) == 2 + 5 + 1 + 7


@few("name", PENALTIES)
def test_any_penalty_is_added_over_kernels_and_nothing_else(name):
    w = weights(4, 3)
    params = {
        "dense": {"kernel": w, "bias": np.ones(3, np.float32)},
        "conv": {"kernel": w.astype(jnp.bfloat16)},
        "steps": np.arange(6, dtype=np.int32).reshape(3, 2),
        "flags": np.ones((2, 2), bool),
        "key": jax.random.key(0),
        "nothing": None,
    }
    penalty = PENALTIES[name]

    @jax.jit
    def values(params):
        kernels = [params[layer]["kernel"] for layer in ("dense", "conv")]
        return penalties.total(params, penalty, mask=masks.kernels), [*map(penalty, kernels)]

    value, parts = values(params)
    np.testing.assert_allclose(value, sum(map(float, parts)), rtol=1e-6)
    assert value.dtype == np.float32


def test_the_distance_of_a_tree_that_is_fine_tuned():
    start = {"body": {"kernel": weights(3, 4)}, "steps": np.int32(7)}
    params = {"body": {"kernel": start["body"]["kernel"] + 1}, "steps": np.int32(9)}
    distance = jax.jit(
        lambda p, start: penalties.total(p, penalties.distance, masks.kernels, rest=(start,))
    )
    np.testing.assert_allclose(distance(params, start), 12 / 2, rtol=1e-6)
    assert distance(start, start) == 0
    with pytest.raises(ValueError, match=r"`rest\[0\]` must have the same tree structure"):
        penalties.total(params, penalties.distance, rest=(start["body"],))
    with pytest.raises(ValueError, match=r"`rest\[1\]` must have the same tree structure"):
        penalties.total(params, lambda w, a, b: w.sum(), rest=(start, start["body"]))


def test_all_floating_point_numbers_of_a_tree_are_summed():
    assert float(jax.jit(trees.sum_numbers)(TREE | {"steps": np.int32(9)})) == 12 + 15 - 4 + 7


# Kernels that are stacked along an axis of layers.

LAYERS = {
    "blocks": {"kernel": weights(3, 5, 4) * np.float32([[[0.1]], [[1.0]], [[10.0]]])},
    "head": {"kernel": weights(5, 2, seed=1)},
}
UNROLLED = [*LAYERS["blocks"]["kernel"], LAYERS["head"]["kernel"]]
BLOCKS = masks.match("blocks")


def value_and_slopes(params, penalty, **options):
    return jax.jit(jax.value_and_grad(lambda p: penalties.total(p, penalty, **options)))(params)


@few("name", ["group_lasso", "nuclear", "decorrelation", "isotropic", "spectral", "orthogonality"])
def test_layers_of_a_stack_cost_what_they_do_in_the_unrolled_model(name):
    """In a tree that has both kinds, also as a model of NNX makes it."""
    penalty = PENALTIES.get(name) or getattr(penalties, name)
    want, slopes = value_and_slopes(UNROLLED, penalty)
    for stacked in (BLOCKS, {"blocks": True, "head": False}):
        value, slope = value_and_slopes(LAYERS, penalty, stacked=stacked)
        np.testing.assert_allclose(value, want, rtol=1e-6)
        layers = np.stack(slopes[:3])
        np.testing.assert_allclose(slope["blocks"]["kernel"], layers, rtol=1e-5, atol=2e-6)
        np.testing.assert_allclose(slope["head"]["kernel"], slopes[3], atol=2e-6)
    # Without the mask it is another number, a thousand times further away than the tolerance.
    assert abs(total(LAYERS, penalty) / want - 1) > 1e-3


def test_further_trees_and_masks_of_layers_go_with_the_stack():
    start = jax.tree.map(lambda w: w + np.float32(1), LAYERS)
    kept = np.array([True, False, True]).reshape(3, 1, 1)

    @jax.jit
    def values(params, start, kept):
        def grown(w, before):
            return jnp.max(jnp.abs(w)) * penalties.distance(w, before)

        mask = {"blocks": {"kernel": kept}, "head": {"kernel": False}}
        options = {"rest": (start,), "stacked": BLOCKS}
        return (
            penalties.total(params, grown, **options),
            penalties.total(params, grown, mask, **options),
        )

    each = [10 * abs(w).max() for w in LAYERS["blocks"]["kernel"]]
    every, some = values(LAYERS, start, kept)
    np.testing.assert_allclose(
        every, sum(each) + 5 * abs(LAYERS["head"]["kernel"]).max(), rtol=1e-5
    )
    np.testing.assert_allclose(some, each[0] + each[2], rtol=1e-5)
    static = {"blocks": {"kernel": kept}, "head": {"kernel": False}}
    value = total(LAYERS, penalties.l1, static, stacked=BLOCKS)
    np.testing.assert_allclose(value, np.abs(LAYERS["blocks"]["kernel"][::2]).sum(), rtol=1e-6)


def test_a_stack_that_nnx_made():
    @nnx.jit
    def make():
        @nnx.vmap
        def blocks(key):
            return nnx.Linear(4, 4, rngs=nnx.Rngs(key))

        return blocks(jax.random.split(jax.random.key(0), 3))

    state = nnx.state(make(), nnx.Param)
    want = sum(np.linalg.svd(w, compute_uv=False).sum() for w in np.asarray(state["kernel"][...]))
    mask = partial(masks.kernels, stacked=lambda p: jax.tree.map(lambda _: True, p))
    value = jax.jit(
        lambda state: penalties.total(state, penalties.nuclear, mask, stacked=masks.match(".*"))
    )(state)
    np.testing.assert_allclose(value, want, rtol=1e-5)


@pytest.mark.parametrize(
    ("stacked", "error", "message"),
    [
        ("blocks", TypeError, r"`stacked` must be a tree of booleans, got 'blocks'"),
        ({"blocks": 2, "head": False}, TypeError, r"`stacked` must be a tree of booleans"),
        ({"blocks": True}, ValueError, r"`stacked` must have the tree structure of the parameters"),
    ],
    ids=str,
)
def test_a_wrong_mask_of_stacks_is_named(stacked, error, message):
    with pytest.raises(error, match=message):
        penalties.total(LAYERS, penalties.l1, stacked=stacked)


@pytest.mark.parametrize("shape", [(1, 5, 1), (3, 5, 1), (4,)], ids=str)
def test_a_mask_of_rows_is_refused_in_a_stack_too(shape):
    mask = {"blocks": {"kernel": np.ones(shape, bool)}, "head": {"kernel": True}}
    with pytest.raises(ValueError, match=r"`mask` must give one boolean per leaf, or per layer of"):
        penalties.total(LAYERS, penalties.l1, mask, stacked=BLOCKS)
