"""Masks and depths by the names of parameters, in Linen, NNX and plain trees."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

from jaxreg import masks, penalties, transforms
from tests.test_masks import Linen, Nnx


def linen_params():
    tokens = jnp.zeros((2, 5), jnp.int32)
    return jax.eval_shape(lambda: Linen().init(jax.random.key(0), tokens))["params"]


def chosen(mask):
    """Paths that a mask selects, read by JAX and not by us."""
    flat = jax.tree_util.tree_flatten_with_path(mask)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/") for path, on in flat if on}


def leaf(name="w", shape=(2, 3), dtype=jnp.float32):
    return {name: jax.ShapeDtypeStruct(shape, dtype)}


# Everything but offsets and scales.


def test_a_linen_model_without_biases_and_norms():
    params = {**linen_params(), "position": jnp.ones(8), "layer": {"gamma": jnp.ones(8)}}
    attention = "MultiHeadDotProductAttention_0"
    kernels = {
        "Embed_0/embedding",
        *(f"{attention}/{name}/kernel" for name in ("query", "key", "value", "out")),
        "Conv_0/kernel",
        "Dense_0/kernel",
    }
    assert chosen(masks.kernels(params)) == kernels
    assert chosen(masks.no_bias_or_norm(params)) == kernels | {"position", "layer/gamma"}


def test_an_nnx_model_without_biases_and_norms():
    state = nnx.state(Nnx(nnx.Rngs(0)))
    mask = masks.no_bias_or_norm(state)
    assert jax.tree.structure(mask) == jax.tree.structure(state)
    # Counts and keys of the generators are no weights; the model has no vectors of other names.
    assert jax.tree.leaves(mask) == jax.tree.leaves(masks.kernels(state))


@pytest.mark.parametrize(
    ("tree", "kernel", "weight"),
    [
        (leaf(), True, True),
        (leaf(shape=(3,)), False, True),
        (leaf(shape=()), False, True),
        (leaf(dtype=jnp.bfloat16), True, True),
        (leaf(dtype=jnp.complex64, shape=(3,)), False, True),
        (leaf(dtype=jnp.int32), False, False),
        (leaf(dtype=jnp.bool_, shape=(3,)), False, False),
        (leaf("bias"), False, False),
        (leaf("bias", (3,)), False, False),
        (leaf("scale"), False, False),
        (leaf("unbiased", (3,)), False, True),
        ({"scale": leaf("kernel")}, True, True),
    ],
    ids=str,
)
def test_where_the_two_masks_differ(tree, kernel, weight):
    assert jax.tree.leaves(masks.kernels(tree)) == [kernel]
    assert jax.tree.leaves(masks.no_bias_or_norm(tree)) == [weight]


def test_keys_are_no_weights():
    params = {"key": jax.random.key(0), "w": 1.5, "none": None}
    assert masks.no_bias_or_norm(params) == {"key": False, "w": True, "none": None}


# By path.

PARAMS = {
    "Dense_1": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
    "Dense_10": {"kernel": jnp.ones((2, 2)), "kernel_2": jnp.ones(2)},
    "head": [{"kernel": jnp.ones(2)}, {"Dense_1": jnp.ones(2)}],
}


@pytest.mark.parametrize(
    ("regex", "paths"),
    [
        ("Dense_1", {"Dense_1/kernel", "Dense_1/bias", "head/1/Dense_1"}),
        ("^Dense_1", {"Dense_1/kernel", "Dense_1/bias"}),
        ("Dense_1$", {"head/1/Dense_1"}),
        ("kernel", {"Dense_1/kernel", "Dense_10/kernel", "head/0/kernel"}),
        (r"Dense_\d+/kernel", {"Dense_1/kernel", "Dense_10/kernel"}),
        (".*/kernel$", {"Dense_1/kernel", "Dense_10/kernel", "head/0/kernel"}),
        ("bias|head", {"Dense_1/bias", "head/0/kernel", "head/1/Dense_1"}),
        ("head/0", {"head/0/kernel"}),
        ("(?i)HEAD/1", {"head/1/Dense_1"}),
        (r"(Dense)_1/(?P<own>bias)", {"Dense_1/bias"}),
        ("(?!bias)[^/]*$", {"Dense_1/kernel", "Dense_10/kernel", "Dense_10/kernel_2",
                            "head/0/kernel", "head/1/Dense_1"}),
        ("ense_1", set()),
        ("Dense", set()),
        ("ernel", set()),
    ],
)  # fmt: skip
def test_an_expression_matches_whole_names(regex, paths):
    assert chosen(masks.match(regex)(PARAMS)) == paths


def test_every_kind_of_tree_has_the_same_names():
    class Layer(NamedTuple):
        kernel: jax.Array
        bias: jax.Array

    boxed = linen.Partitioned(jnp.ones((2, 2)), names=("a", "b"))
    find = masks.match("kernel")
    assert find(Layer(jnp.ones(2), jnp.ones(2))) == Layer(True, False)
    mask = find({"kernel": boxed, "bias": boxed})
    assert mask["kernel"].value is True
    assert mask["bias"].value is False
    state = nnx.state(Nnx(nnx.Rngs(0)), nnx.Param)
    assert chosen(nnx.to_pure_dict(find(state))) == chosen(find(nnx.to_pure_dict(state)))
    assert len(chosen(nnx.to_pure_dict(find(state)))) == 6
    attention = masks.match("attention/(query|key)/kernel")(state)
    assert jax.tree.structure(attention) == jax.tree.structure(state)
    assert sum(jax.tree.leaves(attention)) == 2


def test_a_tree_without_a_match_is_all_false():
    assert masks.match("nothing")({"a": jnp.ones(2), "b": None}) == {"a": False, "b": None}
    assert masks.match("a")({}) == {}
    assert masks.match("")({"a": jnp.ones(2)}) == {"a": False}


def test_a_mask_by_path_where_masks_are_taken():
    params = {"a": {"kernel": jnp.ones((2, 2))}, "b": {"kernel": jnp.ones((2, 2))}}
    assert penalties.total(params, penalties.l1, masks.match("a/kernel")) == 4
    tx = transforms.independent_decay(0.5, mask=masks.match("b"))
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    np.testing.assert_array_equal(updates["a"]["kernel"], 0)
    np.testing.assert_array_equal(updates["b"]["kernel"], -0.5)
    frozen = optax.masked(optax.set_to_zero(), masks.match("a"))
    updates, _ = frozen.update(params, frozen.init(params))
    assert updates["a"]["kernel"].sum() == 0
    assert updates["b"]["kernel"].sum() == 4


@pytest.mark.parametrize("regex", ["(", "*kernel", "[", "a)(b"])
def test_what_is_no_expression_is_named(regex):
    with pytest.raises(ValueError, match=r"`regex` must give regular expressions, got .*escape"):
        masks.match(regex)
    with pytest.raises(ValueError, match=r"`order` must give regular expressions, got .*escape"):
        masks.depth({}, ("fine", regex))


def test_a_factory_handed_over_as_the_mask_is_named():
    tx = transforms.independent_decay(0.5, mask=masks.match)
    with pytest.raises(TypeError, match=r"`regex` must give .* strings, got dict; masks.match"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS)


# Depth.

ORDER = ("embed|position", "block_0", "block_1", "norm|head")


def model():
    block = {"attention": {"kernel": jnp.ones(2)}, "norm": {"scale": jnp.ones(2)}}
    return {
        "position": jnp.ones(2),
        "embed": {"embedding": jnp.ones(2)},
        "block_0": block,
        "block_1": block,
        "norm": {"scale": jnp.ones(2)},
        "head": {"kernel": jnp.ones(2)},
    }


def test_depths_are_places_in_the_order():
    depths = masks.depth(model(), ORDER)
    by_block = {name: set(jax.tree.leaves(part)) for name, part in depths.items()}
    assert by_block == {
        "position": {0}, "embed": {0}, "block_0": {1}, "block_1": {2}, "norm": {3}, "head": {3},
    }  # fmt: skip
    assert masks.depth(model(), (".*",)) == jax.tree.map(lambda _: 0, model())
    assert all(type(d) is int for d in jax.tree.leaves(depths))


def test_the_first_expression_that_matches_counts():
    params = {"block_0": {"norm": jnp.ones(2)}, "norm": jnp.ones(2)}
    assert masks.depth(params, ("block_0", "norm")) == {"block_0": {"norm": 0}, "norm": 1}
    assert masks.depth(params, ("norm", "block_0")) == {"block_0": {"norm": 0}, "norm": 0}
    assert masks.depth(params, ("^norm", "block_0")) == {"block_0": {"norm": 1}, "norm": 0}


def test_depths_of_an_nnx_state_and_of_boxes():
    state = nnx.state(Nnx(nnx.Rngs(0)), nnx.Param)
    order = ("embed", "attention", "norms", "conv", "dense")
    depths = masks.depth(state, order)
    assert jax.tree.structure(depths) == jax.tree.structure(state)
    assert set(jax.tree.leaves(depths)) == {0, 1, 2, 3, 4}
    assert jax.tree.leaves(depths["conv"]) == [3, 3]
    boxed = {"a": linen.Partitioned(jnp.ones((2, 2)), names=("x", "y")), "b": jnp.ones(2)}
    assert jax.tree.leaves(masks.depth(boxed, ("a", "b"))) == [0, 1]


def test_a_parameter_without_a_place_is_named():
    with pytest.raises(ValueError, match=r"`order` must match every parameter.*'head/kernel'; add"):
        masks.depth(model(), ("embed|position", "block_0", "block_1", "^norm"))
    with pytest.raises(ValueError, match=r"got \('block_1',\) and 'block_10/kernel'"):
        masks.depth({"block_10": {"kernel": jnp.ones(2)}}, ("block_1",))


def test_a_string_is_not_an_order():
    with pytest.raises(TypeError, match=r"`order` must be a sequence of names, got 'head'; pass"):
        masks.depth(model(), "head")
    with pytest.raises(TypeError, match=r"`order` must give .* strings, got int"):
        masks.depth(model(), (0, 1))


def test_values_are_never_read():
    @jax.jit
    def traced(w):
        params = {"kernel": w, "bias": w}
        return (
            masks.no_bias_or_norm(params),
            masks.match("bias")(params),
            partial(masks.depth, order=("bias", "kernel"))(params),
        )

    assert traced(jnp.ones(2)) == (
        {"kernel": True, "bias": False},
        {"kernel": False, "bias": True},
        {"kernel": 1, "bias": 0},
    )
