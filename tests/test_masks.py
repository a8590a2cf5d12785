"""Masks and depths by names, dtypes and shapes, in Linen, NNX and plain trees."""

import re
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

from jaxreg import masks, penalties, transforms

KEY = jax.random.key(0)
KEYS = jax.random.split(KEY, (2, 3))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.Embed(7, 8)(x)
        x = linen.MultiHeadDotProductAttention(num_heads=2)(x)
        x = linen.LayerNorm()(x)
        x = linen.Conv(8, (3,))(x)
        x = linen.BatchNorm(use_running_average=False)(x)
        x = linen.GroupNorm(num_groups=2)(linen.RMSNorm()(x))
        return linen.Dense(3)(x)


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(7, 8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.norms = nnx.List([nnx.LayerNorm(8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)])
        self.conv = nnx.Conv(8, 8, (3,), rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.dense = nnx.Linear(8, 3, rngs=rngs)


class Layer(NamedTuple):
    kernel: jax.Array
    bias: jax.Array


def linen_variables():
    # Names, shapes and dtypes are enough.
    return jax.eval_shape(lambda: Linen().init(jax.random.key(0), jnp.zeros((2, 5), jnp.int32)))


def nnx_state(*kinds):
    return nnx.state(nnx.eval_shape(lambda: Nnx(nnx.Rngs(0))), *kinds)


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def boxed(*shape):
    return linen.Partitioned(ones(*shape), names=("a", "b")[: len(shape)])


def chosen(mask):
    """Paths that a mask selects, read by JAX and not by us."""
    flat = jax.tree_util.tree_flatten_with_path(mask)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/") for path, on in flat if on}


def kernels_of(embed, attention, conv, dense):
    return {
        f"{embed}/embedding",
        *(f"{attention}/{name}/kernel" for name in ("query", "key", "value", "out")),
        f"{conv}/kernel",
        f"{dense}/kernel",
    }


# Kernels, and everything but offsets and scales.


def test_masks_of_a_linen_model():
    variables = linen_variables()
    params = {**variables["params"], "position": ones(8), "layer": {"gamma": ones(8)}}
    mask = masks.kernels(params)
    assert jax.tree.structure(mask) == jax.tree.structure(params)
    kernels = kernels_of("Embed_0", "MultiHeadDotProductAttention_0", "Conv_0", "Dense_0")
    assert chosen(mask) == kernels
    assert chosen(masks.no_bias_or_norm(params)) == kernels | {"position", "layer/gamma"}
    for choose in (masks.kernels, masks.no_bias_or_norm):
        assert not any(jax.tree.leaves(choose(variables["batch_stats"])))


def test_masks_of_an_nnx_state():
    # Counts and keys of the generators are no weights; the model has no vectors of other names.
    state = nnx_state()
    for choose in (masks.kernels, masks.no_bias_or_norm):
        mask = choose(state)
        assert jax.tree.structure(mask) == jax.tree.structure(state)
        kernels = kernels_of("embed", "attention", "conv", "dense")
        assert chosen(nnx.to_pure_dict(mask)) == kernels


def test_an_nnx_pure_dict_has_the_same_mask():
    state = nnx_state(nnx.Param)
    pure = masks.kernels(nnx.to_pure_dict(state))
    assert jax.tree.leaves(pure) == jax.tree.leaves(masks.kernels(state))


def test_biases_and_scales_of_two_axes_are_not_kernels():
    # As in attention, [heads, depth], and in layers scanned together, [layers, features].
    params = {name: ones(4, 3) for name in ("bias", "scale", "b", "offset", "mean", "var")}
    assert not any(jax.tree.leaves(masks.kernels(params)))
    assert not any(jax.tree.leaves(masks.no_bias_or_norm(params)))


def test_scanned_linen_layers():
    class Block(linen.Module):
        @linen.compact
        def __call__(self, x, _):
            return linen.LayerNorm()(linen.Dense(3)(x)), None

    layers = linen.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=4)()
    params = jax.eval_shape(lambda: layers.init(jax.random.key(0), jnp.ones((2, 3)), None))
    params = params["params"]
    assert params["LayerNorm_0"]["scale"].ndim == params["Dense_0"]["bias"].ndim == 2
    assert chosen(masks.kernels(params)) == {"Dense_0/kernel"}


def test_partition_metadata_is_looked_through():
    params = {"kernel": boxed(2, 3), "bias": boxed(3)}
    # A scanned bias inside its box has two axes, and `value` is not its name.
    for bias in (boxed(3), boxed(4, 3)):
        mask = masks.kernels(params | {"bias": bias})
        assert isinstance(mask["kernel"], linen.Partitioned)
        assert mask["kernel"].value is True
        assert mask["bias"].value is False


@pytest.mark.parametrize(
    ("leaf", "kernel", "weight"),
    [
        (ones(2, 3), True, True),
        (ones(3, 3, 3, 4, 5), True, True),
        (ones(2, 3, dtype=jnp.bfloat16), True, True),
        (ones(2, 3, dtype=np.complex64), True, True),
        (ones(0, 3), True, True),
        (jax.ShapeDtypeStruct((2, 3), jnp.float16), True, True),
        (jnp.ones((2, 3)), True, True),
        (ones(3), False, True),
        (ones(), False, True),
        (1.0, False, True),
        (ones(3, dtype=np.complex64), False, True),
        (3, False, False),
        (ones(2, 3, dtype=np.int8), False, False),
        (ones(2, 3, dtype=bool), False, False),
        (KEYS, False, False),
        (KEY, False, False),
        (jnp.tanh, False, False),
        ("float32", False, False),
        (jnp.float32, False, False),
        (optax.sgd, False, False),
    ],
    ids=lambda v: (
        str(getattr(v, "dtype", getattr(v, "__name__", v))) + str(getattr(v, "shape", ""))
    ),
)
def test_leaves_by_dtype_and_axes(leaf, kernel, weight):
    for choose, want in ((masks.kernels, kernel), (masks.no_bias_or_norm, weight)):
        assert choose({"w": leaf}) == {"w": want}
        assert choose(leaf) is want
        assert choose([leaf, (leaf,)]) == [want, (want,)]


def test_structures_without_leaves_stay():
    for choose in (masks.kernels, masks.no_bias_or_norm, masks.match("a")):
        assert choose({}) == {}
        assert choose(None) is None
        assert choose({"a": None, "b": [()]}) == {"a": None, "b": [()]}


def test_a_name_is_looked_up_and_not_matched_in_part():
    params = {"biased_kernel": 0, "scale_up": 0, "mean": {"kernel": 0}, "kernel": {"bias": 0}}
    params = jax.tree.map(lambda _: ones(2, 2), params)
    want = {"biased_kernel": True, "scale_up": True, "mean": {"kernel": True}}
    assert masks.kernels(params) == {**want, "kernel": {"bias": False}}
    assert masks.no_bias_or_norm(params) == {**want, "kernel": {"bias": False}}
    assert masks.no_bias_or_norm({"unbiased": ones(3), "bias": ones(3)}) == {
        "unbiased": True,
        "bias": False,
    }


def test_names_that_wrappers_of_flax_join_are_taken_apart():
    params = {"Dense_0/kernel/scale": ones(2, 2), "scale/kernel": ones(2, 2)}
    assert masks.kernels(params) == {"Dense_0/kernel/scale": False, "scale/kernel": True}
    assert masks.match("kernel/scale")(params) == dict(zip(params, (True, False), strict=True))


def test_attribute_names_count_too():
    assert masks.kernels(Layer(ones(2, 2), ones(2, 2))) == Layer(True, False)


def test_a_parameter_named_value_is_a_kernel():
    assert masks.kernels({"value": ones(2, 2)}) == {"value": True}
    assert masks.kernels({"value": {"kernel": ones(2, 2), "bias": ones(2, 2)}}) == {
        "value": {"kernel": True, "bias": False}
    }


# By path.

PARAMS = {
    "Dense_1": {"kernel": ones(2, 2), "bias": ones(2)},
    "Dense_10": {"kernel": ones(2, 2), "kernel_2": ones(2)},
    "head": [{"kernel": ones(2)}, {"Dense_1": ones(2)}],
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
    find = masks.match("kernel")
    assert find(Layer(ones(2), ones(2))) == Layer(True, False)
    mask = find({"kernel": boxed(2, 2), "bias": boxed(2, 2)})
    assert mask["kernel"].value is True
    assert mask["bias"].value is False
    state = nnx_state(nnx.Param)
    assert chosen(nnx.to_pure_dict(find(state))) == chosen(find(nnx.to_pure_dict(state)))
    assert len(chosen(nnx.to_pure_dict(find(state)))) == 6
    attention = masks.match("attention/(query|key)/kernel")(state)
    assert jax.tree.structure(attention) == jax.tree.structure(state)
    assert sum(jax.tree.leaves(attention)) == 2


def test_a_tree_without_a_match_is_all_false():
    assert masks.match("nothing")({"a": ones(2), "b": None}) == {"a": False, "b": None}
    assert masks.match("a")({}) == {}
    assert masks.match("")({"a": ones(2)}) == {"a": False}


def test_a_mask_by_path_where_masks_are_taken():
    params = {"a": {"kernel": ones(2, 2)}, "b": {"kernel": ones(2, 2)}}
    assert penalties.total(params, penalties.l1, masks.match("a/kernel")) == 4
    tx = transforms.independent_decay(0.5, mask=masks.match("b"))
    updates, _ = tx.update(jax.tree.map(np.zeros_like, params), tx.init(params), params)
    np.testing.assert_array_equal(updates["a"]["kernel"], 0)
    np.testing.assert_array_equal(updates["b"]["kernel"], -0.5)
    frozen = optax.masked(optax.set_to_zero(), masks.match("a"))
    updates, _ = frozen.update(params, frozen.init(params))
    assert updates["a"]["kernel"].sum() == 0
    assert updates["b"]["kernel"].sum() == 4


@pytest.mark.parametrize("regex", ["(", "*kernel", "[", "a)(b"])
def test_what_is_no_expression_is_named(regex):
    with pytest.raises(ValueError, match=r"`regex` must use valid regular expressions, .*escape"):
        masks.match(regex)
    with pytest.raises(ValueError, match=r"`order` must use valid regular expressions, .*escape"):
        masks.depth({}, ("fine", regex))


def test_a_factory_handed_over_as_the_mask_is_named():
    tx = transforms.independent_decay(0.5, mask=masks.match)
    with pytest.raises(TypeError, match=r"`regex` must use strings .*, got dict; call masks.match"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS)


# Combinations.


def test_masks_combine_as_booleans_do():
    params = {"bias": ones(2), "gamma": ones(2), "head": {"kernel": ones(2, 2)}, "n": ones(2) > 0}
    kernel = {"bias": False, "gamma": False, "head": {"kernel": True}, "n": False}
    tree = {"bias": True, "gamma": False, "head": True, "n": False}
    assert masks.all_of(masks.kernels, tree)(params) == kernel
    assert masks.all_of(masks.kernels, masks.match("bias"))(params) == {
        **kernel, "head": {"kernel": False}
    }  # fmt: skip
    assert masks.any_of(masks.kernels, masks.match("bias|n"))(params) == {
        **kernel, "bias": True, "n": True
    }  # fmt: skip
    rest = {"bias": True, "gamma": True, "head": {"kernel": False}, "n": True}
    assert masks.negate(masks.kernels)(params) == rest
    assert masks.negate(masks.negate(masks.kernels))(params) == kernel
    for mask, all_selected in ((masks.all_of(), True), (masks.any_of(), False), (None, True)):
        assert set(jax.tree.leaves(masks.all_of(mask)(params))) == {all_selected}
    assert masks.all_of(masks.kernels)({}) == {}
    assert all(type(on) is bool for on in jax.tree.leaves(masks.all_of(np.True_ and tree)(params)))


def test_masks_of_rows_combine_too():
    rows = np.array([[True], [False]])
    tree = {"table": rows, "bias": False}
    params = {"table": ones(2, 3), "bias": ones(3)}
    np.testing.assert_array_equal(masks.negate(tree)(params)["table"], ~rows)
    np.testing.assert_array_equal(masks.all_of(masks.kernels, tree)(params)["table"], rows)
    assert masks.negate(tree)(params)["bias"] is True
    assert np.all(masks.any_of(tree, masks.kernels)(params)["table"])


def test_combined_masks_keep_class_tokens_and_positions_from_decay():
    """As two or more axes make a kernel, they decay by default."""
    params = {"cls": ones(1, 1, 4), "pos_embedding": ones(1, 9, 4), "head": {"kernel": ones(4, 2)}}
    assert chosen(masks.kernels(params)) == {"cls", "pos_embedding", "head/kernel"}
    mask = masks.all_of(masks.kernels, masks.negate(masks.match("cls|pos_embedding")))
    assert chosen(mask(params)) == {"head/kernel"}
    frozen = optax.masked(optax.set_to_zero(), masks.negate(mask))
    updates, _ = frozen.update(params, frozen.init(params))
    assert [leaf.sum() for leaf in jax.tree.leaves(updates)] == [0, 8, 0]


# Multipliers.

VIT = {
    "embedding": {"kernel": 0, "bias": 0},
    "Dense_1": {"kernel": 0, "bias": 0},
    "pos_embedding": 0,
}
VIT = jax.tree.map(lambda _: ones(2, 2), VIT)


def big_vision(params, patterns, otherwise):
    """Multipliers by Python's fullmatch alone, as big_vision's lists of patterns are read."""
    found = {}
    for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        hits = [mult for pattern, mult in patterns if re.fullmatch(pattern, name)]
        found[name] = (hits or [otherwise])[0]
    return found


@pytest.mark.parametrize(
    "patterns",
    [
        [(".*/kernel$", 1.0)],
        [("embedding/.*", 0.5), (".*/kernel", 1.0), (".*", 0.1)],
        [("embedding", 0.5), ("kernel", 1.0), ("pos_embedding", 0.25)],
        [(".*", 0.1), (".*/kernel", 1.0)],
        [],
    ],
)
def test_multipliers_are_read_as_big_vision_reads_its_patterns(patterns):
    for otherwise in (0.0, 1.0):
        found = masks.multipliers(patterns, otherwise=otherwise)(VIT)
        assert jax.tree.structure(found) == jax.tree.structure(VIT)
        names = {
            jax.tree_util.keystr(path, simple=True, separator="/"): value
            for path, value in jax.tree_util.tree_flatten_with_path(found)[0]
        }
        assert names == big_vision(VIT, patterns, otherwise)
    assert jax.tree.leaves(masks.multipliers(patterns)(VIT)) == [
        *big_vision(VIT, patterns, 0.0).values()
    ]


def test_multipliers_that_are_none_are_named():
    for patterns in ([".*"], 3, [("a", 1.0, 2.0)], {"kernel": 1.0}):
        with pytest.raises(
            TypeError, match=r"`patterns` must be pairs of a regular expression and"
        ):
            masks.multipliers(patterns)
    with pytest.raises(TypeError, match=r"`patterns` must use strings .*, got float"):
        masks.multipliers([(1.0, ".*")])
    with pytest.raises(ValueError, match=r"`patterns` must use valid regular .*, got '\('"):
        masks.multipliers([("(", 1.0)])
    with pytest.raises(ValueError, match="`patterns` must be zero or positive, got -1"):
        masks.multipliers([(".*", -1.0)])
    with pytest.raises(ValueError, match="`otherwise` must be zero or positive, got -1"):
        masks.multipliers([(".*", 1.0)], otherwise=-1.0)


# Stacks of layers.

STACK = {
    "blocks": {"kernel": ones(4, 2, 3), "gamma": ones(4, 3), "steps": np.arange(4)},
    "embed": {"kernel": ones(5, 2)},
    "head": {"kernel": ones(3, 2), "gamma": ones(3)},
}
IN_STACK = masks.match("blocks")


def test_the_axis_of_layers_does_not_make_a_kernel():
    assert masks.kernels(STACK)["blocks"]["gamma"]
    found = masks.kernels(STACK, stacked=IN_STACK)
    assert chosen(found) == {"blocks/kernel", "embed/kernel", "head/kernel"}
    assert found == masks.kernels(STACK, stacked={"blocks": True, "embed": False, "head": False})
    with pytest.raises(TypeError, match="`stacked` must be a tree of booleans, got 4 for"):
        masks.kernels(STACK, stacked={"blocks": 4, "embed": False, "head": False})


def test_a_stack_has_a_depth_for_each_layer():
    order = ("embed", "blocks", "head")
    depths = masks.depth(STACK, order, stacked=IN_STACK)
    for name in ("kernel", "gamma"):
        np.testing.assert_array_equal(depths["blocks"][name], [1, 2, 3, 4])
    assert depths["embed"] == {"kernel": 0}
    assert depths["head"] == {"kernel": 5, "gamma": 5}
    assert depths["blocks"]["steps"] == 1
    assert masks.depth(STACK, order, stacked={"blocks": False, "embed": False, "head": False}) == (
        masks.depth(STACK, order)
    )
    uneven = {**STACK, "blocks": {"kernel": ones(4, 2, 3), "gamma": ones(3, 3)}}
    with pytest.raises(ValueError, match=r"`stacked` must .*, got 3 and 4 for 'blocks'; give each"):
        masks.depth(uneven, order, stacked=IN_STACK)


# Depth.

ORDER = ("embed|position", "block_0", "block_1", "norm|head")


def model():
    block = {"attention": {"kernel": ones(2)}, "norm": {"scale": ones(2)}}
    return {
        "position": ones(2),
        "embed": {"embedding": ones(2)},
        "block_0": block,
        "block_1": block,
        "norm": {"scale": ones(2)},
        "head": {"kernel": ones(2)},
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
    params = {"block_0": {"norm": ones(2)}, "norm": ones(2)}
    assert masks.depth(params, ("block_0", "norm")) == {"block_0": {"norm": 0}, "norm": 1}
    assert masks.depth(params, ("norm", "block_0")) == {"block_0": {"norm": 0}, "norm": 0}
    assert masks.depth(params, ("^norm", "block_0")) == {"block_0": {"norm": 1}, "norm": 0}


def test_depths_of_an_nnx_state_and_of_boxes():
    state = nnx_state(nnx.Param)
    order = ("embed", "attention", "norms", "conv", "dense")
    depths = masks.depth(state, order)
    assert jax.tree.structure(depths) == jax.tree.structure(state)
    assert set(jax.tree.leaves(depths)) == {0, 1, 2, 3, 4}
    assert jax.tree.leaves(depths["conv"]) == [3, 3]
    params = {"a": boxed(2, 2), "b": ones(2)}
    assert jax.tree.leaves(masks.depth(params, ("a", "b"))) == [0, 1]


def test_a_parameter_without_a_place_is_named():
    with pytest.raises(ValueError, match=r"`order` must match every parameter.*'head/kernel'; add"):
        masks.depth(model(), ("embed|position", "block_0", "block_1", "^norm"))
    with pytest.raises(ValueError, match=r"got \('block_1',\), .* 'block_10/kernel'"):
        masks.depth({"block_10": {"kernel": ones(2)}}, ("block_1",))


def test_a_string_is_not_an_order():
    with pytest.raises(TypeError, match=r"`order` must be a sequence of names, got 'head'; pass"):
        masks.depth(model(), "head")
    with pytest.raises(TypeError, match=r"`order` must use strings .*, got int"):
        masks.depth(model(), (0, 1))


def test_values_are_never_read():
    @jax.jit
    def traced(w):
        params = {"kernel": w, "bias": w}
        return (
            masks.kernels(params),
            masks.no_bias_or_norm(params),
            masks.match("bias")(params),
            partial(masks.depth, order=("bias", "kernel"))(params),
        )

    assert traced(ones(2, 2)) == (
        {"kernel": True, "bias": False},
        {"kernel": True, "bias": False},
        {"kernel": False, "bias": True},
        {"kernel": 1, "bias": 0},
    )
